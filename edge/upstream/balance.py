"""Which endpoint of an upstream gets a request.

An endpoint is *available* when its active checks (if there are any) call it healthy and it is not ejected. Ejection is
passive: `EJECT_AFTER` failures to connect in a row put an endpoint aside for a back-off that doubles up to `EJECT_MOST`;
afterwards one more failure is enough, and one success forgets all.

When nothing is available at all, everything is (panic): a check that is wrong about every endpoint must not take the
service down, and one that is right loses nothing. Endpoints in `exclude` (already tried for this request) do not come back.

Algorithms, all by weight; an endpoint of weight 0 gets nothing: `round_robin` is nginx's smooth one (no bursts to the
heavy one), `least_conn` takes the least busy in proportion, and among equals by round robin (most upstreams are idle most
of the time, and weights hold then too), `random` is the better of two random ones (Mitzenmacher, The Power of Two Choices,
2001).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edge.settings.model import Endpoint, Upstream
from edge.upstream.identity import PeerKey, key_for

__all__ = ["EJECT_AFTER", "EJECT_FIRST", "EJECT_MOST", "Balancer", "EndpointState"]

EJECT_AFTER = 3  # failures to connect in a row
EJECT_FIRST = 2.0  # seconds
EJECT_MOST = 60.0  # seconds


class EndpointState:
    """What one worker knows about one endpoint."""

    __slots__ = ("active", "current", "ejected_until", "ejections", "endpoint", "failures", "healthy", "key", "tally", "weight")

    def __init__(self, endpoint: Endpoint, key: PeerKey) -> None:
        self.endpoint = endpoint
        self.key = key
        self.weight = endpoint.weight
        self.active = 0  # requests that it is working on; the relay counts
        self.healthy = True  # the active checks' verdict
        self.failures = 0  # to connect, in a row
        self.ejections = 0  # in a row
        self.ejected_until = 0.0
        self.current = 0  # smooth round robin's score
        self.tally: object = None  # of whoever counts requests by endpoint

    def is_available(self, now: float) -> bool:
        return self.healthy and now >= self.ejected_until

    def failed(self, now: float) -> bool:
        """A connection could not be made. True when this ejects the endpoint."""
        self.failures += 1
        if self.failures < EJECT_AFTER or now < self.ejected_until:
            return False
        self.ejected_until = now + min(EJECT_MOST, EJECT_FIRST * 2 ** min(self.ejections, 10))
        self.ejections += 1
        return True

    def succeeded(self) -> None:
        """A connection was made, or a request answered."""
        self.failures = 0
        self.ejections = 0
        self.ejected_until = 0.0

    def inherit(self, known: EndpointState, *, checked: bool) -> None:
        """Begin with what was known of the same endpoint under other settings. `checked`: its verdict still means the same."""
        if checked:
            self.healthy = known.healthy
        self.failures, self.ejections, self.ejected_until = known.failures, known.ejections, known.ejected_until

    def __repr__(self) -> str:
        return f"<EndpointState {self.endpoint.url} active={self.active} healthy={self.healthy} failures={self.failures}>"


class Balancer:
    """Chooses among the endpoints of one upstream."""

    __slots__ = ("_choose", "states")

    def __init__(self, upstream: Upstream) -> None:
        self.states = tuple(
            EndpointState(endpoint, key_for(endpoint, upstream)) for endpoint in upstream.endpoints if endpoint.weight
        )
        self._choose = {"round_robin": _round_robin, "least_conn": _least_conn, "random": _random}[upstream.balance]

    def pick(self, now: float, r: float, exclude: Collection[EndpointState] = ()) -> EndpointState | None:
        """An endpoint for a request, or None when there is none that was not tried. `r` is a random number, 0 ≤ r < 1."""
        states = self.states
        if len(states) == 1:
            return states[0] if states[0] not in exclude else None
        usable: Sequence[EndpointState] = [state for state in states if state.healthy and now >= state.ejected_until]
        if not usable:
            usable = states
        if exclude:
            usable = [state for state in usable if state not in exclude]
        if len(usable) < 2:
            return usable[0] if usable else None
        return self._choose(usable, r)


def _round_robin(states: Sequence[EndpointState], r: float) -> EndpointState:
    best = states[0]
    total = 0
    for state in states:
        state.current += state.weight
        total += state.weight
        if state.current > best.current:
            best = state
    best.current -= total
    return best


def _least_conn(states: Sequence[EndpointState], r: float) -> EndpointState:
    best = states[0]
    equals = [best]
    for state in states[1:]:
        mine, least = state.active * best.weight, best.active * state.weight
        if mine < least:
            best = state
            equals = [state]
        elif mine == least:
            equals.append(state)
    return _round_robin(equals, r) if len(equals) > 1 else best


def _random(states: Sequence[EndpointState], r: float) -> EndpointState:
    total = sum(state.weight for state in states)
    at = r * total
    first = _at_weight(states, at)
    others = [state for state in states if state is not first]
    # what is left of r below the choice of the first one is as random as r was
    rest = at % 1.0
    second = _at_weight(others, rest * (total - first.weight))
    return second if second.active * first.weight < first.active * second.weight else first


def _at_weight(states: Sequence[EndpointState], at: float) -> EndpointState:
    for state in states[:-1]:
        at -= state.weight
        if at < 0:
            return state
    return states[-1]
