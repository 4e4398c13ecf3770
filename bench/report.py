"""What a run says: a table and a sentence for each scenario on the terminal, and everything as JSON and as a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .conclusions import figure, of_peers
from .floor import parts
from .measure import BASE, SUBJECT, Result
from .page import page
from .samples import Sample

__all__ = ["compose", "sentence", "show", "write"]


_ROOM = 4  # targets that a terminal of 80 columns has room for, with values and ratios


def sentence(result: Result, subject: str = "edge") -> str:
    """What the figures of `subject` mean beside those of `BASE`; with its own figure alone when there is no base."""
    mine, base, scenario = result.summary(subject), result.summary(BASE), result.scenario
    if mine is None:
        return f"{subject} has no valid figure for the {scenario.what}."
    verb = {"idle-memory": "uses", "start": "needs", "start-500": "needs", "reload": "shows"}.get(scenario.name, "spends")
    if base is None or subject == BASE:
        return f"{subject} {verb} {figure(mine.value)} {scenario.unit} of {scenario.what}."
    doubt = "; the range includes 1, so nothing is proven" if mine.ratio_low <= 1 <= mine.ratio_high else ""
    doubt = "; a single round proves nothing" if mine.rounds < 2 else doubt
    figures = f"{figure(mine.value)} {scenario.unit} against {figure(base.value)}"
    spread = f"{mine.ratio_low:.2f} to {mine.ratio_high:.2f} over {mine.rounds} {'rounds' if mine.rounds > 1 else 'round'}"
    return f"{subject} {verb} {mine.ratio:.2f} × {BASE}'s {scenario.what} ({figures}; {spread}{doubt})."


def _busy(result: Result, names: list[str]) -> str:
    """How much of its core each target used, so that one sees what the limit was."""
    shares = [f"{name} {found.busy:.0%}" for name in names if (found := result.summary(name)) is not None and found.busy]
    return f"  core busy: {', '.join(shares)}" if shares and not result.scenario.name.startswith("start") else ""


def _details(result: Result, names: list[str]) -> list[str]:
    """A line for each target that has more figures to show."""
    found = [(name, summary.details) for name in names if (summary := result.summary(name)) is not None]
    return [f"  {name}: " + "; ".join(f"{what} {figure(value)}" for what, value in more.items()) for name, more in found if more]


def show(results: list[Result], names: list[str], console: Console) -> None:
    """The table, with a sentence and how busy everybody was for each scenario."""
    title = f"server CPU (or what the scenario names), median over rounds; ratios to {BASE}; lower is better"
    brief = len(names) > _ROOM
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("scenario", no_wrap=True)
    if not brief:
        table.add_column("unit")
    for name in names:
        table.add_column(name, justify="right", min_width=5)
    for result in results:
        cells = []
        for name in names:
            found = result.summary(name)
            if found is None:
                cells.append("–")
            elif name == BASE or not found.ratio:
                cells.append(figure(found.value))
            elif brief:
                cells.append(f"{found.ratio:.2f}")
            else:
                cells.append(f"{figure(found.value)} ({found.ratio:.2f} ×)")
        table.add_row(result.scenario.name, *([] if brief else [result.scenario.unit]), *cells)
    console.print(table)
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


def compose(facts: dict[str, Any], results: list[Result], names: list[str]) -> dict[str, Any]:
    """Everything as one JSON object with ``"version": 1``, its conclusions among it."""
    scenarios = []
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
                "rounds": [{name: _without_durations(sample) for name, sample in each.items()} for each in result.rounds],
                "summary": {name: asdict(found) for name in names if (found := result.summary(name)) is not None},
                "problems": result.problems,
            }
            | ({"latency": latencies} if latencies else {})
        )
    subject = SUBJECT if SUBJECT in names else names[0]
    if "floor" in facts:
        facts = facts | {"floor": facts["floor"] | {"parts": parts(facts["floor"], scenarios, subject)}}
    made = {"version": 1, "kind": "peers"} | facts | {"base": BASE, "names": names, "subject": subject, "scenarios": scenarios}
    return made | {
        "conclusions": [*of_peers(made), *(sentence(result, subject) for result in results if not result.scenario.loop)]
    }


def _without_durations(sample: Sample) -> dict[str, Any]:
    return {name: value for name, value in asdict(sample).items() if name != "durations"}


def write(path: Path, composed: dict[str, Any]) -> None:
    """The JSON at `path`, and the page beside it with the ending ``.html``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(composed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".html").write_text(page(composed), encoding="utf-8")
