"""Mutual TLS with real clients: rules of hosts and of routes, what upstreams are told, and for how long a proof is good."""

from __future__ import annotations

import base64
import contextlib
import signal
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .clients import Wire
from .conftest import Curl, StartGateway
from .gateway import Gateway
from .h2raw import H2Client
from .pki import Leaf, Pki
from .returning import Returning, s_client
from .upstreams import ScriptedUpstream

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
CURL_VERSIONS = pytest.mark.parametrize("flags", [("--tls-max", "1.2"), ("--tlsv1.3",)], ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def pay(pki: Pki) -> Leaf:
    return pki.workload("pay", uri="spiffe://prod.example/ns/pay/sa/api")


@pytest.fixture(scope="module")
def ops(pki: Pki) -> Leaf:
    return pki.workload("ops", uri="spiffe://prod.example/ns/ops/admin")


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Gateway:
    """`guarded.test` lets in the namespaces pay and ops, and only ops to /admin/; `open.test` asks because of one route."""
    return start_shared(
        f"""
        [trust.mesh]
        ca = ["{pki.client_ca}"]
        {pki.host(echo_upstream.url, "guarded.test", pki.guarded)}
        [host.client_auth]
        trust = "mesh"
        forward = "leaf"
        allow = [{{ spiffe = "spiffe://prod.example/ns/pay/*" }}, {{ spiffe = "spiffe://prod.example/ns/ops/*" }}]
        {pki.host(echo_upstream.url, "open.test", pki.open)}
        {pki.host(echo_upstream.url, "localhost")}
        {pki.host(echo_upstream.url, "a.wild.test", pki.wild)}
        client_auth = {{ trust = "mesh", forward = "chain" }}
        [[route]]
        host = "guarded.test"
        path = "/admin/"
        client_auth = {{ allow = [{{ spiffe = "spiffe://prod.example/ns/ops/admin" }}], forward = "off" }}
        upstream = "{echo_upstream.url}"
        [[route]]
        host = "open.test"
        path = "/private"
        client_auth = {{ trust = "mesh" }}
        upstream = "{echo_upstream.url}"
        """
    )


def shown(leaf: Leaf) -> tuple[str, ...]:
    return "--cert", str(leaf.chain), "--key", str(leaf.key)


def fields(body: Any, name: str) -> list[str]:
    return [value for key, value in body["fields"] if key.lower() == name]


@CURL_VERSIONS
def test_only_those_whom_a_rule_admits_come_in(
    edge: Gateway, pki: Pki, run_curl: Curl, pay: Leaf, flags: tuple[str, ...]
) -> None:
    got = run_curl(edge, "/", *flags, *shown(pay), host="guarded.test")
    assert got.status == 200
    refused = run_curl(edge, "/", *flags, *shown(pki.client), host="guarded.test")
    assert refused.exit
    assert "bad certificate" in refused.stderr
    event = edge.event_line(fault="client-certificate-not-allowed", sni="guarded.test")
    assert (event["blame"], event["detail"], event["alert"]) == ("client", "client.test", "bad_certificate")
    line = edge.access_line(client_san="spiffe://prod.example/ns/pay/sa/api")
    assert line["client_serial"] == f"{x509.load_pem_x509_certificate(pay.chain.read_bytes()).serial_number:x}"


@CURL_VERSIONS
def test_who_came_before_is_judged_as_ever(
    edge: Gateway, pki: Pki, run_curl: Curl, pay: Leaf, ops: Leaf, flags: tuple[str, ...]
) -> None:
    """Chains that were verified twice are not verified again. Nobody else comes in by that, and nobody stays out."""
    for _ in range(4):
        for leaf in (pay, ops):
            assert run_curl(edge, "/", *flags, *shown(leaf), host="guarded.test").status == 200
        for leaf in (pki.client, pki.stranger):
            refused = run_curl(edge, "/", *flags, *shown(leaf), host="guarded.test")
            assert refused.exit
            assert refused.status == 0
        assert run_curl(edge, "/", *flags, host="guarded.test").exit
    assert edge.event_line(fault="client-certificate-unknown-ca", sni="guarded.test")["blame"] == "client"


def test_openssls_client_sees_the_alert(edge: Gateway, pki: Pki) -> None:
    for flag in ("-tls1_2", "-tls1_3"):
        _, text = s_client(edge, flag, "-cert", str(pki.client.chain), "-key", str(pki.client.key), sni="guarded.test")
        assert "alert number 42" in text or "alert bad certificate" in text, text
        assert "HTTP/1.1" not in text


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_a_route_narrows_its_host(edge: Gateway, run_curl: Curl, pay: Leaf, ops: Leaf, protocol: str) -> None:
    assert run_curl(edge, "/admin/x", protocol, *shown(ops), host="guarded.test").status == 200
    refused = run_curl(edge, "/admin/x", protocol, *shown(pay), "-H", "Accept: application/problem+json", host="guarded.test")
    assert refused.status == 403
    assert "problem+json" in (refused.field("content-type") or "")
    assert b"spiffe" not in refused.body
    line = edge.access_line(status=403, fault="client-certificate-not-allowed")
    assert line["client_san"] == "spiffe://prod.example/ns/pay/sa/api"
    assert run_curl(edge, "/Admin/../admin/x", "--path-as-is", protocol, *shown(pay), host="guarded.test").status == 403


def test_a_host_asks_where_a_route_needs_it(edge: Gateway, pki: Pki, run_curl: Curl, pay: Leaf) -> None:
    assert run_curl(edge, "/", host="open.test").status == 200
    assert run_curl(edge, "/private", host="open.test").status == 403
    assert edge.access_line(status=403, sni="open.test")["fault"] == "client-certificate-required"
    assert run_curl(edge, "/private", *shown(pay), host="open.test").status == 200
    bad = run_curl(edge, "/", *shown(pki.stranger), host="open.test")
    assert bad.exit, "a bad certificate is not the same as none"


def test_verdicts_do_not_leak_between_connections(
    edge: Gateway, h1: Callable[..., Wire], h2: Callable[..., H2Client], pay: Leaf, ops: Leaf
) -> None:
    """What the front remembers of a route and of a request is not about the client."""
    for connect in (h1, h2):
        for leaf, status in ((ops, 200), (pay, 403), (ops, 200), (pay, 403)):
            connection: Any = connect(edge, sni="guarded.test", client=leaf)
            for _ in range(3):
                got = (
                    connection.get("/admin/same", authority="guarded.test")
                    if isinstance(connection, H2Client)
                    else connection.get("/admin/same", host="guarded.test")
                )
                assert got.status == status


FORGED = [
    "Client-Cert: :Zm9yZ2Vk:",
    "client-cert-chain: :Zm9yZ2Vk:",
    "Client_Cert: :Zm9yZ2Vk:",
    "CLIENT-CERT: :Zm9yZ2Vk:",
    "Client_Cert_Chain: :Zm9yZ2Vk:",
]


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_the_upstream_is_told_of_verified_certificates_and_of_no_others(
    edge: Gateway, run_curl: Curl, pay: Leaf, ops: Leaf, protocol: str
) -> None:
    forged = [part for field in FORGED for part in ("-H", field)]
    der = x509.load_pem_x509_certificate(pay.chain.read_bytes()).public_bytes(Encoding.DER)
    body = run_curl(edge, "/", protocol, *forged, *shown(pay), host="guarded.test").json()
    assert fields(body, "client-cert") == [f":{base64.b64encode(der).decode()}:"]
    assert fields(body, "client-cert-chain") == []
    for host, target, options in (("open.test", "/", ()), ("localhost", "/", ()), ("open.test", "/", shown(pay)),
                                  ("guarded.test", "/admin/", shown(ops))):  # fmt: skip
        got = run_curl(edge, target, protocol, *forged, *options, host=host)
        assert got.status == 200
        assert b"Zm9yZ2Vk" not in got.body
        assert not fields(got.json(), "client-cert")


@VERSIONS
def test_the_chain_is_forwarded_whole_and_then_there_are_no_tickets(edge: Gateway, pki: Pki, version: ssl.TLSVersion) -> None:
    leaf = pki.workload("below", dns="below.test", intermediate=True)
    for _ in range(2):
        with Wire(edge.port, pki.ca, sni="a.wild.test", client=leaf, version=version) as wire:
            body = wire.get("/", host="a.wild.test").json()
            assert not wire.tls.session_reused
            assert not (wire.tls.session and wire.tls.session.has_ticket)
        own, above = x509.load_pem_x509_certificates(leaf.chain.read_bytes())
        anchor = x509.load_pem_x509_certificate(pki.client_ca.read_bytes())
        expected = [f":{base64.b64encode(one.public_bytes(Encoding.DER)).decode()}:" for one in (own, above, anchor)]
        assert fields(body, "client-cert") == expected[:1]
        assert fields(body, "client-cert-chain") == [", ".join(expected[1:])]


@VERSIONS
def test_who_comes_back_is_told_of_and_judged_all_the_same(
    edge: Gateway, pki: Pki, pay: Leaf, ops: Leaf, version: ssl.TLSVersion
) -> None:
    client = Returning(edge, pki.ca, version, sni="guarded.test", leaf=pay)
    assert not client.visit()
    assert client.visit()
    with Wire(edge.port, pki.ca, sni="guarded.test", context=client.context) as first:
        first.get("/", host="guarded.test")
        session = first.tls.session
    with contextlib.closing(Wire(edge.port, None)) as raw:
        tls = client.context.wrap_socket(raw.sock, server_hostname="guarded.test", session=session)
        assert tls.session_reused
        raw.sock = tls
        assert fields(raw.get("/", host="guarded.test").json(), "client-cert")
        assert raw.get("/admin/", host="guarded.test").status == 403


@VERSIONS
def test_a_ticket_does_not_outlive_the_rules(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, pay: Leaf, version: ssl.TLSVersion
) -> None:
    text = (
        f'[trust.mesh]\nca = ["{pki.client_ca}"]\n{pki.host(echo_upstream.url)}'
        'client_auth = { trust = "mesh", allow = [{ spiffe = "spiffe://prod.example/ns/pay/*" }] }\n'
    )
    gateway = start_gateway(text)
    client = Returning(gateway, pki.ca, version, leaf=pay)
    client.visit()
    assert client.visit()
    open_connection = Wire(gateway.port, pki.ca, client=pay)
    assert open_connection.get().status == 200
    gateway.config.write_text(gateway.config.read_text().replace("/ns/pay/*", "/ns/ops/*"))
    gateway.signal(signal.SIGHUP)
    gateway.event_line(event="reloaded")
    with pytest.raises((OSError, AssertionError)):
        client.visit()
    with contextlib.suppress(EOFError, ConnectionError):
        assert open_connection.get().get("connection") == "close"
        with pytest.raises((EOFError, ConnectionError)):
            open_connection.get()
    open_connection.close()


def test_connections_grow_old(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire],
    h2: Callable[..., H2Client], pay: Leaf,
) -> None:  # fmt: skip
    gateway = start_gateway(
        f'[trust.mesh]\nca = ["{pki.client_ca}"]\n{pki.host(echo_upstream.url)}'
        'client_auth = { trust = "mesh", max_age = "3s" }\n'
    )
    old = h1(gateway, client=pay)
    two = h2(gateway, client=pay)
    assert old.get().status == 200
    assert two.get().status == 200
    assert two.closed()
    assert old.ended()


def test_streams_grow_old_too(start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, pay: Leaf) -> None:
    gateway = start_gateway(
        f"""
        [trust.mesh]
        ca = ["{pki.client_ca}"]
        {pki.host(echo_upstream.url.replace("http:", "tcp:"))}
        protocol = "tcp"
        client_auth = {{ trust = "mesh", max_age = "3s" }}
        """
    )
    with Wire(gateway.port, pki.ca, alpn=(), client=pay) as wire:
        assert wire.get().status == 200
        assert wire.rest() == b""
    assert gateway.access_line(protocol="TCP")["fault"] == "max-age"
