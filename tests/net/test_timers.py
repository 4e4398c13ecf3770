"""The wheel of deadlines, driven by hand."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from math import inf
from time import monotonic

import pytest

from edge.net.timers import TICK, Timed, Wheel


class Thing(Timed):
    __slots__ = ("__weakref__", "fired", "next")

    def __init__(self, wheel: Wheel) -> None:
        super().__init__(wheel)
        self.fired: list[float] = []
        self.next = inf

    def on_deadline(self, now: float) -> None:
        self.fired.append(now)
        if self.next != inf:
            self.arm(self.next)


@pytest.fixture
def wheel() -> Iterator[Wheel]:
    loop = asyncio.new_event_loop()
    yield Wheel(loop)
    loop.close()


def test_a_deadline_fires_once_and_never_early(wheel: Wheel) -> None:
    start = monotonic()
    thing = Thing(wheel)
    thing.arm(start + 1)
    wheel.expire(start + 1 - TICK)
    assert thing.fired == []
    wheel.expire(start + 1 + 2 * TICK)
    wheel.expire(start + 9)
    assert len(thing.fired) == 1
    assert thing.fired[0] >= start + 1


def test_a_deadline_can_be_moved_both_ways(wheel: Wheel) -> None:
    start = monotonic()
    later, earlier = Thing(wheel), Thing(wheel)
    later.arm(start + 1)
    later.arm(start + 5)
    earlier.arm(start + 5)
    earlier.arm(start + 1)
    wheel.expire(start + 2)
    assert (later.fired, len(earlier.fired)) == ([], 1)
    wheel.expire(start + 6)
    assert (len(later.fired), len(earlier.fired)) == (1, 1)


def test_a_deadline_set_while_firing_holds(wheel: Wheel) -> None:
    start = monotonic()
    thing = Thing(wheel)
    thing.next = start + 3
    thing.arm(start + 1)
    wheel.expire(start + 2)
    thing.next = inf
    wheel.expire(start + 4)
    assert len(thing.fired) == 2


def test_one_that_has_passed_already_fires_at_the_next_look(wheel: Wheel) -> None:
    start = monotonic()
    thing = Thing(wheel)
    thing.arm(start - 10)
    wheel.expire(start + 2 * TICK)
    assert len(thing.fired) == 1


@pytest.mark.parametrize("end", ["disarm", "infinite"])
def test_what_has_no_deadline_does_not_fire(wheel: Wheel, end: str) -> None:
    start = monotonic()
    thing = Thing(wheel)
    thing.arm(start + 1)
    if end == "disarm":
        thing.disarm()
    else:
        thing.arm(inf)
    wheel.expire(start + 2)
    assert thing.fired == []
    thing.arm(start + 3)
    wheel.expire(start + 4)
    assert len(thing.fired) == 1


def test_the_wheel_keeps_nothing_that_is_disarmed(wheel: Wheel) -> None:
    thing = Thing(wheel)
    thing.arm(monotonic() + 10)
    thing.arm(monotonic() + 5)
    thing.disarm()
    gone = weakref.ref(thing)
    gc.disable()
    try:
        del thing
        assert gone() is None
    finally:
        gc.enable()


def test_disarming_while_the_same_tick_fires(wheel: Wheel) -> None:
    start = monotonic()
    things = [Thing(wheel) for _ in range(3)]
    ended: list[Thing] = []

    class Ender(Thing):
        __slots__ = ()

        def on_deadline(self, now: float) -> None:
            for thing in things:
                if not thing.fired:
                    thing.disarm()
                    ended.append(thing)

    ender = Ender(wheel)
    for each in [*things, ender]:
        each.arm(start + 1)
    wheel.expire(start + 2)
    assert all(bool(thing.fired) != (thing in ended) for thing in things)
