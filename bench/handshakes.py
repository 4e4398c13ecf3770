"""The load side of a handshake measurement: one thread over epoll that drives the binding's functions, C-speed but for the loop.

Run as ``-m …handshakes JOB`` with JOB a `Job` as JSON; prints one JSON object (`Seen`). Modes:

* "closed": `connections` handshakes in flight, the next begins when one is over. For the server's cost and its greatest rate.
* "open": a handshake is due every 1 / `rate` seconds, whatever became of those before it; its duration counts from when it
  was due, so a stall is charged to everybody who would have come meanwhile (coordinated omission). At most `connections` are in
  flight; those that had to wait for that are late, and their wait counts.
* "idle": opens `connections`, prints their number, and holds them until its standard input closes.

A duration ends when the client is finished. A handshake counts when both sides are done: the client then closes
(close_notify and FIN) and waits for the server to do the same; that holds for servers that send their tickets only with the
first answer (Envoy) as well. Sessions to resume are fetched before the clock starts, with one request each, and used again.

The client says how it was itself: `busy` is the share of its core that it used in a closed loop, and `late` how long after its
time it began a handshake in an open loop while it was not held up by `connections`. Either can make the client the limit.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.tls.binding import context_pointer, ffi, lib

from .offer import Offer, context, prepare, staple_of

__all__ = ["Job", "Loop", "Seen", "main", "run"]

_SOURCES = 50  # addresses of loopback to come from: each has ephemeral ports of its own
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
_STRIDE = 7919  # a prime: from one host to one far away, and to every one of them
_PATIENCE = 5.0  # seconds for what is in flight at the end of an open loop


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

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Job:
        facts = json.loads(text)
        return cls(**(facts | {"offer": Offer(**facts["offer"])}))


@dataclass(slots=True)
class Seen:
    """What came of it. `begun` counts every handshake that was started, the first ones before the clock too."""

    begun: int
    count: int
    resumed: int
    failed: int
    seconds: float
    cpu: float
    busy: float
    durations: list[float]
    late: list[float]

    def text(self) -> str:
        """JSON with durations in whole microseconds."""
        facts = {name: getattr(self, name) for name in ("begun", "count", "resumed", "failed", "seconds", "cpu", "busy")}
        return json.dumps(facts | {name: [round(each * 1e6) for each in getattr(self, name)] for name in ("durations", "late")})

    @classmethod
    def read(cls, text: str) -> Seen:
        facts = json.loads(text)
        return cls(**(facts | {name: [each / 1e6 for each in facts[name]] for name in ("durations", "late")}))


class _Slot:
    """One connection in flight; `due` is when its duration began."""

    __slots__ = ("due", "established", "sock", "ssl")

    def __init__(self, sock: socket.socket, ssl: Any, due: float) -> None:
        self.sock = sock
        self.ssl = ssl
        self.due = due
        self.established = False


class Loop:
    """Handshakes with one server. A full one that asks for a staple fails without. `begun`, `finished`,
    `resumed` and `failed` count; `durations` is in seconds."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._address = (job.address, job.port)
        self._family = socket.AF_INET6 if ":" in job.address else socket.AF_INET
        self._stapled = job.offer.staple and not job.offer.resumed  # a resumed handshake shows none
        self._spread = job.address.startswith("127.")
        self._context = context(job.offer)
        self._pointer = context_pointer(self._context)
        self._epoll = select.epoll()
        self._slots: dict[int, _Slot] = {}
        self._sessions: list[Any] = []
        self.begun = self.finished = self.resumed = self.failed = 0
        self.durations: list[float] = []
        self.problem = ""  # why one failed that the server thinks is fine

    @property
    def in_flight(self) -> int:
        return len(self._slots)

    def _open(self, due: float, *, blocking: bool) -> _Slot:
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
        session = self._sessions[self.begun % len(self._sessions)] if self._sessions else None
        hosts = self._job.hosts
        name = f"h{self.begun * _STRIDE % hosts}.bench.example" if hosts else self._job.name
        prepare(ssl, self._job.offer, name, session)
        return _Slot(sock, ssl, due)

    def fetch_sessions(self, count: int) -> None:
        """Make `count` connections with one request each and keep their sessions. Raises RuntimeError when there are none."""
        host = self._job.name or self._job.address
        request = f"GET {self._job.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        fetched = []
        for _ in range(count):
            slot = self._open(0.0, blocking=True)
            if lib.SSL_do_handshake(slot.ssl) != 1 or lib.SSL_write(slot.ssl, request, len(request)) != len(request):
                raise RuntimeError("the first handshake failed")
            if lib.SSL_read(slot.ssl, _BUFFER, len(_BUFFER)) <= 0:
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

    def _advance(self, slot: _Slot, *, keep: bool = False) -> bool | None:
        """Go on with the handshake: True when done (and closed, unless `keep`), False when failed, None when more is to come."""
        result = lib.SSL_do_handshake(slot.ssl)
        if result != 1:
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
        if self._stapled and not staple_of(slot.ssl):
            self.failed += 1
            self.problem = "the server showed no staple"
            return False
        slot.established = True
        self.durations.append(time.perf_counter() - slot.due)
        self.resumed += bool(lib.SSL_session_reused(slot.ssl))
        if not keep:
            lib.SSL_shutdown(slot.ssl)
            try:
                slot.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the server was faster; its end is what comes next
        return True

    def _end(self, slot: _Slot) -> None:
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
                    lib.SSL_read(slot.ssl, _BUFFER, len(_BUFFER))
                    lib.ERR_clear_error()
                elif self._advance(slot, keep=True) is False:
                    self._end(slot)
        return len(self.durations)


_BUFFER = ffi.new("char[]", 4096)


def _closed(loop: Loop, job: Job) -> Seen:
    for _ in range(job.connections):
        loop.begin()
    while loop.finished + loop.failed < job.connections and loop.in_flight:
        loop.turn(again=True)
    finished, resumed, durations = loop.finished, loop.resumed, len(loop.durations)
    began, used = time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - began) < job.seconds:
        if not loop.in_flight:
            raise RuntimeError(loop.problem or "no connection comes about any more")
        loop.turn(again=True)
    cpu = time.process_time() - used
    return Seen(
        loop.begun,
        loop.finished - finished,
        loop.resumed - resumed,
        loop.failed,
        passed,
        cpu,
        cpu / passed,
        loop.durations[durations:],
        [],
    )


def _open(loop: Loop, job: Job) -> Seen:
    """Raises ValueError for a rate that is none."""
    if job.rate <= 0:
        raise ValueError("an open loop needs a rate")
    step, total = 1 / job.rate, int(job.rate * job.seconds)
    late: list[float] = []
    before = loop.begun
    began, used = time.perf_counter() + 0.01, time.process_time()
    number, held_up = 0, False
    while number < total or loop.in_flight:
        now = time.perf_counter()
        while number < total and (due := began + number * step) <= now:
            if loop.in_flight >= job.connections:
                held_up = True
                break
            if not held_up:
                late.append(now - due)
            loop.begin(due)
            number += 1
            now = time.perf_counter()
        else:
            held_up = False
        if now > began + job.seconds + _PATIENCE:
            break
        wait = began + number * step - now if number < total and loop.in_flight < job.connections else 0.5
        loop.turn(again=False, wait=min(0.5, max(0.0, wait)))
    passed, cpu = time.perf_counter() - began, time.process_time() - used
    unfinished = loop.in_flight + total - number
    return Seen(
        loop.begun - before,
        len(loop.durations),
        loop.resumed,
        loop.failed + unfinished,
        passed,
        cpu,
        cpu / passed,
        loop.durations,
        late,
    )


def run(job: Job) -> Seen:
    """Do `job` in this process, which is to do nothing else. Raises RuntimeError or ValueError with a sentence."""
    loop = Loop(job)
    try:
        if job.offer.resumed:
            loop.fetch_sessions(min(job.connections, 16))
        gc.collect()
        gc.freeze()
        gc.disable()
        seen = {"closed": _closed, "open": _open}[job.mode](loop, job)
        if loop.problem and not seen.count:
            raise RuntimeError(loop.problem)
        return seen
    finally:
        loop.end()


def main(arguments: list[str]) -> None:
    """The command line of the module's description."""
    job = Job.read(arguments[0])
    if job.mode == "idle":
        loop = Loop(job)
        sys.stdout.write(f"{loop.establish()}\n")
        sys.stdout.flush()
        sys.stdin.read()
        return
    try:
        sys.stdout.write(run(job).text() + "\n")
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
