"""Readiness: who is told of what, and what happens when descriptors end in the middle of a turn."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from edge.net import descriptors
from edge.net.poller import READ, WRITE, Poller

Pair = tuple[socket.socket, socket.socket]


class Ear:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.then: Callable[[], None] = lambda: None

    def readable(self) -> None:
        self.heard.append("readable")
        self.then()

    def writable(self) -> None:
        self.heard.append("writable")
        self.then()


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    one.setblocking(False)
    with one, other:
        yield one, other


def test_readiness_is_told_until_it_is_served(pair: Pair) -> None:
    poller, ear = Poller(), Ear()
    poller.watch(pair[0].fileno(), ear, READ)
    poller.serve()
    assert ear.heard == []
    pair[1].send(b"x")
    poller.serve()
    poller.serve()
    assert ear.heard == ["readable", "readable"]


def test_reading_comes_before_writing_and_each_can_be_left_out(pair: Pair) -> None:
    poller, ear = Poller(), Ear()
    pair[1].send(b"x")
    for events, told in ((READ | WRITE, ["readable", "writable"]), (WRITE, ["writable"]), (READ, ["readable"]), (0, [])):
        poller.watch(pair[0].fileno(), ear, events)
        ear.heard.clear()
        poller.serve()
        assert ear.heard == told


@pytest.mark.parametrize(("events", "told"), [(READ, ["readable"]), (WRITE, ["writable"]), (0, [])])
def test_a_hang_up_goes_to_whoever_watches(pair: Pair, events: int, told: list[str]) -> None:
    poller, ear = Poller(), Ear()
    poller.watch(pair[0].fileno(), ear, events)
    pair[1].close()
    poller.serve()
    assert ear.heard == told


def test_a_descriptor_that_is_closed_in_a_turn_is_told_of_nothing_more(pair: Pair) -> None:
    poller, first, second = Poller(), Ear(), Ear()
    third, fourth = socket.socketpair()
    ears = {pair[0].fileno(): first, third.fileno(): second}

    def close_both() -> None:
        for sock in (pair[0], third):
            poller.forget(sock.fileno())
            sock.close()

    for fd, ear in ears.items():
        ear.then = close_both
        poller.watch(fd, ear, READ | WRITE)
    pair[1].send(b"x")
    fourth.send(b"x")
    poller.serve()
    poller.serve()
    assert sorted(first.heard + second.heard) == ["readable"]
    fourth.close()


def test_a_descriptor_given_out_again_is_watched_anew(pair: Pair) -> None:
    poller, ear = Poller(), Ear()
    old = os.dup(pair[0].fileno())
    poller.watch(old, Ear(), READ)
    poller.forget(old)
    os.close(old)
    new, other = socket.socketpair()
    with new, other:
        poller.watch(new.fileno(), ear, READ)
        other.send(b"x")
        poller.serve()
    assert ear.heard == ["readable"]


def test_rare_calls_on_a_bare_descriptor_leave_it_open(pair: Pair) -> None:
    fd = pair[0].fileno()
    assert not descriptors.unread(fd)
    pair[1].send(b"x")
    assert descriptors.unread(fd)
    descriptors.end_output(fd)
    assert pair[1].recv(1) == b""
    assert os.read(fd, 1) == b"x"


def test_accepting_gives_a_descriptor_that_does_not_block() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            descriptors.accept(server)
        with socket.create_connection(server.getsockname()) as client:
            fd, address = descriptors.accept(server)
            assert address == client.getsockname()
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            descriptors.reset_on_close(fd)
            os.close(fd)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
