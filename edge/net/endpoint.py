"""One endpoint of one upstream: its connections and the queue of those who wait for one.

Whoever finds no connection gets a ticket in the queue. A dial belongs to no ticket: whatever connection comes first, dialled
or released, serves the head of the queue, so nobody waits for a handshake while an idle connection is at hand. A connection that
begins by naming its client (the PROXY protocol) is the exception: it is dialled for that client and is nobody else's. Queues
are bounded, and a ticket waits `connect_timeout` and a second at most.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edge.errors import Fault, Side
from edge.net.dial import Dial
from edge.net.timers import Timed
from edge.relay.context import Ticket, Waiter
from edge.relay.ports import UpstreamConnection
from edge.settings.model import Limits, Scheme, Upstream
from edge.tls.client import PIN_MISMATCH, ClientContext
from edge.upstream.balance import EndpointState
from edge.upstream.pool import Pool
from edge.wire.proxy import Origin, header_v1, header_v2

if TYPE_CHECKING:
    from edge.http.message import ConnectionInfo
    from edge.net.hub import Hub
    from edge.net.listener import Journal
    from edge.net.resolver import Resolver

__all__ = ["Place"]

_MOST_WAITING = 16_384  # tickets of one endpoint
_TELL_AGAIN = 10.0  # seconds between two lines about the same endpoint's pins
_SHARED_ROOM = 100  # requests at a time on an h2 connection until its peer says otherwise


class _Wait(Ticket, Timed):
    """A ticket with its deadline."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: Waiter, hub: Hub, patience: float) -> None:
        super().__init__(hub.wheel)
        self.waiter: Waiter | None = waiter
        self.arm(hub.now + patience)

    def cancel(self) -> None:
        self.waiter = None

    def take(self) -> Waiter | None:
        """The waiter, if it still waits; it is served now."""
        waiter, self.waiter = self.waiter, None
        self.deadline = float("inf")
        return waiter

    def on_deadline(self, now: float) -> None:
        waiter = self.take()
        if waiter is not None:
            waiter.connection_failed(
                Fault(Side.UPSTREAM, "connect-queue-timeout", detail="no connection became free", status=503)
            )


class Place:
    """One endpoint of one upstream: its connections and its queue. It is the keeper of those connections."""

    __slots__ = (
        "_context",
        "_dialling",
        "_hub",
        "_journal",
        "_multiplexed",
        "_resolver",
        "_pins_told_again",
        "_waiting",
        "hits",
        "limits",
        "misses",
        "pool",
        "state",
        "trouble",
        "upstream",
    )

    def __init__(
        self, hub: Hub, resolver: Resolver, journal: Journal, upstream: Upstream, state: EndpointState, limits: Limits,
        pool: Pool[UpstreamConnection],
    ) -> None:  # fmt: skip
        self._hub = hub
        self._resolver = resolver
        self._journal = journal
        self.upstream = upstream
        self.state = state
        self.limits = limits
        self.pool = pool
        self._context = None
        if state.endpoint.scheme.over_tls and upstream.tls is not None:
            self._context = ClientContext(upstream.tls, state.endpoint.address.host)
        self._multiplexed = state.endpoint.scheme is Scheme.H2C
        self._dialling = 0
        self._pins_told_again = 0.0
        self._waiting: deque[_Wait] = deque()
        self.trouble = ""  # why connecting or a check failed last, for people
        self.hits = 0  # who asked for a connection and got one at once
        self.misses = 0  # and who did not
        if not state.endpoint.address.path:
            resolver.watch(state.endpoint.address.host)

    def take(self, fresh: bool) -> UpstreamConnection | None:
        """A connection that is at hand. `fresh`: not one that was idle, for those may all be stale."""
        if fresh and not self._multiplexed:
            return None
        conn = self.pool.take(self.state.key, self._hub.now)
        if conn is None:
            return None
        if self._multiplexed and conn.multiplexed and not conn.has_room():
            self.pool.give(self.state.key, conn, self._hub.now)
            return None
        self.hits += 1
        return conn

    def queue(self, waiter: Waiter) -> Ticket:
        """A place in the queue, when there is no connection at hand."""
        if self.upstream.send_proxy:
            return self._dial_for(waiter)
        self.misses += 1
        ticket = _Wait(waiter, self._hub, self.upstream.connect_timeout + 1.0)
        self._waiting.append(ticket)
        if len(self._waiting) > _MOST_WAITING:
            self._prune()
        self._dial_for_waiting()
        return ticket

    def _dial_for(self, waiter: Waiter) -> Ticket:
        """A connection that begins by naming the client belongs to nobody else, so it is not for the queue."""
        ticket = _Wait(waiter, self._hub, self.upstream.connect_timeout + 1.0)
        key = self.state.key
        if not self.pool.may_open(key, self.upstream.max_connections):
            self._hub.loop.call_soon(self._refuse, ticket)
            return ticket
        self.pool.begin(key)

        def done(dial: Dial, conn: UpstreamConnection | None, fault: Fault | None) -> None:
            self._note(dial, conn, fault)
            waiter = ticket.take()
            if conn is None:
                if waiter is not None:
                    assert fault is not None
                    waiter.connection_failed(fault)
            elif waiter is not None:
                waiter.connection_ready(conn)
            else:
                conn.close()

        greeting = _greeting(self.upstream.send_proxy, waiter.conn)
        Dial(
            self._hub, self._resolver, self.upstream, self.state.endpoint, self._context, self.limits, self, done, greeting
        )  # fmt: skip
        return ticket

    @property
    def waiting(self) -> int:
        """Tickets in the queue."""
        return sum(ticket.waiter is not None for ticket in self._waiting)

    def _prune(self) -> None:
        """Drop tickets that nobody holds any more; refuse the oldest when there are still too many."""
        self._waiting = deque(ticket for ticket in self._waiting if ticket.waiter is not None)
        while len(self._waiting) > _MOST_WAITING:
            self._hub.loop.call_soon(self._refuse, self._waiting.popleft())

    def _refuse(self, ticket: _Wait) -> None:
        self._hub.turn()
        waiter = ticket.take()
        if waiter is not None:
            waiter.connection_failed(Fault(Side.UPSTREAM, "connect-queue-full", status=503))

    def _dial_for_waiting(self) -> None:
        room = _SHARED_ROOM if self._multiplexed else 1
        key = self.state.key
        while len(self._waiting) > self._dialling * room and self.pool.may_open(key, self.upstream.max_connections):
            self.pool.begin(key)
            self._dialling += 1
            Dial(self._hub, self._resolver, self.upstream, self.state.endpoint, self._context, self.limits, self, self._dialled)

    def _dialled(self, dial: Dial, conn: UpstreamConnection | None, fault: Fault | None) -> None:
        self._dialling -= 1
        self._note(dial, conn, fault)
        if conn is None:
            assert fault is not None
            room = _SHARED_ROOM if self._multiplexed else 1
            while len(self._waiting) > self._dialling * room:
                waiter = self._waiting.popleft().take()
                if waiter is not None:
                    waiter.connection_failed(fault)
            return
        self.released(conn)
        if conn.multiplexed and self._waiting:  # it carries less than was hoped for
            self._dial_for_waiting()

    def _note(self, dial: Dial, conn: UpstreamConnection | None, fault: Fault | None) -> None:
        """What a dial that is over says of the endpoint, and the connection that came of it."""
        self._journal.dialled(self.upstream, self.state.endpoint, fault, dial.version, resumed=dial.resumed)
        now, key = self._hub.now, self.state.key
        if dial.unpinned:
            self._tell_of_pins("report", dial.unpinned)
        elif fault is not None and fault.kind == PIN_MISMATCH:
            self._tell_of_pins("enforce", fault.detail)
        if conn is None:
            self.pool.failed(key)
            self.trouble = str(fault)
            if self.state.failed(now):
                self._journal.event(
                    "upstream-unwell", upstream=self.upstream.name, endpoint=self.state.endpoint.url, detail=str(fault)
                )
            return
        self.state.succeeded()
        if conn.multiplexed:
            self._multiplexed = True
            self.pool.share(key, conn, conn.room, now)
        else:
            self.pool.opened(key, conn)

    def _tell_of_pins(self, mode: str, seen: str) -> None:
        """A chain without a pinned key: somebody in between, or keys that changed. Not for each of a thousand connections."""
        self._journal.unpinned(self.upstream, mode)
        if self._hub.now >= self._pins_told_again:
            self._pins_told_again = self._hub.now + _TELL_AGAIN
            self._journal.event(
                PIN_MISMATCH, upstream=self.upstream.name, endpoint=self.state.endpoint.url, mode=mode, detail=seen
            )

    def _serve(self, conn: UpstreamConnection) -> UpstreamConnection | None:
        """Give a connection that counts as taken to whoever waits. Returns the one that nobody waits for, if there is one."""
        while self._waiting and conn.has_room():
            waiter = self._waiting.popleft().take()
            if waiter is None:
                continue
            waiter.connection_ready(conn)
            more = self.pool.take(self.state.key, self._hub.now) if conn.multiplexed and self._waiting else None
            if more is None:
                return None
            conn = more
        return conn

    # --- as the keeper of the connections ---

    def released(self, connection: UpstreamConnection) -> None:
        left = self._serve(connection) if self._waiting else connection
        if left is not None:
            surplus = self.pool.give(self.state.key, left, self._hub.now)
            if surplus is not None:
                surplus.close()

    def resized(self, connection: UpstreamConnection, room: int) -> None:
        self.pool.resize(self.state.key, connection, room)

    def gone(self, connection: UpstreamConnection) -> None:
        self.pool.remove(self.state.key, connection)
        if self._waiting:
            self._hub.loop.call_soon(self._redial)

    def _redial(self) -> None:
        self._hub.turn()
        self._prune()
        self._dial_for_waiting()


def _greeting(version: str, conn: ConnectionInfo | None) -> bytes:
    """The PROXY header for a client's connection; for one of our own (a health check) it says so."""
    origin = Origin(conn.peer, conn.peer_port, conn.local, conn.local_port) if conn is not None else Origin("", 0, "", 0)
    return header_v1(origin) if version == "v1" else header_v2(origin)
