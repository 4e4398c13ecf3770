"""The supervisor's duty to ticket keys, with a supervisor that only takes notes."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.observe.counters import SUPERVISOR, Counters, Table
from edge.process import parcel, ticketing
from edge.process.errors import StartError
from edge.process.loop import Loop
from edge.process.rotation import Rotation
from edge.process.ticketing import Ticketing
from edge.settings.model import Tickets
from edge.tls import ticket_keys
from edge.tls.layout import LayoutError
from edge.tls.ticket_keys import KeyRing
from tests import builders

HOUR = 3600.0
START = 1_000_000 * HOUR


def fail(error: Exception) -> None:
    raise error


@dataclass
class Notes:
    """What a `Ticketing` uses of the supervisor."""

    settings: Any
    counted: Counters
    loop: Loop = field(default_factory=lambda: Loop(fail))
    degraded: dict[str, str] = field(default_factory=dict)
    more_status: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    on_committed: list[Any] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: list[tuple[str, list[Any], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = ["one", "two"]
        self.log = SimpleNamespace(event=lambda name, **fields: self.events.append((name, fields)))
        self.children = SimpleNamespace(send=self._send)

    def _send(self, worker: str, message: dict[str, Any], descriptors: list[int]) -> None:
        assert message == {"do": "tickets"}
        generations, newest = ticket_keys.unpack(parcel.unpack(os.dup(descriptors[0])))
        self.sent.append((worker, generations, newest))

    def commit(self, tickets: Tickets) -> None:
        self.settings = builders.settings(tickets=tickets)
        for hook in self.on_committed:
            hook()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The wall clock; its `at` can be moved."""
    clock = SimpleNamespace(at=START)
    monkeypatch.setattr(ticketing, "time", SimpleNamespace(time=lambda: clock.at, monotonic=time.monotonic))
    return clock


def notes(tickets: Tickets | None = None) -> Notes:
    return Notes(builders.settings(tickets=tickets or Tickets()), Table.create(1).part(SUPERVISOR))


def begun(one: Notes) -> tuple[Ticketing, KeyRing]:
    ring = KeyRing()
    rotation = Rotation(ring)
    rotation.configure(one.settings.tickets, START)
    return Ticketing(one, rotation), ring  # type: ignore[arg-type]


def test_new_keys_go_to_every_worker(now: SimpleNamespace) -> None:
    one = notes()
    duty, ring = begun(one)
    duty._look()
    assert not one.sent
    now.at += HOUR
    duty._look()
    assert [worker for worker, _, _ in one.sent] == ["one", "two"]
    assert all((tuple(generations), newest) == (ring.generations, ring.newest) for _, generations, newest in one.sent)
    assert [name for name, _ in one.events] == ["ticket-keys-renewed"]
    assert "2 ticket keys" in one.more_status["resumption"]()
    assert duty._held.value == 2
    assert duty._since.value == START + HOUR


def test_it_looks_at_the_clock_at_least_once_in_a_minute(now: SimpleNamespace) -> None:
    one = notes()
    duty, _ = begun(one)
    assert 0 < duty._timer.at - time.monotonic() <= 60.0
    now.at += HOUR - 5.0
    duty._look()
    assert 0 < duty._timer.at - time.monotonic() <= 5.0


def test_settings_that_change(now: SimpleNamespace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    one = notes()
    _, ring = begun(one)
    first = ring.newest
    one.commit(Tickets())
    assert not one.sent
    one.commit(Tickets(file=str(secret)))
    assert len(one.sent) == 2
    assert first in ring.generations
    shared = ring.newest
    secret.chmod(0o644)
    one.commit(Tickets(file=str(secret)))
    assert ring.newest is shared
    assert "can be read by others" in one.degraded["ticket-secret"]
    assert one.events[-1][0] == "ticket-secret-unusable"
    secret.chmod(0o600)
    one.commit(Tickets(file=str(secret)))
    assert "ticket-secret" not in one.degraded


def test_where_keys_cannot_be_set_it_is_told_and_nothing_is_sent(now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise LayoutError("the keys stand in 2 places")

    monkeypatch.setattr(ticket_keys, "layout", refuse)
    one = notes()
    duty, _ = begun(one)
    assert one.degraded["resumption"].startswith("resumption is per worker after the next reload: ticket keys cannot be set")
    now.at += math.floor(10 * HOUR)
    duty._look()
    one.commit(Tickets(rotation=60.0))
    assert not one.sent
    assert duty._held.value == 0


def test_a_start_without_its_secret_fails_in_a_sentence(tmp_path: Path) -> None:
    settings = builders.settings(tickets=Tickets(file=str(tmp_path / "nowhere")))
    with pytest.raises(StartError, match=r"ticket_secret: .*nowhere cannot be read"):
        ticketing.begin(settings, Rotation(KeyRing()), {})


def test_a_program_that_takes_over_accepts_what_the_one_before_issued(now: SimpleNamespace) -> None:
    one = notes()
    _, ring = begun(one)
    after = KeyRing()
    ticketing.begin(builders.settings(), Rotation(after), {"ticket-keys": one.sections["ticket-keys"]()})
    assert set(ring.generations) < set(after.generations)
    other = KeyRing()
    ticketing.begin(builders.settings(), Rotation(other), {"ticket-keys": b"of another version"})
    assert len(other.generations) == 1
