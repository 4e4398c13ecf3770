"""How a connection ends: closed by us, by its peer, or by what went wrong.

Theory. The two directions end apart, and what has been said has to arrive: closing a socket with unread bytes in it resets the
connection and takes the answer with it (RFC 9112 section 9.6).

Invariants
* `close` says goodbye: remaining output, close_notify, FIN, and then for a client at most `LINGER` seconds of reading
  and forgetting. Where the last answer is older than that and nothing is unread, there is nothing to wait for.
* `half_close` ends what we send, `on_eof` what the peer sends; a session that wants both ended says `close`.
* What an upstream says before it takes no more is read to the end: most often it has answered already.
* `abort` never sends FIN after a partial body on plain TCP: the peer sees a reset; under TLS it sees no close_notify.
* A session hears `on_lost` once at most, and never after its own `close`.
* After `_dispose` no callback comes any more: not from the loop, not from the wheel, not from the session.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from typing import Any

from edge.errors import Fault, Side
from edge.net import descriptors
from edge.net.contracts import GONE, Engine, Session
from edge.net.hub import Hub
from edge.net.timers import NEVER, Timed

__all__ = ["ENDED", "ENDING", "LINGER", "WHOLE", "Ending"]

LINGER = 2.0
_LINGER_BYTES = 1 << 20
_LAST_WORDS = 8, 128 * 1024  # reads of what a peer said before it took no more, and bytes of one
WHOLE, ENDING, ENDED, _HALF = range(4)  # our direction: open, to be ended, close_notify is queued, FIN is sent


class Ending(Timed):
    """The ends of a transport, which is what its state here is of."""

    __slots__ = ("_backlog", "_closing", "_eof", "_half", "_lingered", "_steady", "_wrote_at", "disposed", "pending", "session")

    hub: Hub
    fd: int
    side: Side
    linger: bool
    established: bool
    _inbox: list[tuple[Any, bytes]]
    engine: Engine
    session: Session
    pending: int
    disposed: bool
    _backlog: deque[bytes | memoryview] | None
    _closing: bool
    _eof: bool
    _half: int
    _lingered: int
    _steady: bool
    _wrote_at: float

    # --- what it needs of the transport ---

    def mark(self) -> None:
        raise NotImplementedError

    def process(self, data: bytes) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def _watch(self) -> None:
        raise NotImplementedError

    # --- by us ---

    def close(self) -> None:
        if not self._closing and not self.disposed:
            self._closing = True
            self._steady = False
            self.mark()

    def half_close(self) -> None:
        if self._half == WHOLE:
            self._half = ENDING
            self._steady = False
            self.mark()

    def abort(self) -> None:
        if self.disposed:
            return
        descriptors.reset_on_close(self.fd)
        self._closing = True
        self._dispose()

    def said_all(self) -> None:
        """There is no more to write: end our half, or the connection, if that was asked for and the socket has taken it all."""
        if self.pending or self.disposed:
            return
        try:
            if self._closing:
                self._goodbye()
            elif self._half == ENDED:
                self._half = _HALF
                self._end_output()
        except Exception as error:
            self._bug(error)

    def _end_output(self) -> None:
        try:
            descriptors.end_output(self.fd)
        except OSError as error:
            self._gone("reset", error)

    def _goodbye(self) -> None:
        """All is written: FIN, and for a client a little patience."""
        if self.pending:
            return
        if not self.linger or self._eof or (self.hub.now - self._wrote_at > LINGER and not descriptors.unread(self.fd)):
            self._dispose()
            return
        try:
            descriptors.end_output(self.fd)
        except OSError:
            self._dispose()
            return
        self._lingered = 0
        self.resume()
        self.arm(self.hub.now + LINGER)

    def _lingering(self, count: int) -> None:
        self._lingered += count
        if not count or self._lingered > _LINGER_BYTES:
            self._dispose()

    # --- by the peer ---

    def _end(self, *, clean: bool) -> None:
        if self._eof or self.disposed:
            return
        self._eof = True
        if not self._closing:
            self.session.on_eof(clean)
        if self.pending or not self._closing:  # else all ends with this turn, and nothing is to be heard of it until then
            self._watch()

    def _gone(self, kind: str, error: OSError) -> None:
        self._lose(Fault(self.side, f"{self.side}-{kind}", detail=error.strerror or type(error).__name__))

    def _unwritable(self, error: OSError) -> None:
        """The peer takes no more. What an upstream said before is still there to be read: most often it has answered a request
        whose body it does not want, and closed (RFC 9112 section 9.6).
        """
        if self.side is Side.UPSTREAM and self.established and not self._closing:
            unread = [data for one, data in self._inbox if one is self]  # in this very turn
            self._inbox[:] = [entry for entry in self._inbox if entry[0] is not self]
            with suppress(OSError):
                while len(unread) < _LAST_WORDS[0] and (data := os.read(self.fd, _LAST_WORDS[1])):
                    unread.append(data)
            for data in unread:
                self.process(data)
        self._gone("reset", error)

    # --- by what went wrong ---

    def fail(self, fault: Fault) -> None:
        """The engine failed: the alert goes out, and the connection ends."""
        try:
            alert = self.engine.drain()
        except Fault:
            alert = b""
        session, closing = self.session, self._closing
        self._closing = True
        self._steady = False
        if not closing:
            session.on_lost(fault)
        if self.disposed:
            return
        if alert:
            self._wrote_at = self.hub.now
            self.write(alert)
        else:
            self._goodbye()

    def _lose(self, fault: Fault) -> None:
        if self.disposed:
            return
        closing = self._closing
        session = self.session
        self._dispose()
        if not closing:
            session.on_lost(fault)

    def _bug(self, error: Exception) -> None:
        self.hub.bug(error)
        try:
            self._lose(Fault(Side.EDGE, "internal-error", detail=type(error).__name__))
        except Exception as another:
            self.hub.bug(another)
            self._dispose()

    # --- for good ---

    def _dispose(self) -> None:
        if self.disposed:
            return
        self.disposed = True
        self._steady = False
        self.hub.poller.forget(self.fd)
        if self.filed != NEVER:
            self.wheel.forget(self)
        self._backlog = None
        self.pending = 0
        self.engine.close()
        os.close(self.fd)
        self.session = GONE
        self.on_disposed()

    def on_disposed(self) -> None:
        """The descriptor is closed. Subclasses take the transport off their lists."""
