"""What one client may use: sizes answered with 414, 431 and 413, and clocks that end what does not move."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, Request, ScriptedUpstream, by_path, plain_answer


def stubborn(conn: Conn, request: Request) -> bool:
    """Answer slowly, one byte at a time."""
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        conn.send(b"x")
        time.sleep(0.05)
    return True


def endless(conn: Conn, request: Request) -> bool:
    conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        conn.send(b"10000\r\n" + bytes(65_536) + b"\r\n")


def big_head(conn: Conn, request: Request) -> None:
    conn.send(plain_answer(b"ok", "200 OK", *[f"X-{number}: {'v' * 100}" for number in range(50)]))


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    return start_shared_upstream(by_path({"/stubborn": stubborn, "/endless": endless, "/big-head": big_head}))


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    """Small limits."""
    return start_shared(
        f"""
        [limits]
        request_line = "1KiB"
        header_bytes = "4KiB"
        header_count = 20
        request_body = "2KiB"
        requests_per_connection = 50
        {pki.host(upstream.url)}
        """,
        plain=True,
    )


@pytest.fixture(scope="module")
def hurried(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    """Short clocks. Nothing here may depend on being faster than they are, but for one request within the idle time."""
    return start_shared(
        f"""
        [limits]
        header_timeout = "400ms"
        body_timeout = "400ms"
        idle_timeout = "3s"
        write_timeout = "600ms"
        {pki.host()}
        [[route]]
        path = "/"
        upstream = "{upstream.url}"
        [[route]]
        path = "/stubborn"
        upstream = "{upstream.url}"
        timeout = "500ms"
        """,
        plain=True,
    )


def cut_off(wire: Wire) -> bool:
    """Send a byte each 50 ms, 900 at most, until the gateway says something or has gone; whether it did."""
    for _ in range(900):
        if select.select([wire.sock], [], [], 0.05)[0]:
            return True
        wire.send(b"x")
    return False


def test_a_long_request_line_is_414(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    assert wire.get("/" + "a" * 2000).status == 414
    assert wire.ended()


def test_a_request_line_without_end_is_414(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"GET /" + b"a" * 5000)
    assert wire.read_response().status == 414


def test_large_fields_are_431(edge: Gateway, h1: Callable[..., Wire]) -> None:
    assert h1(edge).get("/", f"X-A: {'a' * 5000}").status == 431


def test_too_many_fields_are_431(edge: Gateway, h1: Callable[..., Wire]) -> None:
    assert h1(edge).get("/", *[f"X-{number}: 1" for number in range(30)]).status == 431


def test_fields_without_end_are_431(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 6000)
    assert wire.read_response().status == 431


@pytest.mark.parametrize(
    "extra", [[("x-a", "a" * 5000)], [(f"x-{number}", "1") for number in range(30)], [("x-a", "a" * 100)] * 45]
)
def test_large_fields_on_http2_are_refused_on_their_stream(
    edge: Gateway, upstream: ScriptedUpstream, h2: Callable[..., H2Client], extra: list[tuple[str, str]]
) -> None:
    client = h2(edge)
    before = len(upstream.requests)
    answer = client.get("/", *extra)
    assert answer.status == 431 or answer.reset is not None
    assert len(upstream.requests) == before
    assert client.get("/").status == 200


def test_a_chunked_body_beyond_the_limit_is_413(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.send(b"400\r\n" + bytes(1024) + b"\r\n")
    wire.send(b"800\r\n" + bytes(2048) + b"\r\n0\r\n\r\n")
    assert wire.read_response().status == 413


def test_an_http2_body_beyond_the_limit_is_413(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sid = client.request("/", method="POST", end=False)
    client.data(sid, bytes(1024))
    client.data(sid, bytes(2048))
    answer = client.response(sid)
    assert answer.status == 413 or answer.reset is not None
    assert client.get("/").status == 200


def test_expect_is_answered_with_413_when_the_length_is_too_large(edge: Gateway, h1: Callable[..., Wire]) -> None:
    answer = h1(edge).get("/", "Content-Length: 5000", "Expect: 100-continue", method="POST")
    assert (answer.status, answer.informational) == (413, [])


def test_a_connection_ends_after_its_requests(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    answers = [wire.get("/") for _ in range(50)]
    assert [answer.status for answer in answers] == [200] * 50
    assert answers[-1].get("connection") == "close"
    assert wire.ended()


def test_an_http2_connection_goes_away_after_its_requests(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    for _ in range(50):
        assert client.get("/").status == 200
    client.until(lambda: client.goaway is not None)
    assert client.goaway == 0


def test_a_dribbled_head_is_cut_off(hurried: Gateway, h1: Callable[..., Wire]) -> None:
    """The header timeout is a total: a byte now and then does not extend it."""
    wire = h1(hurried, plain=True)
    wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
    assert cut_off(wire)
    assert wire.read_response().status == 408


def test_a_stalled_upload_is_cut_off(hurried: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(hurried, timeout=60)
    wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
    answer = wire.rest()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


def test_a_stalled_http2_upload_is_reset_and_others_live_on(hurried: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(hurried)
    sid = client.request("/", method="POST", end=False)
    client.data(sid, b"half")
    answer = client.response(sid)
    assert answer.status == 408 or answer.reset is not None
    assert client.get("/").status == 200


@pytest.mark.parametrize("warm", [False, True])
def test_an_idle_http1_connection_is_closed(hurried: Gateway, h1: Callable[..., Wire], warm: bool) -> None:
    wire = h1(hurried, timeout=60)
    if warm:
        assert wire.get("/").status == 200
    assert wire.ended()


def test_an_idle_http2_connection_is_sent_away(hurried: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(hurried)
    assert client.get("/").status == 200
    client.wire.sock.settimeout(60)
    assert client.closed()
    assert client.goaway == 0


def test_a_reader_that_stands_still_is_cut_off(hurried: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(hurried, receive_buffer=65_536)
    wire.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    line = hurried.access_line(path="/endless", protocol="HTTP/1.1")
    assert line["blame"] == "client"
    wire.close()


def test_a_window_that_stays_closed_is_cut_off_on_http2(hurried: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(hurried)
    client.credit = False
    answer = client.response(client.request("/endless"))
    assert answer.reset is not None


def test_a_routes_total_ends_an_answer_that_never_ends(hurried: Gateway, h1: Callable[..., Wire]) -> None:
    answer = h1(hurried).get("/stubborn")
    assert answer.status == 504 or not answer.complete


def test_an_upload_below_the_least_rate_is_cut_off(
    start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(
        f"""
        [limits]
        body_timeout = "300ms"
        body_min_rate = "1KiB/s"
        {pki.host(upstream.url)}
        """,
        plain=True,
    )
    wire = h1(edge, plain=True)
    wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    assert cut_off(wire)


def test_a_route_narrows_the_limits_of_its_host(
    start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(
        f"""
        {pki.host()}
        [[route]]
        path = "/"
        upstream = "{upstream.url}"
        [[route]]
        path = "/small/"
        upstream = "{upstream.url}"
        limits = {{ request_body = "10B" }}
        """
    )
    assert h1(edge).ask("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 11\n\n12345678901").status == 200
    assert h1(edge).ask("POST /small/x HTTP/1.1\nHost: localhost\nContent-Length: 11\n\n12345678901").status == 413
