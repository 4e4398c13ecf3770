from __future__ import annotations

import re

import pytest

from edge.settings.units import KINDS, bytes_a_second, meant, seconds, share, size, spoken_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("250ms", 0.25), ("10s", 10.0), ("1.5m", 90.0), ("2h", 7200.0), ("365d", 31_536_000.0), ("off", None)],
)
def test_durations_are_seconds(text: str, value: float | None) -> None:
    assert seconds(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(("text", "value"), [("1B", 1), ("8KiB", 8192), ("1.5MiB", 1_572_864), ("1GiB", 1 << 30), ("off", None)])
def test_sizes_are_whole_bytes(text: str, value: int | None) -> None:
    assert size(text) == value


def test_a_tiny_size_is_never_zero() -> None:
    assert size("0.1B") == 1


def test_rates_and_shares() -> None:
    assert bytes_a_second("500B/s") == 500.0
    assert bytes_a_second("2KiB/s") == 2048.0
    assert bytes_a_second("off") is None
    assert share("20%") == pytest.approx(0.2)
    assert share("off") is None


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    "text", ["", "0", "0s", "0KiB", "0%", "0B/s", "-1s", "1 s", "s", "1e3s", "1.s", "٣s", "1s\n", "30", "OFF", "0.0s"]
)
def test_patterns_refuse(kind: str, text: str) -> None:
    assert re.fullmatch(KINDS[kind].pattern(off=True), text) is None


@pytest.mark.parametrize(("kind", "text"), [("duration", "30s"), ("size", "8KiB"), ("byte-rate", "500B/s"), ("share", "100%")])
def test_patterns_accept(kind: str, text: str) -> None:
    assert re.fullmatch(KINDS[kind].pattern(off=False), text)
    assert re.fullmatch(KINDS[kind].pattern(off=False), "off") is None
    assert re.fullmatch(KINDS[kind].pattern(off=True), "off")


@pytest.mark.parametrize(
    ("kind", "text", "ours"),
    [
        ("duration", "30 s", "30s"),
        ("duration", "5 Minutes", "5m"),
        ("duration", "1.5 hours", "1.5h"),
        ("duration", "86400", "1d"),
        ("duration", "90", "90s"),
        ("duration", "1w", ""),
        ("duration", "soon", ""),
        ("size", "10m", "10MiB"),
        ("size", "1 gb", "1GiB"),
        ("size", "512", "512B"),
        ("size", "10s", ""),
        ("byte-rate", "1 MB/s", "1MiB/s"),
        ("byte-rate", "500 B", "500B/s"),
        ("rate", "20", "20/s"),
        ("share", "20", "20%"),
        ("size", "0k", ""),
    ],
)
def test_other_spellings_are_understood(kind: str, text: str, ours: str) -> None:
    assert meant(kind, text) == ours
    assert not ours or re.fullmatch(KINDS[kind].pattern(off=False), ours)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(60, "60s"), (120, "2m"), (3600, "1h"), (5400, "90m"), (31_536_000, "365d"), (1.5, "1.5s"), (4001, "4001s")],
)
def test_seconds_are_spoken_in_the_unit_that_suits(amount: float, text: str) -> None:
    assert spoken_seconds(amount) == text
    assert seconds(text) == amount
