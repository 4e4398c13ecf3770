"""What all connections of one worker share: the loop, the clock of this turn, the wheel and the list of unwritten output.

The rule of a turn: whoever the loop wakes (`readable`, `writable`, a timer, an answer from DNS) reads the clock once
into `now`, does its work by plain calls, and ends with `flush`. Output that any connection produced meanwhile goes out there, one
write a connection, however many streams contributed to it. Nothing else writes to sockets.
"""

from __future__ import annotations

import asyncio
import random
import time
from email.utils import formatdate
from typing import Protocol

from edge.net.timers import Wheel

__all__ = ["Flushable", "Hub"]


class Flushable(Protocol):
    marked: bool

    def flush(self) -> None: ...


class Hub:
    __slots__ = ("_date", "_date_second", "_dirty", "_offset", "loop", "now", "random", "wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time()
        self.random = random.Random()  # choices and request ids; nothing secret comes from it
        self.wheel = Wheel(loop, self.flush)
        self._dirty: list[Flushable] = []
        self._date = b""
        self._date_second = 0
        self._offset = time.time() - self.now

    def turn(self) -> float:
        """Start of a turn: the loop's clock, in seconds."""
        self.now = self.loop.time()
        return self.now

    def mark(self, flushable: Flushable) -> None:
        """Have `flush` called on it when this turn ends."""
        if not flushable.marked:
            flushable.marked = True
            self._dirty.append(flushable)

    def flush(self) -> None:
        """End of a turn. Flushing may mark others (a response that ends lets a pipelined request start)."""
        dirty = self._dirty
        while dirty:
            flushable = dirty.pop()
            flushable.marked = False
            flushable.flush()

    def date(self) -> bytes:
        """The present time as an HTTP date (RFC 9110 section 5.6.7), made once a second."""
        second = int(self.now + self._offset)
        if second != self._date_second:
            self._offset = time.time() - self.loop.time()
            self._date_second = second = int(self.now + self._offset)
            self._date = formatdate(second, usegmt=True).encode()
        return self._date

    def posix_offset(self) -> float:
        """What to add to the loop's clock for POSIX seconds; at most a second old while requests come."""
        return self._offset

    def request_id(self) -> bytes:
        """32 hex digits, unique for practical purposes."""
        return b"%032x" % self.random.getrandbits(128)
