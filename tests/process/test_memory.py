"""When memory is given back."""

from __future__ import annotations

from edge.process.memory import Tidy


def test_after_a_burst_and_not_within_it() -> None:
    trims: list[int] = []
    tidy = Tidy(lambda: trims.append(1))
    assert not tidy.look(150, 150)
    assert not tidy.look(900, 900)
    assert tidy.look(905, 905)
    assert not tidy.look(910, 910)
    assert trims == [1]


def test_when_many_have_gone() -> None:
    tidy = Tidy(lambda: None)
    tidy.look(1000, 1000)
    assert tidy.look(1000, 1000)
    assert not tidy.look(1000, 900)
    assert tidy.look(1000, 100)
    assert not tidy.look(1000, 90)


def test_a_gateway_with_little_to_do_is_left_alone() -> None:
    tidy = Tidy(lambda: None)
    assert not any(tidy.look(second, 1) for second in range(150))


def test_the_system_takes_it() -> None:
    tidy = Tidy()
    tidy.look(1000, 0)
    assert tidy.look(1000, 0)
