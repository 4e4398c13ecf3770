"""Clients that come back with a request: every connection shows a ticket of its own and leaves with the next one.

The request goes after the handshake, or with the first packet as early data (RFC 8446 section 2.3). A ticket is used once, as
clients should (RFC 8446 appendix C.4), because servers may refuse it, or its early data, the second time. The duration
ends with the first byte of the answer; the connection is over when the new ticket has come as well.

That early data was accepted is proven by the answer: the request is never sent in another way, so that a server which refuses
early data answers nothing, and that is a failure after `PATIENCE`.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import Any

from edge.tls.binding import ffi, lib

from .loop import ANSWER, Job, Loop, Slot

__all__ = ["PATIENCE", "Visits"]

PATIENCE = 5.0
"""Seconds that a connection may take."""


class Visits(Loop):
    """As `Loop`, with a request on each connection. `tickets` are those of the clients that are away, the longest gone first."""

    MOST_SESSIONS = 128

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._request = job.request
        self._written = ffi.new("size_t *")
        self.tickets: deque[Any] = deque()

    @property
    def room(self) -> bool:
        return bool(self.tickets) and super().room

    def _session(self) -> Any:
        return self.tickets.popleft() if self.tickets else None

    def fetch_sessions(self, count: int) -> None:
        """As `Loop.fetch_sessions`. Raises RuntimeError when the tickets allow no early data that is to be sent."""
        super().fetch_sessions(count)
        if self._job.offer.early and not all(lib.SSL_SESSION_get_max_early_data(each) for each in self._sessions):
            raise RuntimeError("the server's tickets allow no early data")
        self.tickets.extend(self._sessions)
        self._sessions = []

    def _done(self, slot: Slot) -> bool:
        """Whether one that was answered has its next ticket too."""
        return bool(lib.SSL_get_session(slot.ssl) != slot.session)

    def begin(self, due: float | None = None, *, keep: bool = False) -> None:
        """Nothing begins when no client is away."""
        if self.tickets:
            super().begin(due, keep=keep)

    def turn(self, *, again: bool, wait: float = 1.0) -> None:
        super().turn(again=again, wait=wait)
        limit = time.perf_counter() - PATIENCE
        while (slot := next(iter(self._slots.values()), None)) is not None and slot.due < limit:
            self.failed += 1
            early = self._job.offer.early and not slot.answered
            self.problem = "a request in early data was not answered" if early else "a connection came to no end"
            self._end(slot)

    def _advance(self, slot: Slot, *, keep: bool = False) -> bool | None:
        if self._job.offer.early and not slot.sent:
            result = lib.SSL_write_early_data(slot.ssl, self._request, len(self._request), self._written)
            if result != 1:
                return self._more(slot, result)
            slot.sent = True
        result = lib.SSL_do_handshake(slot.ssl)
        if result != 1:
            return self._more(slot, result)
        if not slot.sent:
            lib.SSL_write(slot.ssl, self._request, len(self._request))  # into an empty socket buffer: it is taken whole
            slot.sent = True
        while not slot.answered or not self._done(slot):
            count = lib.SSL_read(slot.ssl, ANSWER, len(ANSWER))
            if count <= 0:
                if slot.answered and self._done(slot):
                    lib.ERR_clear_error()
                    break  # a ticket is read without a byte for us
                return self._more(slot, count)
            if not slot.answered:
                if not bytes(ffi.buffer(ANSWER, count)).startswith(b"HTTP/1.1 200"):
                    self.failed += 1
                    self.problem = "the answer was another than 200"
                    return False
                slot.answered = True
                self.durations.append(time.perf_counter() - slot.due)
                self.resumed += bool(lib.SSL_session_reused(slot.ssl))
        slot.established = True
        self._epoll.modify(slot.sock.fileno(), select.EPOLLIN)
        self._leave(slot)
        self.tickets.append(ffi.gc(lib.SSL_get1_session(slot.ssl), lib.SSL_SESSION_free))
        return True
