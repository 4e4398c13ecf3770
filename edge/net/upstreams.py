"""The upstreams of one worker: which endpoint, which connection, and who waits for one.

`edge.upstream` decides; an endpoint's connections and its queue are those of `edge.net.endpoint`.

New settings are staged beside the present ones. An upstream that is equal in both keeps its group: connections, queues, health,
retry budget. The group of another one is retired: exchanges that began with it end with it, and it keeps nothing idle. Where
an endpoint stays although its upstream has changed, what is known of its health goes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge.net.endpoint import Place
from edge.net.health import Checker
from edge.relay.context import Ticket, Waiter
from edge.relay.ports import UpstreamConnection
from edge.settings.identity import upstreams_of
from edge.settings.model import Limits, Settings, Upstream
from edge.upstream.balance import Balancer, EndpointState
from edge.upstream.budget import RetryBudget
from edge.upstream.pool import Pool

if TYPE_CHECKING:
    from edge.net.hub import Hub
    from edge.net.listener import Journal
    from edge.net.resolver import Resolver

__all__ = ["Group", "Upstreams"]


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
