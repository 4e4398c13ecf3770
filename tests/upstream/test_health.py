"""Active checks: rise, fall, and when the next one is due."""

from __future__ import annotations

import pytest

from edge.settings.model import Health
from edge.upstream.health import HealthCheck


def run(results: str, rise: int = 2, fall: int = 3) -> str:
    """The verdict after each result: `+`/`-` in, `+`/`-` out, a `!` after each change."""
    check = HealthCheck(Health(path="/", rise=rise, fall=fall))
    shown = ""
    for result in results:
        changed = check.record(result == "+")
        shown += ("+" if check.healthy else "-") + ("!" if changed else "")
    return shown


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("+++", "+++"),
        ("--+--+", "++++++"),
        ("---", "++-!"),
        ("-----", "++-!--"),
        ("---++", "++-!-+!"),
        ("---+-+-++", "++-!-----+!"),
        ("---++---", "++-!-+!++-!"),
    ],
)
def test_verdicts(results: str, verdicts: str) -> None:
    assert run(results) == verdicts


def test_one_is_enough() -> None:
    assert run("-+-", rise=1, fall=1) == "-!+!-!"


def test_checks_are_spread() -> None:
    check = HealthCheck(Health(path="/", interval=10.0))
    assert check.delay(0.0) == 9.0
    assert check.delay(0.5) == 10.0
    assert check.delay(0.999) < 11.0


@pytest.mark.parametrize(
    ("status", "well"), [(199, False), (200, True), (204, True), (302, True), (399, True), (400, False), (503, False)]
)
def test_statuses(status: int, well: bool) -> None:
    assert HealthCheck.is_well(status) is well
