"""The report as one HTML page that stands alone: no script, no font, no picture and no style from anywhere else.

It is made from the JSON and nothing else, so that the two cannot differ; each figure names its place there (`data-at`). It
opens with the conclusions, and ends with what one needs to repeat or to doubt it: the machine, the versions, the exact
configurations and the command. Light and dark follow the reader's system.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any

from .conclusions import figure
from .markup import Markup, at, tag
from .plot import COLOURS, bar, latency, stack

__all__ = ["page"]

Facts = dict[str, Any]
Place = tuple[str | int, ...]

_PHASES = (
    ("tcp", "TCP"),
    ("hello_to_flight", "to the server's flight"),
    ("flight_to_finished", "to finished"),
    ("to_first_byte", "to the first byte"),
)
_PERCENTILES = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("greatest", "most"))


def page(facts: Facts) -> str:
    """The whole page for the JSON of a run."""
    peers = facts["kind"] == "peers"
    if peers:
        title = "What TLS and relaying cost here"
        sections = [*_scenarios(facts), *_open_loops(facts), *_floor(facts), *_problems(facts)]
    else:
        title = f"TLS handshakes with {facts['target']['given']}"
        sections = [*_handshakes(facts), *_loops(facts)]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}, {facts['when'][:10]}"),
        tag("style", Markup(resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8"))),
    )
    machine = facts["machine"]
    body = tag(
        "body",
        tag("h1", title),
        tag("p", f"{facts['when'][:16].replace('T', ', ')} · {machine['cpu']} · {machine['kernel']}", class_="when"),
        tag("ul", *(tag("li", sentence) for sentence in facts["conclusions"]), class_="conclusions"),
        *sections,
        *_grounds(facts),
    )
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _section(title: str, *parts: object) -> Markup:
    return tag("section", tag("h2", title), *parts)


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> Markup:
    """A table whose first column is text; it scrolls in its own box when the page is narrow."""
    written = [tag("tr", *(tag("th" if number == 0 else "td", cell) for number, cell in enumerate(row))) for row in rows]
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", *(tag("th", head) for head in heads))), tag("tbody", *written)),
        class_="scroll",
    )


def _value(facts: Any, *place: str | int, ending: str = "") -> Markup | str:
    """The figure at `place`, as everywhere; a dash when there is none."""
    for part in place:
        facts = facts[part]
    return "–" if facts is None else at(place, figure(facts) + ending)


def _kinds(names: list[str]) -> dict[str, str]:
    """A colour for each target; `edge` has one of its own."""
    others = [name for name in names if name != "edge"]
    return {"edge": "subject"} | {name: f"c{number % COLOURS}" for number, name in enumerate(others)}


def _legend(kinds: dict[str, str]) -> Markup:
    return tag("p", *(tag("span", tag("i", class_=kind), name) for name, kind in kinds.items()), class_="legend")


# beside the peers


def _scenarios(facts: Facts) -> list[Markup]:
    names, base = facts["names"], facts["base"]
    kinds = _kinds(names)
    rows: list[list[object]] = []
    charts: list[Markup] = []
    for number, scenario in enumerate(facts["scenarios"]):
        summary = scenario["summary"]
        row: list[object] = [scenario["what"], scenario["unit"]]
        bars = []
        most = max((found["high"] for found in summary.values()), default=1.0)
        for name in names:
            if (found := summary.get(name)) is None:
                row.append("–")
                continue
            place: Place = ("scenarios", number, "summary", name)
            ratio = _value(facts, *place, "ratio", ending=" ×") if found["ratio"] and name != base else ""
            row.append(tag("span", _value(facts, *place, "value"), " ", tag("small", ratio)))
            bars.append(
                tag(
                    "div",
                    tag("span", name, class_="name"),
                    bar(found["value"], found["low"], found["high"], most, kinds[name]),
                    tag("span", _value(facts, *place, "value"), f" {scenario['unit']} ", tag("small", ratio), class_="value"),
                    class_="row",
                )
            )
        rows.append(row)
        if bars:
            charts.append(tag("figure", tag("figcaption", f"{scenario['what']}, {scenario['unit']}"), *bars))
    note = (
        f"Medians over {facts['rounds']} rounds in which the targets took turns; in small print the ratio to "
        f"{base} within a round. Lower is better."
    )
    lines = "A bar's thin line is the range over the rounds. Where ranges overlap much, nothing is proven."
    found = [
        _section("Everything in one table", tag("p", note), _table(["", "unit", *names], rows)),
        _section("Each of them", tag("p", lines), tag("div", *charts, class_="charts")),
    ]
    return [*found, *_saturation(facts)]


def _saturation(facts: Facts) -> list[Markup]:
    rows: list[list[object]] = []
    for number, scenario in enumerate(facts["scenarios"]):
        if scenario["loop"] != "closed":
            continue
        row: list[object] = [scenario["what"].removeprefix("CPU per ")]
        for name in facts["names"]:
            found = scenario["summary"].get(name)
            if found is None:
                row.append("–")
                continue
            place: Place = ("scenarios", number, "summary", name)
            row.append(
                tag("span", _value(facts, *place, "rate"), " ", tag("small", f"{found['busy']:.0%} / {found['load_busy']:.0%}"))
            )
        rows.append(row)
    if not rows:
        return []
    note = (
        "A second, in a closed loop on one core; in small print how busy the server's core was, and the "
        "client's. Where the client's is full, the rate is the client's."
    )
    return [_section("Rates at saturation", tag("p", note), _table(["", *facts["names"]], rows))]


def _open_loops(facts: Facts) -> list[Markup]:
    sections = []
    kinds = _kinds(facts["names"])
    for number, scenario in enumerate(facts["scenarios"]):
        if not (found := scenario.get("latency")):
            continue
        drawn = latency({name: (kinds[name], each["curve"]) for name, each in found.items()})
        rows = [
            [name, *(_value(facts, "scenarios", number, "latency", name, key) for key, _ in _PERCENTILES), each["count"]]
            for name, each in found.items()
        ]
        sections.append(
            _section(
                f"Latency: {scenario['what'].removeprefix('p99 latency of ')}",
                tag(
                    "p",
                    "Milliseconds from when each handshake was due, all rounds together. A dash: too few samples for "
                    "that percentile.",
                ),
                _legend({name: kinds[name] for name in found}),
                tag("div", drawn or "", class_="scroll"),
                _table(["", *(name for _, name in _PERCENTILES), "samples"], rows),
            )
        )
    return sections


def _floor(facts: Facts) -> list[Markup]:
    if not (floor := facts.get("floor")):
        return []
    rows, bars = [], []
    most = max((part["total"] for part in floor["parts"]), default=1.0)
    for number, part in enumerate(floor["parts"]):
        place: Place = ("floor", "parts", number)
        rows.append([part["what"], *(_value(facts, *place, key) for key in ("total", "crypto", "kernel", "rest"))])
        shares = [(part["crypto"], "c0"), (part["kernel"], "c1"), (part["rest"], "subject")]
        bars.append(tag("div", tag("span", part["what"], class_="name"), stack(shares, most), class_="row wide"))
    note = (
        "What no server can do without, in µs of CPU: the same handshake in memory, where there is nothing "
        "but the TLS library's crypto and state machine, "
        "and a connection that is accepted, read, written and closed, where there is nothing but the kernel. "
        "What is left is the gateway's own."
    )
    legend = _legend({"crypto and state machine": "c0", "kernel": "c1", "the gateway's own": "subject"})
    heads = ["", "all", "crypto", "kernel", "its own"]
    return [_section("The floor", tag("p", note), legend, tag("figure", *bars), _table(heads, rows))]


def _problems(facts: Facts) -> list[Markup]:
    problems = [words for scenario in facts["scenarios"] for words in scenario["problems"]] + facts.get("left_out", [])
    return [_section("What went wrong", tag("ul", *(tag("li", words) for words in problems)))] if problems else []


# one target


def _handshakes(facts: Facts) -> list[Markup]:
    able = [(number, row) for number, row in enumerate(facts["handshakes"]) if "refused" not in row]
    refused = [row for row in facts["handshakes"] if "refused" in row]
    rows: list[list[object]] = []
    bars = []
    totals = {number: sum(row["phases_ms"][key] or 0 for key, _ in _PHASES) for number, row in able}
    kinds = {name: f"c{number}" for number, (_, name) in enumerate(_PHASES)}
    for number, row in able:
        place: Place = ("handshakes", number)
        phases = [_value(facts, *place, "phases_ms", key) for key, _ in _PHASES]
        agreed = " ".join(
            part for part in (row["group"], row["certificate"], row["alpn"], "stapled" if row["stapled"] else "") if part
        )
        sizes = [at((*place, "flight_bytes"), f"{row['flight_bytes']:,}"), row["round_trips"]]
        rows.append(
            [row["label"], _value(facts, *place, "handshake_ms", "p50"), *phases, *sizes, agreed, row["suite"], row["count"]]
        )
        shares = [(row["phases_ms"][key] or 0.0, kinds[name]) for key, name in _PHASES]
        bars.append(tag("div", tag("span", row["label"], class_="name"), stack(shares, max(totals.values())), class_="row wide"))
    note = (
        "Medians in milliseconds, one handshake at a time, rows in turn. A handshake is hello to finished; "
        "the client's own work is in it. Certificates are not verified."
    )
    heads = [
        "",
        "handshake",
        *(name for _, name in _PHASES),
        "bytes from the server",
        "round trips",
        "agreed",
        "suite",
        "handshakes",
    ]
    found = [_section("Handshakes", tag("p", note), _legend(kinds), tag("figure", *bars), _table(heads, rows))]
    if refused:
        words = [tag("li", tag("b", row["label"]), f": {row['refused']}") for row in refused]
        found.append(_section("What it does not do", tag("ul", *words)))
    return found


def _loops(facts: Facts) -> list[Markup]:
    sections = []
    for mode, words in (
        ("closed", "as many as can be, the next when one is over"),
        ("open", "at a fixed rate, from when each was due"),
    ):
        loops = [(number, loop) for number, loop in enumerate(facts["loops"]) if loop["mode"] == mode]
        if not loops:
            continue
        kinds = {loop["label"]: f"c{number % COLOURS}" for number, (_, loop) in enumerate(loops)}
        rows = []
        for number, loop in loops:
            place: Place = ("loops", number)
            shown = [_value(facts, *place, "handshake_ms", key) if loop["handshake_ms"] else "–" for key, _ in _PERCENTILES]
            rows.append(
                [
                    loop["label"],
                    _value(facts, *place, "rate"),
                    *shown,
                    loop["failed"],
                    f"{loop['client_busy']:.0%}",
                    loop["client_limit"],
                ]
            )
        drawn = latency({loop["label"]: (kinds[loop["label"]], loop["curve"]) for _, loop in loops})
        heads = ["", "a second", *(name for _, name in _PERCENTILES), "failed", "client's core", "client"]
        note = f"Handshakes {words}; milliseconds. A dash: too few samples for that percentile."
        sections.append(
            _section(
                f"Rates, {mode} loop",
                tag("p", note),
                _legend(kinds),
                tag("div", drawn or "", class_="scroll"),
                _table(heads, rows),
            )
        )
    return sections


# what one needs to repeat it


def _grounds(facts: Facts) -> list[Markup]:
    machine = [
        [key.replace("_", " "), value if isinstance(value, str) else repr(value)] for key, value in facts["machine"].items()
    ]
    found = [
        _section(
            "How to repeat it",
            tag("pre", " ".join(map(_quoted, facts["command"])), class_="command"),
            tag("p", "The JSON beside this page has every sample."),
        ),
        _section("Machine", _table(["", ""], machine)),
    ]
    if versions := facts.get("versions"):
        found.append(_section("Versions", _table(["", ""], ([name, text] for name, text in versions.items()))))
    if configurations := facts.get("configurations"):
        details = [tag("details", tag("summary", name), tag("pre", text)) for name, text in configurations.items()]
        found.append(_section("Configurations", *details))
    return found


def _quoted(word: str) -> str:
    return word if word and not set(word) & set(" '\"\\$&;|<>()*?#") else "'" + word.replace("'", "'\\''") + "'"
