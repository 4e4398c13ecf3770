"""`edge top`: what the running gateway does now: requests, handshakes, failures and latency by the second.

Two readings of the counters, `--interval` apart, make one picture. On a terminal it goes on until Ctrl-C; elsewhere, and with
`--json`, there is one picture.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from edge.cli.ask import ask
from edge.cli.terminal import Exit, answer, paint, print_json, table
from edge.cli.watching import watch
from edge.observe.metrics import METRICS

__all__ = ["Picture", "run"]

_MOST_ROWS: Final = 15
Readings = dict[str, list[Any]]


class Picture:
    """What happened between two readings of the counters, `seconds` apart. After a restart they begin anew."""

    def __init__(self, old: Readings, new: Readings, seconds: float) -> None:
        self._old = old
        self._new = new
        self._seconds = seconds

    def _series(self, name: str) -> Iterator[tuple[dict[str, str], Any, Any]]:
        """Labels, value before and value now, of each series."""
        labels = METRICS[name].labels
        before = {tuple(values): value for values, value in self._old.get(name, [])}
        for values, value in self._new.get(name, []):
            yield dict(zip(labels, values, strict=True)), before.get(tuple(values)), value

    def rate(self, name: str, by: Callable[[dict[str, str]], str] = lambda labels: "") -> Counter[str]:
        """Events a second of a counter, grouped; groups at rest are not in it."""
        found: Counter[str] = Counter()
        for labels, before, now in self._series(name):
            grown = now - (before if before is not None and before <= now else 0.0)
            if grown:
                found[by(labels)] += grown / self._seconds
        return found

    def now(self, name: str) -> float:
        """The sum of a gauge."""
        return float(sum(value for _, value in self._new.get(name, [])))

    def quantiles(self, name: str, shares: Sequence[float], route: str | None = None) -> list[float | None]:
        """Seconds below which these shares of a histogram's observations were, interpolated; None: there were none."""
        bounds = METRICS[name].buckets
        counts = [0.0] * (len(bounds) + 1)
        for labels, before, now in self._series(name):
            if route is None or labels["route"] == route:
                old = before["buckets"] if before is not None and before["count"] <= now["count"] else [0.0] * len(counts)
                counts = [count + after - was for count, after, was in zip(counts, now["buckets"], old, strict=True)]
        return [_quantile(share, counts, bounds) for share in shares]


def _quantile(share: float, counts: Sequence[float], bounds: Sequence[float]) -> float | None:
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0.0
    for at, bound in enumerate(bounds):
        if counts[at] and below + counts[at] >= rank:
            least = bounds[at - 1] if at else 0.0
            return least + (bound - least) * (rank - below) / counts[at]
        below += counts[at]
    return bounds[-1]


def run(args: argparse.Namespace) -> int:
    """0; 3 when there is no gateway to ask."""
    readings = _Readings(args)
    if getattr(args, "json", False):
        print_json(_summary(readings.picture()))
        return Exit.FINE

    def draw() -> int:
        _show(readings.picture(), args.interval)
        return Exit.FINE

    return watch(draw, 0.0) if sys.stdout.isatty() else draw()


class _Readings:
    """Asks for the counters, and keeps the last answer for the next picture."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._at, self._values = self._read()

    def _read(self) -> tuple[float, Readings]:
        values: Readings = ask(self._args, "metrics")["metrics"]
        return time.monotonic(), values

    def picture(self) -> Picture:
        """What happens from the last reading on, `--interval` long."""
        time.sleep(max(0.0, self._at + self._args.interval - time.monotonic()))
        at, values = self._read()
        found = Picture(self._values, values, at - self._at)
        self._at, self._values = at, values
        return found


def _summary(picture: Picture) -> dict[str, Any]:
    """All of the picture, a second."""
    handshakes = picture.rate("edge_handshakes_total", lambda labels: labels["resumed"])
    p50, p90, p99 = picture.quantiles("edge_request_seconds", (0.5, 0.9, 0.99))
    return {
        "connections": picture.now("edge_connections"),
        "accepted": picture.rate("edge_connections_accepted_total").total(),
        "handshakes": handshakes.total(),
        "resumed": handshakes["yes"],
        "handshake_failures": dict(picture.rate("edge_handshake_failures_total", lambda labels: labels["kind"]).most_common()),
        "requests": picture.rate("edge_requests_total").total(),
        "statuses": dict(sorted(picture.rate("edge_requests_total", lambda labels: labels["status"]).items())),
        "faults": dict(picture.rate("edge_faults_total", lambda labels: labels["kind"]).most_common()),
        "request_bytes": picture.rate("edge_request_body_bytes_total").total(),
        "response_bytes": picture.rate("edge_response_body_bytes_total").total(),
        "retries": picture.rate("edge_upstream_retries_total").total(),
        "latency_seconds": {"p50": p50, "p90": p90, "p99": p99},
        "routes": _routes(picture),
        "endpoints": _endpoints(picture),
    }


def _routes(picture: Picture) -> list[dict[str, Any]]:
    rates = picture.rate("edge_requests_total", lambda labels: labels["route"])
    failed = picture.rate("edge_requests_total", lambda labels: labels["route"] if labels["status"] in ("5xx", "none") else "")
    found = []
    for route, rate in rates.most_common():
        p50, p99 = picture.quantiles("edge_request_seconds", (0.5, 0.99), route)
        found.append({"route": route, "requests": rate, "failed": failed[route] if route else 0.0, "p50": p50, "p99": p99})
    return found


def _endpoints(picture: Picture) -> list[dict[str, Any]]:
    def name(labels: dict[str, str]) -> str:
        return f"{labels['upstream']}\n{labels['endpoint']}"

    rates = picture.rate("edge_upstream_requests_total", name)
    unanswered = picture.rate("edge_upstream_connect_failures_total", name)
    return [
        {"upstream": upstream, "endpoint": endpoint, "requests": rates[key], "connect_failures": unanswered[key]}
        for key, _ in (rates + unanswered).most_common()
        for upstream, _, endpoint in [key.partition("\n")]
    ]


def _show(picture: Picture, interval: float) -> None:
    found = _summary(picture)
    latency = found["latency_seconds"]
    failures: dict[str, float] = found["handshake_failures"]
    statuses = ", ".join(f"{status} {_number(rate)}" for status, rate in found["statuses"].items())
    kinds = ", ".join(f"{kind} {_number(rate)}" for kind, rate in list(failures.items())[:3])
    share = f"{100 * found['resumed'] / found['handshakes']:.0f}% resumed" if found["handshakes"] else ""
    faults = ", ".join(f"{kind} {_number(rate)}" for kind, rate in list(found["faults"].items())[:3])
    answer(paint(f"edge top: each second, over the last {interval:g} s", "bold", sys.stdout))
    for head, number, more in (
        ("connections", f"{found['connections']:.0f}", f"open; {_number(found['accepted'])} new"),
        ("handshakes", _number(found["handshakes"]), share),
        ("  failed", _number(sum(failures.values())), kinds),
        ("requests", _number(found["requests"]), statuses),
        ("  faults", _number(sum(found["faults"].values())), faults),
        ("  latency", _time(latency["p50"]), f"median; p90 {_time(latency['p90'])}, p99 {_time(latency['p99'])}"),
        ("bytes in", _bytes(found["request_bytes"]), f"of bodies; out {_bytes(found['response_bytes'])}"),
    ):
        answer(f"{head:<13}{number:>10}  {more}".rstrip())
    if found["routes"]:
        answer("")
        shown = found["routes"][:_MOST_ROWS]
        rows = [
            [one["route"] or "(no route)", *map(_number, (one["requests"], one["failed"])), *map(_time, (one["p50"], one["p99"]))]
            for one in shown
        ]
        table(("route", "requests", "5xx", "median", "p99"), rows)
    if found["endpoints"]:
        rows = [[one["upstream"], one["endpoint"], _number(one["requests"]), _number(one["connect_failures"])]
                for one in found["endpoints"][:_MOST_ROWS]]  # fmt: skip
        table(("upstream", "endpoint", "requests", "not connected"), rows)


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 or not rate else f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _bytes(rate: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if rate >= size:
            return f"{rate / size:.1f} {unit}"
    return f"{rate:.0f} B"
