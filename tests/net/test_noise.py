"""A budget is for a second of a connection, never for the whole of it."""

from __future__ import annotations

from edge.net.noise import Noise

BUDGETS = 5, 100


def test_each_has_its_own_budget() -> None:
    noise = Noise()
    assert noise.excess(5, 100, BUDGETS, 10.0) is None
    assert noise.excess(5, 101, BUDGETS, 10.5) == ("empty-records", "101 in a second, 101 in all")
    noise = Noise()
    assert noise.excess(6, 0, BUDGETS, 10.0) == ("tls-disturbances", "6 in a second, 6 in all")


def test_long_connections_are_no_attack() -> None:
    noise = Noise()
    for second in range(1, 1000):
        assert noise.excess(5 * second, 100 * second, BUDGETS, 10.0 + second) is None


def test_a_second_begins_with_the_noise() -> None:
    noise = Noise()
    assert noise.excess(3, 0, BUDGETS, 10.9) is None
    assert noise.excess(6, 0, BUDGETS, 11.1) == ("tls-disturbances", "6 in a second, 6 in all")


def test_another_budget_holds_at_once() -> None:
    noise = Noise()
    assert noise.excess(0, 90, BUDGETS, 10.0) is None
    assert noise.excess(0, 91, (5, 50), 10.1) is not None
