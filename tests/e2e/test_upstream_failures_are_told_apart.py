"""What a broken upstream does to the client: 502, 504, or a broken connection or stream, and never a body that looks complete."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from .clients import Response, Wire
from .conftest import Nginx, StartGateway, StartUpstream
from .gateway import Gateway, free_port
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, Request, ScriptedUpstream, by_path, plain_answer


def raw(octets: bytes) -> Callable[[Conn, Request], bool]:
    """Answer with exactly `octets` and close."""

    def answer(conn: Conn, request: Request) -> bool:
        conn.read_body(request)
        conn.send(octets)
        return False

    return answer


def reset_after(octets: bytes) -> Callable[[Conn, Request], bool]:
    def answer(conn: Conn, request: Request) -> bool:
        if octets:
            conn.send(octets)
            time.sleep(0.05)  # the bytes should be read before the reset destroys them
        conn.reset()
        return False

    return answer


def silence(conn: Conn, request: Request) -> bool:
    conn.some()
    return False


def stall(conn: Conn, request: Request) -> bool:
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
    conn.some()
    return False


def early_answer(conn: Conn, request: Request) -> bool:
    """Answer before the request's body was read, then close."""
    conn.send(plain_answer(b"too early", "403 Forbidden", "Connection: close"))
    conn.sock.shutdown(1)
    while conn.some():
        pass
    return False


def abrupt_answer(conn: Conn, request: Request) -> bool:
    """The same, but close with the body unread, which resets the connection behind the answer."""
    conn.send(plain_answer(b"too large", "413 Content Too Large", "Connection: close"))
    return False


HEAD = b"HTTP/1.1 200 OK\r\n"
BAD_HEADS = {
    "no answer": b"",
    "not http": b"hello\r\n\r\n",
    "two content-lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "content-length not a number": HEAD + b"Content-Length: x\r\n\r\nab",
    "length beside chunked": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "unknown transfer coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 2\r\n\r\nab",
    "obs-fold": HEAD + b"X-A: 1\r\n folded\r\nContent-Length: 2\r\n\r\nab",
    "NUL in a value": HEAD + b"X-A: a\0b\r\nContent-Length: 2\r\n\r\nab",
    "bare CR in a value": HEAD + b"X-A: a\rb\r\nContent-Length: 2\r\n\r\nab",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/3": b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "head cut": HEAD + b"Content-Le",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless head": HEAD + b"".join(b"X-%d: %s\r\n" % (i, b"v" * 1000) for i in range(300)),
}  # fmt: skip
CUT_BODIES = {
    "length cut": HEAD + b"Content-Length: 100\r\n\r\nonly this",
    "chunked cut between chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunked cut inside a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhello",
    "chunked cut before the last CRLF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "chunk without its CRLF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
}


def answer_or_break(ask: Callable[[], Response]) -> Response | None:
    """The answer, or None when the connection broke before its head was there."""
    try:
        return ask()
    except (EOFError, ConnectionError):
        return None


def path_of(name: str) -> str:
    return "/" + name.replace(" ", "-").replace("/", "-")


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    answers = {path_of(name): raw(octets) for name, octets in (BAD_HEADS | CUT_BODIES).items()}
    answers |= {
        "/reset-at-once": reset_after(b""),
        "/reset-in-body": reset_after(HEAD + b"Content-Length: 100\r\n\r\nonly this"),
        "/silence": silence,
        "/stall": stall,
        "/early": early_answer,
        "/abrupt": abrupt_answer,
    }
    return start_shared_upstream(by_path(answers))


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_shared(
        f"""
        {pki.host("app")}
        [upstream.app]
        endpoints = ["{upstream.url}"]
        [upstream.silent]
        endpoints = ["{upstream.url}"]
        first_byte_timeout = "400ms"
        [upstream.stalling]
        endpoints = ["{upstream.url}"]
        between_bytes_timeout = "400ms"
        [[route]]
        path = "/silence"
        upstream = "silent"
        [[route]]
        path = "/stall"
        upstream = "stalling"
        """
    )


@pytest.mark.parametrize("name", [*BAD_HEADS, "reset at once"])
def test_a_bad_answer_is_502_on_http1(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    wire = h1(edge)
    answer = wire.get(path_of(name))
    assert (answer.status, answer.complete) == (502, True)
    assert wire.get("/fine").status == 200
    line = edge.access_line(path=path_of(name), protocol="HTTP/1.1")
    assert (line["status"], line["blame"]) == (502, "upstream")


@pytest.mark.parametrize("name", [*BAD_HEADS, "reset at once"])
def test_a_bad_answer_is_502_on_http2(edge: Gateway, h2: Callable[..., H2Client], name: str) -> None:
    client = h2(edge)
    assert client.get(path_of(name)).status == 502
    assert client.get("/fine").status == 200


@pytest.mark.parametrize("name", [*CUT_BODIES, "reset in body"])
def test_a_cut_body_never_looks_complete_on_http1(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    wire = h1(edge)
    answer = answer_or_break(lambda: wire.get(path_of(name)))
    if answer is not None and answer.status != 502:
        assert not answer.complete
        assert wire.ended()


@pytest.mark.parametrize("name", [*CUT_BODIES, "reset in body"])
def test_a_cut_body_never_looks_complete_to_an_http_1_0_client(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    """Where only the end of the connection ends the body, the end must not be a clean one."""
    answer = answer_or_break(lambda: h1(edge).ask(f"GET {path_of(name)} HTTP/1.0\nHost: localhost\n\n"))
    assert answer is None or answer.status == 502 or not answer.complete


@pytest.mark.parametrize("name", [*CUT_BODIES, "reset in body"])
def test_a_cut_body_never_looks_complete_on_http2(edge: Gateway, h2: Callable[..., H2Client], name: str) -> None:
    client = h2(edge)
    answer = client.get(path_of(name))
    assert answer.status == 502 or answer.reset is not None
    assert client.get("/fine").status == 200, "other streams live on"


def test_a_silent_upstream_is_504(edge: Gateway, h1: Callable[..., Wire], h2: Callable[..., H2Client]) -> None:
    answer = h1(edge).get("/silence", "Accept: application/json")
    assert (answer.status, answer.get("content-type")) == (504, "application/problem+json")
    assert h2(edge).get("/silence").status == 504
    assert edge.access_line(path="/silence", protocol="HTTP/1.1")["blame"] == "upstream"


def test_a_body_that_stalls_is_cut_off(edge: Gateway, h1: Callable[..., Wire], h2: Callable[..., H2Client]) -> None:
    answer = h1(edge).get("/stall")
    assert (answer.status, answer.complete, answer.body) == (200, False, b"five!")
    stream = h2(edge).get("/stall")
    assert stream.reset is not None


def test_an_upstream_that_refuses_connections_is_502(start_gateway: StartGateway, pki: Pki, h1: Callable[..., Wire]) -> None:
    edge = start_gateway(pki.host(f"http://127.0.0.1:{free_port()}"))
    assert h1(edge).get("/").status == 502


def test_a_name_that_does_not_resolve_is_502(start_gateway: StartGateway, pki: Pki, h1: Callable[..., Wire]) -> None:
    edge = start_gateway(pki.host("http://nowhere.invalid:80"))
    assert h1(edge).get("/").status == 502
    line = edge.access_line(path="/", status=502)
    assert (line["fault"], line["blame"]) == ("upstream-name-unresolved", "upstream")
    assert edge.event_line(event="upstream-name-unresolved")["level"] == "warning"


def test_an_early_answer_reaches_a_client_that_is_still_sending(
    edge: Gateway, h1: Callable[..., Wire], h2: Callable[..., H2Client]
) -> None:
    wire = h1(edge)
    wire.send(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
    answer = wire.read_response()
    assert (answer.status, answer.body) == (403, b"too early")
    client = h2(edge)
    sid = client.request("/early", method="POST", end=False)
    client.data(sid, b"x" * 1000)
    assert client.response(sid).status == 403


def test_an_early_answer_is_not_lost_to_the_reset_behind_it(edge: Gateway, h1: Callable[..., Wire]) -> None:
    for _ in range(10):
        wire = h1(edge)
        with contextlib.suppress(ConnectionError):  # the gateway may have closed before we were done
            wire.send(b"POST /abrupt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n")
            for _ in range(30):
                wire.send(b"x" * 100_000)
        answer = wire.read_response()
        assert (answer.status, answer.body) == (413, b"too large")


def test_nothing_of_an_upstreams_failure_is_told_to_the_client(
    edge: Gateway, upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    answer = h1(edge).get(path_of("not http"))
    assert str(upstream.port).encode() not in answer.body
    assert b"127.0.0.1" not in answer.body


def test_errors_are_problem_json_or_text_as_accepted(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    as_json = wire.get("/not-http", "Accept: application/json")
    assert as_json.get("content-type") == "application/problem+json"
    assert as_json.json()["status"] == 502
    as_text = wire.get("/not-http", "Accept: text/plain")
    assert (as_text.get("content-type") or "").startswith("text/plain")
    assert edge.access_line(id=as_json.json()["request_id"])["status"] == 502


def test_a_client_that_goes_away_cancels_its_upstream_work(
    edge: Gateway,
    start_gateway: StartGateway,
    start_upstream: StartUpstream,
    pki: Pki,
    h1: Callable[..., Wire],
    h2: Callable[..., H2Client],
) -> None:
    asked, gone = threading.Semaphore(0), threading.Semaphore(0)

    def script(conn: Conn) -> None:
        conn.read_request()
        asked.release()
        try:
            assert conn.some() == b""
        except ConnectionError:
            pass
        gone.release()

    waiting = start_upstream(script)
    gateway = start_gateway(pki.host(waiting.url))
    wire = h1(gateway)
    wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert asked.acquire(timeout=60)
    wire.reset()
    assert gone.acquire(timeout=60)
    client = h2(gateway)
    sid = client.request("/")
    assert asked.acquire(timeout=60)
    client.wire.send(b"\0\0\4\3\0" + sid.to_bytes(4, "big") + b"\0\0\0\x08")
    assert gone.acquire(timeout=60)
    client.ping()


@pytest.fixture(scope="module")
def tls_edge(start_shared: StartGateway, pki: Pki, nginx_upstream: Nginx) -> Gateway:
    """Routes to one TLS upstream, judged rightly and wrongly."""
    return start_shared(
        f"""
        [trust.ours]
        ca = ["{pki.ca}"]
        [trust.theirs]
        ca = ["{pki.stranger_ca}"]
        {pki.host()}
        [[route]]
        path = "/protocol"
        upstream = "right"
        [[route]]
        path = "/wrong-ca/"
        upstream = "wrong-ca"
        [[route]]
        path = "/wrong-name/"
        upstream = "wrong-name"
        [[route]]
        path = "/system/"
        upstream = "{nginx_upstream.tls_url}"
        [upstream.right]
        endpoints = ["{nginx_upstream.tls_url}"]
        tls = {{ trust = "ours" }}
        [upstream.wrong-ca]
        endpoints = ["{nginx_upstream.tls_url}"]
        tls = {{ trust = "theirs" }}
        [upstream.wrong-name]
        endpoints = ["{nginx_upstream.tls_url}"]
        tls = {{ trust = "ours", server_name = "other.test" }}
        """
    )


def test_a_verified_tls_upstream_is_served(tls_edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(tls_edge)
    for _ in range(3):
        assert wire.get("/protocol").body == b"HTTP/2.0 https localhost", "ALPN, SNI and Host as they should be"


@pytest.mark.parametrize("path", ["/wrong-ca/", "/wrong-name/", "/system/"])
def test_an_upstream_that_cannot_prove_its_name_is_502(tls_edge: Gateway, h1: Callable[..., Wire], path: str) -> None:
    assert h1(tls_edge).get(path).status == 502
    line = tls_edge.access_line(path=path)
    assert line["blame"] == "upstream"
    assert line["fault"].startswith("upstream-")


def test_an_h2c_upstream_and_a_unix_upstream_are_served(
    start_gateway: StartGateway,
    start_upstream: StartUpstream,
    pki: Pki,
    nginx_upstream: Nginx,
    h1: Callable[..., Wire],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from .upstreams import echo

    unix = start_upstream(echo, unix_path=str(tmp_path_factory.mktemp("u") / "s"))
    edge = start_gateway(
        f"""
        {pki.host()}
        [[route]]
        path = "/protocol"
        upstream = "{nginx_upstream.h2c_url}"
        [[route]]
        path = "/unix/"
        upstream = "{unix.url}"
        """
    )
    wire = h1(edge)
    assert wire.get("/protocol").body.startswith(b"HTTP/2.0 http")
    assert wire.get("/unix/x").json()["target"] == "/unix/x"
