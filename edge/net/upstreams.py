"""The upstreams of one worker: which endpoint, which connection, and who waits for one.

`edge.upstream` decides; this module dials and keeps the queues. Whoever finds no connection gets a ticket in the
queue of its endpoint. A dial belongs to no ticket: whatever connection comes first, dialled or released, serves the
head of the queue, so nobody waits for a handshake while an idle connection is at hand. Queues are bounded, and a
ticket waits `connect_timeout` at most.

New settings are staged beside the present ones. An upstream that is equal in both keeps its group: connections, queues, health,
retry budget. The group of another one is retired: exchanges that began with it end with it, and it keeps nothing idle. Where
an endpoint stays although its upstream has changed, what is known of its health goes over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge.errors import Fault, Side
from edge.net.dial import Dial
from edge.net.health import Checker
from edge.net.timers import Timed
from edge.relay.context import Ticket, Waiter
from edge.relay.ports import UpstreamConnection
from edge.settings.identity import upstreams_of
from edge.settings.model import Limits, Scheme, Settings, Upstream
from edge.tls.client import PIN_MISMATCH, ClientContext
from edge.upstream.balance import Balancer, EndpointState
from edge.upstream.budget import RetryBudget
from edge.upstream.pool import Pool
from edge.wire.proxy import Origin, header_v1, header_v2

if TYPE_CHECKING:
    from edge.http.message import ConnectionInfo
    from edge.net.hub import Hub
    from edge.net.listener import Journal
    from edge.net.resolver import Resolver

__all__ = ["Group", "Place", "Upstreams"]

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
            self.pool.share(key, conn, _SHARED_ROOM, now)
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


class Group:
    """One upstream: the source of its connections."""

    __slots__ = ("_checkers", "_hub", "_journal", "_only", "balancer", "budget", "places", "pool", "upstream")

    def __init__(
        self, hub: Hub, resolver: Resolver, journal: Journal, upstream: Upstream, limits: Limits, before: Group | None = None
    ) -> None:
        """`before`: the group of the same name under the settings until now. Raises `edge.tls.trust.TrustError`."""
        self._hub = hub
        self._journal = journal
        self.upstream = upstream
        self.balancer = Balancer(upstream)
        self.budget = RetryBudget(upstream.retry.budget)
        self.pool: Pool[UpstreamConnection] = Pool(keepalive=upstream.keepalive, keepalive_timeout=upstream.keepalive_timeout)
        self.places = {state: Place(hub, resolver, journal, upstream, state, limits, self.pool) for state in self.balancer.states}
        self._only = self.balancer.states[0] if len(self.balancer.states) == 1 else None
        self._checkers: list[Checker] = []
        if before is not None:
            self._inherit(before)

    def _inherit(self, before: Group) -> None:
        known = {state.key: state for state in before.balancer.states}
        ours, theirs = self.upstream.health, before.upstream.health
        checked = ours is not None and theirs is not None and ours.path == theirs.path
        for state in self.balancer.states:
            if state.key in known:
                state.inherit(known[state.key], checked=checked)
                self.places[state].trouble = before.places[known[state.key]].trouble

    def pick(self, tried: frozenset[EndpointState], first: bool) -> EndpointState | None:
        hub = self._hub
        if first:
            self.budget.request(hub.now)
            if self._only is not None:
                return self._only
        return self.balancer.pick(hub.now, hub.random.random(), tried)

    def take(self, endpoint: EndpointState, fresh: bool) -> UpstreamConnection | None:
        return self.places[endpoint].take(fresh)

    def queue(self, endpoint: EndpointState, waiter: Waiter) -> Ticket:
        return self.places[endpoint].queue(waiter)

    def start(self, limits: Limits) -> None:
        """The settings in force have this upstream: check its endpoints. Idempotent. `limits` are those of the settings."""
        health = self.upstream.health
        for place in self.places.values():
            place.limits = limits
            if health is not None and len(self._checkers) < len(self.places):
                self._checkers.append(Checker(self._hub, place, health, self._journal))

    def retire(self) -> None:
        """The settings in force do not have this upstream: what is under way ends, nothing is kept for later."""
        for checker in self._checkers:
            checker.stop()
        self._checkers.clear()
        for conn in self.pool.retire():
            conn.close()

    def expire(self, now: float) -> None:
        """Close connections that were idle for too long."""
        for conn in self.pool.expire(now):
            conn.close()


class Upstreams:
    """All upstreams of the settings."""

    __slots__ = ("_groups", "_hub", "_journal", "_resolver", "_retired", "_staged")

    def __init__(self, hub: Hub, resolver: Resolver, journal: Journal, settings: Settings) -> None:
        self._hub = hub
        self._resolver = resolver
        self._journal = journal
        self._groups: dict[str, Group] = {}
        self._staged: dict[str, Group] | None = None
        self._retired: list[Group] = []
        for _ in self.stage(settings):
            pass
        self.commit(settings)

    # --- generations ---

    def stage(self, settings: Settings) -> Iterator[None]:
        """Make the groups of other settings, one a step; `group` knows them from the first step until `commit` or `abandon`.

        Raises `edge.tls.trust.TrustError` for an upstream whose TLS cannot be used.
        """
        wanted = upstreams_of(settings)
        self._resolver.want(_names(self._groups.values()) | _names(wanted.values()))
        self._staged = staged = {}
        for name, upstream in wanted.items():
            present = self._groups.get(name)
            if present is not None and present.upstream == upstream:
                staged[name] = present
            else:
                staged[name] = Group(self._hub, self._resolver, self._journal, upstream, settings.limits, present)
                yield

    def commit(self, settings: Settings) -> None:
        """The staged groups are the groups from now on."""
        assert self._staged is not None
        before, self._groups, self._staged = self._groups, self._staged, None
        self._resolver.ask(settings.server.resolver)
        self._resolver.want(_names(self._groups.values()))
        for name, group in before.items():
            if self._groups.get(name) is not group:
                group.retire()
                self._retired.append(group)
        for group in self._groups.values():
            group.start(settings.limits)

    def abandon(self) -> None:
        """Forget the staged groups. Idempotent."""
        self._staged = None
        self._resolver.want(_names(self._groups.values()))

    # --- in use ---

    def group(self, upstream: Upstream) -> Group:
        """The group of exactly this upstream.

        A stream whose handshake outlasted its settings may ask for one that is gone: it gets a group without a future.
        """
        for groups in (self._groups, self._staged or {}):
            found = groups.get(upstream.name)
            if found is not None and (found.upstream is upstream or found.upstream == upstream):
                return found
        for group in self._retired:
            if group.upstream == upstream:
                return group
        made = Group(self._hub, self._resolver, self._journal, upstream, Limits())
        made.retire()
        self._retired.append(made)
        return made

    def places(self) -> list[Place]:
        return [place for group in self._groups.values() for place in group.places.values()]

    def expire(self, now: float) -> None:
        """Close connections that were idle for too long."""
        for group in self._groups.values():
            group.expire(now)
        if self._retired:
            for group in self._retired:
                group.expire(now)
            self._retired = [group for group in self._retired if not group.pool.is_empty]

    def close(self) -> None:
        """Close what carries no request."""
        for group in (*self._groups.values(), *self._retired):
            for conn in group.pool.clear():
                conn.close()


def _names(upstreams: Iterable[Group | Upstream]) -> set[str]:
    """What there is to resolve."""
    found: set[str] = set()
    for each in upstreams:
        upstream = each.upstream if isinstance(each, Group) else each
        found.update(endpoint.address.host for endpoint in upstream.endpoints if endpoint.weight and not endpoint.address.path)
    return found
