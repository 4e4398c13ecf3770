"""Retries are a share of the last ten seconds' requests, and ten always."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.upstream.budget import ALWAYS, RetryBudget


def taken(budget: RetryBudget, now: float, tries: int) -> int:
    return sum(budget.take(now) for _ in range(tries))


def test_ten_are_always_allowed() -> None:
    assert taken(RetryBudget(0.2), 5.0, 100) == ALWAYS
    assert taken(RetryBudget(0.0), 5.0, 100) == ALWAYS


def test_a_share_of_the_requests() -> None:
    budget = RetryBudget(0.2)
    for number in range(1000):
        budget.request(100.0 + number / 1000)
    assert taken(budget, 101.0, 1000) == 200


def test_the_window_slides() -> None:
    budget = RetryBudget(0.2)
    for _ in range(1000):
        budget.request(100.5)
    assert taken(budget, 105.0, 150) == 150
    assert taken(budget, 109.9, 150) == 50
    assert taken(budget, 110.0, 1) == 0, "the requests are forgotten, the retries are not"
    assert taken(budget, 114.9, 1) == 0
    assert taken(budget, 118.9, 1) == 0
    assert taken(budget, 119.0, 100) == ALWAYS


def test_a_long_silence() -> None:
    budget = RetryBudget(0.5)
    for _ in range(100):
        budget.request(1.0)
    assert taken(budget, 1e9, 100) == ALWAYS


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=200))
def test_it_counts_what_a_list_would_count(events: list[tuple[float, bool]]) -> None:
    budget = RetryBudget(0.5)
    requests: list[int] = []
    retries: list[int] = []
    now = 1000.0
    for gap, is_request in events:
        now += gap
        second = int(now)
        if is_request:
            budget.request(now)
            requests.append(second)
        else:
            recent = [sum(1 for at in seen if at > second - 10) for seen in (requests, retries)]
            allowed = recent[1] < max(ALWAYS, int(recent[0] * 0.5))
            assert budget.take(now) is allowed
            if allowed:
                retries.append(second)
