"""curl through the gateway: every method of framing a request and a response, on HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import Curl, Nginx, StartGateway, StartUpstream
from .gateway import Gateway
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, Request, ScriptedUpstream, account, by_path, plain_answer

VERSIONS = pytest.mark.parametrize("version", ["1.1", "2"])


def flag(version: str) -> str:
    return {"1.1": "--http1.1", "2": "--http2"}[version]


def early_hints(conn: Conn, request: Request) -> None:
    conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    conn.send(plain_answer(b"after hints"))


def trailers(conn: Conn, request: Request) -> None:
    conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
    conn.send(b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")


def expects_continue(conn: Conn, request: Request) -> None:
    assert [value.lower() for value in request.values("expect")] in ([], ["100-continue"])
    if request.values("expect"):
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    conn.read_body(request)
    conn.send(plain_answer(request.body))


def partial(conn: Conn, request: Request) -> None:
    assert request.values("range") == ["bytes=2-4"]
    conn.send(plain_answer(b"cde", "206 Partial Content", "Content-Range: bytes 2-4/26"))


def until_close(conn: Conn, request: Request) -> bool:
    conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
    conn.send(b"until the end")
    return False


def status(conn: Conn, request: Request) -> None:
    code = request.target.rpartition("=")[2]
    body = b"" if code in ("204", "304") else code.encode()
    length = b"" if code in ("204", "304") else b"Content-Length: %d\r\n" % len(body)
    conn.send(b"HTTP/1.1 %s Whatever\r\n%s\r\n" % (code.encode(), length) + body)


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    answers = {
        "/hints": early_hints,
        "/trailers": trailers,
        "/continue": expects_continue,
        "/range": partial,
        "/until-close": until_close,
        "/status": status,
    }
    return start_shared_upstream(by_path(answers))


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_shared(
        f"""
        {pki.host(upstream.url)}
        """,
        plain=True,
    )


@VERSIONS
def test_a_get_arrives_and_is_answered(edge: Gateway, run_curl: Curl, version: str) -> None:
    got = run_curl(edge, "/hello?a=1&b=%20", flag(version), "-H", "X-Mine: yes")
    assert (got.exit, got.status, got.version) == (0, 200, version)
    seen = got.json()
    assert (seen["method"], seen["target"], seen["version"]) == ("GET", "/hello?a=1&b=%20", "HTTP/1.1")
    assert ["x-mine", "yes"] in seen["fields"]
    assert got.field("content-type") == "application/json"


def test_the_plain_listener_serves_too(edge: Gateway, run_curl: Curl) -> None:
    got = run_curl(edge, "/hello", plain=True)
    assert (got.exit, got.status, got.version) == (0, 200, "1.1")


def test_a_client_of_http10_gets_bodies_until_the_close(edge: Gateway, run_curl: Curl) -> None:
    """It offers http/1.0 in ALPN and nothing else."""
    got = run_curl(edge, "/until-close", "--http1.0")
    assert (got.exit, got.status, got.body, got.field("transfer-encoding")) == (0, 200, b"until the end", None)
    assert edge.access_line(path="/until-close", protocol="HTTP/1.0")["alpn"] == "http/1.0"


@VERSIONS
def test_head_has_the_length_and_no_body(
    edge: Gateway, nginx_upstream: Nginx, start_gateway: StartGateway, pki: Pki, run_curl: Curl, version: str
) -> None:
    gateway = start_gateway(pki.host(nginx_upstream.url))
    got = run_curl(gateway, "/small", flag(version), "--head")
    assert (got.exit, got.status, got.field("content-length")) == (0, 200, "6")
    again = run_curl(gateway, "/small", flag(version))
    assert again.body == b"small\n"


@VERSIONS
def test_a_body_of_known_length_arrives_whole(edge: Gateway, run_curl: Curl, version: str) -> None:
    body = os.urandom(300_000)
    got = run_curl(edge, "/post", flag(version), "--data-binary", "@-", "-H", "Expect:", stdin=body)
    assert got.status == 200
    seen = got.json()
    assert seen["body"].encode("latin-1") == body
    assert ["content-length", "300000"] in seen["fields"]


@VERSIONS
def test_an_upload_of_unknown_length_arrives_whole(edge: Gateway, run_curl: Curl, version: str) -> None:
    body = b"0123456789abcdef" * 10_000
    got = run_curl(edge, "/put", flag(version), "-T", "-", "-H", "Expect:", stdin=body)
    assert got.status == 200
    seen = got.json()
    assert seen["method"] == "PUT"
    assert seen["body"].encode() == body
    assert ["transfer-encoding", "chunked"] in seen["fields"]


@VERSIONS
def test_expect_100_continue_is_answered_without_waiting(edge: Gateway, run_curl: Curl, version: str) -> None:
    got = run_curl(
        edge,
        "/continue",
        flag(version),
        "--data-binary",
        "@-",
        "-H",
        "Expect: 100-continue",
        "--expect100-timeout",
        "15",
        stdin=b"x" * 2000,
    )
    assert (got.status, got.body) == (200, b"x" * 2000)
    assert got.info["time_total"] < 5


@VERSIONS
def test_a_103_is_passed_on_before_the_answer(edge: Gateway, run_curl: Curl, version: str) -> None:
    got = run_curl(edge, "/hints", flag(version))
    assert (got.status, got.body) == (200, b"after hints")
    first = got.head.split("\r\n\r\n")[0]
    assert first.split()[1] == "103"
    assert "rel=preload" in first


def test_trailers_of_the_answer_pass_on_http1(edge: Gateway, h1: Callable[..., Wire]) -> None:
    got = h1(edge).get("/trailers", "TE: trailers")
    assert (got.status, got.body, got.trailers) == (200, b"hello", [("x-sum", "42")])


def test_trailers_of_the_answer_pass_on_http2(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    got = h2(edge).get("/trailers", ("te", "trailers"))
    assert (got.status, bytes(got.body), got.trailers) == (200, b"hello", [("x-sum", "42")])


def test_trailers_of_the_request_pass_on_http1(edge: Gateway, h1: Callable[..., Wire]) -> None:
    got = h1(edge).ask("POST /t HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n3\nabc\n0\nX-Sum: 7\n\n")
    assert got.json()["body"] == "abc"
    assert got.json()["trailers"] == [["x-sum", "7"]]


@VERSIONS
def test_ranges_pass(edge: Gateway, run_curl: Curl, version: str) -> None:
    got = run_curl(edge, "/range", flag(version), "-r", "2-4")
    assert (got.status, got.body, got.field("content-range")) == (206, b"cde", "bytes 2-4/26")


@VERSIONS
def test_an_answer_without_length_ends_with_its_connection(edge: Gateway, run_curl: Curl, version: str) -> None:
    got = run_curl(edge, "/until-close", flag(version))
    assert (got.exit, got.status, got.body) == (0, 200, b"until the end")


@VERSIONS
@pytest.mark.parametrize("code", ["201", "204", "304", "404", "418", "500", "503", "599"])
def test_status_codes_pass_unchanged(edge: Gateway, run_curl: Curl, version: str, code: str) -> None:
    got = run_curl(edge, f"/status?code={code}", flag(version))
    assert (got.exit, got.status) == (0, int(code))
    assert got.body == (b"" if code in ("204", "304") else code.encode())


@VERSIONS
def test_dot_segments_are_removed_before_the_upstream_sees_them(edge: Gateway, run_curl: Curl, version: str) -> None:
    got = run_curl(edge, "/a/./b/../c?q=..", flag(version), "--path-as-is")
    assert got.status == 200
    assert got.json()["target"] == "/a/c?q=.."


@VERSIONS
@pytest.mark.parametrize("path", ["/a%2fb", "/a%5cb", "/a\\b", "/a%00b", "/a%252e%252e/b"])
def test_paths_that_could_be_read_in_two_ways_are_refused(
    edge: Gateway, upstream: ScriptedUpstream, run_curl: Curl, version: str, path: str
) -> None:
    before = len(upstream.requests)
    got = run_curl(edge, path, flag(version), "--path-as-is", "--globoff")
    assert got.status == 400
    assert len(upstream.requests) == before


def test_many_requests_share_one_connection(edge: Gateway, run_curl: Curl) -> None:
    port = edge.port
    got = run_curl(edge, "/1", "--http1.1", f"https://localhost:{port}/2", f"https://localhost:{port}/3")
    assert got.exit == 0
    assert got.info["num_connects"] == 0


def test_pipelined_requests_are_answered_in_order(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % i for i in range(20)))
    targets = [wire.read_response().json()["target"] for _ in range(20)]
    assert targets == [f"/{i}" for i in range(20)]


def test_an_http_1_0_client_gets_its_answer_and_the_end(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    got = wire.ask("GET /trailers HTTP/1.0\nHost: localhost\n\n")
    assert (got.status, got.body, got.get("transfer-encoding")) == (200, b"hello", None)
    assert wire.ended()


def test_connection_close_is_honoured(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    got = wire.get("/x", "Connection: close")
    assert (got.status, (got.get("connection") or "").lower()) == (200, "close")
    assert wire.ended()


@VERSIONS
def test_a_request_is_refused_with_413_before_the_upstream_sees_it(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, run_curl: Curl, version: str
) -> None:
    gateway = start_gateway('[limits]\nrequest_body = "1KiB"\n' + pki.host(echo_upstream.url))
    before = len(echo_upstream.requests)
    got = run_curl(gateway, "/big", flag(version), "--data-binary", "@-", "-H", "Expect:", stdin=b"x" * 2000)
    assert got.status == 413
    assert len(echo_upstream.requests) == before
    assert run_curl(gateway, "/fits", flag(version), "-d", "x").status == 200


def test_the_account_of_a_request_is_what_the_upstream_read() -> None:
    request = Request("GET", "/", "HTTP/1.1", [("Host", "a")], b"")
    assert json.loads(json.dumps(account(request)))["fields"] == [["host", "a"]]
