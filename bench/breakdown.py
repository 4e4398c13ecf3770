"""Sections of the page on what a cost consists of and what goes with it: the floor under a handshake, the instructions of an
operation, and the other figures of a scenario, such as the share of clients that resumed."""

from __future__ import annotations

from .conclusions import LATE, thousands
from .elements import Facts, Place, legend, section, table, value
from .markup import Markup, tag
from .plot import stack

__all__ = ["counters", "details", "floor"]


def details(facts: Facts) -> list[Markup]:
    """What scenarios say beside their value; how late the client was stands with the latencies."""
    names, rows = facts["names"], []
    for number, scenario in enumerate(facts["scenarios"]):
        summary = scenario["summary"]
        told = dict.fromkeys(key for found in summary.values() for key in found["details"] if key != LATE)
        for key in told:
            places = [("scenarios", number, "summary", name, "details", key) for name in names]
            with_it = [name in summary and key in summary[name]["details"] for name in names]
            cells = [value(facts, *place) if there else "–" for place, there in zip(places, with_it, strict=True)]
            rows.append([scenario["name"], key, *cells])
    note = "Medians over the rounds."
    return [section("More figures", tag("p", note), table(["", "", *names], rows))] if rows else []


def floor(facts: Facts) -> list[Markup]:
    """The subject's cost beside what no server can do without."""
    if not (found := facts.get("floor")):
        return []
    rows, bars = [], []
    most = max((part["total"] for part in found["parts"]), default=1.0)
    for number, part in enumerate(found["parts"]):
        place: Place = ("floor", "parts", number)
        spread = tag("small", " (", value(facts, *place, "rest_low"), " to ", value(facts, *place, "rest_high"), ")")
        share = f"{part['other']:.0%}", tag("small", f" ({part['other_low']:.0%} to {part['other_high']:.0%})")
        figures = [value(facts, *place, key) for key in ("total", "crypto", "kernel")]
        rows.append([part["what"], *figures, tag("span", value(facts, *place, "rest"), spread), tag("span", *share)])
        shares = [(part["crypto"], "c0"), (part["kernel"], "c1"), (part["rest"], "subject")]
        bars.append(tag("div", tag("span", part["what"], class_="name"), stack(shares, most), class_="row wide"))
    note = (
        "What no server can do without, in µs of CPU: the same handshake in memory, where there is nothing "
        "but the TLS library's crypto and state machine, "
        "and a connection that is accepted, read, written and closed, where there is nothing but the kernel. "
        f"What is left is {facts['subject']}'s own. Measured in each round before the scenario itself; medians, each by "
        "itself, and in small print the range over the rounds."
    )
    own = f"{facts['subject']}'s own"
    shown = legend({"crypto and state machine": "c0", "kernel": "c1", own: "subject"})
    heads = ["µs of CPU", "all", "crypto", "kernel", own, "not crypto"]
    return [section("The floor", tag("p", note), shown, tag("figure", *bars), table(heads, rows))]


def counters(facts: Facts) -> list[Markup]:
    """Instructions and cycles for each operation, where they were counted."""
    if not (counted := facts.get("counters")):
        return []
    names, rows = facts["names"], []
    for number, scenario in enumerate(facts["scenarios"]):
        of = scenario.get("counters")
        if not of:
            continue
        row: list[object] = [scenario["what"].removeprefix("CPU ")]
        for name in names:
            if name not in of:
                row.append("–")
                continue
            place: Place = ("scenarios", number, "counters", name)
            ratio: list[object] = []
            if of[name]["instructions_ratio"]:
                ratio = [value(facts, *place, "instructions_ratio", ending=" ×"), ", "]
            per_cycle = f"{of[name]['instructions'] / of[name]['cycles']:.2f} per cycle" if of[name]["cycles"] else ""
            row.append(tag("span", thousands(of[name]["instructions"]), tag("small", *ratio, per_cycle, class_="ratio")))
        rows.append(row)
    kernel = (
        "the kernel's part is in them" if "instructions:k" in counted["events"] else "the program's alone, without the kernel's"
    )
    note = (
        f"Thousands of instructions for each further operation, as the processor counted them ({kernel}), in passes of their own "
        f"because counting makes a server slower; in small print the ratio to {facts['base']}, and how many the processor "
        f"finished in a cycle. What else runs on the machine hardly touches the instructions; it does touch the cycles."
    )
    return [section("Instructions", tag("p", note), table(["thousands", *names], rows))] if rows else []
