"""One connected socket: bytes in through the engine to a session, bytes out of the session through the engine.

Theory. The loop calls `readable` and `writable`; everything else is called by the session or at the end of a turn
(`collect` and `write`, see `edge.net.hub`). A session is asked for its output once a turn. What the socket does not
take is kept as the backlog; while there is one, `pending` says how many bytes, no more output is asked for beyond
`HIGH`, and `session.on_writable` is called when it has gone below `LOW`.

How it ends stands in `edge.net.ending`, with the invariants of that.
"""

from __future__ import annotations

import os
from collections import deque
from math import inf
from time import monotonic
from types import FunctionType

from edge.errors import Fault, Side
from edge.net.contracts import Engine, Session
from edge.net.ending import ENDED, ENDING, WHOLE, Ending
from edge.net.hub import Hub
from edge.net.noise import Noise
from edge.net.poller import READ, WRITE
from edge.net.timers import NEVER, Timed
from edge.relay.ports import HIGH, LOW

__all__ = ["Transport"]

_NOISE = 64, 256  # KeyUpdates and attempts to renegotiate, records without data: in a second, of upstreams
_READ_LEAST = 4 * 1024, 32 * 1024  # of clients, of upstreams: a hello and most requests are small, answers less so
_READ_MOST = 128 * 1024
_SMALL = 4096  # bytes read; what is more is held against the hub's bound
_HOT = "readable", "process", "mark", "collect", "write"  # the methods that each request takes


class Transport(Ending):
    __slots__ = (
        "_inbox", "_noise", "_paused", "_read_size", "_tls", "_unwritten", "_write_deadline", "_writing", "bytes_in", "bytes_out",
        "engine", "established", "fd", "hub", "linger", "marked", "session_deadline", "side", "watched", "write_timeout",
    )  # fmt: skip

    def __init_subclass__(cls) -> None:
        """Every kind of transport has the hot methods as code of its own, with equal text.

        The interpreter fits code to the types that it meets there, and clients' and upstreams' differ in each of them.
        """
        for name in _HOT:
            function = getattr(cls, name)
            own = FunctionType(function.__code__.replace(), function.__globals__, name, function.__defaults__)
            own.__doc__ = function.__doc__
            setattr(cls, name, own)

    def __init__(self, hub: Hub, fd: int, side: Side, *, tls: bool, write_timeout: float) -> None:
        Timed.__init__(self, hub.wheel)
        self.hub = hub
        self.fd = fd  # a connected socket, not blocking; it is closed by `_dispose` and by nobody else
        self.watched = 0  # what the poller is to tell of it
        self.side = side  # whose connection this is, for blame
        self.write_timeout = write_timeout
        self.linger = side is Side.CLIENT
        self.established = not tls
        self.marked = False
        self.disposed = False
        self.pending = 0
        self.bytes_in = 0
        self.bytes_out = 0
        # what was read, and whose output is due: the hub's lists, with upstreams and clients apart
        self._inbox, self._unwritten = hub.upstreams if side is Side.UPSTREAM else hub.clients
        self._tls = tls
        self._steady = not tls  # established, and no end has begun in any way
        self._backlog: deque[bytes | memoryview] | None = None
        self._closing = False
        self._eof = False
        self._half = WHOLE
        self._wrote_at = hub.now
        self._lingered = -1  # bytes forgotten while lingering; -1: not lingering
        self._paused = False
        self._writing = False
        self._read_size = _READ_LEAST[side is Side.UPSTREAM]
        self.session_deadline = inf
        self._write_deadline = inf
        self._noise: Noise | None = None

    def start(self, engine: Engine, session: Session) -> None:
        """Begin to read."""
        self.engine = engine
        self.session = session
        self._watch()

    def _watch(self) -> None:
        """Have the poller tell what this transport waits for at present."""
        if self.disposed:
            return
        events = (0 if self._paused or self._eof else READ) | (WRITE if self._writing else 0)
        if events != self.watched:
            self.watched = events
            self.hub.poller.watch(self.fd, self, events)

    # --- in ---

    def readable(self) -> None:
        """Take what the socket has; `process` gets it in this turn, after the other sockets were read."""
        try:
            data = os.read(self.fd, self._read_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.hub.turn()
            self._gone("reset", error)
            return
        self._inbox.append((self, data))
        if len(data) > _SMALL:
            self.hub.weigh(len(data))

    def process(self, data: bytes) -> None:
        """Act on what was read; b"" is the end of file."""
        if not self._steady or not data:
            self._process(data)
            return
        size = len(data)
        self.bytes_in += size
        if size == self._read_size and size < _READ_MOST:
            self._read_size *= 2
        try:
            if not self._tls:
                self.session.on_data(data)
                return
            engine = self.engine
            plain = engine.receive(data)
            if plain and not engine.unsettled and not engine.closed:
                self.session.on_data(plain)
            else:
                self._decrypted(plain)
        except Fault as fault:
            self.fail(fault)
        except Exception as error:
            self._bug(error)

    def _process(self, data: bytes) -> None:
        """The same at the beginning and at the end of a connection."""
        if self.disposed:
            return
        count = len(data)
        try:
            if self._lingered >= 0:
                self._lingering(count)
            elif not count:
                self._end(clean=not self._tls)
            else:
                self.bytes_in += count
                if self._closing:
                    return  # forgotten: the last word is being written
                if count == self._read_size and count < _READ_MOST:
                    self._read_size *= 2
                if self.established:
                    self._decrypted(self.engine.receive(data))
                else:
                    self.received(data)
        except Fault as fault:
            self.fail(fault)
        except Exception as error:
            self._bug(error)

    def received(self, data: bytes) -> None:
        """Take bytes of the handshake."""
        plain = self.shake(data)
        if plain is not None:
            self.shaken(plain)

    def shake(self, data: bytes) -> bytes | None:
        """A step of the handshake, with what came: the plaintext behind it, or None when it failed."""
        if self.disposed:
            return None
        try:
            return self.engine.receive(data)
        except Fault as fault:
            self.fail(fault)
        except Exception as error:
            self._bug(error)
        return None

    def shaken(self, plain: bytes) -> None:
        """What follows from it."""
        engine = self.engine
        self.mark()
        if not engine.established:
            return
        try:
            if not self.established:  # else by a step before, in the same turn: early data may come in two
                self.established = self._steady = True
                self.on_established()
            if self.disposed or self._closing:
                return
            if plain:
                self._decrypted(plain)
            elif engine.closed:
                self._end(clean=True)
        except Fault as fault:
            self.fail(fault)
        except Exception as error:
            self._bug(error)

    def _decrypted(self, plain: bytes) -> None:
        engine = self.engine
        if plain:
            self.session.on_data(plain)
        else:
            self.mark()  # the engine may have something to say by itself
        if engine.unsettled:
            self._judge(engine)
        if engine.closed and not self.disposed:
            self._end(clean=True)

    def _judge(self, engine: Engine) -> None:
        """Hold what brought no data against its budgets."""
        engine.unsettled = False
        if self.disposed or self._closing:
            return
        if self._noise is None:
            self._noise = Noise()
        excess = self._noise.excess(engine.disturbances, engine.empty_records, self.noise_budgets(), self.hub.now)
        if excess is not None:
            kind, detail = excess
            self.fail(Fault(self.side, kind, detail=detail))

    def noise_budgets(self) -> tuple[int, int]:
        """For one second: of KeyUpdates and attempts to renegotiate, and of records without data."""
        return _NOISE

    def on_established(self) -> None:
        """The handshake is done. Subclasses give the transport its session here."""

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._watch()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._watch()

    # --- out ---

    def mark(self) -> None:
        if not self.marked:
            self.marked = True
            self._unwritten.append(self)
            hub = self.hub
            if not hub.scheduled:
                hub.schedule()

    def collect(self) -> bytes:
        """End of the turn: what the session and the engine have to say, for `write`; b"" when that is nothing."""
        try:
            if not self._steady or self.pending >= HIGH:
                return self._collect(None)
            pieces = self.session.output()
            if len(pieces) != 1 or not self._steady:
                return self._collect(pieces)
            self._wrote_at = self.hub.now
            return self.engine.seal(pieces[0]) if self._tls else pieces[0]
        except Fault as fault:
            self.fail(fault)
        except Exception as error:
            self._bug(error)
        return b""

    def _collect(self, pieces: list[bytes] | None) -> bytes:
        """The same for any state and any output; `pieces` None: the session was not asked yet."""
        if self.disposed or self._lingered >= 0:
            return b""
        data = b""
        if self.pending < HIGH or self._closing:
            engine = self.engine
            if self.established:
                for piece in self.session.output() if pieces is None else pieces:
                    engine.send(piece)
                    self._wrote_at = self.hub.now
                if self._closing:
                    engine.shutdown()
                elif self._half == ENDING:
                    self._half = ENDED
                    engine.shutdown()
            data = engine.drain()
        if not data and (self._closing or self._half):
            self.hub.end(self)
        return data

    def write(self, data: bytes) -> None:
        """Send what `collect` gave."""
        if self.disposed:
            return
        if self.pending:
            assert self._backlog is not None
            self._backlog.append(data)
            self.pending += len(data)
        else:
            try:
                sent = os.write(self.fd, data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._unwritable(error)
                return
            self.bytes_out += sent
            if sent < len(data):
                self._backlog = deque((memoryview(data)[sent:],))
                self.pending = len(data) - sent
                self._wait_writable()
        if self._closing or self._half:
            self.hub.end(self)

    def _wait_writable(self) -> None:
        self._write_deadline = self.hub.now + self.write_timeout
        self.arm_earlier(self._write_deadline)
        self._writing = True
        self._watch()

    def writable(self) -> None:
        hub = self.hub
        hub.now = monotonic()
        backlog = self._backlog
        was = self.pending
        try:
            while backlog:
                piece = backlog[0]
                sent = os.write(self.fd, piece)
                self.pending -= sent
                self.bytes_out += sent
                if sent < len(piece):
                    backlog[0] = memoryview(piece)[sent:]
                    break
                backlog.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._unwritable(error)
            return
        if self.pending < was:
            self._write_deadline = hub.now + self.write_timeout
        if not backlog:
            self._backlog = None
            self._writing = False
            self._write_deadline = inf
            self._watch()
        if self._closing or self._half == ENDED:
            self.mark()
        elif self.pending <= LOW:
            self.mark()
            if self.established:
                try:
                    self.session.on_writable()
                except Exception as error:
                    self._bug(error)

    # --- time ---

    def arm_session(self, deadline: float) -> None:
        """When to call `session.on_deadline`."""
        self.session_deadline = deadline
        due = min(self._write_deadline, deadline)
        if due >= self.deadline and self.filed != NEVER:
            self.deadline = due  # later than before: the wheel finds out
        else:
            self.arm(due)

    def arm_session_earlier(self, deadline: float) -> None:
        if deadline < self.session_deadline:
            self.arm_session(deadline)

    def on_deadline(self, now: float) -> None:
        self.hub.now = now
        if self.disposed:
            return
        if self._lingered >= 0:
            self._dispose()
            return
        if self._write_deadline <= now:
            self._lose(Fault(self.side, f"{self.side}-write-timeout", detail=f"no progress for {self.write_timeout:g} s"))
            return
        if self.session_deadline <= now:
            self.session_deadline = inf
            try:
                self.session.on_deadline(now)
            except Exception as error:
                self._bug(error)
        self._rearm()

    def _rearm(self) -> None:
        due = min(self.session_deadline, self._write_deadline)
        if due < self.deadline and not self.disposed:
            self.arm(due)

    def idle(self) -> None:
        if not self.pending and not self.disposed:
            self.engine.idle()
