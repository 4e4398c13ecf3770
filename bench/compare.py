"""``bench compare``: two runs, pair by pair, with a verdict that a single lucky run cannot give.

Where both runs have the base target, what is compared is each round's ratio to it, because that takes out what the machine
was doing; otherwise the values themselves. The estimate is Hodges and Lehmann's: the median of all pairwise quotients of new
and old samples. Its confidence interval is the one that belongs to the Mann-Whitney test, which assumes nothing about the
distribution: with exact probabilities for few rounds. With fewer than four rounds on each side there is no interval of 95 %,
and no verdict.

A verdict is "slower" or "faster" when the whole interval lies beyond 1, "no worse than N %" when it does not.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = ["Verdict", "compare", "instructions", "main", "quotient"]

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Verdict:
    """One scenario of one target: new divided by old (1.1: a tenth dearer), with its interval, if there is one."""

    scenario: str
    target: str
    relative: bool  # to the base target, round by round
    ratio: float
    low: float | None
    high: float | None
    rounds: tuple[int, int]

    @property
    def words(self) -> str:
        if self.low is None or self.high is None:
            return f"no verdict: {self.rounds[0]} and {self.rounds[1]} rounds are too few"
        if self.low > 1:
            return "slower"
        if self.high < 1:
            return "faster"
        return f"no difference shown; at most {max(0.0, self.high - 1):.0%} slower"


@cache
def _ways(first: int, second: int, total: int) -> int:
    """How many orders of `first` and `second` samples have `total` pairs in which the first is greater "
    "(Mann and Whitney 1947)."""
    if total < 0:
        return 0
    if first == 0 or second == 0:
        return int(total == 0)
    return _ways(first - 1, second, total - second) + _ways(first, second - 1, total)


def _outside(first: int, second: int) -> int | None:
    """How many of the smallest and of the greatest pairwise differences lie outside of the interval; None: no interval exists."""
    pairs = first * second
    if first + second > 60:  # the normal approximation is good long before
        width = 1.959964 * math.sqrt(pairs * (first + second + 1) / 12)
        return max(0, math.floor(pairs / 2 - width))
    budget = (1 - _CONFIDENCE) / 2 * math.comb(first + second, first)
    seen, count = 0, 0
    while count <= pairs // 2:
        seen += _ways(first, second, count)
        if seen > budget:
            break
        count += 1
    return count - 1 if count else None


def quotient(old: Sequence[float], new: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The estimate of new / old with its interval of 95 %; None, None with too few samples. All samples are positive."""
    differences = sorted(math.log(after) - math.log(before) for before in old for after in new)
    ratio = math.exp(median(differences))
    outside = _outside(len(old), len(new)) if min(len(old), len(new)) >= 4 else None
    if outside is None:
        return ratio, None, None
    return ratio, math.exp(differences[outside]), math.exp(differences[-1 - outside])


def _doubtful(round_: dict[str, Any], *targets: str) -> bool:
    """Whether one of `targets` is missing in a round, or in doubt."""
    return any(name not in round_ or round_[name].get("doubt") for name in targets if name)


def _samples(scenario: dict[str, Any], target: str, base: str) -> list[float]:
    """Ratios to `base` within a round, or values when `base` is "". Samples in doubt count only where there are no others."""
    found = []
    counting = {number for number, each in enumerate(scenario["rounds"]) if not _doubtful(each, target, base)}
    for number, each in enumerate(scenario["rounds"]):
        if target not in each or (base and base not in each) or (counting and number not in counting):
            continue
        value = each[target]["value"] / (each[base]["value"] if base else 1.0)
        if value > 0:
            found.append(value)
    return found


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Verdict]:
    """Every scenario and target that both runs have. Raises ValueError for what is no run beside peers."""
    for facts in (old, new):
        if facts.get("kind") != "peers":
            raise ValueError("only runs beside peers can be compared (the JSON of `bench`, not of `bench handshake`)")
    before = {scenario["name"]: scenario for scenario in old["scenarios"]}
    found = []
    for scenario in new["scenarios"]:
        if (other := before.get(scenario["name"])) is None:
            continue
        for target in new["names"]:
            base = new["base"] if new["base"] == old["base"] and target != new["base"] else ""
            pairs = _samples(other, target, base), _samples(scenario, target, base)
            if base and not all(pairs):
                base = ""
                pairs = _samples(other, target, base), _samples(scenario, target, base)
            if all(pairs):
                found.append(Verdict(scenario["name"], target, bool(base), *quotient(*pairs), (len(pairs[0]), len(pairs[1]))))
    return found


def instructions(old: dict[str, Any], new: dict[str, Any], target: str) -> list[tuple[str, float, str]]:
    """Where both runs have counted: scenario, new / old instructions for each operation, and a verdict in words.

    They vary so little that the ranges of a few passes tell two versions apart: "more" or "fewer" when these do not touch.
    Whether runs on two machines can be compared is the reader's to know: another processor's library takes another path.
    """
    before = {scenario["name"]: scenario.get("counters", {}).get(target) for scenario in old["scenarios"]}
    found = []
    for scenario in new["scenarios"]:
        one, other = before.get(scenario["name"]), scenario.get("counters", {}).get(target)
        if one and other and one["instructions"]:
            words = "more" if other["low"] > one["high"] else "fewer" if other["high"] < one["low"] else "no difference shown"
            found.append((scenario["name"], other["instructions"] / one["instructions"], words))
    return found


def main(words: list[str], console: Console) -> int:
    """``bench compare`` with `words` behind it. Returns 1 when the subject has become slower somewhere. "
    "Raises ValueError or OSError."""
    parser = argparse.ArgumentParser(
        prog="bench compare", description="Compare two runs, scenario by scenario, with confidence intervals."
    )
    parser.add_argument("old", type=Path, help="the JSON of the earlier run")
    parser.add_argument("new", type=Path, help="the JSON of the later run")
    parser.add_argument("--all", action="store_true", help="the peers too, not only edge")
    arguments = parser.parse_args(words)
    try:
        old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (arguments.old, arguments.new))
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON: {error}") from error
    verdicts = [each for each in compare(old, new) if arguments.all or each.target == new["subject"]]
    if not verdicts:
        raise ValueError("the two runs have nothing in common")
    slower = [each for each in verdicts if each.target == new["subject"] and each.words == "slower"]
    faster = [each for each in verdicts if each.target == new["subject"] and each.words == "faster"]
    for word, some in (("slower", slower), ("faster", faster)):
        if some:
            listed = ", ".join(f"{each.scenario} ({each.ratio:.2f} ×)" for each in some)
            console.print(
                f"• {new['subject']} has become {word} in {len(some)} of {len(verdicts)}: {listed}.",
                soft_wrap=True,
                highlight=False,
            )
    if not slower and not faster:
        console.print(f"• No difference of {new['subject']} is shown between the two runs.", highlight=False)
    table = Table(title="new / old; below 1 is better", title_justify="left", box=SIMPLE_HEAD)
    for name in ("scenario", "target", "ratio", "95 %", "of", "verdict"):
        table.add_column(name, no_wrap=name in ("scenario", "ratio", "95 %"))
    for each in verdicts:
        interval = "–" if each.low is None else f"{each.low:.2f} to {each.high:.2f}"
        table.add_row(
            each.scenario, each.target, f"{each.ratio:.2f}", interval, "ratio" if each.relative else "value", each.words
        )
    console.print(table)
    for scenario, ratio, verdict in instructions(old, new, new["subject"]):
        console.print(f"instructions of {new['subject']}, {scenario}: {ratio:.3f} ({verdict})", highlight=False)
    return 1 if slower else 0
