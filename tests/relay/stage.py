"""A stage for the relay: real codecs and sessions, and in the place of sockets two ends that a test feeds and reads.

A test says what the client sends and what the upstream sends, turn by turn, and reads what came out on either side.
Time moves only when the test moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from edge.errors import Fault
from edge.http.message import ConnectionInfo
from edge.relay.client_h1 import H1Client
from edge.relay.client_h2 import H2Client
from edge.relay.context import Ticket
from edge.relay.exchange import Exchange
from edge.relay.front import Front
from edge.relay.upstream_h1 import H1Upstream
from edge.relay.upstream_h2 import H2Upstream
from edge.settings.model import Route, Upstream
from edge.upstream.balance import Balancer, EndpointState
from edge.upstream.budget import RetryBudget
from edge.upstream.retry import may_retry
from tests.builders import endpoint, host, listener, route, settings, upstream

__all__ = ["Clock", "Line", "Stage"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


class Line:
    """A transport whose other end is the test."""

    def __init__(self) -> None:
        self.pending = 0
        self.linger = True
        self.paused = False
        self.closed = False
        self.aborted = False
        self.half_closed = False
        self.marked = False
        self.session_deadline = inf
        self.session: Any = None
        self.written = b""

    def mark(self) -> None:
        self.marked = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True
        self.marked = True

    def half_close(self) -> None:
        self.half_closed = True
        self.marked = True

    def abort(self) -> None:
        self.aborted = True

    def alive(self) -> bool:
        return not (self.closed or self.aborted)

    def arm_session(self, deadline: float) -> None:
        self.session_deadline = deadline

    def arm_session_earlier(self, deadline: float) -> None:
        self.session_deadline = min(deadline, self.session_deadline)

    def idle(self) -> None:
        pass

    def flush(self) -> None:
        while self.marked:
            self.marked = False
            if not self.aborted:
                self.written += b"".join(self.session.output())

    def take(self) -> bytes:
        """What was written since the last call."""
        data, self.written = self.written, b""
        return data


class Queued(Ticket):
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """One listener, one client connection, and as many upstream connections as are dialled."""

    def __init__(
        self,
        *routes: Route,
        target: Upstream | None = None,
        http2: bool = False,
        upstream_http2: bool = False,
        secure: bool = True,
    ) -> None:
        self.clock = Clock()
        self.log_lines: list[Exchange] = []
        self.refused: list[Fault] = []
        self.lines: list[Line] = []  # to upstreams, in the order of dialling
        self.connections: list[Any] = []
        self.pool: list[Any] = []
        self.ready = True
        self.refuse_dials: Fault | None = None
        self.hold_dials = False
        self.held: list[tuple[Any, Queued]] = []
        self._later: list[Callable[[], None]] = []
        self._upstream_http2 = upstream_http2
        self.target = target or upstream("app", endpoint())
        self._balancer = Balancer(self.target)
        self._budget = RetryBudget(0.2)
        self.listener = listener("tls") if secure else listener("plain", tls=False)
        site = host("a.test", listeners=("tls", "plain"))
        self.settings = settings(*(routes or (route("/"),)), hosts=(site,))
        self.front = Front(self.settings, self.listener, self)
        self.conn = ConnectionInfo("192.0.2.7", 5000, self.listener, secure=secure)
        if secure:
            self.conn.host = site
            self.conn.sni = "a.test"
        self.line = Line()
        self.session: Any = (H2Client if http2 else H1Client)(self.line, self.front, self.conn, self)
        self.line.session = self.session
        self.settle()

    # what the test does

    def settle(self) -> None:
        """End the turn."""
        while True:
            self.line.flush()
            for line in self.lines:
                line.flush()
            if not self._later:
                return
            later, self._later = self._later, []
            for callback in later:
                callback()

    def client(self, data: bytes) -> bytes:
        """The client sends `data`; what it gets."""
        self.session.on_data(data)
        self.settle()
        return self.line.take()

    def upstream(self, data: bytes, at: int = -1) -> bytes:
        """The upstream sends `data`; what the client gets."""
        self.lines[at].session.on_data(data)
        self.settle()
        return self.line.take()

    def sent(self, at: int = -1) -> bytes:
        """What the upstream got since the last call."""
        return self.lines[at].take()

    def pass_time(self, seconds: float) -> bytes:
        """Time passes, deadlines fire; what the client gets."""
        end = self.clock.now + seconds
        for _ in range(1000):
            lines = [
                line for line in (self.line, *self.lines) if line.session_deadline <= end and not (line.closed or line.aborted)
            ]
            if not lines:
                break
            line = min(lines, key=lambda each: each.session_deadline)
            self.clock.now = max(self.clock.now, line.session_deadline)
            line.session_deadline = inf
            line.session.on_deadline(self.clock.now)
            self.settle()
        self.clock.now = end
        return self.line.take()

    def dial_done(self) -> None:
        """A dial that was held succeeds."""
        waiter, ticket = self.held.pop(0)
        if not ticket.cancelled:
            waiter.connection_ready(self._connect())
        self.settle()

    # the context

    def _connect(self) -> Any:
        line = Line()
        connection: Any
        if self._upstream_http2:
            connection = H2Upstream(line, self, self.settings.limits, self.clock, secure=False)
        else:
            connection = H1Upstream(line, self)
        line.session = connection
        self.lines.append(line)
        self.connections.append(connection)
        return connection

    def source(self, upstream: Upstream) -> Stage:
        return self

    def pick(self, tried: frozenset[EndpointState], first: bool) -> EndpointState | None:
        if first:
            self._budget.request(self.clock.now)
        return self._balancer.pick(self.clock.now, 0.0, tried)

    def take(self, endpoint: EndpointState, fresh: bool) -> Any:
        if self.pool and not fresh:
            connection = self.pool[-1] if self._upstream_http2 else self.pool.pop()
            if connection.has_room():
                return connection
        return None if self.refuse_dials is not None or self.hold_dials else self._connect()

    def queue(self, endpoint: EndpointState, waiter: Any) -> Any:
        ticket = Queued()
        if self.refuse_dials is not None:
            fault = self.refuse_dials
            self._later.append(lambda: waiter.connection_failed(fault))
        else:
            self.held.append((waiter, ticket))
        return ticket

    def may_retry(self, exchange: Exchange, upstream: Upstream, fault: Fault, *, sent: bool, body_gone: bool) -> bool:
        return may_retry(
            fault, exchange.head.method, sent=sent, body_gone=body_gone, reused=True, attempts=exchange.tries,
            limit=upstream.retry.attempts, budget=self._budget, now=self.clock.now,
        )  # fmt: skip

    def new_request_id(self) -> bytes:
        return b"id"

    def nonce(self) -> bytes:
        return b"the sample nonce"

    def date(self) -> bytes:
        return b"Sat, 21 Nov 2026 12:00:00 GMT"

    def later(self, callback: Callable[[], None]) -> None:
        self._later.append(callback)

    def random(self) -> float:
        return 0.0

    def log_refused(self, conn: ConnectionInfo, fault: Fault) -> None:
        self.refused.append(fault)

    def log(self, exchange: Exchange) -> None:
        self.log_lines.append(exchange)

    # the keeper

    def released(self, connection: Any) -> None:
        if connection not in self.pool:
            self.pool.append(connection)

    def resized(self, connection: Any, room: int) -> None:
        pass

    def gone(self, connection: Any) -> None:
        if connection in self.pool:
            self.pool.remove(connection)
