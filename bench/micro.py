"""Micro benchmarks of the pure rooms, one operation each: ``pytest bench/micro.py`` (pytest-benchmark), apart from end to end.

Hello parser, choice of a host, codecs of both versions on both sides, policies, routes and paths, counters, budgets.
They say where a request's time goes and whether a change moved it; what a request costs only the bench itself can say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import hpack
import pytest
from hyperframe import frame as frames
from OpenSSL import SSL

from edge.http.h1 import ClientCodec, ServerCodec
from edge.http.h2 import Connection
from edge.http.message import ConnectionInfo, RequestHead, ResponseHead
from edge.observe.counters import Table
from edge.policy.admission import Budget
from edge.policy.authority import Authority
from edge.policy.forwarded import Forwarding
from edge.policy.headers import compile_headers, write_request_fields, write_response_fields
from edge.policy.phases import PASS, Pipeline, Stage, Verdict, authority_step, check_size
from edge.route.paths import normalise
from edge.route.table import RouteTable
from edge.settings.model import Host, Hsts, Limits, Listener, Log, Respond, Route, Server, Settings, Stream, TlsPolicy
from edge.tls.choice import HostTable, Passage
from edge.wire.hello import ClientHello, HelloReader

Benchmark = Callable[..., Any]

REQUEST = b"GET /v1/orders/7?full=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
FIELDS = [(b"user-agent", b"bench"), (b"accept", b"*/*")]
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
H2_HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/small"), ("user-agent", "bench")]
LISTENER = Listener(name="main", addresses=(), tls=True)
UNBOUNDED = Limits(requests_per_connection=None, h2_control=1 << 30, h2_resets=1 << 30)


def client_hello() -> bytes:
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    client.set_tlsext_host_name(b"localhost")
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65_536)


def frame(kind: int, flags: int, sid: int, payload: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113 section 4.1), made with as little work as can be."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + sid.to_bytes(4, "big") + payload


def table(count: int) -> RouteTable:
    paths = [f"/v{number}/orders/{{id}}" for number in range(count)]
    routes = tuple(Route(host="localhost", path=path, listeners=("main",), respond=Respond()) for path in paths)
    made = Settings(server=Server(), log=Log(), limits=Limits(), listeners=(LISTENER,), hosts=(), routes=routes, upstreams={})
    return RouteTable(made, LISTENER)


def test_a_client_hello_is_parsed(benchmark: Benchmark) -> None:
    octets = client_hello()

    def parse() -> ClientHello | None:
        return HelloReader(32_768).feed(octets)

    assert benchmark(parse).sni == "localhost"


def test_a_client_hello_is_parsed_and_has_its_ja4(benchmark: Benchmark) -> None:
    """What it has more than the one above is the fingerprint, which a hello computes once."""
    octets = client_hello()

    def parse() -> str:
        hello = HelloReader(32_768).feed(octets)
        assert hello is not None
        return hello.ja4()

    assert benchmark(parse).startswith("t13")


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
    blocks = chain([encoder.encode(H2_HEAD)], repeat(encoder.encode(H2_HEAD)))  # from the second on all of it is in the table
    window = b""

    def exchange() -> bytes:
        nonlocal sid, now, window
        sid, now = sid + 2, now + 0.001
        connection.feed(frame(1, 5, sid, next(blocks)) + window, now)
        window = frame(8, 0, 0, (100).to_bytes(4, "big"))
        connection.send_head(sid, 200, [(b"content-type", b"text/plain")], length=100, end=False)
        connection.send_data(sid, b"x" * 100)
        connection.send_end(sid, [])
        return connection.drain()

    assert len(benchmark(exchange)) > 100


def test_an_http2_request_to_an_upstream_and_its_answer(benchmark: Benchmark) -> None:
    """One stream on a connection that lives on: HEADERS out, HEADERS and DATA of 100 bytes in."""
    codec, encoder, now = Connection(UNBOUNDED, client=True, now=0.0), hpack.Encoder(), 0.0
    fields = [(":status", "200"), ("content-length", "100")]
    blocks = chain([encoder.encode(fields)], repeat(encoder.encode(fields)))
    codec.start()
    codec.feed(frames.SettingsFrame(0).serialize(), 0.0)
    codec.drain()

    def exchange() -> int:
        nonlocal now
        now += 0.001
        sid = codec.send_request(b"GET", b"/small", b"localhost", FIELDS, length=None, end=True)
        codec.drain()
        events = codec.feed(frame(1, 4, sid, next(blocks)) + frame(0, 1, sid, b"x" * 100), now)
        codec.credit(sid, 100)
        return len(events)

    assert benchmark(exchange) >= 2


@pytest.mark.parametrize("count", [1, 1000])
def test_a_route_is_found(benchmark: Benchmark, count: int) -> None:
    made, path = table(count), normalise(b"/v0/orders/7?full=1")
    assert benchmark(made.match, "localhost", path, b"GET", FIELDS).route.path == "/v0/orders/{id}"


def test_a_request_with_ten_more_fields_is_parsed(benchmark: Benchmark) -> None:
    """As a browser sends them. Each has another path, because equal heads are parsed once."""
    rest = (
        b" HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-Field-%d: %b\r\n" % (each, b"v" * 40) for each in range(10)) + b"\r\n"
    )
    codec, numbers = ServerCodec(UNBOUNDED, secure=True), iter(range(1 << 60))

    def parse() -> None:
        codec.feed(b"GET /v1/orders/%d" % next(numbers) + rest)
        request = codec.next_event()
        assert isinstance(request, RequestHead)
        codec.head(204, [], length=None, end=True, close=False, request=request)
        codec.start_next()

    benchmark(parse)


@pytest.mark.parametrize("count", [1, 1000])
def test_a_host_is_chosen(benchmark: Benchmark, count: int) -> None:
    """From the name in the hello, among hosts by name and one by wildcard."""
    names = [("*.bench.example",), *((f"h{number}.example",) for number in range(count))]
    stream = Stream(targets=(), passthrough=True)
    hosts = [Host(names=each, listeners=("main",), certificates=(), tls=TlsPolicy(), stream=stream) for each in names]
    chosen = HostTable([Passage(stream, host) for host in hosts], None)
    assert benchmark(lambda: (chosen.choose("h0.example"), chosen.choose("any.bench.example")))[1].host is hosts[0]


def connection(host: Host) -> ConnectionInfo:
    conn = ConnectionInfo("192.0.2.7", 40_000, LISTENER, secure=True)
    conn.host, conn.sni = host, "localhost"
    return conn


def policies() -> tuple[Settings, ConnectionInfo]:
    host = Host(names=("localhost",), listeners=("main",), certificates=(), tls=TlsPolicy(), hsts=Hsts())
    routes = (Route(host="localhost", path="/", listeners=("main",), respond=Respond()),)
    made = Settings(
        server=Server(), log=Log(), limits=UNBOUNDED, listeners=(LISTENER,), hosts=(host,), routes=routes, upstreams={}
    )
    return made, connection(host)


def head() -> RequestHead:
    return RequestHead(b"GET", b"https", b"localhost", b"/v1/orders/7?full=1", FIELDS)


def test_a_request_is_held_against_its_connection(benchmark: Benchmark) -> None:
    """The first two phases of every request: authority and size."""

    class Exchange:
        def __init__(self, conn: ConnectionInfo) -> None:
            self.head, self.conn, self.host = head(), conn, ""

    made, conn = policies()

    def size(subject: Exchange) -> Verdict:
        check_size(subject.head, UNBOUNDED)
        return PASS

    steps: list[tuple[Stage, Callable[[Exchange], Verdict]]] = [
        (Stage.LIMITS, size),
        (Stage.AUTHORITY, authority_step(Authority(made, LISTENER))),
    ]
    pipeline, exchange = Pipeline(steps), Exchange(conn)
    assert benchmark(pipeline.run, exchange) is PASS
    assert exchange.host == "localhost"


def test_the_fields_of_a_request_are_written(benchmark: Benchmark) -> None:
    """What an upstream gets: the client's fields without what it may not say, and what is forwarded."""
    made, conn = policies()
    forwarding, (_, compiled) = Forwarding(made), compile_headers(made)
    prepared, request = forwarding.prepare(conn), head()
    written = benchmark(lambda: write_request_fields(request, compiled, forwarding.request_fields(request, prepared, b"an-id")))
    assert (b"x-forwarded-for", b"192.0.2.7") in written


def test_the_fields_of_a_response_are_written(benchmark: Benchmark) -> None:
    made, conn = policies()
    _, compiled = compile_headers(made)
    response = ResponseHead(200, [(b"content-type", b"text/plain"), (b"server", b"bench")], content_length=100)
    written = benchmark(
        write_response_fields, response, compiled, conn, date=b"Sun, 22 Nov 2026 00:00:00 GMT", request_id=b"an-id"
    )
    assert any(name == b"strict-transport-security" for name, _ in written)


def test_a_budget_is_spent(benchmark: Benchmark) -> None:
    """One address of many, as each handshake asks it."""
    budget, numbers = Budget(100.0, 1.0), iter(range(1 << 60))

    def spend() -> bool:
        number = next(numbers)
        return budget.spend((number % 50_000).to_bytes(4, "big"), number / 1000)

    benchmark(spend)


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
