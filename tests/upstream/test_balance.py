"""Which endpoint gets a request."""

from __future__ import annotations

from collections import Counter

import pytest

from edge.upstream.balance import EJECT_AFTER, EJECT_FIRST, EJECT_MOST, Balancer, EndpointState
from tests.builders import endpoint, upstream

STEPS = [step / 997 for step in range(997)]


def balancer(balance: str, *weights: int) -> Balancer:
    endpoints = [endpoint(f"http://e{number}:80", weight) for number, weight in enumerate(weights)]
    return Balancer(upstream("u", *endpoints, balance=balance))


def name(state: EndpointState | None) -> str:
    return state.endpoint.address.host if state is not None else "-"


def picks(made: Balancer, count: int = 12, now: float = 0.0) -> str:
    return " ".join(name(made.pick(now, STEPS[(number * 617) % 997])) for number in range(count))


@pytest.fixture(params=["round_robin", "least_conn", "random"])
def three(request: pytest.FixtureRequest) -> Balancer:
    return balancer(request.param, 1, 1, 1)


def test_smooth_weighted_round_robin() -> None:
    assert picks(balancer("round_robin", 5, 1, 1), 7) == "e0 e0 e1 e0 e2 e0 e0"


def test_least_connections_in_proportion_to_weight() -> None:
    made = balancer("least_conn", 3, 1)
    for _ in range(40):
        state = made.pick(0.0, 0.0)
        assert state is not None
        state.active += 1
    assert [state.active for state in made.states] == [30, 10]


def test_least_connections_takes_turns_among_equals() -> None:
    made = balancer("least_conn", 1, 1, 1)
    assert Counter(picks(made, 30).split()) == {"e0": 10, "e1": 10, "e2": 10}
    made.states[1].active = 1
    assert "e1" not in picks(made, 30).split()


def test_least_connections_keeps_to_the_weights_when_nothing_runs() -> None:
    assert Counter(picks(balancer("least_conn", 9, 1), 100).split()) == {"e0": 90, "e1": 10}


def test_random_is_the_better_of_two() -> None:
    made = balancer("random", 1, 1, 1)
    counts = Counter(name(made.pick(0.0, r)) for r in STEPS)
    assert all(280 < counts[one] < 390 for one in ("e0", "e1", "e2"))
    made.states[0].active = 100
    counts = Counter(name(made.pick(0.0, r)) for r in STEPS)
    assert counts["e0"] == 0, "the other of the two is always better"


def test_random_follows_weights() -> None:
    made = balancer("random", 6, 3, 1)
    counts = Counter(name(made.pick(0.0, r)) for r in STEPS)
    assert counts["e0"] > counts["e1"] > counts["e2"] > 0


@pytest.mark.parametrize("balance", ["round_robin", "least_conn", "random"])
def test_weight_0_gets_nothing(balance: str) -> None:
    made = balancer(balance, 1, 0, 1)
    assert set(picks(made, 50).split()) == {"e0", "e2"}
    assert balancer(balance, 0).pick(0.0, 0.5) is None


def test_unhealthy_and_ejected_ones_get_nothing(three: Balancer) -> None:
    three.states[0].healthy = False
    three.states[1].ejected_until = 10.0
    assert set(picks(three, now=9.9).split()) == {"e2"}
    assert set(picks(three, 60, now=10.0).split()) == {"e1", "e2"}


def test_all_serve_when_all_are_down(three: Balancer) -> None:
    for state in three.states:
        state.healthy = False
    assert set(picks(three, 60).split()) == {"e0", "e1", "e2"}


def test_what_was_tried_does_not_come_back(three: Balancer) -> None:
    first, second, third = three.states
    assert three.pick(0.0, 0.5, {first, second}) is third
    assert three.pick(0.0, 0.5, (first, second, third)) is None
    assert three.pick(0.0, 0.99, [third]) in (first, second)


def test_a_retry_does_not_go_to_one_that_is_down() -> None:
    made = balancer("least_conn", 1, 1)
    made.states[1].healthy = False
    assert made.pick(0.0, 0.5, [made.states[0]]) is None


def test_a_single_endpoint() -> None:
    made = balancer("least_conn", 1)
    made.states[0].healthy = False
    assert made.pick(0.0, 0.5) is made.states[0]
    assert made.pick(0.0, 0.5, [made.states[0]]) is None


def test_failures_in_a_row_eject_with_a_back_off() -> None:
    (state,) = balancer("least_conn", 1).states
    for _ in range(EJECT_AFTER - 1):
        assert not state.failed(100.0)
    assert state.is_available(100.0)
    assert state.failed(100.0)
    assert not state.is_available(100.0 + EJECT_FIRST - 0.1)
    assert not state.failed(100.5), "a late failure of the same spell changes nothing"
    assert state.is_available(100.0 + EJECT_FIRST)
    assert state.failed(110.0), "one more is enough"
    assert state.ejected_until == 110.0 + 2 * EJECT_FIRST
    now = 200.0
    for _ in range(40):
        state.failed(now)
        now = state.ejected_until
    state.failed(now)
    assert state.ejected_until == now + EJECT_MOST


def test_one_success_forgets_all() -> None:
    (state,) = balancer("least_conn", 1).states
    for _ in range(EJECT_AFTER):
        state.failed(0.0)
    state.succeeded()
    assert state.is_available(0.0)
    assert (state.failures, state.ejections) == (0, 0)
    state.healthy = False
    state.succeeded()
    assert not state.is_available(0.0), "active checks have their own verdict"


def test_a_state_shows_itself() -> None:
    assert repr(balancer("random", 1).states[0]) == "<EndpointState http://e0:80 active=0 healthy=True failures=0>"
