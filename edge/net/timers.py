"""Deadlines for many connections at the price of an attribute each.

A gateway sets a deadline on every read and write and lets almost none of them pass. So a deadline is an attribute of
the object that it concerns, and the wheel looks at an object only when the earliest time for which it was ever filed has come;
if its deadline has moved on since, it is filed again. Moving a deadline later therefore costs one store, and an object
is filed at most once for each tick that it is ever due in.

Invariants: `filed` is the tick of the entry that counts (others are stale and skipped); an object whose deadline is
infinite is not kept. Resolution is `TICK` seconds; a deadline never fires early.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic

__all__ = ["TICK", "Timed", "Wheel"]

TICK = 0.05
_NEVER = 1 << 62


class Timed:
    """Something with a deadline (seconds of the loop's clock). Subclasses say what happens in `on_deadline`."""

    __slots__ = ("deadline", "filed", "wheel")

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self.deadline = inf
        self.filed = _NEVER

    def arm(self, deadline: float) -> None:
        """Set the deadline, earlier or later than before; `inf` takes it away."""
        self.deadline = deadline
        if deadline != inf:
            tick = int(deadline / TICK) + 1
            if tick < self.filed:
                self.wheel.file(self, tick)

    def arm_earlier(self, deadline: float) -> None:
        """Set the deadline only if it comes before the present one."""
        if deadline < self.deadline:
            self.arm(deadline)

    def on_deadline(self, now: float) -> None:
        """The deadline has passed; it is infinite again when this is called."""
        raise NotImplementedError


class Wheel:
    """Files `Timed` objects by tick; one timer of the loop serves them all."""

    __slots__ = ("_buckets", "_handle", "_last", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, list[Timed]] = {}
        self._last = int(monotonic() / TICK)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._handle = self._loop.call_later(TICK, self._turn)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def file(self, timed: Timed, tick: int) -> None:
        if tick <= self._last:
            tick = self._last + 1
        timed.filed = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = [timed]
        else:
            bucket.append(timed)

    def _turn(self) -> None:
        now = monotonic()
        self._handle = self._loop.call_later(TICK, self._turn)
        self.expire(now)

    def expire(self, now: float) -> None:
        """Fire every deadline up to `now` (the loop's clock)."""
        current = int(now / TICK)
        for tick in range(self._last + 1, current + 1):
            self._last = tick
            for timed in self._buckets.pop(tick, ()):
                if timed.filed != tick:
                    continue
                timed.filed = _NEVER
                if timed.deadline <= now:
                    timed.deadline = inf
                    timed.on_deadline(now)
                elif timed.deadline != inf:
                    self.file(timed, int(timed.deadline / TICK) + 1)
