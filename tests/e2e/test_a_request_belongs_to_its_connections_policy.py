"""A request is served only under the policy of the connection that it came on, else 421 (RFC 9110 section 15.5.20)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway
from .h2raw import H2Client
from .pki import Pki
from .upstreams import ScriptedUpstream, echo


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    return start_shared_upstream(echo)


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    """An open host, a host with client certificates, and three hosts of one wildcard: two alike and one guarded."""
    return start_shared(
        f"""
        [tls]
        no_sni = "open.test"
        [trust.people]
        ca = ["{pki.client_ca}"]
        {pki.host(upstream.url, "open.test", pki.open)}
        {pki.host(upstream.url, "guarded.test", pki.guarded)}
        client_auth = {{ mode = "require", trust = "people" }}
        {pki.host(upstream.url, "a.wild.test", pki.wild)}
        {pki.host(upstream.url, "b.wild.test", pki.wild)}
        {pki.host(upstream.url, "guarded.wild.test", pki.wild)}
        client_auth = {{ mode = "require", trust = "people" }}
        """
    )


def ask(connection: Wire | H2Client, host: str) -> int:
    if isinstance(connection, H2Client):
        return connection.get("/secret", authority=host).status
    return connection.get("/secret", host=host).status


@pytest.fixture(params=["h1", "h2"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Wire | H2Client]:
    found: Callable[..., Wire | H2Client] = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("sni", "host"),
    [
        ("open.test", "guarded.test"),
        ("open.test", "GUARDED.test"),
        ("open.test", "guarded.test."),
        ("open.test", "guarded.test:443"),
        (None, "guarded.test"),
        ("open.test", "a.wild.test"),
        ("a.wild.test", "guarded.wild.test"),
        ("a.wild.test", "open.test"),
        ("open.test", "unknown.test"),
        (None, "a.wild.test"),
    ],
)
def test_another_policys_host_is_misdirected(
    edge: Gateway, upstream: ScriptedUpstream, connect: Callable[..., Wire | H2Client], sni: str | None, host: str
) -> None:
    before = len(upstream.requests)
    connection = connect(edge, sni=sni)
    assert ask(connection, host) == 421
    assert len(upstream.requests) == before
    assert ask(connection, sni or "open.test") == 200


@pytest.mark.parametrize(
    ("sni", "host"), [("guarded.test", "open.test"), ("guarded.wild.test", "a.wild.test"), ("guarded.test", "guarded.wild.test")]
)
def test_a_client_certificate_does_not_open_other_policies(
    edge: Gateway, pki: Pki, connect: Callable[..., Wire | H2Client], sni: str, host: str
) -> None:
    connection = connect(edge, sni=sni, client=pki.client)
    assert ask(connection, host) == 421
    assert ask(connection, sni) == 200
    assert "O=trustme" in edge.access_line(sni=sni, status=200)["client_subject"]


@pytest.mark.parametrize(
    ("sni", "host"),
    [("a.wild.test", "b.wild.test"), ("b.wild.test", "a.wild.test"), (None, "open.test"), ("open.test", "OPEN.TEST:8443")],
)
def test_hosts_of_one_policy_share_a_connection(
    edge: Gateway, connect: Callable[..., Wire | H2Client], sni: str | None, host: str
) -> None:
    assert ask(connect(edge, sni=sni), host) == 200


def test_the_absolute_form_is_judged_like_host(edge: Gateway, upstream: ScriptedUpstream, h1: Callable[..., Wire]) -> None:
    before = len(upstream.requests)
    got = h1(edge, sni="open.test").ask("GET https://guarded.test/ HTTP/1.1\nHost: guarded.test\n\n")
    assert got.status == 421
    assert len(upstream.requests) == before


def test_a_pipelined_request_is_judged_for_itself(edge: Gateway, upstream: ScriptedUpstream, h1: Callable[..., Wire]) -> None:
    wire = h1(edge, sni="open.test")
    wire.send(b"GET /one HTTP/1.1\r\nHost: open.test\r\n\r\nGET /two HTTP/1.1\r\nHost: guarded.test\r\n\r\n")
    assert wire.read_response().status == 200
    assert wire.read_response().status == 421
    assert "/two" not in [seen.path for seen in upstream.requests]


def test_a_plain_listener_refuses_hosts_with_client_certificates(
    start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(
        f"""
        [trust.people]
        ca = ["{pki.client_ca}"]
        {pki.host(upstream.url, "open.test", pki.open)}
        [[host]]
        names = ["guarded.test"]
        listeners = ["main"]
        certificates = [{pki.guarded.toml}]
        client_auth = {{ mode = "require", trust = "people" }}
        upstream = "{upstream.url}"
        """,
        plain=True,
    )
    before = len(upstream.requests)
    assert h1(edge, plain=True).get("/", host="guarded.test").status in (403, 404, 421)
    assert len(upstream.requests) == before
    assert h1(edge, plain=True).get("/", host="open.test").status == 200


def test_a_ticket_of_an_open_host_does_not_open_a_guarded_one(edge: Gateway, pki: Pki) -> None:
    """Resumption across policies would skip the certificate (CVE-2025-23419)."""
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.check_hostname = False
    with Wire(edge.port, pki.ca, sni="a.wild.test", context=context) as first:
        assert first.get("/", host="a.wild.test").status == 200
        session = first.tls.session
    with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="guarded.wild.test", session=session) as second:
                assert not second.session_reused
                second.sendall(b"GET / HTTP/1.1\r\nHost: guarded.wild.test\r\n\r\n")
                answer = second.recv(100)
        except (ssl.SSLError, ConnectionError):
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 200")
