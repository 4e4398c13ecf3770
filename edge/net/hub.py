"""What all connections of one worker share: the loop, the clock of this turn, the wheel and the list of unwritten
output.

The rule of a turn: sockets that are readable are only read. When all that were ready have been, `flush` reads the
clock once into `now`, processes what came by plain calls, which only mark what is to be written, and then each marked
connection writes once, however many streams and upstreams contributed. Nothing else writes to sockets. Reading,
working and writing apart keeps each in the processor's caches: it is worth a seventh of the cost of a small request.
Clients' handshakes are the last of the work: hellos have been read and engines made, then comes the cryptography of all, then
what follows from it. Cryptography drives everything else from the caches; apart from it a handshake costs a twentieth less.
Upstreams and clients have loops of their own throughout, so that the interpreter can fit each to the one type it meets.
Others whom the loop wakes (`writable`, a timer, an answer from DNS) begin with `turn` and end by marking.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from edge.net.poller import Poller
from edge.net.timers import Wheel

__all__ = ["Flushable", "Hub"]


_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"", b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MOST_READ = 1 << 20  # bytes that may wait in the inbox before they are worked off at once


class Flushable(Protocol):
    marked: bool

    def collect(self) -> bytes:
        """What is to be written; b"" for nothing."""

    def write(self, data: bytes) -> None: ...


class Ending(Protocol):
    def said_all(self) -> None:
        """All of it is written."""


class Reader(Protocol):
    def process(self, data: bytes) -> None: ...


class Shaking(Protocol):
    def shake(self, data: bytes) -> bytes | None:
        """One step of the handshake, with what came: the plaintext behind it, or None when it failed."""

    def shaken(self, plain: bytes) -> None:
        """What follows from it."""


Lane = tuple[list[tuple[Reader, bytes]], list[Flushable]]
"""What was read from one kind of connection, and whose output is due."""


class Hub:
    __slots__ = (
        "_date",
        "_date_second",
        "_ids",
        "_offset",
        "_read",
        "_worker",
        "clients",
        "endings",
        "handshakes",
        "loop",
        "now",
        "on_bug",
        "poller",
        "random",
        "scheduled",
        "upstreams",
        "wheel",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = monotonic()
        self.on_bug: Callable[[str, str], None]
        self.random = random.Random()  # choices and request ids; nothing secret comes from it
        self.wheel = Wheel(loop)
        self.poller = Poller()
        self.upstreams: Lane = [], []  # what they say goes first: it frees connections for the requests
        self.clients: Lane = [], []
        self.handshakes: list[tuple[Shaking, bytes]] = []  # steps that are due
        self.endings: list[Ending] = []  # connections that said their last word in this turn
        self._read = 0  # bytes that wait to be processed, large pieces only
        self.scheduled = False  # `flush` will be called
        self._worker = b"%020x" % self.random.getrandbits(80)
        self._ids = self.random.getrandbits(40)
        self._date = b""
        self._date_second = 0
        self._offset = time.time() - self.now

    def turn(self) -> float:
        """Start of a turn: the loop's clock, in seconds."""
        self.now = monotonic()
        return self.now

    def start(self) -> None:
        """Serve sockets and deadlines from now on."""
        self.wheel.start()
        self.loop.add_reader(self.poller.fileno(), self._serve)

    def stop(self) -> None:
        self.wheel.stop()
        self.loop.remove_reader(self.poller.fileno())

    def _serve(self) -> None:
        """A turn of all sockets that are ready, and its end."""
        self.now = monotonic()
        self.scheduled = True
        try:
            self.poller.serve()
        finally:
            self.flush()

    def weigh(self, size: int) -> None:
        """So many bytes were read: beyond a bound all that was read is worked off at once."""
        self._read += size
        if self._read > _MOST_READ:
            self.flush()

    def schedule(self) -> None:
        """Something is due outside of a turn of the sockets, or may be: have `flush` called."""
        self.scheduled = True
        self.loop.call_soon(self.flush)

    def _work(self) -> None:
        self.now = monotonic()
        self._read = 0
        answers, requests = self.upstreams[0], self.clients[0]
        for reader, data in answers:
            reader.process(data)
        answers.clear()
        for reader, data in requests:
            reader.process(data)
        requests.clear()
        if self.handshakes:
            steps, self.handshakes = self.handshakes, []
            for one, plain in [(one, one.shake(data)) for one, data in steps]:
                if plain is not None:
                    one.shaken(plain)

    def shake(self, one: Shaking, data: bytes) -> None:
        """Have a step of a handshake done in this turn."""
        self.handshakes.append((one, data))
        if not self.scheduled:
            self.schedule()

    def end(self, one: Ending) -> None:
        """Have it asked at the end of this turn whether it has said all."""
        self.endings.append(one)
        if not self.scheduled:
            self.schedule()

    def flush(self) -> None:
        """Process what was read and write what is marked. Flushing may mark others (an answer that ends lets a
        pipelined request start).
        """
        (answers, to_upstreams), (requests, to_clients) = self.upstreams, self.clients
        try:
            if answers or requests or self.handshakes:
                self._work()
            while to_upstreams or to_clients or self.endings:
                outgoing = []
                for flushable in to_upstreams:
                    flushable.marked = False
                    data = flushable.collect()
                    if data:
                        outgoing.append((flushable, data))
                to_upstreams.clear()
                for flushable, data in outgoing:
                    flushable.write(data)
                outgoing = []
                for flushable in to_clients:
                    flushable.marked = False
                    data = flushable.collect()
                    if data:
                        outgoing.append((flushable, data))
                to_clients.clear()
                for flushable, data in outgoing:
                    flushable.write(data)
                if self.endings:
                    endings, self.endings = self.endings, []
                    for ending in endings:
                        ending.said_all()
        finally:
            self.scheduled = False

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
            year, month, day, hour, minute, now, weekday, *_ = time.gmtime(second)
            self._date = b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (_DAYS[weekday], day, _MONTHS[month], year, hour, minute, now)
        return self._date

    def posix_offset(self) -> float:
        """What to add to the loop's clock for POSIX seconds; at most a second old while requests come."""
        return self._offset

    def request_id(self) -> bytes:
        """32 hex digits, unique for practical purposes: 80 random bits of this worker's start, and a count."""
        self._ids += 1
        return b"%b%012x" % (self._worker, self._ids)
