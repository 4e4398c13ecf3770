"""What grows in the families of scenarios, and what a report makes of them: titles, tables, a line for each target, a sentence.

A family is all scenarios of a run with the same `axis`. It is shown as one when it has more than one place on the axis and one
of them is outside of the core set: a core run has two of some families, and says those as it says all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from .conclusions import figure, quotients, range_words

__all__ = ["AXES", "Axis", "Family", "families", "grown", "of_growth", "size"]

Facts = dict[str, Any]


def size(octets: float) -> str:
    """A size as people say it: "0 B", "64 KiB", "1 MiB"."""
    for factor, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if octets >= factor:
            return f"{octets / factor:g} {unit}"
    return f"{octets:g} B"


def _count(x: float) -> str:
    return f"{x:,.0f}"


@dataclass(frozen=True, slots=True)
class Axis:
    """`x` is the head of the table's first column; `dear` and `cheap`, with the last and the first x, make the sentence."""

    title: str
    x: str
    note: str
    dear: str
    cheap: str
    said: Callable[[float], str] = _count


_REQUEST = "µs of CPU per small HTTP/1.1 request"

AXES: dict[str, Axis] = {
    "workers": Axis(
        "Cost by workers",
        "workers",
        f"{_REQUEST}, 50 connections. All workers share one core here: what more of them cost, not what more cores bring.",
        "a request with {} workers on one core",
        "one with {}",
    ),
    "connections": Axis(
        "Cost by open connections",
        "open connections",
        f"{_REQUEST}. Ten requests are under way, each on the connection that has been quiet longest. Opening the connections is "
        "not in it.",
        "a request with {} open connections",
        "one with {}",
    ),
    "hosts": Axis(
        "Cost by hosts",
        "hosts",
        "µs of CPU per full TLS 1.3 handshake. Each host has an ECDSA certificate of its own; all are asked for in turn.",
        "a handshake with one of {} hosts",
        "one where there is {}",
    ),
    "routes": Axis(
        "Cost by routes",
        "routes",
        f"{_REQUEST} on the last route, 50 connections.",
        "a request on the last of {} routes",
        "one where there is {}",
    ),
} | {
    f"{protocol}-{kind}": axis
    for protocol, name in (("h1", "HTTP/1.1"), ("h2", "HTTP/2"))
    for kind, axis in (
        (
            "down",
            Axis(
                f"{name}: cost by the size of answers",
                "body",
                "µs of CPU per request, with the handshakes of the few connections.",
                f"an {name} answer of {{}}",
                "one of {}",
                size,
            ),
        ),
        (
            "up",
            Axis(
                f"{name}: cost by the size of uploads",
                "body",
                "µs of CPU per request, with the handshakes of the few connections.",
                f"an {name} upload of {{}}",
                "one of {}",
                size,
            ),
        ),
        (
            "fields",
            Axis(
                f"{name}: cost by request fields",
                "more fields",
                "µs of CPU per small request, the same fields each time.",
                f"an {name} request with {{}} more fields",
                "one with {}",
            ),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Family:
    """`members` are the places of its scenarios among those of the JSON, by growing x."""

    name: str
    axis: Axis
    members: list[int]
    xs: list[float]

    def line(self, facts: Facts, target: str) -> list[tuple[float, float]]:
        """The points of `target`: x and the median."""
        found = [(x, facts["scenarios"][number]["summary"].get(target)) for x, number in zip(self.xs, self.members, strict=True)]
        return [(x, each["value"]) for x, each in found if each is not None]


def families(facts: Facts) -> list[Family]:
    """Those that a run beside peers shows as such."""
    found: dict[str, list[tuple[float, int]]] = {}
    for number, scenario in enumerate(facts["scenarios"]):
        if scenario.get("axis") in AXES and scenario["summary"]:
            found.setdefault(scenario["axis"], []).append((scenario["x"], number))
    made = []
    for name, axis in AXES.items():
        members = sorted(found.get(name, []))
        if len(members) > 1 and not all(facts["scenarios"][number]["core"] for _, number in members):
            made.append(Family(name, axis, [number for _, number in members], [x for x, _ in members]))
    return made


def grown(facts: Facts) -> list[Facts]:
    """For the JSON: each family with the cost of its last place divided by that of its first, within a round, for each target."""
    made = []
    for family in families(facts):
        names = [facts["scenarios"][number]["name"] for number in family.members]
        ratios = {name: quotients(facts, (names[-1], name), (names[0], name)) for name in facts["names"]}
        grows = {
            name: {"ratio": median(each), "low": each[0], "high": each[-1], "rounds": len(each)}
            for name, each in ratios.items()
            if each
        }
        made.append({"axis": family.name, "title": family.axis.title, "scenarios": names, "x": family.xs, "grows": grows})
    return made


def of_growth(facts: Facts) -> list[str]:
    """A sentence for each family of ``facts["growth"]``: what the last place costs of the first, at the subject and at others."""
    said = []
    for family in facts.get("growth", []):
        axis, grows, subject = AXES[family["axis"]], family["grows"], facts["subject"]
        if (mine := grows.get(subject)) is None:
            continue
        dear, cheap = axis.dear.format(axis.said(family["x"][-1])), axis.cheap.format(axis.said(family["x"][0]))
        others = ", ".join(f"{name} {figure(each['ratio'])}" for name, each in grows.items() if name != subject)
        beside = f"; {others}" if others else ""
        spread = range_words(mine["low"], mine["high"], mine["rounds"])
        said.append(f"{dear[0].upper()}{dear[1:]} costs {figure(mine['ratio'])} times {cheap} at {subject} ({spread}{beside}).")
    return said
