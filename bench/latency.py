"""Durations and what is said of them: percentiles with no more digits than the samples carry, and the points of a latency plot.

A percentile is given only when at least five samples lie beyond it: p99 takes 500 samples, p99.9 takes 5,000. Fewer would make
the figure a single handshake's bad luck. Where there are too few the answer is None, and the reports say "too few samples".

Coordinated omission: a client that waits for an answer before it sends the next request measures a stalled server once
instead of for everybody who would have come meanwhile. In an open loop each handshake therefore has a time at which it
was due, by the rate alone, and its duration counts from there, however late the client got to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PERCENTILES", "Latency", "curve", "percentile"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_BEYOND = 5
_CURVE = (0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The `share` (0 to 100) percentile of `ordered` (ascending), interpolated; None when there are too few samples."""
    if not ordered or (share > 50 and len(ordered) * (100 - share) < _BEYOND * 100 - 1e-6):
        return None
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def curve(ordered: Sequence[float]) -> list[tuple[float, float]]:
    """Points (percentile, value) for a plot on the axis 1 / (1 - p), as far as the samples carry; the last is the greatest."""
    points = []
    for share in _CURVE:
        value = percentile(ordered, share)
        if value is None:
            break
        points.append((float(share), value))
    return points


@dataclass(frozen=True, slots=True)
class Latency:
    """Durations in seconds, summed up."""

    count: int
    least: float
    mean: float
    greatest: float
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """None without samples."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        shares = [percentile(ordered, share) for share in PERCENTILES]
        return cls(len(ordered), ordered[0], sum(ordered) / len(ordered), ordered[-1], *shares)

    def milliseconds(self) -> dict[str, Any]:
        """For JSON: the same in milliseconds, to three digits behind the point."""
        names = ("least", "mean", "greatest", "p50", "p90", "p99", "p999")
        values = {name: getattr(self, name) for name in names}
        return {"count": self.count} | {name: None if value is None else round(value * 1e3, 3) for name, value in values.items()}
