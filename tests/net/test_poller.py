"""The poller over an epoll and over what stands in for it elsewhere."""

from __future__ import annotations

import select
import socket

import pytest

from edge.net.poller import READ, WRITE, Poller


class Seen:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def readable(self) -> None:
        self.heard.append("readable")

    def writable(self) -> None:
        self.heard.append("writable")


@pytest.fixture(params=["epoll", "selected"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Poller:
    if request.param == "selected":
        monkeypatch.delattr(select, "epoll")
    return Poller()


def test_watchers_hear_what_they_wait_for_and_nothing_else(poller: Poller) -> None:
    here, there = socket.socketpair()
    with here, there:
        seen = Seen()
        poller.watch(here.fileno(), seen, READ)
        poller.serve()
        assert seen.heard == []
        there.send(b"x")
        poller.serve()
        assert seen.heard == ["readable"]
        poller.watch(here.fileno(), seen, READ | WRITE)
        poller.serve()
        assert seen.heard[1:] == ["readable", "writable"]
        poller.watch(here.fileno(), seen, 0)
        poller.serve()
        assert len(seen.heard) == 3


def test_a_hang_up_is_told_to_who_reads(poller: Poller) -> None:
    here, there = socket.socketpair()
    with here:
        seen = Seen()
        poller.watch(here.fileno(), seen, READ)
        there.close()
        poller.serve()
        assert seen.heard == ["readable"]


def test_a_forgotten_descriptor_says_nothing_and_its_number_can_be_used_again(poller: Poller) -> None:
    for _ in range(3):
        here, there = socket.socketpair()
        seen = Seen()
        poller.watch(here.fileno(), seen, READ)
        there.send(b"x")
        poller.forget(here.fileno())
        here.close()
        there.close()
        poller.serve()
        assert seen.heard == []


def test_readiness_of_the_whole_can_be_waited_for(poller: Poller) -> None:
    here, there = socket.socketpair()
    with here, there:
        poller.watch(here.fileno(), Seen(), READ)
        assert select.select([poller.fileno()], [], [], 0)[0] == []
        there.send(b"x")
        assert select.select([poller.fileno()], [], [], 5)[0] == [poller.fileno()]
