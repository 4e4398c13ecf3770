"""Backpressure end to end: whoever is slow slows the other side down; the gateway keeps a bounded amount in between.

256 MiB each way by default; 1 GiB with ``EDGE_E2E_FULL=1``. The slow side first stands still until nothing moves any
more (memory is measured there), then takes everything, and the count must be right.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway, wait_for
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, ScriptedUpstream

MIB = 1 << 20
BODY = (1024 if os.environ.get("EDGE_E2E_FULL") else 256) * MIB
GROWTH = 8 * MIB
BLOCK = bytes(MIB)


class Flow:
    """An upstream that sends or takes `BODY` bytes and counts; taking waits for `go`."""

    def __init__(self) -> None:
        self.moved = 0
        self.go = threading.Event()
        self.done = threading.Event()

    def __call__(self, conn: Conn) -> None:
        while True:
            request = conn.read_head()
            if request.path == "/idle":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            if request.method == "GET":
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY)
                view = memoryview(BLOCK)
                while self.moved < BODY:
                    self.moved += conn.sock.send(view[: BODY - self.moved])
            else:
                self.go.wait(120)
                self.moved += len(conn.some())
                buffer = bytearray(MIB)
                while self.moved < BODY:
                    count = conn.sock.recv_into(buffer)
                    assert count, "the gateway went away"
                    self.moved += count
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            self.done.set()


@pytest.fixture
def flow() -> Flow:
    return Flow()


@pytest.fixture
def upstream(start_upstream: StartUpstream, flow: Flow) -> ScriptedUpstream:
    return start_upstream(flow, receive_buffer=65_536)


@pytest.fixture
def edge(start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_gateway(
        f"""
        [limits]
        request_body = "off"
        {pki.host(upstream.url)}
        """
    )


def stands_still(flow: Flow) -> None:
    """Wait until nothing has moved for a while."""
    seen = [-1] * 10

    def still() -> bool:
        seen.append(flow.moved)
        return len(set(seen[-25:])) == 1 and len(seen) > 35

    wait_for(still, "the flow to stand still")


def test_a_download_to_a_slow_reader_on_http1(edge: Gateway, flow: Flow, h1: Callable[..., Wire]) -> None:
    wire = h1(edge, receive_buffer=65_536, timeout=60)
    assert wire.get("/idle").status == 200
    idle = edge.rss()
    wire.send(b"GET /down HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: flow.moved, "the flow to begin")
    stands_still(flow)
    assert edge.rss() - idle < GROWTH
    assert flow.moved < 48 * MIB, "the upstream must have been stopped"
    while wire.line():
        pass
    got = len(wire.some())
    buffer, peak = bytearray(MIB), 0
    while got < BODY:
        got += wire.tls.recv_into(buffer)
        if got % (8 * MIB) < 16_384:
            peak = max(peak, edge.rss())
    assert got == BODY
    assert peak - idle < GROWTH


def test_a_download_to_a_slow_reader_on_http2(edge: Gateway, flow: Flow, h2: Callable[..., H2Client]) -> None:
    client = h2(edge, settings={4: 1 << 20})
    client.credit = False
    assert client.get("/idle").status == 200
    idle = edge.rss()
    sid = client.request("/down")
    stream = client.streams[sid]
    wait_for(lambda: flow.moved, "the flow to begin")
    stands_still(flow)
    assert edge.rss() - idle < GROWTH
    assert flow.moved < 48 * MIB, "the upstream must have been stopped"
    assert h2(edge).get("/idle").status == 200
    got, uncredited = 0, 0
    client.give(sid, 4 * MIB)
    while not stream.over:
        client.pump()
        got, uncredited = got + len(stream.body), uncredited + len(stream.body)
        stream.body.clear()
        if uncredited >= MIB:
            client.give(sid, uncredited)
            uncredited = 0
    assert (got, stream.reset) == (BODY, None)
    assert edge.rss() - idle < GROWTH


def test_an_upload_to_a_slow_upstream_on_http1(edge: Gateway, flow: Flow, h1: Callable[..., Wire]) -> None:
    wire = h1(edge, timeout=60)
    assert wire.get("/idle").status == 200
    idle = edge.rss()
    wire.send(b"POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % BODY)
    sent = 0
    wire.sock.settimeout(0.7)
    try:
        while sent < BODY:
            sent += wire.sock.send(BLOCK[: BODY - sent])
    except TimeoutError:
        pass
    assert sent < 48 * MIB, "we must have been stopped"
    assert edge.rss() - idle < GROWTH
    wire.sock.settimeout(60)
    flow.go.set()
    while sent < BODY:
        sent += wire.sock.send(BLOCK[: BODY - sent])
    assert wire.read_response().body == b"ok"
    assert flow.moved == BODY
    assert edge.rss() - idle < GROWTH


def test_an_upload_to_a_slow_upstream_on_http2(edge: Gateway, flow: Flow, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    assert client.get("/idle").status == 200
    idle = edge.rss()
    sid = client.request("/up", ("content-length", str(BODY)), method="POST", end=False)
    window = client.settings.get(4, 65_535)
    sent = 0
    while client.window > 0 and sent < window:
        part = min(client.window, window - sent, 16_384)
        client.data(sid, bytes(part))
        sent, client.window = sent + part, client.window - part
    client.stream_windows[sid] = client.stream_windows.get(sid, window) - sent
    client.ping()
    assert client.window < 16 * MIB, "windows may not be given back before the upstream took the bytes"
    assert edge.rss() - idle < GROWTH
    flow.go.set()
    left = BODY - sent
    while left:
        part = min(left, MIB)
        client.upload(sid, BLOCK[:part], end=part == left)
        left -= part
    assert bytes(client.response(sid).body) == b"ok"
    assert flow.moved == BODY
    assert edge.rss() - idle < GROWTH


def test_many_slow_readers_share_the_bound(edge: Gateway, flow: Flow, h1: Callable[..., Wire]) -> None:
    first = h1(edge)
    assert first.get("/idle").status == 200
    idle = edge.rss()
    for _ in range(20):
        wire = h1(edge, receive_buffer=65_536)
        wire.send(b"GET /down HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: flow.moved, "the flow to begin")
    stands_still(flow)
    assert edge.rss() - idle < 20 * MIB
    assert first.get("/idle").status == 200
