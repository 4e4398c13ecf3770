"""Server-sent events: every event reaches the client when it is sent, and no total timeout ends the stream."""

from __future__ import annotations

import queue
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn


class Ticker:
    """An upstream that sends an event each time that it is told to."""

    def __init__(self) -> None:
        self.say: queue.Queue[bytes] = queue.Queue()

    def __call__(self, conn: Conn) -> None:
        request = conn.read_request()
        chunked = request.path == "/chunked"
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        conn.send(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Connection: close\r\n\r\n")
        while event := self.say.get(timeout=60):
            conn.send(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
        if chunked:
            conn.send(b"0\r\n\r\n")


@pytest.fixture
def ticker() -> Ticker:
    return Ticker()


@pytest.fixture
def edge(start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, ticker: Ticker) -> Gateway:
    return start_gateway(
        f"""
        {pki.host()}
        [[route]]
        path = "/"
        upstream = "{start_upstream(ticker).url}"
        timeout = "3s"
        """
    )


@pytest.mark.parametrize("path", ["/chunked", "/until-close"])
def test_on_http1_each_event_arrives_before_the_next_is_sent(
    edge: Gateway, ticker: Ticker, h1: Callable[..., Wire], path: str
) -> None:
    wire = h1(edge)
    wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += wire.some()
    assert b"text/event-stream" in seen.lower()
    for number in range(20):
        event = b"data: %d\n\n" % number
        ticker.say.put(event)
        while event not in seen:
            seen += wire.some()
    ticker.say.put(b"")
    while not seen.endswith(b"0\r\n\r\n"):
        seen += wire.some()


@pytest.mark.parametrize("path", ["/chunked", "/until-close"])
def test_on_http2_each_event_arrives_before_the_next_is_sent(
    edge: Gateway, ticker: Ticker, h2: Callable[..., H2Client], path: str
) -> None:
    client = h2(edge)
    sid = client.request(path, ("accept", "text/event-stream"))
    stream = client.streams[sid]
    for number in range(20):
        event = b"data: %d\n\n" % number
        ticker.say.put(event)
        while event not in stream.body:
            client.pump()
    ticker.say.put(b"")
    assert client.response(sid).reset is None


def test_a_total_timeout_ends_at_the_head_of_an_event_stream(edge: Gateway, ticker: Ticker, h1: Callable[..., Wire]) -> None:
    import time

    wire = h1(edge)
    wire.send(b"GET /chunked HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    ticker.say.put(b"data: first\n\n")
    while b"data: first" not in wire.some():
        pass
    time.sleep(3.2)  # longer than the route's timeout: it must not matter
    ticker.say.put(b"data: second\n\n")
    assert b"data: second" in wire.some()
    ticker.say.put(b"")
