"""The summary of a report on the terminal: conclusions first, then tables. Everything is in the JSON and on the page too."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .conclusions import figure, thousands

__all__ = ["say", "show_counters", "show_handshakes"]

Facts = dict[str, Any]


def say(sentences: list[str], console: Console) -> None:
    """The conclusions, one for each line."""
    for sentence in sentences:
        console.print("• " + sentence, soft_wrap=True, highlight=False, markup=False)


def _ms(value: float | None) -> str:
    return "–" if value is None else figure(value)


def _table(title: str, console: Console) -> Table:
    """Narrow enough for 80 columns. The title is said now, for a table breaks it at its own width."""
    console.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def show_counters(facts: Facts, console: Console) -> None:
    """Instructions for each operation, in thousands, where a run beside peers has counted them."""
    if not (counted := facts.get("counters")):
        return
    shown = _table("Thousands of instructions for each operation", console)
    for name in ("scenario", *facts["names"]):
        shown.add_column(name, justify="left" if name == "scenario" else "right", no_wrap=True)
    for scenario in facts["scenarios"]:
        if of := scenario.get("counters"):
            cells = [thousands(of[name]["instructions"]) if name in of else "–" for name in facts["names"]]
            shown.add_row(scenario["name"], *cells)
    console.print(shown)
    for problem in counted["problems"]:
        console.print(f"! {problem}", style="yellow", soft_wrap=True, highlight=False, markup=False)


def show_handshakes(facts: Facts, console: Console) -> None:
    """The rows of ``bench handshake``: phases, bytes and round trips; then the loops."""
    say(facts["conclusions"], console)
    target = facts["target"]
    if all("refused" in row for row in facts["handshakes"]):
        for row in facts["handshakes"]:
            console.print(f"not done: {row['label']}: {row['refused']}", style="dim", markup=False, soft_wrap=True)
        return
    table = _table(f"handshakes with {target['given']} ({target['ip']}), medians in ms", console)
    refused = []
    for name in ("row", "all", "p90", "tcp", "flight", "finish", "byte", "bytes", "RT"):
        table.add_column(name, justify="left" if name == "row" else "right", no_wrap=True)
    for row in facts["handshakes"]:
        if "refused" in row:
            refused.append(f"{row['label']}: {row['refused']}")
            continue
        phases, found = row["phases_ms"], row["handshake_ms"]
        times = [
            found["p50"],
            found["p90"],
            *(phases[key] for key in ("tcp", "hello_to_flight", "flight_to_finished", "to_first_byte")),
        ]
        table.add_row(row["label"], *map(_ms, times), f"{row['flight_bytes']:,}", str(row["round_trips"]))
    console.print(table)
    console.print(
        "all: hello to finished = flight (to the server's first byte) + finish; byte: to the answer; RT: round trips", style="dim"
    )
    for words in refused:
        console.print(f"not done: {words}", style="dim", markup=False, soft_wrap=True)
    if facts["loops"]:
        table = _table("loops, ms from when a handshake was due (or begun, in a closed one)", console)
        for name in ("row", "loop", "per s", "p50", "p90", "p99", "p99.9", "failed", "late"):
            table.add_column(name, justify="left" if name in ("row", "loop") else "right", no_wrap=True)
        for loop in facts["loops"]:
            found = loop["handshake_ms"] or dict.fromkeys(("p50", "p90", "p99", "p999"))
            times = [found[key] for key in ("p50", "p90", "p99", "p999")]
            kind = f"{loop['wanted_rate']:g}/s" if loop["wanted_rate"] else "closed"
            cells = [
                f"{loop['rate']:.0f}",
                *map(_ms, times),
                str(loop["failed"]),
                _ms(loop["client_late_ms"]) + ("?" if loop["client_limit"] else ""),
            ]
            table.add_row(loop["label"], kind, *cells)
        console.print(table)
        console.print("late: the client's own lateness at p99; ?: the figures are the client's as well", style="dim")
    console.print("The client's own work is in every figure, and certificates are not verified.", style="dim", soft_wrap=True)
