"""The clock of ticket keys, with a clock of our own."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from edge.process.rotation import Rotation
from edge.settings.files import Unreadable
from edge.settings.model import Tickets
from edge.settings.tickets import SecretError
from edge.tls import ticket_keys
from edge.tls.choice import ServerContext
from edge.tls.layout import LayoutError
from edge.tls.ticket_keys import KeyRing
from tests.tls.peers import TLS12, TLS13, Client, host, meet

HOUR = 3600.0
START = 1_000_000 * HOUR + 600.0
BOTH = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


class Node:
    """A gateway's ticket keys and a context, under a clock that the test moves."""

    def __init__(self, tickets: Tickets | None = None, now: float = START) -> None:
        self.ring = KeyRing()
        self.now = now
        self.rotation = Rotation(self.ring)
        self.rotation.configure(tickets or Tickets(), now)
        self.context = ServerContext(host(), self.ring)

    def go(self, seconds: float) -> None:
        """Let time pass, turning whenever it is due."""
        until = self.now + seconds
        while self.now + (wait := self.rotation.wait(self.now)) <= until:
            self.now += wait
            self.rotation.turn(self.now)
        self.now = until
        self.rotation.turn(self.now)

    @property
    def newest(self) -> bytes:
        assert self.ring.newest is not None
        return self.ring.newest.secret

    @property
    def secrets(self) -> set[bytes]:
        return {one.secret for one in self.ring.generations}

    def visit(self, version: int, session: object = None) -> tuple[bool, object]:
        client = Client(version=version, session=session)  # type: ignore[arg-type]
        meeting = meet(self.context, client)
        assert meeting.ok
        return meeting.engine.info().resumed, client.finish()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "ticket.secret"
    path.write_bytes(b"s" * 48 + b"\n")
    path.chmod(0o600)
    return path


def shared(secret: Path, **changes: float) -> Tickets:
    return Tickets(file=str(secret), **changes)


def test_a_generation_lives_rotation_and_lifetime() -> None:
    node = Node()
    first, begun = node.newest, math.floor(START / HOUR) * HOUR
    assert node.secrets == {first}
    while node.now < begun + 3 * HOUR - 1:
        node.go(60.0)
        assert (node.newest == first) is (node.now < begun + HOUR)
        assert (first in node.secrets) is (node.now < begun + 3 * HOUR)
    node.go(60.0)
    assert first not in node.secrets
    assert len(node.secrets) == 3
    node.go(1000 * HOUR)
    assert len(node.secrets) == 3


def test_it_wakes_when_something_is_due_and_not_before() -> None:
    node = Node()
    assert node.rotation.wait(START) == HOUR - 600.0
    assert not node.rotation.turn(START + HOUR - 601.0)
    assert node.rotation.turn(START + HOUR - 600.0)
    assert not node.rotation.turn(START + HOUR - 599.0)
    assert node.rotation.wait(START + HOUR - 600.0) == HOUR


def test_secrets_are_random_and_never_the_same() -> None:
    assert len({Node().newest for _ in range(20)}) == 20


@BOTH
def test_clients_resume_before_during_and_after_rotations(version: int) -> None:
    node = Node()
    _, session = node.visit(version)
    for _ in range(12):  # of 20 minutes: four rotations
        node.go(1200.0)
        came_back, renewed = node.visit(version, session)
        assert came_back or version == TLS12
        session = renewed
    assert len(node.secrets) == 3


@BOTH
def test_a_ticket_ends_with_its_generation(version: int) -> None:
    node = Node()
    _, session = node.visit(version)
    node.go(3 * HOUR - 601.0)
    assert node.visit(version, session)[0]  # OpenSSL's own clock has not moved
    node.go(2.0)
    assert not node.visit(version, session)[0]


@pytest.mark.parametrize("back", [1.0, 1800.0, 2 * HOUR, 400 * 24 * HOUR])
def test_a_clock_that_is_set_back_stops_nothing(back: float) -> None:
    node = Node(now=math.floor(START / HOUR) * HOUR + 5.0)
    node.now -= back
    node.rotation.turn(node.now)
    first = node.newest
    node.go(HOUR)
    assert node.newest != first
    assert len(node.secrets) <= 4
    assert node.rotation.wait(node.now) <= HOUR


def test_a_clock_that_jumps_ahead_costs_full_handshakes_and_nothing_else() -> None:
    node = Node(now=0.0)
    _, session = node.visit(TLS13)
    node.now = START
    node.rotation.turn(node.now)
    assert len(node.secrets) == 1
    assert not node.visit(TLS13, session)[0]


# --- a shared secret ---


@BOTH
@pytest.mark.parametrize("apart", [0.0, 60.0, -60.0])
def test_nodes_agree_without_talking(version: int, apart: float, secret: Path) -> None:
    """At every moment of two rotations, with clocks a minute apart."""
    one, other = Node(shared(secret)), Node(shared(secret), START + apart)
    for _ in range(48):
        _, session = one.visit(version)
        assert other.visit(version, session)[0]
        _, session = other.visit(version)
        assert one.visit(version, session)[0]
        one.go(150.0)
        other.go(150.0)
    assert len(one.secrets) == 4  # the next one too


def test_a_restart_forgets_nothing(secret: Path) -> None:
    _, session = Node(shared(secret)).visit(TLS13)
    assert Node(shared(secret), START + HOUR).visit(TLS13, session)[0]
    assert not Node(shared(secret), START + 3 * HOUR).visit(TLS13, session)[0]


def test_other_secrets_and_other_rotations_do_not_agree(secret: Path, tmp_path: Path) -> None:
    node = Node(shared(secret))
    assert not node.secrets & Node(shared(secret, rotation=1800.0)).secrets
    other = tmp_path / "other"
    other.write_bytes(os.urandom(32))
    other.chmod(0o600)
    assert not node.secrets & Node(shared(other)).secrets


# --- reload, upgrade ---


def test_a_reload_keeps_the_keys(secret: Path) -> None:
    for tickets in (Tickets(), shared(secret)):
        node = Node(tickets)
        before = node.secrets
        assert not node.rotation.configure(tickets, START + 1.0)
        assert node.secrets == before


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_changed_secret_issues_at_once_and_the_old_one_is_accepted_to_its_end(version: int, secret: Path) -> None:
    node = Node(shared(secret))
    _, session = node.visit(version)
    first = node.newest
    secret.write_bytes(os.urandom(32))
    node.rotation.configure(shared(secret), node.now)
    assert node.newest != first
    assert node.visit(version, session)[0]
    node.rotation.configure(Tickets(rotation=600.0, lifetime=HOUR), node.now)
    assert node.visit(version, session)[0]
    node.go(3 * HOUR)
    assert not node.visit(version, session)[0]
    assert len(node.secrets) == 7


def test_a_longer_lifetime_lengthens_the_generations_that_are_there() -> None:
    node = Node()
    first = node.newest
    node.rotation.configure(Tickets(lifetime=4 * HOUR), node.now)
    assert node.secrets == {first}
    node.go(4 * HOUR)
    assert first in node.secrets


def test_a_secret_that_cannot_be_read_leaves_everything_as_it_was(secret: Path) -> None:
    node = Node(shared(secret))
    before = node.secrets
    secret.write_bytes(b"short")
    with pytest.raises(SecretError):
        node.rotation.configure(shared(secret), node.now)
    secret.unlink()
    with pytest.raises(Unreadable):
        node.rotation.configure(shared(secret), node.now)
    node.go(HOUR)
    assert len(node.secrets & before) == 3


@BOTH
def test_an_upgrade_hands_its_generations_over(version: int) -> None:
    old = Node()
    _, session = old.visit(version)
    new = Node.__new__(Node)
    new.ring, new.now = KeyRing(), START
    new.rotation = Rotation(new.ring)
    new.rotation.adopt(old.rotation.pack())
    new.rotation.configure(Tickets(), START)
    new.context = ServerContext(host(), new.ring)
    assert new.visit(version, session)[0]
    assert new.newest != old.newest
    new.go(3 * HOUR)
    assert not new.visit(version, session)[0]


def test_many_changes_stay_within_bounds() -> None:
    node = Node()
    for number in range(300):
        node.rotation.configure(Tickets(rotation=HOUR + number), node.now)
    assert len(node.ring.generations) <= ticket_keys.MOST
    assert node.ring.newest in node.ring.generations


# --- where it cannot be done ---


def test_without_a_proven_layout_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise LayoutError("the key's name stands in 0 places")

    assert "newest for 10 of 60 minutes" in Node().rotation.describe(START)
    monkeypatch.setattr(ticket_keys, "layout", refuse)
    node = Rotation(KeyRing())
    assert not node.configure(Tickets(), START)
    assert "0 places" in node.problem
    assert node.wait(START) == math.inf
    assert not node.turn(START + HOUR)
    assert node.describe(START).startswith("per worker after the next reload")
