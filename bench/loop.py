"""Handshakes with one server, driven by one thread over epoll: what the load side of the bench is made of.

A handshake counts when both sides are done: the client then closes (close_notify and FIN) and waits for the server to do the
same; that holds for servers that send their tickets only with the first answer (Envoy) as well. Sessions to resume are fetched
before the clock starts, with one request each, and used again. `bench.returning` has clients that use each ticket once.
"""

from __future__ import annotations

import json
import select
import socket
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.tls.binding import context_pointer, ffi, lib

from .offer import Offer, context, prepare, staple_of

__all__ = ["ANSWER", "Job", "Loop", "Slot"]

_SOURCES = 50  # addresses of loopback to come from: each has ephemeral ports of its own
_STRIDE = 7919  # a prime: from one host to one far away, and to every one of them
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect

ANSWER: Any = ffi.new("char[]", 4096)
"""Where answers are read into."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do. `name` is the SNI (""; none), or with `hosts` each of ``h0.bench.example`` and so on in turn; `path` is
    what sessions are fetched with."""

    address: str
    port: int
    name: str = "localhost"
    offer: Offer = field(default_factory=Offer)
    mode: str = "closed"
    seconds: float = 1.0
    connections: int = 16
    rate: float = 0.0
    path: str = "/small"
    hosts: int = 0

    @property
    def request(self) -> bytes:
        return f"GET {self.path} HTTP/1.1\r\nHost: {self.name or self.address}\r\n\r\n".encode()

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Job:
        facts = json.loads(text)
        return cls(**(facts | {"offer": Offer(**facts["offer"])}))


class Slot:
    """One connection in flight; `due` is when its duration began, `session` what it offers to resume."""

    __slots__ = ("answered", "due", "established", "sent", "session", "sock", "ssl")

    def __init__(self, sock: socket.socket, ssl: Any, due: float, session: Any) -> None:
        self.sock = sock
        self.ssl = ssl
        self.due = due
        self.session = session
        self.sent = self.answered = False  # of a request, where there is one
        self.established = False


class Loop:
    """Handshakes with one server. A full one that asks for a staple fails without. `begun`, `finished`,
    `resumed` and `failed` count; `durations` is in seconds."""

    MOST_SESSIONS = 16

    def __init__(self, job: Job) -> None:
        self._job = job
        self._address = (job.address, job.port)
        self._family = socket.AF_INET6 if ":" in job.address else socket.AF_INET
        self._stapled = job.offer.staple and not job.offer.resumed  # a resumed handshake shows none
        self._spread = job.address.startswith("127.")
        self._context = context(job.offer)
        self._pointer = context_pointer(self._context)
        self._epoll = select.epoll()
        self._slots: dict[int, Slot] = {}
        self._sessions: list[Any] = []
        self.begun = self.finished = self.resumed = self.failed = 0
        self.durations: list[float] = []
        self.problem = ""  # why one failed that the server thinks is fine

    @property
    def in_flight(self) -> int:
        return len(self._slots)

    @property
    def room(self) -> bool:
        """Whether one more can begin now."""
        return len(self._slots) < self._job.connections

    def _session(self) -> Any:
        """What the next connection offers; None for a full handshake."""
        return self._sessions[self.begun % len(self._sessions)] if self._sessions else None

    def _open(self, due: float, *, blocking: bool) -> Slot:
        self.begun += 1
        sock = socket.socket(self._family)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._spread:
            sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{1 + self.begun % _SOURCES}", 0))
        sock.setblocking(blocking)
        sock.connect_ex(self._address)
        ssl = lib.SSL_new(self._pointer)
        lib.SSL_set_fd(ssl, sock.fileno())
        session = self._session()
        hosts = self._job.hosts
        name = f"h{self.begun * _STRIDE % hosts}.bench.example" if hosts else self._job.name
        prepare(ssl, self._job.offer, name, session)
        return Slot(sock, ssl, due, session)

    def fetch_sessions(self, count: int) -> None:
        """Make `count` connections with one request each and keep their sessions. Raises RuntimeError when there are none."""
        request = self._job.request
        fetched = []
        for _ in range(count):
            slot = self._open(0.0, blocking=True)
            if lib.SSL_do_handshake(slot.ssl) != 1 or lib.SSL_write(slot.ssl, request, len(request)) != len(request):
                raise RuntimeError("the first handshake failed")
            if lib.SSL_read(slot.ssl, ANSWER, len(ANSWER)) <= 0:
                raise RuntimeError("the first request was not answered")
            lib.SSL_shutdown(slot.ssl)
            session = lib.SSL_get1_session(slot.ssl)
            if session == ffi.NULL:
                raise RuntimeError("the server gave no session")
            fetched.append(ffi.gc(session, lib.SSL_SESSION_free))
            lib.SSL_free(slot.ssl)
            slot.sock.close()
        self._sessions = fetched

    def begin(self, due: float | None = None, *, keep: bool = False) -> None:
        """Start one handshake. On loopback it can be finished when this returns; with `keep` it is not closed then."""
        slot = self._open(time.perf_counter() if due is None else due, blocking=False)
        self._slots[slot.sock.fileno()] = slot
        self._epoll.register(slot.sock.fileno(), select.EPOLLIN)
        if self._advance(slot, keep=keep) is False:
            self._end(slot)

    def _advance(self, slot: Slot, *, keep: bool = False) -> bool | None:
        """Go on with the handshake: True when done (and closed, unless `keep`), False when failed, None when more is to come."""
        result = lib.SSL_do_handshake(slot.ssl)
        if result != 1:
            return self._more(slot, result)
        if self._stapled and not staple_of(slot.ssl):
            self.failed += 1
            self.problem = "the server showed no staple"
            return False
        slot.established = True
        self.durations.append(time.perf_counter() - slot.due)
        self.resumed += bool(lib.SSL_session_reused(slot.ssl))
        if not keep:
            self._leave(slot)
        return True

    def _more(self, slot: Slot, result: int) -> bool | None:
        """After a call that did not succeed: None when more has to come first, otherwise it failed."""
        problem = lib.SSL_get_error(slot.ssl, result)
        lib.ERR_clear_error()
        if problem == lib.SSL_ERROR_WANT_WRITE:  # not connected yet
            self._epoll.modify(slot.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        elif problem == lib.SSL_ERROR_WANT_READ:
            self._epoll.modify(slot.sock.fileno(), select.EPOLLIN)
        else:
            self.failed += 1
            return False
        return None

    def _leave(self, slot: Slot) -> None:
        """Say goodbye; what is left is to wait for the server's end."""
        lib.SSL_shutdown(slot.ssl)
        try:
            slot.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server was faster; its end is what comes next

    def _end(self, slot: Slot) -> None:
        self._epoll.unregister(slot.sock.fileno())
        del self._slots[slot.sock.fileno()]
        lib.SSL_free(slot.ssl)
        slot.sock.close()

    def end(self) -> None:
        """Close what is in flight."""
        for slot in list(self._slots.values()):
            self._end(slot)
        self._epoll.close()

    def turn(self, *, again: bool, wait: float = 1.0) -> None:
        """Wait for events, at most `wait` seconds, and act on them; what is over is followed by a new one when `again`."""
        # epoll rounds its time-out up to whole milliseconds, which would make an open loop late; select does not
        if 0 < wait < 1.0:
            select.select([self._epoll.fileno()], [], [], wait)
            wait = 0.0
        for descriptor, _ in self._epoll.poll(wait):
            slot = self._slots[descriptor]
            if slot.established:
                try:
                    if slot.sock.recv(65_536):
                        continue  # tickets, or the server's close_notify
                except BlockingIOError:
                    continue
                except ConnectionError:
                    pass  # closed without reading our close_notify to its end: over on both sides as well
                self.finished += 1
            elif self._advance(slot) is not False:
                continue
            self._end(slot)
            if again:
                self.begin()

    def establish(self) -> int:
        """Open all connections and keep them: every handshake is over when this returns."""
        wanted = self._job.connections
        for _ in range(wanted):
            self.begin(keep=True)
        while len(self.durations) < wanted:
            if self.failed:
                raise RuntimeError("a handshake failed")
            for descriptor, _ in self._epoll.poll(5.0):
                slot = self._slots[descriptor]
                if slot.established:
                    lib.SSL_read(slot.ssl, ANSWER, len(ANSWER))
                    lib.ERR_clear_error()
                elif self._advance(slot, keep=True) is False:
                    self._end(slot)
        return len(self.durations)
