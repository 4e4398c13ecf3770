"""Deadlines for many connections at the price of an attribute each.

A gateway sets a deadline on every read and write and lets almost none of them pass. So a deadline is an attribute of
the object that it concerns, and the wheel looks at an object only when the earliest time for which it was ever filed has come;
if its deadline has moved on since, it is filed again. Moving a deadline later therefore costs one store, and an object
is filed again only when it becomes due earlier.

Invariants: an object stands in one bucket at most, that of the tick `filed`; resolution is `TICK` seconds; a deadline never
fires early. Whoever ends before its deadline says so with `disarm`: the wheel must not be what keeps a closed connection
in memory, for then each new one is made of memory that no cache has seen for as long as a handshake may take.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic

__all__ = ["NEVER", "TICK", "Timed", "Wheel"]

TICK = 0.05
NEVER = 1 << 62  # the tick of what is not filed


class Timed:
    """Something with a deadline (seconds of the loop's clock). Subclasses say what happens in `on_deadline`."""

    __slots__ = ("deadline", "filed", "wheel")

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self.deadline = inf
        self.filed = NEVER

    def arm(self, deadline: float) -> None:
        """Set the deadline, earlier or later than before; `inf` takes it away."""
        self.deadline = deadline
        if deadline != inf:
            tick = int(deadline / TICK) + 1
            if tick < self.filed:
                self.wheel.file(self, tick)

    def disarm(self) -> None:
        """No deadline any more, and no trace of this object in the wheel."""
        self.deadline = inf
        if self.filed != NEVER:
            self.wheel.forget(self)

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
        self._buckets: dict[int, dict[Timed, None]] = {}
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
        if timed.filed != NEVER:
            self.forget(timed)
        timed.filed = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {timed: None}
        else:
            bucket[timed] = None

    def forget(self, timed: Timed) -> None:
        """Take `timed`, which is filed, out again."""
        bucket = self._buckets.get(timed.filed)
        if bucket is not None:
            bucket.pop(timed, None)
        timed.filed = NEVER

    def _turn(self) -> None:
        now = monotonic()
        self._handle = self._loop.call_later(TICK, self._turn)
        self.expire(now)

    def expire(self, now: float) -> None:
        """Fire every deadline up to `now` (the loop's clock)."""
        current = int(now / TICK)
        for tick in range(self._last + 1, current + 1):
            self._last = tick
            bucket = self._buckets.get(tick)
            while bucket:
                timed = bucket.popitem()[0]
                timed.filed = NEVER
                if timed.deadline <= now:
                    timed.deadline = inf
                    timed.on_deadline(now)
                elif timed.deadline != inf:
                    self.file(timed, int(timed.deadline / TICK) + 1)
            self._buckets.pop(tick, None)
