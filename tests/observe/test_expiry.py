"""How soon certificates expire, in steps that fit their lifetime."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.observe.expiry import certificates, expiring
from edge.settings.model import Certificate, Settings
from tests.builders import host, settings

DAY = 86_400.0


def certificate(days: float, left: float, name: str = "a") -> Certificate:
    """One with a lifetime of `days`, of which `left` are left at time 0."""
    return Certificate(
        name=name, chain_pem=b"", key_pem=b"", key_type="ecdsa", names=(name,), fingerprint=name,
        not_before=(left - days) * DAY, not_after=left * DAY,
    )  # fmt: skip


def with_certificates(*found: Certificate) -> Settings:
    return settings(hosts=tuple(replace(host(f"{one.name}.test"), certificates=(one,)) for one in found))


@pytest.mark.parametrize(
    ("days", "left", "step", "level"),
    [
        (90, 30, 0, ""),
        (90, 18.1, 0, ""),
        (90, 18, 1, "warning"),
        (90, 9, 2, "warning"),
        (90, 3.1, 2, "warning"),
        (90, 3, 3, "error"),
        (90, 0, 4, "error"),
        (90, -5, 4, "error"),
        (45, 9.1, 0, ""),
        (45, 2, 3, "error"),
        (6.7, 2, 0, ""),
        (6.7, 1.3, 1, "warning"),
        (6.7, 0.3, 3, "error"),
        (3650, 31, 0, ""),
        (3650, 30, 1, "warning"),
        (3650, 14, 2, "warning"),
    ],
)
def test_steps(days: float, left: float, step: int, level: str) -> None:
    found = expiring(with_certificates(certificate(days, left)), 0.0)
    assert [(one.step, one.level) for one in found] == ([(step, level)] if step else [])


def test_only_from_the_second_step_on_it_is_degraded() -> None:
    found = expiring(with_certificates(certificate(90, 18, "a"), certificate(90, 9, "b"), certificate(90, -1, "c")), 0.0)
    assert [(one.certificate.name, one.is_degraded) for one in found] == [("c", True), ("b", True), ("a", False)]


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (9, "expires in 9 days"),
        (1.5, "expires in 36 hours"),
        (0.05, "expires in 72 minutes"),
        (0.0001, "expires in less than a minute"),
        (-1, "expired 24 hours ago"),
        (-3, "expired 3 days ago"),
    ],
)
def test_sentences(left: float, text: str) -> None:
    (found,) = expiring(with_certificates(certificate(90, left)), 0.0)
    assert found.text == f"certificate a (a.test) {text}"


def test_one_certificate_of_many_hosts_is_told_once() -> None:
    one = certificate(90, 1)
    shared = settings(hosts=tuple(replace(host(f"{name}.test"), certificates=(one,)) for name in "edcba"))
    (found,) = expiring(shared, 0.0)
    assert found.text == "certificate a (e.test, d.test, c.test and 2 more) expires in 24 hours"
    assert [names for _, names in certificates(shared)] == [("e.test", "d.test", "c.test", "b.test", "a.test")]
