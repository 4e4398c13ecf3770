"""Budgets of handshakes: rates, bursts, debts, and how many addresses are remembered."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.policy.admission import Budget, address_key

A, B = b"\x01\x02\x03\x04", b"\x05\x06\x07\x08"


def six(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


def test_ipv6_counts_by_64_and_ipv4_by_address() -> None:
    assert address_key(A) == A
    assert address_key(six("2001:db8:1:2::1")) == address_key(six("2001:db8:1:2:ffff::9"))
    assert address_key(six("2001:db8:1:2::1")) != address_key(six("2001:db8:1:3::1"))
    assert address_key(six("::ffff:1.2.3.4")) == A


def test_a_burst_and_then_the_rate() -> None:
    budget = Budget(rate=10.0, burst=0.5)
    assert [budget.spend(A, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.spend(B, 100.0)
    assert not budget.spend(A, 100.05)
    assert budget.spend(A, 100.11)
    assert not budget.spend(A, 100.11)
    assert [budget.spend(A, 200.0) for _ in range(6)] == [True] * 5 + [False]


def test_one_may_always_come() -> None:
    budget = Budget(rate=0.1, burst=1.0)
    assert budget.spend(A, 5.0)
    assert not budget.spend(A, 14.9)
    assert budget.spend(A, 15.1)


def test_what_has_happened_is_charged_but_the_debt_is_bounded() -> None:
    budget = Budget(rate=10.0, burst=0.5)
    assert budget.has(A, 0.0)
    for _ in range(1000):
        budget.charge(A, 10.0)
    assert not budget.has(A, 10.0)
    assert budget.has(A, 10.9)


def test_so_many_addresses_and_no_more() -> None:
    budget = Budget(rate=1.0, burst=1.0, most=10)
    for number in range(100):
        budget.spend(number.to_bytes(4, "big"), 1.0)
    assert len(budget) == 10
    budget.forget(3.1)
    budget.forget(5.2)
    assert len(budget) == 0


def test_a_debt_is_not_forgotten_before_it_is_paid() -> None:
    budget = Budget(rate=1.0, burst=4.0)
    for _ in range(9):
        budget.charge(A, 10.0)
    for tenth in range(100, 120):
        budget.forget(tenth / 10)
        assert not budget.has(A, tenth / 10)
    budget.forget(12.0)
    assert budget.has(A, 12.1)


def test_an_address_more_costs_the_same_however_many_there_are() -> None:
    """A table of one kind of these took 40 microseconds for each, once it was full."""
    budget = Budget(rate=1.0, burst=1000.0, most=1 << 14)
    began = time.process_time()
    for number in range(1 << 17):
        budget.charge(number.to_bytes(8, "big"), 1.0)
    assert time.process_time() - began < 1.0
    assert len(budget) <= 1 << 14


@given(st.lists(st.floats(0, 2), max_size=200), st.floats(0.5, 50), st.floats(0.1, 10))
def test_never_more_than_rate_and_burst(gaps: list[float], rate: float, burst: float) -> None:
    budget = Budget(rate, burst)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += budget.spend(A, now)
    assert taken <= now * rate + max(1.0, burst * rate) + 1e-6


@pytest.mark.parametrize("burst", [0.0, 0.01])
def test_a_burst_shorter_than_one_event_is_one_event(burst: float) -> None:
    budget = Budget(rate=1.0, burst=burst)
    assert budget.spend(A, 1.0)
    assert not budget.spend(A, 1.5)
