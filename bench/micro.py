"""Micro benchmarks of the pure rooms, one operation each: ``pytest bench/micro.py`` (pytest-benchmark), apart from end to end.

They say where a request's time goes and whether a change moved it; what a request costs only the bench itself can say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import hpack
import pytest
from hyperframe import frame as frames
from OpenSSL import SSL

from edge.http.h1 import ClientCodec, ServerCodec
from edge.http.h2 import Connection
from edge.http.message import RequestHead
from edge.observe.counters import Table
from edge.route.paths import normalise
from edge.route.table import RouteTable
from edge.settings.model import Limits, Listener, Log, Respond, Route, Server, Settings
from edge.wire.hello import ClientHello, HelloReader

Benchmark = Callable[..., Any]

REQUEST = b"GET /v1/orders/7?full=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
FIELDS = [(b"user-agent", b"bench"), (b"accept", b"*/*")]
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
H2_HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/small"), ("user-agent", "bench")]
UNBOUNDED = Limits(requests_per_connection=None, h2_control=1 << 30, h2_resets=1 << 30)


def client_hello() -> bytes:
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    client.set_tlsext_host_name(b"localhost")
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65_536)


def table(count: int) -> RouteTable:
    listener = Listener(name="main", addresses=(), tls=True)
    paths = [f"/v{number}/orders/{{id}}" for number in range(count)]
    routes = tuple(Route(host="localhost", path=path, listeners=("main",), respond=Respond()) for path in paths)
    made = Settings(server=Server(), log=Log(), limits=Limits(), listeners=(listener,), hosts=(), routes=routes, upstreams={})
    return RouteTable(made, listener)


def test_a_client_hello_is_parsed(benchmark: Benchmark) -> None:
    octets = client_hello()

    def parse() -> ClientHello | None:
        return HelloReader(32_768).feed(octets)

    assert benchmark(parse).sni == "localhost"


def test_a_client_hello_has_its_ja4(benchmark: Benchmark) -> None:
    hello = HelloReader(32_768).feed(client_hello())
    assert hello is not None
    assert benchmark(hello.ja4).startswith("t13")


def test_an_http1_exchange_on_the_clients_side(benchmark: Benchmark) -> None:
    """A request in, an answer with a body of 100 bytes out, and ready for the next."""
    codec = ServerCodec(UNBOUNDED, secure=True)

    def exchange() -> bytes:
        codec.feed(REQUEST)
        request = codec.next_event()
        assert isinstance(request, RequestHead)
        out = codec.head(200, [(b"content-type", b"text/plain")], length=100, end=False, close=False, request=request)
        out += codec.data(b"x" * 100) + codec.end([])
        codec.start_next()
        return out

    assert benchmark(exchange).startswith(b"HTTP/1.1 200")


def test_an_http1_exchange_on_the_upstreams_side(benchmark: Benchmark) -> None:
    """A request out, its answer with a body of 100 bytes in."""

    def exchange() -> bool:
        codec = ClientCodec()
        codec.request(b"GET", b"/small", b"localhost", FIELDS, length=None, end=True)
        codec.feed(RESPONSE)
        while codec.next_event() is not None:
            pass
        return codec.reusable

    assert benchmark(exchange), "the answer was read to its end"


def test_an_http2_request_and_its_answer(benchmark: Benchmark) -> None:
    """One stream on a connection that lives on: HEADERS in, HEADERS and DATA of 100 bytes out."""
    connection = Connection(UNBOUNDED, client=False, now=0.0)
    connection.start()
    connection.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames.SettingsFrame(0).serialize(), 0.0)
    connection.drain()
    encoder, sid, now = hpack.Encoder(), -1, 0.0

    def exchange() -> bytes:
        nonlocal sid, now
        sid, now = sid + 2, now + 0.001
        head = frames.HeadersFrame(sid, encoder.encode(H2_HEAD), flags=["END_HEADERS", "END_STREAM"])
        window = frames.WindowUpdateFrame(0, 100)
        connection.feed(head.serialize() + (window.serialize() if sid > 1 else b""), now)
        connection.send_head(sid, 200, [(b"content-type", b"text/plain")], length=100, end=False)
        connection.send_data(sid, b"x" * 100)
        connection.send_end(sid, [])
        return connection.drain()

    assert len(benchmark(exchange)) > 100


@pytest.mark.parametrize("count", [1, 1000])
def test_a_route_is_found(benchmark: Benchmark, count: int) -> None:
    made, path = table(count), normalise(b"/v0/orders/7?full=1")
    assert benchmark(made.match, "localhost", path, b"GET", FIELDS).route.path == "/v0/orders/{id}"


def test_a_path_is_normalised(benchmark: Benchmark) -> None:
    numbers = iter(range(1 << 60))
    assert benchmark(lambda: normalise(b"/v1/./orders/%%37%d?full=1" % next(numbers))).match.startswith("/v1/orders/7")


def test_something_is_counted(benchmark: Benchmark) -> None:
    cell = Table.create(1).part(1).counter("edge_connections_accepted_total", "https")
    benchmark(cell.add)
    assert cell.value


def test_a_duration_is_observed(benchmark: Benchmark) -> None:
    histogram = Table.create(1).part(1).histogram("edge_request_seconds", "localhost/")
    benchmark(histogram.observe, 0.004)


def test_the_durations_of_a_batch_are_observed(benchmark: Benchmark) -> None:
    """64 at once, as the journal does it."""
    histogram = Table.create(1).part(1).histogram("edge_request_seconds", "localhost/")
    seconds = [number % 29 / 4000 for number in range(64)]
    benchmark(histogram.observe_all, seconds)
