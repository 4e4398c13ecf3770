"""The report as one HTML page that stands alone: no script, no font, no picture and no style from anywhere else.

It is made from the JSON and nothing else, so that the two cannot differ; each figure names its place there (`data-at`). It
opens with the conclusions, and ends with what one needs to repeat or to doubt it: the machine, the versions, the exact
configurations and the command. Light and dark follow the reader's system.
"""

from __future__ import annotations

from importlib import resources

from .breakdown import counters, details, floor
from .conclusions import OWN_CLIENT, figure
from .curves import curves
from .elements import Facts, Place, colours, legend, section, table, value
from .markup import Markup, at, tag
from .plot import COLOURS, bar, latency, stack

__all__ = ["page"]

_PHASES = (
    ("tcp", "TCP"),
    ("hello_to_flight", "to the server's flight"),
    ("flight_to_finished", "to finished"),
    ("to_first_byte", "to the first byte"),
)
_OPEN = ("handshakes", "rounds", "set aside", "client late", "")
_PERCENTILES = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("greatest", "most"))


def page(facts: Facts) -> str:
    """The whole page for the JSON of a run."""
    peers = facts["kind"] == "peers"
    if peers:
        title = "What TLS and relaying cost here"
        measured = [*_scenarios(facts), *curves(facts), *_open_loops(facts)]
        sections = [*measured, *details(facts), *floor(facts), *counters(facts), *_problems(facts)]
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


# beside the peers


def _scenarios(facts: Facts) -> list[Markup]:
    names, base = facts["names"], facts["base"]
    kinds = colours(names)
    rows: list[list[object]] = []
    charts: list[Markup] = []
    apart = {name for family in facts.get("growth", []) for name in family["scenarios"]}
    for number, scenario in enumerate(facts["scenarios"]):
        if scenario["name"] in apart and not scenario["core"]:
            continue
        summary = scenario["summary"]
        row: list[object] = [scenario["what"], scenario["unit"]]
        bars = []
        most = max((found["high"] for found in summary.values()), default=1.0)
        for name in names:
            if (found := summary.get(name)) is None:
                row.append("–")
                continue
            place: Place = ("scenarios", number, "summary", name)
            ratio = _ratio(facts, place, found) if found["ratio"] and name != base else ""
            row.append(tag("span", value(facts, *place, "value"), tag("small", ratio, class_="ratio")))
            bars.append(
                tag(
                    "div",
                    tag("span", name, class_="name"),
                    bar(found["value"], found["low"], found["high"], most, kinds[name]),
                    tag("span", value(facts, *place, "value"), f" {scenario['unit']}", class_="value"),
                    tag("small", ratio, class_="ratio"),
                    class_="row",
                )
            )
        rows.append(row)
        if bars:
            charts.append(tag("figure", tag("figcaption", f"{scenario['what']}, {scenario['unit']}"), *bars))
    note = (
        f"Medians over {facts['rounds']} round{'s' if facts['rounds'] > 1 else ''} in which the targets took turns. Lower is "
        f"better. In small print the ratio to {base} within a round, and its range over the rounds: with ? where no "
        f"difference is proven, because that includes 1, there is one round only, or the load side was late."
    )
    lines = "A bar is the median, its thin line the range over the rounds. Each plot begins at 0 and has a scale of its own."
    if not rows:
        return []
    found = [
        section("Everything in one table" if not apart else "One by one", tag("p", note), table(["", "unit", *names], rows)),
        section("Each of them", tag("p", lines), tag("div", *charts, class_="charts")),
    ]
    return [*found, *_saturation(facts)]


def _ratio(facts: Facts, place: Place, found: Facts) -> Markup:
    """The ratio to the base and its range, marked where it proves nothing."""
    low, high = found["ratio_low"], found["ratio_high"]
    doubtful = "?" if low <= 1 <= high or found["rounds"] < 2 or found["doubtful"] else ""
    spread: list[object] = []
    if found["rounds"] > 1:
        spread = [" (", value(facts, *place, "ratio_low"), "–", value(facts, *place, "ratio_high"), ")"]
    return tag("span", value(facts, *place, "ratio", ending=" ×"), *spread, doubtful)


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
                tag("span", value(facts, *place, "rate"), " ", tag("small", f"{found['busy']:.0%} / {found['load_busy']:.0%}"))
            )
        rows.append(row)
    if not rows:
        return []
    note = (
        "Handshakes a second in a closed loop on one core; in small print the share of its core that the server used, and "
        "that the client used. Where the client's is full, the rate is the client's; where neither is, something else used "
        "the cores."
    )
    return [section("Handshakes a second, as many as can be", tag("p", note), table(["", *facts["names"]], rows))]


def _open_loops(facts: Facts) -> list[Markup]:
    sections = []
    kinds = colours(facts["names"])
    for number, scenario in enumerate(facts["scenarios"]):
        if not (found := scenario.get("latency")):
            continue
        drawn = latency({name: (kinds[name], each["curve"]) for name, each in found.items()})
        rows = [
            [
                name,
                *(value(facts, "scenarios", number, "latency", name, key) for key, _ in _PERCENTILES),
                f"{each['count']:,}",
                each["rounds"],
                scenario["summary"][name]["aside"],
                value(facts, "scenarios", number, "latency", name, "late"),
                "in doubt" if scenario["summary"][name]["doubtful"] else "",
            ]
            for name, each in found.items()
        ]
        sections.append(
            section(
                f"Latency: {scenario['what'].removeprefix('p99 latency of ')}",
                tag(
                    "p",
                    "Milliseconds from when each handshake was due, of all rounds that count. A dash: too few samples for "
                    "that percentile. How late the client was itself stands beside them (its p99 in the worst round): a round in "
                    "which that is above half a millisecond and a tenth of the target's p99 is set aside, or in doubt where "
                    "the target has no other.",
                ),
                legend({name: kinds[name] for name in found}),
                tag("div", drawn or "", class_="scroll"),
                table(["", *(name for _, name in _PERCENTILES), *_OPEN], rows),
            )
        )
    return sections


def _problems(facts: Facts) -> list[Markup]:
    problems = [words for scenario in facts["scenarios"] for words in scenario["problems"]] + facts.get("left_out", [])
    problems += facts.get("counters", {}).get("problems", [])
    return [section("What went wrong or is in doubt", tag("ul", *(tag("li", words) for words in problems)))] if problems else []


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
        phases = [value(facts, *place, "phases_ms", key) for key, _ in _PHASES]
        agreed = " ".join(
            part for part in (row["group"], row["certificate"], row["alpn"], "stapled" if row["stapled"] else "") if part
        )
        sizes = [at((*place, "flight_bytes"), f"{row['flight_bytes']:,}"), row["round_trips"]]
        rows.append(
            [row["label"], value(facts, *place, "handshake_ms", "p50"), *phases, *sizes, agreed, row["suite"], row["count"]]
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
    found = [section("Handshakes", tag("p", note), legend(kinds), tag("figure", *bars), table(heads, rows))]
    if refused:
        words = [tag("li", tag("b", row["label"]), f": {row['refused']}") for row in refused]
        found.append(section("What it does not do", tag("ul", *words)))
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
            shown = [value(facts, *place, "handshake_ms", key) if loop["handshake_ms"] else "–" for key, _ in _PERCENTILES]
            rows.append(
                [
                    loop["label"],
                    value(facts, *place, "rate"),
                    *shown,
                    loop["failed"],
                    f"{loop['client_busy']:.0%}",
                    value(facts, *place, "client_late_ms"),
                    "in doubt" if loop["client_limit"] else "",
                ]
            )
        drawn = latency({loop["label"]: (kinds[loop["label"]], loop["curve"]) for _, loop in loops})
        heads = ["", "a second", *(name for _, name in _PERCENTILES), "failed", "client's core", "client late", ""]
        note = (
            f"Handshakes {words}; milliseconds. A dash: too few samples for that percentile. Beside them the share of its "
            f"core that the client used, and how late it was itself (its p99): above 95 % of the core, or late by more than "
            f"1 ms, the figures are the client's as well as the server's, and in doubt."
        )
        sections.append(
            section(
                f"Rates, {mode} loop",
                tag("p", note),
                legend(kinds),
                tag("div", drawn or "", class_="scroll"),
                table(heads, rows),
            )
        )
    return sections


# what one needs to repeat it


def _grounds(facts: Facts) -> list[Markup]:
    machine = [[*_fact(key, value)] for key, value in facts["machine"].items()]
    found = [
        section(
            "How to repeat it",
            tag("pre", " ".join(map(_quoted, facts["command"])), class_="command"),
            tag("p", "The JSON beside this page has every sample."),
        ),
        section("Machine", table(["", ""], machine, "words")),
    ]
    if versions := facts.get("versions"):
        found.append(section("Versions", table(["", ""], ([name, text] for name, text in versions.items()), "words")))
    if clients := facts.get("clients"):
        rows = [[protocol, text] for protocol, text in clients.items()]
        own = [["handshakes, and many connections", OWN_CLIENT]]
        found.append(section("Where the load comes from", table(["", ""], [*rows, *own], "words")))
    if configurations := facts.get("configurations"):
        details = [tag("details", tag("summary", name), tag("pre", text)) for name, text in configurations.items()]
        found.append(section("Configurations", *details))
    return found


def _fact(key: str, value: object) -> tuple[str, str]:
    """A fact of the machine as name and words."""
    if isinstance(value, (list, tuple)):
        return "load average before the run (1, 5, 15 minutes)", ", ".join(figure(float(each)) for each in value)
    if key == "memory_mib":
        return "memory", f"{value:,} MiB"
    return key.replace("_", " ").replace("cpu", "CPU").replace("tls", "TLS"), str(value)


def _quoted(word: str) -> str:
    return word if word and not set(word) & set(" '\"\\$&;|<>()*?#") else "'" + word.replace("'", "'\\''") + "'"
