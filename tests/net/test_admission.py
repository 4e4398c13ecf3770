"""Order under load: who begins in this turn, who waits, who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
import uvloop

from edge.net.admission import Admission
from edge.net.hub import Hub
from edge.settings.model import Handshakes


class Client:
    def __init__(self) -> None:
        self.disposed = False
        self.state = "new"
        self.reason = ""

    def admitted(self) -> None:
        self.state = "admitted"

    def waits(self) -> None:
        self.state = "waits"

    def refused(self, reason: str) -> None:
        self.state, self.reason = "refused", reason


FALSE_ONES = 10
"""That are believed where full handshakes have no budget."""


class Door:
    """An admission on a loop of its own, and what it told."""

    def __init__(self, settings: Handshakes) -> None:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(None)
        self.hub = Hub(self.loop)
        self.told: list[tuple[str, int, str]] = []
        self.admission = Admission(self.hub, settings, lambda *what: self.told.append(what))

    def come(self, peer: str = "192.0.2.1", *, resumed: bool = False) -> Client:
        client = Client()
        self.admission.apply(client, peer, lambda: resumed)
        return client

    def turn(self) -> None:
        """One round of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def doors() -> Iterator[list[Door]]:
    made: list[Door] = []
    yield made
    for door in made:
        door.loop.close()


def states(clients: list[Client]) -> str:
    return "".join(client.state[0] for client in clients)


def test_so_many_in_a_turn_and_resumed_ones_go_first(doors: list[Door]) -> None:
    door = Door(Handshakes(at_once=2, waiting=3))
    doors.append(door)
    clients = [door.come() for _ in range(6)]
    back = door.come(resumed=True)
    assert states([*clients, back]) == "aawwwra"
    assert clients[5].reason == "overload"
    clients[3].disposed = True
    door.turn()
    assert states(clients) == "aaawar"
    door.admission.look(0.0)
    assert door.told == [("overload", 1, "192.0.2.1")]
    door.hub.turn()
    assert door.come().state == "admitted"


def test_whoever_comes_queues_behind_those_who_wait(doors: list[Door]) -> None:
    door = Door(Handshakes(at_once=1))
    doors.append(door)
    clients = [door.come() for _ in range(3)]
    door.hub.turn()
    clients.append(door.come())
    assert states(clients) == "awww"
    assert clients[3].state == "waits"  # although this turn has begun none
    for _ in range(3):
        door.turn()
    assert states(clients) == "aaaa"


def test_nobody_waits_for_ever(doors: list[Door], monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(Handshakes(at_once=1, wait=0.5))
    doors.append(door)
    clients = [door.come() for _ in range(2)]
    late = door.hub.now + 1.0
    monkeypatch.setattr("edge.net.hub.monotonic", lambda: late)
    door.turn()
    assert (clients[1].state, clients[1].reason) == ("refused", "overload")


def test_without_a_bound_all_begin(doors: list[Door]) -> None:
    door = Door(Handshakes(at_once=None))
    doors.append(door)
    assert states([door.come() for _ in range(100)]) == "a" * 100


def test_budgets_by_kind_and_address(doors: list[Door]) -> None:
    door = Door(Handshakes(full=1.0, resumed=2.0, burst=1.0, exempt=(ip_network("10.0.0.0/8"),), at_once=None))
    doors.append(door)
    assert states([door.come() for _ in range(2)]) == "ar"
    assert states([door.come(resumed=True) for _ in range(3)]) == "aar"
    assert states([door.come("2001:db8::1"), door.come("2001:db8::2"), door.come("2001:db8:0:1::1")]) == "ara"
    assert states([door.come("10.1.2.3") for _ in range(50)]) == "a" * 50
    door.admission.look(door.hub.now)
    assert door.told == [("full", 2, "192.0.2.1"), ("resumed", 1, "192.0.2.1")]


def test_who_abandons_too_much_may_not_connect(doors: list[Door]) -> None:
    door = Door(Handshakes(abandoned=1.0, burst=2.0))
    doors.append(door)
    for _ in range(2):
        assert door.admission.may_connect("192.0.2.1")
        door.admission.abandoned("192.0.2.1")
    assert not door.admission.may_connect("192.0.2.1")
    assert door.admission.may_connect("192.0.2.2")
    door.hub.now += 4.0
    assert door.admission.may_connect("192.0.2.1")


def test_other_settings_keep_what_was_spent(doors: list[Door]) -> None:
    door = Door(Handshakes(full=1.0, burst=1.0, at_once=None))
    doors.append(door)
    assert door.come().state == "admitted"
    door.admission.renew(Handshakes(full=1.0, burst=1.0, at_once=5, resumed=1.0))
    assert door.come().state == "refused"
    door.admission.renew(Handshakes(full=5.0, burst=1.0, at_once=5))
    assert door.come().state == "admitted"


def test_tickets_that_do_not_resume_are_not_believed_for_long(doors: list[Door]) -> None:
    """They would make full handshakes without a budget, and without waiting."""
    door = Door(Handshakes(full=1.0, burst=2.0, resumed=1000.0))
    doors.append(door)
    for _ in range(2):
        assert door.come(resumed=True).state == "admitted"
        door.admission.did_not_resume("192.0.2.1")
    assert states([door.come(resumed=True) for _ in range(3)]) == "aar"
    assert door.come(resumed=True).reason == "full"
    assert door.come("192.0.2.2", resumed=True).state == "admitted"
    door.hub.now += 100
    assert door.come(resumed=True).state == "admitted"


def test_nor_are_they_served_before_others(doors: list[Door]) -> None:
    door = Door(Handshakes(at_once=1))
    doors.append(door)
    assert door.come().state == "admitted"
    for _ in range(FALSE_ONES):
        assert door.come(resumed=True).state == "admitted"
        door.admission.did_not_resume("192.0.2.1")
    assert door.come(resumed=True).state == "waits"
    assert door.come("192.0.2.2", resumed=True).state == "admitted"


def test_exempt_networks_are_believed(doors: list[Door]) -> None:
    door = Door(Handshakes(full=1.0, burst=1.0, resumed=1000.0, exempt=(ip_network("192.0.2.0/24"),)))
    doors.append(door)
    for _ in range(20):
        assert door.come(resumed=True).state == "admitted"
        door.admission.did_not_resume("192.0.2.1")
