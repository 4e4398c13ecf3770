"""Routing and rewriting end to end: paths, methods, headers, redirects, fixed answers, and what is told to the upstream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .clients import Response, Wire
from .conftest import Curl, StartGateway
from .gateway import Gateway, free_port
from .h2raw import H2Client
from .pki import Pki
from .upstreams import ScriptedUpstream, account, by_path, plain_answer


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Gateway:
    return start_shared(
        f"""
        {pki.host()}
        {pki.host("", "open.test", pki.open)}
        [[route]]
        host = "open.test"
        redirect = {{ to = "https://localhost{{path_and_query}}", status = 308 }}
        [[route]]
        path = "/ping"
        respond = {{ status = 200, body = "ok\\n", content_type = "text/plain" }}
        [[route]]
        host = "localhost"
        path = "/"
        upstream = "{echo_upstream.url}"
        [[route]]
        host = "localhost"
        path = "/exact"
        respond = {{ status = 203, body = "exact" }}
        [[route]]
        host = "localhost"
        path = "/orders/{{id}}/items/{{item}}"
        methods = ["GET", "PUT"]
        rewrite = "/i/{{item}}/of/{{id}}"
        upstream = "{echo_upstream.url}"
        [[route]]
        host = "localhost"
        path = "/v2/"
        strip_prefix = "/v2"
        upstream = "{echo_upstream.url}"
        [[route]]
        host = "localhost"
        path = "/raw/"
        paths = "raw"
        upstream = "{echo_upstream.url}"
        [[route]]
        host = "localhost"
        path = "/headers/"
        upstream = "{echo_upstream.url}"
        upstream_host = "inner.test"
        request_headers = {{ set = {{ "X-Set" = "s" }}, add = {{ "X-Added" = "a" }}, remove = ["X-Gone"] }}
        response_headers = {{ set = {{ "X-Content-Type-Options" = "nosniff" }}, remove = ["Content-Type"] }}
        """,
        plain=True,
    )


def values(answer: Response, name: str) -> list[str]:
    """The values of a field as the upstream saw it."""
    return [value for key, value in answer.json()["fields"] if key == name]


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/", "/"),
        ("/a/b?x=1&y=%20", "/a/b?x=1&y=%20"),
        ("/a/%7euser", "/a/~user"),
        ("/a//b", "/a//b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/v2/things", "/things"),
        ("/v2/", "/"),
        ("/v2", "/"),
        ("/v2x", "/v2x"),
        ("/a/../v2/things", "/things"),
        ("/orders/7/items/x%20y", "/i/x%20y/of/7"),
        ("/raw/%7euser//x", "/raw/%7euser//x"),
        ("/exact/", "/exact/"),
    ],
)
def test_the_upstream_gets_the_path_that_the_route_says(edge: Gateway, h1: Callable[..., Wire], target: str, seen: str) -> None:
    answer = h1(edge).get(target)
    assert (answer.status, answer.json()["target"]) == (200, seen)


@pytest.mark.parametrize("target", ["/../b", "/a/../../b", "/%2e%2e/b", "/a/..;x/b", "/a/%2e%2e%2fb"])
def test_paths_that_climb_are_refused(edge: Gateway, h1: Callable[..., Wire], target: str) -> None:
    assert h1(edge).get(target).status == 400


def test_fixed_answers_need_no_upstream(edge: Gateway, h1: Callable[..., Wire], h2: Callable[..., H2Client]) -> None:
    wire = h1(edge)
    ping = wire.get("/ping")
    assert (ping.status, ping.body) == (200, b"ok\n")
    assert (ping.get("content-type") or "").startswith("text/plain")
    assert wire.get("/exact").status == 203
    head = wire.get("/ping", method="HEAD")
    assert (head.status, head.get("content-length"), head.body) == (200, "3", b"")
    assert bytes(h2(edge).get("/ping").body) == b"ok\n"


def test_a_wrong_method_is_405_with_allow(edge: Gateway, h1: Callable[..., Wire]) -> None:
    """The template is the better match, and it does not fall through to the prefix."""
    answer = h1(edge).get("/orders/7/items/1", method="DELETE")
    assert (answer.status, answer.get("allow")) == (405, "GET, HEAD, PUT")


def test_no_route_is_404(
    edge: Gateway, h1: Callable[..., Wire], start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(
        f"""
        {pki.host()}
        [[route]]
        path = "/only/"
        methods = ["GET"]
        upstream = "{echo_upstream.url}"
        """
    )
    wire = h1(gateway)
    assert wire.get("/only").status == 200
    assert wire.get("/other").status == 404
    refused = wire.get("/only/x", method="PATCH")
    assert (refused.status, refused.get("allow")) == (405, "GET, HEAD")


def test_a_redirect_keeps_path_and_query(edge: Gateway, h1: Callable[..., Wire]) -> None:
    answer = h1(edge, sni="open.test").get("/a/b?c=d", host="open.test")
    assert (answer.status, answer.get("location")) == (308, "https://localhost/a/b?c=d")


def test_headers_are_set_added_and_removed_both_ways(edge: Gateway, h1: Callable[..., Wire]) -> None:
    answer = h1(edge).get("/headers/x", "X-Set: client", "X-Added: client", "X-Gone: 1", "X-Kept: 1")
    assert values(answer, "host") == ["inner.test"]
    assert values(answer, "x-set") == ["s"]
    assert values(answer, "x-added") == ["client", "a"]
    assert values(answer, "x-gone") == []
    assert values(answer, "x-kept") == ["1"]
    assert answer.get("x-content-type-options") == "nosniff"
    assert answer.get("content-type") is None


def test_the_client_is_told_to_the_upstream_and_cannot_lie(edge: Gateway, h1: Callable[..., Wire]) -> None:
    answer = h1(edge).get(
        "/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.test", "Forwarded: for=6.6.6.6"
    )
    assert values(answer, "host") == ["localhost"]
    assert values(answer, "x-forwarded-for") == ["127.0.0.1"]
    assert values(answer, "x-forwarded-proto") == ["https"]
    assert values(answer, "x-forwarded-host") == ["localhost"]
    (forwarded,) = values(answer, "forwarded")
    assert "6.6.6.6" not in forwarded
    assert "for=127.0.0.1" in forwarded.replace('"', "")
    assert "proto=https" in forwarded
    assert values(answer, "via") == ["1.1 edge"]
    assert len(values(answer, "x-request-id")) == 1


def test_a_trusted_proxy_is_believed(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    gateway = start_gateway('[trusted_proxies]\nfrom = ["127.0.0.0/8"]\n' + pki.host(echo_upstream.url))
    answer = h1(gateway).get("/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    assert values(answer, "x-forwarded-for") == ["192.0.2.7, 127.0.0.1"]


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_hop_by_hop_fields_are_dropped_both_ways(
    start_gateway: StartGateway,
    start_upstream: Callable[..., ScriptedUpstream],
    pki: Pki,
    h1: Callable[..., Wire],
    h2: Callable[..., H2Client],
    version: str,
) -> None:
    answer_bytes = plain_answer(
        b"ok",
        "200 OK",
        "Connection: X-Named, close",
        "X-Named: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "X-Kept: 1",
    )
    upstream = start_upstream(by_path({"/": lambda conn, _: conn.send(answer_bytes)}))
    gateway = start_gateway(pki.host(upstream.url))
    if version == "h1":
        answer = h1(gateway).get(
            "/",
            "Connection: keep-alive, X-Secret",
            "X-Secret: 1",
            "Keep-Alive: 5",
            "Proxy: http://evil.test",
            "Proxy-Connection: x",
            "TE: gzip",
        )
        names = {name for name, _ in answer.fields}
    else:
        names = {name for name, _ in h2(gateway).get("/", ("proxy", "http://evil.test")).fields}
    seen = {name for name, _ in account(upstream.requests[0])["fields"]}
    assert seen.isdisjoint({"x-secret", "keep-alive", "proxy", "proxy-connection", "upgrade", "te"})
    assert names.isdisjoint({"x-named", "keep-alive"})
    assert "x-kept" in names


def test_hsts_is_sent_on_tls_and_never_on_plain_nor_localhost(
    edge: Gateway, start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    assert h1(edge).get("/ping").get("strict-transport-security") is None
    assert h1(edge, sni="open.test").get("/ping", host="open.test").get("strict-transport-security") == "max-age=31536000"
    assert h1(edge, plain=True).get("/ping", host="open.test").get("strict-transport-security") is None


def test_a_listener_that_redirects_serves_nothing_else(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    port = free_port()
    gateway = start_gateway(
        f'[[listener]]\nname = "http"\naddress = "127.0.0.1:{port}"\ntls = "off"\nredirect = "https:8443"\n'
        + pki.host(echo_upstream.url)
    )
    with Wire(port, None) as wire:
        answer = wire.get("/a/b?c=d", host=f"localhost:{port}")
        assert (answer.status, answer.get("location")) == (308, "https://localhost:8443/a/b?c=d")
    assert h1(gateway).get("/").status == 200


def test_curl_follows_the_redirect_of_a_plain_listener(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, run_curl: Curl
) -> None:
    gateway = start_gateway(
        f"""
        {pki.host()}
        [[route]]
        listeners = ["main"]
        path = "/"
        upstream = "{echo_upstream.url}"
        [[route]]
        listeners = ["plain"]
        path = "/"
        redirect = {{ to = "https://{{host}}{{path_and_query}}", status = 308 }}
        """,
        plain=True,
    )
    got = run_curl(gateway, "/a?b=c", plain=True)
    assert (got.status, got.field("location")) == (308, "https://localhost/a?b=c")
