"""SIGTERM: no new connections, what runs is finished, idle connections are told, and the deadline holds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway, wait_for
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, plain_answer


class Held:
    """An upstream that answers /held when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, conn: Conn) -> None:
        while True:
            if conn.read_request().path == "/held":
                self.asked.release()
                self.go.wait(120)
            conn.send(plain_answer(b"done"))


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def edge(start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, held: Held) -> Gateway:
    return start_gateway(
        f"""
        [server]
        workers = 1
        drain = "5s"
        state_dir = "$FOLDER/state"
        runtime_dir = "$FOLDER/run"
        {pki.host(start_upstream(held).url)}
        """
    )


def refuses(edge: Gateway) -> bool:
    try:
        Wire(edge.port, None).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_ends_at_once(edge: Gateway, h1: Callable[..., Wire], number: signal.Signals) -> None:
    wire = h1(edge)
    assert wire.get("/").status == 200
    edge.signal(number)
    assert edge.process.wait(60) == 0
    assert wire.ended()
    assert not [line for line in edge.events() if line.get("event") == "drain-deadline"]


def test_a_running_http1_request_is_finished(edge: Gateway, held: Held, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert held.asked.acquire(timeout=60)
    edge.signal(signal.SIGTERM)
    wait_for(lambda: refuses(edge), "new connections to be refused")
    assert edge.process.poll() is None
    held.go.set()
    answer = wire.read_response()
    assert (answer.status, answer.body, answer.get("connection")) == (200, b"done", "close")
    assert wire.ended()
    assert edge.process.wait(60) == 0


def test_a_running_http2_stream_is_finished_after_goaway(edge: Gateway, held: Held, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sid = client.request("/held")
    assert held.asked.acquire(timeout=60)
    edge.signal(signal.SIGTERM)
    client.until(lambda: client.goaway is not None)
    assert client.goaway == 0
    held.go.set()
    assert bytes(client.response(sid).body) == b"done"
    assert client.closed()
    assert edge.process.wait(60) == 0


def test_the_deadline_ends_what_does_not_end(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, held: Held, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(
        f"""
        [server]
        workers = 1
        drain = "300ms"
        state_dir = "$FOLDER/state"
        runtime_dir = "$FOLDER/run"
        {pki.host(start_upstream(held).url)}
        """
    )
    wire = h1(edge)
    wire.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert held.asked.acquire(timeout=60)
    edge.signal(signal.SIGTERM)
    edge.process.wait(60)
    answer = wire.rest()
    assert b"done" not in answer
    held.go.set()


def test_no_process_is_left_behind(edge: Gateway) -> None:
    pids = edge.pids()
    edge.signal(signal.SIGTERM)
    edge.process.wait(60)

    def gone() -> bool:
        return not any(alive(pid) for pid in pids)

    wait_for(gone, f"the end of {pids}")


def test_workers_do_not_outlive_a_killed_supervisor(edge: Gateway) -> None:
    pids = edge.pids()
    edge.signal(signal.SIGKILL)
    edge.process.wait(60)
    wait_for(lambda: not any(alive(pid) for pid in pids), f"the end of {pids}")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
