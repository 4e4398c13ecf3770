"""What all connections of one worker share: the loop, the clock of this turn, the wheel and the list of unwritten output.

The rule of a turn: whoever the loop wakes (`readable`, `writable`, a timer, an answer from DNS) reads the clock once
into `now` and does its work by plain calls. What is to be written is only marked. When everything that was ready has
been served, `flush` runs once and each marked connection writes once, however many streams and upstreams contributed.
Nothing else writes to sockets.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from time import monotonic
from typing import Protocol

from edge.net.timers import Wheel

__all__ = ["Flushable", "Hub"]


class Flushable(Protocol):
    marked: bool

    def flush(self) -> None: ...


class Hub:
    __slots__ = ("_date", "_date_second", "_dirty", "_offset", "_scheduled", "loop", "now", "on_bug", "random", "wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = monotonic()
        self.on_bug: Callable[[str, str], None]
        self.random = random.Random()  # choices and request ids; nothing secret comes from it
        self.wheel = Wheel(loop)
        self._dirty: list[Flushable] = []
        self._scheduled = False
        self._date = b""
        self._date_second = 0
        self._offset = time.time() - self.now

    def turn(self) -> float:
        """Start of a turn: the loop's clock, in seconds."""
        self.now = monotonic()
        return self.now

    def mark(self, flushable: Flushable) -> None:
        """Have `flush` called on it when this turn ends."""
        if not flushable.marked:
            flushable.marked = True
            self._dirty.append(flushable)
            if not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is marked. Flushing may mark others (a response that ends lets a pipelined request start)."""
        dirty = self._dirty
        while dirty:
            flushable = dirty.pop()
            flushable.marked = False
            flushable.flush()
        self._scheduled = False

    def bug(self, error: Exception) -> None:
        """An exception that is nobody's fault but ours: it costs one connection and is told with its place."""
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{frame.filename.rpartition('edge/')[2]}:{frame.lineno}" for frame in reversed(frames))
        self.on_bug(f"{type(error).__name__}: {error}", where)

    def date(self) -> bytes:
        """The present time as an HTTP date (RFC 9110 section 5.6.7), made once a second."""
        second = int(self.now + self._offset)
        if second != self._date_second:
            self._offset = time.time() - monotonic()
            self._date_second = second = int(self.now + self._offset)
            self._date = formatdate(second, usegmt=True).encode()
        return self._date

    def posix_offset(self) -> float:
        """What to add to the loop's clock for POSIX seconds; at most a second old while requests come."""
        return self._offset

    def request_id(self) -> bytes:
        """32 hex digits, unique for practical purposes."""
        return b"%032x" % self.random.getrandbits(128)
