"""What a listener holds, and what a stranger can make it hold."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from edge.net.journal import Journal
from edge.net.listener import LONG_HELLOS
from tests.conftest import wait_until
from tests.net.running import Running

ROUTE = '[[route]]\npath = "/"\nrespond = { status = 200, body = "ok" }\n'
BALANCERS_ONLY = """
[[listener]]
name = "plain"
address = "127.0.0.1:1"
tls = "off"
proxy_protocol = { mode = "require", from = ["10.0.0.0/8"] }
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    running: list[Running] = []

    def begin(toml: str) -> Running:
        running.append(Running(tmp_path, toml))
        return running[-1]

    yield begin
    for server in running:
        server.end()


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def _is_closed(sock: socket.socket) -> bool:
    """Whether the server closes it without a word, within five seconds."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_strangers_at_a_listener_for_balancers_leave_nothing_behind(start: Callable[[str], Running]) -> None:
    server = start(f"{ROUTE}{BALANCERS_ONLY}[limits]\nconnections = 3\n")
    for _ in range(10):
        with suppress(ConnectionResetError), _connected(server.plain_port) as sock:  # it may be closed before it is looked at
            assert _is_closed(sock)
    wait_until(lambda: server.call(lambda: server.server.listeners.accepted) == 10)
    assert server.call(lambda: server.server.listeners.connections) == 0


def test_the_limit_is_for_all_listeners_of_a_worker_together(start: Callable[[str], Running]) -> None:
    server = start(f"{ROUTE}[limits]\nconnections = 3\n")
    with ExitStack() as stack:
        for port in (server.plain_port, server.port, server.plain_port):
            stack.enter_context(_connected(port))
        wait_until(lambda: server.call(lambda: server.server.listeners.connections) == 3)
        for port in (server.plain_port, server.port):
            with _connected(port) as sock:
                assert _is_closed(sock)
    wait_until(lambda: server.call(lambda: server.server.listeners.connections) == 0)
    with _connected(server.plain_port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_flood_beyond_the_limit_is_one_line_a_second(start: Callable[[str], Running], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(Journal, "event", lambda _, name, **fields: events.append((name, fields)))
    server = start(f"{ROUTE}[limits]\nconnections = 1\n")
    with _connected(server.plain_port):
        wait_until(lambda: server.call(lambda: server.server.listeners.connections) == 1)
        for _ in range(20):
            with _connected(server.plain_port) as sock:
                assert _is_closed(sock)
        wait_until(lambda: sum(int(str(fields["count"])) for name, fields in events if name == "connection-refused") == 20)
    assert len(events) <= 3


def test_few_hellos_at_a_time_are_long(start: Callable[[str], Running]) -> None:
    """Whoever sends the first 48 of 124 KiB has them held in memory; that many at a time are enough."""
    server = start(ROUTE)
    half = b"".join(
        b"\x16\x03\x01\x40\x00" + part for part in (b"\x01\x01\xf0\x00".ljust(16384, b"\0"), bytes(16384), bytes(16384))
    )
    refused = b"\x15\x03\x03\x00\x02\x02\x2f"  # illegal_parameter
    for _ in range(2):  # those that end make room
        with ExitStack() as stack:
            sockets = [stack.enter_context(_connected(server.port)) for _ in range(LONG_HELLOS + 6)]
            for sock in sockets:
                sock.sendall(half)
            answered: list[socket.socket] = []

            def six_are_refused(sockets: list[socket.socket] = sockets, answered: list[socket.socket] = answered) -> bool:
                answered[:] = select.select(sockets, (), (), 0)[0]
                return len(answered) >= 6

            wait_until(six_are_refused)
            wait_until(
                lambda: server.call(lambda: sum(len(one.long_hellos) for one in server.server.listeners.all)) == LONG_HELLOS
            )
            assert len(select.select(sockets, (), (), 0)[0]) == 6
            assert all(sock.recv(64) == refused for sock in answered)
        wait_until(lambda: server.call(lambda: server.server.listeners.connections) == 0)
    assert not server.bugs
