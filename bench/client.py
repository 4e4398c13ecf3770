"""The bench's own client for requests, where wrk and h2load are missing and where neither can do it: a closed loop over epoll.

Run as ``-m …client JOB`` with JOB a `Job` as JSON; prints one JSON object (`Seen`). It drives the binding's functions directly,
as the loop for handshakes does; the protocols are in `exchanges`. One process has one thread: who has more than one core for
the load starts several (`load.own`).

All connections are opened first and each has answered one request before the clock starts. Then `streams` × `connections`
requests are under way, or `in_flight` when that is given; each goes to the connection that has been quiet longest, so that
with 10,000 connections every request meets one whose state no cache holds any more. With `hold` it says "ready" then, starts
its clock when a line comes, and closes nothing before another one comes: the server's work on either is not in the figures.

It is dearer than wrk: some 20 µs of its own core for each request. So it can be the limit, and says how busy it was.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.tls.binding import BUFFER, BUFFER_SIZE, buffer, context_pointer, from_buffer, lib

from .exchanges import H1, H2, Exchange
from .offer import Offer, context, prepare

__all__ = ["Job", "Seen", "main", "run"]

_SOURCES = 50  # addresses of loopback to come from: each has ephemeral ports of its own
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
_AT_ONCE = 64  # handshakes, and first requests
_SILENCE = 30.0  # seconds without any event after which it gives up
_PART = 1 << 18  # octets given to one SSL_write
_MODE = lib.SSL_MODE_ENABLE_PARTIAL_WRITE | lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER


@dataclass(frozen=True, slots=True)
class Job:
    """What to do with `port` of loopback; `protocol` is "h1" or "h2", `body` the octets of each request's."""

    port: int
    protocol: str = "h1"
    path: str = "/small"
    seconds: float = 1.0
    connections: int = 50
    streams: int = 1
    in_flight: int = 0
    body: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    hold: bool = False

    def text(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Seen:
    """`count` requests in `seconds` with `cpu` seconds of its own; `before`: those before the clock started."""

    count: int
    before: int
    errors: int
    seconds: float
    cpu: float


class _Connection:
    __slots__ = ("established", "exchange", "sock", "ssl", "writing")

    def __init__(self, sock: socket.socket, ssl: Any, exchange: Exchange) -> None:
        self.sock = sock
        self.ssl = ssl
        self.exchange = exchange
        self.established = False
        self.writing = False  # whether epoll is asked for room to write


class _Loop:
    """All connections of one process. `quiet` has a connection for each request that it could take now."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._context = context(Offer(), (b"h2",) if job.protocol == "h2" else (b"http/1.1",))
        self._context.set_mode(_MODE)
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self.quiet: deque[_Connection] = deque()
        self.opened = self.established = self.count = self.errors = 0

    def _connect(self) -> None:
        self.opened += 1
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.0.{1 + self.opened % _SOURCES}", 0))
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self._job.port))
        ssl = lib.SSL_new(context_pointer(self._context))
        lib.SSL_set_fd(ssl, sock.fileno())
        prepare(ssl, Offer(), "localhost")
        kind = H2 if self._job.protocol == "h2" else H1
        made = _Connection(sock, ssl, kind("localhost", self._job.path, self._job.fields, self._job.body))
        self._open[sock.fileno()] = made
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        made.writing = True

    def _ask(self, connection: _Connection, *, writing: bool) -> None:
        if connection.writing is not writing:
            connection.writing = writing
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def begin(self) -> None:
        """One request, on the connection that has been quiet longest."""
        connection = self.quiet.popleft()
        connection.exchange.begin()
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        out = connection.exchange.out
        while out:
            part = bytes(out[:_PART])
            count = lib.SSL_write(connection.ssl, from_buffer(part), len(part))
            if count <= 0:
                break
            del out[:count]
        lib.ERR_clear_error()
        self._ask(connection, writing=bool(out))

    def _shake(self, connection: _Connection) -> None:
        result = lib.SSL_do_handshake(connection.ssl)
        if result == 1:
            connection.established = True
            self.established += 1
            self._write(connection)
            self.quiet.append(connection)
            return
        problem = lib.SSL_get_error(connection.ssl, result)
        lib.ERR_clear_error()
        if problem not in (lib.SSL_ERROR_WANT_READ, lib.SSL_ERROR_WANT_WRITE):
            raise RuntimeError(f"handshake {self.established + 1} of {self._job.connections} failed")
        self._ask(connection, writing=problem == lib.SSL_ERROR_WANT_WRITE)

    def _read(self, connection: _Connection) -> int:
        """How many answers have ended."""
        ended, errors = 0, connection.exchange.errors
        while (count := lib.SSL_read(connection.ssl, BUFFER, BUFFER_SIZE)) > 0:
            ended += connection.exchange.feed(bytes(buffer(BUFFER, count)))
        problem = lib.SSL_get_error(connection.ssl, count)
        lib.ERR_clear_error()
        self.errors += connection.exchange.errors - errors
        if problem != lib.SSL_ERROR_WANT_READ:
            raise RuntimeError("the server has closed a connection")
        if connection.exchange.out:
            self._write(connection)
        return ended

    def turn(self) -> int:
        """Wait for events and act on them: how many answers have ended. Raises RuntimeError when none comes any more."""
        events = self._epoll.poll(_SILENCE)
        if not events:
            raise RuntimeError(f"nothing came for {_SILENCE:.0f} s")
        ended = 0
        for descriptor, _ in events:
            connection = self._open[descriptor]
            if not connection.established:
                self._shake(connection)
                continue
            if connection.writing:
                self._write(connection)
            if found := self._read(connection):
                ended += found
                self.quiet.extend([connection] * found)
        self.count += ended
        return ended

    def establish(self) -> None:
        """Open all connections, and have one request answered on each."""
        wanted = self._job.connections
        while self.established < wanted:
            while self.opened < wanted and self.opened - self.established < _AT_ONCE:
                self._connect()
            self.turn()
        left, under_way = wanted, 0
        while left or under_way:
            while left and under_way < _AT_ONCE:
                self.begin()
                left, under_way = left - 1, under_way + 1
            under_way -= self.turn()
        self.quiet.extend(list(self._open.values()) * (self._job.streams - 1))

    def close(self) -> None:
        for connection in self._open.values():
            lib.SSL_free(connection.ssl)
            connection.sock.close()
        self._epoll.close()


def run(job: Job) -> Seen:
    """Do `job` in this process, which is to do nothing else; what was seen is written as well, before connections are closed.

    Raises RuntimeError or OSError with a sentence.
    """
    loop = _Loop(job)
    try:
        loop.establish()
        gc.collect()
        gc.freeze()
        gc.disable()
        if job.hold:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
        before, errors = loop.count, loop.errors
        began, used = time.perf_counter(), time.process_time()
        for _ in range(min(job.in_flight or len(loop.quiet), len(loop.quiet))):
            loop.begin()
        while (passed := time.perf_counter() - began) < job.seconds:
            for _ in range(loop.turn()):
                loop.begin()
        seen = Seen(loop.count - before, before, loop.errors - errors, passed, time.process_time() - used)
        sys.stdout.write(json.dumps(asdict(seen)) + "\n")
        sys.stdout.flush()
        if job.hold:
            sys.stdin.readline()
        return seen
    finally:
        loop.close()


def main(arguments: list[str]) -> None:
    """The command line of the module's description."""
    try:
        run(Job(**json.loads(arguments[0])))
    except (RuntimeError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
