"""The pool: connections are kept and reused, stale ones replaced, and a request is repeated only where that is safe."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway, free_port
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, ScriptedUpstream, echo, plain_answer


def host(pki: Pki, upstream: str) -> str:
    return pki.host(upstream)


def test_requests_of_one_and_of_many_clients_share_connections(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], h2: Callable[..., H2Client]
) -> None:
    upstream = start_upstream(echo)
    edge = start_gateway(host(pki, upstream.url))
    for wire in (h1(edge), h1(edge)):
        for _ in range(5):
            assert wire.get("/").status == 200
    client = h2(edge)
    for _ in range(5):
        assert client.get("/").status == 200
    assert upstream.connections == 1
    assert len(upstream.requests) == 15


def test_concurrent_requests_get_connections_of_their_own(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h2: Callable[..., H2Client]
) -> None:
    barrier = threading.Barrier(5)

    def together(conn: Conn) -> None:
        while True:
            conn.read_request()
            barrier.wait(60)
            conn.send(plain_answer(b"ok"))

    upstream = start_upstream(together)
    client = h2(start_gateway(host(pki, upstream.url)))
    for _ in range(2):
        sids = [client.request("/") for _ in range(5)]
        assert [client.response(sid).status for sid in sids] == [200] * 5
    assert upstream.connections == 5


def one_answer_then(end: Callable[[Conn], object]) -> Callable[[Conn], None]:
    """Keep-alive for one request; the second on a connection meets `end`."""

    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(plain_answer(b"%d" % conn.number))
        conn.read_head()
        end(conn)

    return script


@pytest.mark.parametrize("end", [Conn.close, Conn.reset], ids=["closed", "reset"])
def test_a_safe_request_on_a_stale_connection_is_repeated_on_a_fresh_one(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], end: Callable[[Conn], object]
) -> None:
    upstream = start_upstream(one_answer_then(end))
    edge = start_gateway(host(pki, upstream.url))
    wire = h1(edge)
    assert wire.get("/a").body == b"1"
    assert wire.get("/b").body == b"2"
    assert [seen.path for seen in upstream.requests] == ["/a", "/b", "/b"]
    assert edge.access_line(path="/b")["tries"] == 2


@pytest.mark.parametrize("end", [Conn.close, Conn.reset], ids=["closed", "reset"])
def test_an_unsafe_request_that_was_sent_is_never_repeated(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], end: Callable[[Conn], object]
) -> None:
    upstream = start_upstream(one_answer_then(end))
    wire = h1(start_gateway(host(pki, upstream.url)))
    assert wire.get("/a").body == b"1"
    assert wire.ask("POST /b HTTP/1.1\nHost: localhost\nContent-Length: 1\n\nx").status == 502
    assert [seen.path for seen in upstream.requests] == ["/a", "/b"]


def test_a_connection_that_the_upstream_closed_while_idle_is_not_used(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    def once(conn: Conn) -> None:
        conn.read_request()
        conn.send(plain_answer(b"%d" % conn.number))

    upstream = start_upstream(once)
    wire = h1(start_gateway(host(pki, upstream.url)))
    for number in range(1, 6):
        answer = wire.ask("POST / HTTP/1.1\nHost: localhost\nContent-Length: 1\n\nx")
        assert (answer.status, answer.body) == (200, b"%d" % number)
        assert upstream.ended.acquire(timeout=60)


def test_an_answer_with_connection_close_is_not_reused(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    def script(conn: Conn) -> None:
        conn.read_request()
        conn.send(plain_answer(b"x", "200 OK", "Connection: close"))
        assert conn.some() == b"", "nothing may be sent after that"

    upstream = start_upstream(script)
    wire = h1(start_gateway(host(pki, upstream.url)))
    assert [wire.get("/").status for _ in range(3)] == [200] * 3
    assert upstream.connections == 3
    assert wire.get("/").get("connection") is None


def test_bytes_after_an_answer_never_become_the_next_one(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    """Response splitting: what an upstream sends unasked belongs to nobody."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.read_request()
            conn.send(plain_answer(request.path.encode()) + plain_answer(b"poison", "200 OK", "X-Poison: 1"))

    upstream = start_upstream(script)
    wire = h1(start_gateway(host(pki, upstream.url)))
    for path in ("/a", "/b", "/c"):
        answer = wire.get(path)
        assert (answer.status, answer.body) == (200, path.encode())
    assert upstream.connections == 3


def test_an_endpoint_that_is_down_is_passed_over(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    upstream = start_upstream(echo)
    edge = start_gateway(
        host(pki, "app")
        + f'[upstream.app]\nendpoints = ["http://127.0.0.1:{free_port()}", "{upstream.url}"]\nbalance = "round_robin"\n'
    )
    wire = h1(edge)
    assert [wire.get("/").status for _ in range(10)] == [200] * 10


def test_round_robin_takes_turns_and_weights_hold(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    first, second = start_upstream(echo), start_upstream(echo)
    edge = start_gateway(
        host(pki, "app")
        + f'[upstream.app]\nendpoints = [{{ url = "{first.url}", weight = 3 }}, "{second.url}"]\nbalance = "round_robin"\n'
    )
    wire = h1(edge)
    for _ in range(40):
        assert wire.get("/").status == 200
    assert (len(first.requests), len(second.requests)) == (30, 10)


def test_an_upstream_that_fails_its_health_check_gets_nothing_until_it_recovers(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    well = threading.Event()

    def moody(conn: Conn) -> None:
        while True:
            request = conn.read_request()
            healthy = well.is_set() or request.path != "/healthz"
            conn.send(plain_answer(b"moody", "200 OK" if healthy else "500 Sick"))

    moody_one, steady = start_upstream(moody), start_upstream(echo)
    edge = start_gateway(
        host(pki, "app")
        + f'[upstream.app]\nendpoints = ["{moody_one.url}", "{steady.url}"]\nbalance = "round_robin"\n'
        + 'health = { path = "/healthz", interval = "50ms", timeout = "1s" }\n'
    )
    wire = h1(edge)
    wait_until(lambda: wire.get("/").body != b"moody" and wire.get("/").body != b"moody" and wire.get("/").body != b"moody")
    well.set()
    wait_until(lambda: wire.get("/").body == b"moody")


def wait_until(condition: Callable[[], bool]) -> None:
    from .gateway import wait_for

    wait_for(lambda: condition() or None, "the health check's verdict")


def test_nothing_leaks_between_clients_of_one_upstream_connection(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire]
) -> None:
    """A client that leaves in the middle of a body takes its upstream connection with it."""
    upstream: ScriptedUpstream = start_upstream(echo)
    edge: Gateway = start_gateway(host(pki, upstream.url))
    assert h1(edge).get("/warm").status == 200
    leaver = h1(edge)
    leaver.send(b"POST /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n")
    leaver.reset()
    for _ in range(3):
        assert h1(edge).get("/next").json()["target"] == "/next"
    assert "/smuggled" not in [seen.path for seen in upstream.requests]
