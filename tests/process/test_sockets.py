"""Listeners are bound once a worker, and a port that cannot be had says why."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.process import sockets
from edge.process.errors import NOT_PERMITTED, StartError
from edge.settings.model import Address, Listener


def listener(*addresses: Address, name: str = "https") -> Listener:
    return Listener(name=name, addresses=addresses, tls=True)


def test_every_worker_has_a_socket_of_its_own_on_the_same_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    bound = sockets.bind([listener(Address(host="127.0.0.1", port=port), Address(host="::1", port=port))], 3)
    try:
        assert [[name for name, _ in own] for own in bound] == [["https", "https"]] * 3
        assert {sock.getsockname()[1] for own in bound for _, sock in own} == {port}
        assert len({sock.fileno() for own in bound for _, sock in own}) == 6
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                client.connect((host, port))
    finally:
        sockets.close_all(bound)


def test_port_zero_is_one_free_port_for_all() -> None:
    bound = sockets.bind([listener(Address(host="127.0.0.1"))], 2)
    try:
        ports = {sock.getsockname()[1] for own in bound for _, sock in own}
        assert len(ports) == 1
        assert sockets.url_of(listener(), bound[0][0][1]) == f"https://localhost:{ports.pop()}"
    finally:
        sockets.close_all(bound)


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
            sockets.bind([listener(Address(host="127.0.0.1", port=port))], 2)
    comm = Path("/proc/self/comm").read_text().strip()
    assert str(caught.value) == (
        f'listener "https" cannot listen on 127.0.0.1:{port}: the port is taken by {comm} (pid {os.getpid()})'
    )
    assert caught.value.status == NOT_PERMITTED


def test_after_an_error_nothing_stays_open(free_port: Callable[[], int]) -> None:
    first, second = free_port(), free_port()
    with socket.create_server(("127.0.0.1", second)):
        with pytest.raises(StartError):
            sockets.bind([listener(Address(host="127.0.0.1", port=first)), listener(Address(host="127.0.0.1", port=second))], 1)
        socket.create_server(("127.0.0.1", first)).close()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartError, match="this machine has no such address"):
        sockets.bind([listener(Address(host="192.0.2.1", port=8443))], 1)


def test_a_privileged_port_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match=r"below 1024.*CAP_NET_BIND_SERVICE") as caught:
        sockets.bind([listener(Address(host="127.0.0.1", port=443))], 1)
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
    bound = sockets.bind([listener(Address(host="127.0.0.1", port=port), Address(host="::", port=port))], 1)
    assert len(bound[0]) == 1
    sockets.close_all(bound)
    with pytest.raises(StartError):
        sockets.bind([listener(Address(host="::1", port=port))], 1)


def test_a_unix_socket_left_behind_is_replaced_and_a_live_one_is_not(short_tmp: Path) -> None:
    path = os.fspath(short_tmp / "edge.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    bound = sockets.bind([listener(Address(path=path))], 2)
    try:
        assert sockets.url_of(listener(), bound[0][0][1]) == f"unix:{path}"
        with pytest.raises(StartError, match="the port is taken"):
            sockets.bind([listener(Address(path=path))], 1)
    finally:
        sockets.close_all(bound)


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "https://localhost:{} (all addresses)"), ("127.0.0.1", "https://localhost:{}"), ("::1", "https://localhost:{}")],
)
def test_urls(host: str, url: str) -> None:
    bound = sockets.bind([listener(Address(host=host))], 1)
    sock = bound[0][0][1]
    assert sockets.url_of(listener(), sock) == url.format(sock.getsockname()[1])
    sockets.close_all(bound)
