"""Events about certificates that expire: one at each step."""

from __future__ import annotations

from typing import Any

import pytest

from edge.control import expiry as module
from edge.control.expiry import Expiry
from tests.observe.test_expiry import DAY, certificate, with_certificates


class Plane:
    def __init__(self) -> None:
        self.settings = with_certificates(certificate(90, 20))
        self.log = self
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.changed: list[Any] = []

    def on_settings(self, callback: Any) -> None:
        self.changed.append(callback)

    def event(self, name: str, **fields: Any) -> None:
        self.said.append((name, fields))

    def flush(self) -> None:
        pass


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    return clock


def test_each_step_is_told_once(now: list[float]) -> None:
    plane: Any = Plane()
    expiry = Expiry(plane)
    for day in range(25):
        now[0] = day * DAY
        expiry.look()
        expiry.look()
    assert [(name, fields["level"], fields["detail"].partition(") ")[2]) for name, fields in plane.said] == [
        ("certificate-expires", "warning", "expires in 18 days"),
        ("certificate-expires", "warning", "expires in 9 days"),
        ("certificate-expires", "error", "expires in 3 days"),
        ("certificate-expires", "error", "expired less than a minute ago"),
    ]
    assert plane.said[0][1]["not_after"] == "1970-01-21T00:00:00Z"


def test_steps_that_were_slept_through_are_one(now: list[float]) -> None:
    plane: Any = Plane()
    expiry = Expiry(plane)
    now[0] = 19 * DAY
    expiry.look()
    assert [fields["level"] for _, fields in plane.said] == ["error"]


def test_a_renewed_certificate_begins_anew(now: list[float]) -> None:
    plane: Any = Plane()
    expiry = Expiry(plane)
    now[0] = 12 * DAY
    expiry.look()
    plane.settings = with_certificates(certificate(90, 100, "renewed"))
    plane.changed[0]()
    assert len(plane.said) == 1
    now[0] = 83 * DAY
    expiry.look()
    assert [fields["certificate"] for _, fields in plane.said] == ["a", "renewed"]
