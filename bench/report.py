"""What a run says: a table and a sentence for each scenario on the terminal, and everything as JSON and as a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .axes import families, grown, of_growth
from .conclusions import figure, of_doubts, of_peers, range_words
from .counters import summaries
from .measure import BASE, SUBJECT, Result, Summary
from .page import page
from .samples import Sample

__all__ = ["compose", "sentence", "show", "write"]


_VERBS = {"KiB": "uses", "ms": "needs"}
_FEW = 2  # details
_ROOM = 4  # targets that a terminal of 80 columns has room for, with values and ratios
_BRIEF = 9  # columns that each needs with ratios alone


def sentence(result: Result, subject: str = "edge") -> str:
    """What the figures of `subject` mean beside those of `BASE`; with its own figure alone when there is no base."""
    mine, base, scenario = result.summary(subject), result.summary(BASE), result.scenario
    if mine is None:
        return f"{subject} has no valid figure for the {scenario.what}."
    verb = "shows" if "latency" in scenario.what else _VERBS.get(scenario.unit, "spends")
    if base is None or subject == BASE:
        return f"{subject} {verb} {figure(mine.value)} {scenario.unit} of {scenario.what}."
    figures = f"{figure(mine.value)} {scenario.unit} against {figure(base.value)}"
    if not mine.ratio:
        return f"{subject} {verb} {figure(mine.value)} {scenario.unit} of {scenario.what}; no round has both it and {BASE}."
    spread = range_words(mine.ratio_low, mine.ratio_high, mine.rounds)
    if mine.doubtful or base.doubtful:
        return f"{subject} {verb} {figures} at {BASE} ({scenario.what}); the client was late itself, so nothing is proven."
    within = "within a round " if mine.rounds > 1 else ""
    return f"{subject} {verb} {mine.ratio:.2f} × {BASE}'s {scenario.what}: {figures} ({within}{spread})."


def _busy(result: Result, names: list[str]) -> str:
    """How much of its core each target used, so that one sees what the limit was."""
    shares = [f"{name} {found.busy:.0%}" for name in names if (found := result.summary(name)) is not None and found.busy]
    return (
        f"  {result.scenario.name}, core busy: {', '.join(shares)}"
        if shares and not result.scenario.name.startswith("start")
        else ""
    )


def _details(result: Result, names: list[str]) -> list[str]:
    """More figures: a line for each of them with all targets, or for each target where there are many."""
    found = {name: summary.details for name in names if (summary := result.summary(name)) is not None and summary.details}
    kinds = {what: None for more in found.values() for what in more}
    if len(kinds) <= _FEW:
        return [
            f"  {result.scenario.name}, {what}: "
            + ", ".join(f"{name} {figure(more[what])}" for name, more in found.items() if what in more)
            for what in kinds
        ]
    return [f"  {name}: " + "; ".join(f"{what} {figure(value)}" for what, value in more.items()) for name, more in found.items()]


def _mark(found: Summary) -> str:
    """A question mark where the ratio's range includes 1, or is of one round or of a late client."""
    return "?" if found.rounds < 2 or found.doubtful or found.ratio_low <= 1 <= found.ratio_high else ""


def show(results: list[Result], names: list[str], console: Console) -> None:
    """The table, with a sentence and how busy everybody was for each scenario."""
    title = f"Medians over rounds; ratios to {BASE}, ? where nothing is proven; lower is better"
    console.print(title, style="italic", highlight=False, soft_wrap=True)
    brief = len(names) > _ROOM
    longest = max((len(result.scenario.name) for result in results), default=0)
    room = max(_ROOM, (console.width - longest) // _BRIEF) if brief else _ROOM
    for start in range(0, len(names), room):
        console.print(_table(results, names[start : start + room], brief=brief))
    subject = SUBJECT if SUBJECT in names else names[0]
    for result in results:
        if result.scenario.loop:
            console.print("• " + sentence(result, subject), soft_wrap=True, highlight=False)
        if words := _busy(result, names):
            console.print(words, soft_wrap=True, highlight=False, style="dim")
        for words in _details(result, names):
            console.print(words, soft_wrap=True, highlight=False, style="dim")
    for result in results:
        for problem in result.problems:
            console.print(f"! {problem}", style="yellow", soft_wrap=True, highlight=False, markup=False)


def _table(results: list[Result], names: list[str], *, brief: bool) -> Table:
    """Values, and ratios where there is a base; `brief`: ratios alone, where there is a base."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("scenario", no_wrap=True)
    if not brief:
        table.add_column("unit")
    for name in names:
        table.add_column(name, justify="right", min_width=5, no_wrap=True)
    for result in results:
        cells = []
        for name in names:
            found = result.summary(name)
            if found is None:
                cells.append("–")
            elif name == BASE or not found.ratio:
                cells.append(figure(found.value))
            elif brief:
                cells.append(f"{found.ratio:.2f}{_mark(found)}")
            else:
                cells.append(f"{figure(found.value)} ({found.ratio:.2f} ×{_mark(found)})")
        table.add_row(result.scenario.name, *([] if brief else [result.scenario.unit]), *cells)
    return table


def compose(facts: dict[str, Any], results: list[Result], names: list[str]) -> dict[str, Any]:
    """Everything as one JSON object with ``"version": 1``, its conclusions among it."""
    scenarios = []
    counted = summaries(facts["counters"]) if "counters" in facts else {}
    for result in results:
        scenario = result.scenario
        latencies = {name: lines for name in names if (lines := result.latency(name)) is not None}
        scenarios.append(
            {
                "name": scenario.name,
                "what": scenario.what,
                "unit": scenario.unit,
                "scale": scenario.scale,
                "loop": scenario.loop,
                "offer": None if scenario.offer is None else scenario.offer.facts(),
                "variant": scenario.variant,
                "core": scenario.core,
                "relayed": scenario.relayed,
                "axis": scenario.axis,
                "x": scenario.x,
                "rounds": [{name: _without_durations(sample) for name, sample in each.items()} for each in result.rounds],
                "summary": {name: asdict(found) for name in names if (found := result.summary(name)) is not None},
                "problems": result.problems,
            }
            | ({"latency": latencies} if latencies else {})
            | ({"floors": result.floors} if any(result.floors) else {})
            | ({"counters": counted[scenario.name]} if scenario.name in counted else {})
        )
    subject = SUBJECT if SUBJECT in names else names[0]
    parts = [
        {"scenario": result.scenario.name, "what": result.scenario.what.removeprefix("CPU per ")} | of
        for result in results
        if (of := result.parts(subject))
    ]
    if parts:
        facts = facts | {"floor": {"parts": parts}}
    made = {"version": 1, "kind": "peers"} | facts | {"base": BASE, "names": names, "subject": subject, "scenarios": scenarios}
    if growth := grown(made):
        made["growth"] = growth
    in_families = {number for family in families(made) for number in family.members if not scenarios[number]["core"]}
    others = [
        sentence(result, subject)
        for number, result in enumerate(results)
        if not result.scenario.loop and number not in in_families
    ]
    return made | {"conclusions": [*of_peers(made), *others, *of_growth(made), *of_doubts(made)]}


def _without_durations(sample: Sample) -> dict[str, Any]:
    return {name: value for name, value in asdict(sample).items() if name != "durations"}


def write(path: Path, composed: dict[str, Any]) -> None:
    """The JSON at `path`, and the page beside it with the ending ``.html``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(composed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".html").write_text(page(composed), encoding="utf-8")
