"""Listeners are bound once a worker, and a port that cannot be had says why."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.process import sockets
from edge.process.errors import NOT_PERMITTED, StartError
from edge.process.listening import Sockets
from edge.settings.model import Address, Listener
from tests.conftest import busy_unix_socket


def listener(*addresses: Address, name: str = "https") -> Listener:
    return Listener(name=name, addresses=addresses, tls=True)


@contextlib.contextmanager
def bound_to(listeners: list[Listener], workers: int) -> Iterator[list[sockets.Bound]]:
    made = Sockets.bind(listeners, range(1, workers + 1))
    try:
        yield [made.of(number) for number in range(1, workers + 1)]
    finally:
        made.close()


def test_every_worker_has_a_socket_of_its_own_on_the_same_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    with bound_to([listener(Address(host="127.0.0.1", port=port), Address(host="::1", port=port))], 3) as bound:
        assert [[name for name, _ in own] for own in bound] == [["https", "https"]] * 3
        assert {sock.getsockname()[1] for own in bound for _, sock in own} == {port}
        assert len({sock.fileno() for own in bound for _, sock in own}) == 6
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                client.connect((host, port))


def test_port_zero_is_one_free_port_for_all() -> None:
    with bound_to([listener(Address(host="127.0.0.1"))], 2) as bound:
        ports = {sock.getsockname()[1] for own in bound for _, sock in own}
        assert len(ports) == 1
        assert sockets.url_of(listener(), bound[0][0][1]) == f"https://localhost:{ports.pop()}"


@pytest.mark.parametrize("reuseport", [False, True])
def test_a_taken_port_is_an_error_that_names_the_program(free_port: Callable[[], int], reuseport: bool) -> None:
    port = free_port()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StartError) as caught:
            Sockets.bind([listener(Address(host="127.0.0.1", port=port))], [1, 2])
    comm = Path("/proc/self/comm").read_text().strip()
    assert str(caught.value) == (
        f'listener "https" cannot listen on 127.0.0.1:{port}: the port is taken by {comm} (pid {os.getpid()})'
    )
    assert caught.value.status == NOT_PERMITTED


def test_after_an_error_nothing_stays_open(free_port: Callable[[], int]) -> None:
    first, second = free_port(), free_port()
    with socket.create_server(("127.0.0.1", second)):
        with pytest.raises(StartError):
            Sockets.bind([listener(Address(host="127.0.0.1", port=first)), listener(Address(host="127.0.0.1", port=second))], [1])
        socket.create_server(("127.0.0.1", first)).close()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartError, match="this machine has no such address"):
        Sockets.bind([listener(Address(host="192.0.2.1", port=8443))], [1])


def test_a_privileged_port_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match=r"below 1024.*CAP_NET_BIND_SERVICE") as caught:
        Sockets.bind([listener(Address(host="127.0.0.1", port=443))], [1])
    assert caught.value.status == NOT_PERMITTED


def test_without_ipv6_a_listener_on_all_addresses_still_starts(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    original = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        if ":" in address[0]:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6")
        original(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    with bound_to([listener(Address(host="127.0.0.1", port=port), Address(host="::", port=port))], 1) as bound:
        assert len(bound[0]) == 1
    with pytest.raises(StartError):
        Sockets.bind([listener(Address(host="::1", port=port))], [1])


def test_a_unix_socket_left_behind_is_replaced_and_a_live_one_is_not(short_tmp: Path) -> None:
    path = os.fspath(short_tmp / "edge.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    with bound_to([listener(Address(path=path))], 2) as bound:
        assert sockets.url_of(listener(), bound[0][0][1]) == f"unix:{path}"
        with pytest.raises(StartError, match="the port is taken"):
            Sockets.bind([listener(Address(path=path))], [1])


def test_a_unix_socket_whose_owner_does_not_accept_is_not_waited_for(short_tmp: Path) -> None:
    path = short_tmp / "edge.sock"
    with busy_unix_socket(path), pytest.raises(StartError, match="the port is taken"):
        Sockets.bind([listener(Address(path=os.fspath(path)))], [1])


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "https://localhost:{} (all addresses)"), ("127.0.0.1", "https://localhost:{}"), ("::1", "https://localhost:{}")],
)
def test_urls(host: str, url: str) -> None:
    with bound_to([listener(Address(host=host))], 1) as bound:
        sock = bound[0][0][1]
        assert sockets.url_of(listener(), sock) == url.format(sock.getsockname()[1])


def test_a_change_keeps_what_stays_and_binds_what_is_new(free_port: Callable[[], int]) -> None:
    one, two, three = (Address(host="127.0.0.1", port=free_port()) for _ in range(3))
    made = Sockets.bind([listener(one, name="a"), listener(two, name="b")], [1, 2])
    try:
        before = dict(made.of(1))
        change = made.change([listener(one, name="renamed"), listener(three, name="b")], [1, 2, 3])
        assert change.changed == {"renamed", "b"}
        assert [name for name, _ in change.sockets_for(2)] == ["b", "renamed"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((three.host, three.port))  # nothing listens before the commit
        change.listen()
        change.commit()
        after = dict(made.of(1))
        assert after["renamed"] is before["a"]
        assert len(made.of(3)) == 2
        socket.create_connection((three.host, three.port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((two.host, two.port))
    finally:
        made.close()


def test_a_change_that_is_abandoned_leaves_no_trace(free_port: Callable[[], int]) -> None:
    one, two = (Address(host="127.0.0.1", port=free_port()) for _ in range(2))
    made = Sockets.bind([listener(one)], [1])
    try:
        change = made.change([listener(two)], [1, 2])
        change.abandon()
        assert len(made.of(1)) == 1
        assert made.of(2) == []
        socket.create_server((two.host, two.port)).close()
        with socket.create_server((two.host, two.port)), pytest.raises(StartError, match="the port is taken"):
            made.change([listener(one), listener(two, name="b")], [1, 2])
        assert made.of(2) == []
    finally:
        made.close()


def test_from_all_addresses_to_one_of_them_and_back(free_port: Callable[[], int]) -> None:
    port = free_port()
    wide, narrow = Address(host="0.0.0.0", port=port), Address(host="127.0.0.1", port=port)
    made = Sockets.bind([listener(wide)], [1])
    try:
        for address in (narrow, wide):
            change = made.change([listener(address)], [1])
            change.listen()
            change.commit()
            [(_, sock)] = made.of(1)
            assert sock.getsockname()[0] == address.host
    finally:
        made.close()


def accepted(sock: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            count += 1
    return count


def test_connections_are_steered_away_from_a_socket_before_it_is_closed(free_port: Callable[[], int]) -> None:
    address = Address(host="127.0.0.1", port=free_port())
    made = Sockets.bind([listener(address)], [1, 2, 3])

    def connect(count: int) -> list[int]:
        clients = [socket.create_connection((address.host, address.port)) for _ in range(count)]
        found = [accepted(sock) for number in (1, 2, 3) for _, sock in made.of(number)]
        for client in clients:
            client.close()
        return found

    try:
        made.steer_away({2})
        first, second, third = connect(60)
        assert second == 0
        assert min(first, third) > 5
        made.remove(2)
        made.steer_away({1})
        assert connect(20) == [0, 20]
        made.unsteer()
        assert min(connect(60)) > 5
    finally:
        made.close()
