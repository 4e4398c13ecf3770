"""Sentences made from the figures of a report, for its first lines. They know the JSON alone: whoever has it can check them.

Of one target a sentence compares medians, and says "about as long" below a tenth, because one run proves no less. Beside peers
a ratio is the median of those of single rounds, and its range says what it does not prove.
"""

from __future__ import annotations

from statistics import median
from typing import Any

__all__ = ["LATE", "OWN_CLIENT", "figure", "of_doubts", "of_handshakes", "of_peers", "quotients", "range_words", "thousands"]

Facts = dict[str, Any]
_SAME = 0.1
_FULL = 0.95  # of a core: whoever uses more is the limit
_BUSY = 0.85  # of a core: below that a closed loop was held up by something else
_ENOUGH = 4  # rounds, for a range that is worth something
_TO_FIRST_BYTE = ("hello_to_flight", "flight_to_finished", "to_first_byte")

OWN_CLIENT = "the bench's own client"
"""Where requests come from when no tool for them is installed."""

RESUMED = {
    "before": "resumed before, %",
    "during": "resumed meanwhile, %",
    "after": "resumed afterwards, %",
    "away": "resumed of those who were away, %",
}
"""Details of a rotation of ticket keys: shares of the clients that came back."""

LATE = "client late at p99, ms"
"""A detail of open loops: how late the client itself was."""


def figure(value: float) -> str:
    """Three digits or so: 1234, 123, 12.3, 1.23, 0.12."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def thousands(value: float) -> str:
    """`value` in thousands: 13,886, 1,843, 145, 70.3."""
    return f"{value / 1e3:,.0f}" if value >= 1e5 else figure(value / 1e3)


def _p50(row: Facts | None) -> float | None:
    found = (row or {}).get("handshake_ms") or {}
    value = found.get("p50")
    return None if value is None else float(value)


def _first_byte(row: Facts | None) -> float | None:
    """Milliseconds from the hello to the answer's first byte."""
    phases = (row or {}).get("phases_ms") or {}
    parts = [float(value) for key in _TO_FIRST_BYTE if (value := phases.get(key)) is not None]
    return sum(parts) if len(parts) == len(_TO_FIRST_BYTE) else None


def _find(rows: list[Facts], **wanted: Any) -> Facts | None:
    """The first measured row with this offer; what is not wanted is as an ordinary client has it."""
    plain = {"certificate": "", "resumed": False, "early": False} | wanted
    return next((row for row in rows if "refused" not in row and all(row["offer"][key] == plain[key] for key in plain)), None)


def _compared(dear: float, cheap: float, what: str, than: str) -> str:
    ratio = dear / cheap
    return f"{what} takes {'about as long as' if abs(ratio - 1) < _SAME else f'{ratio:.1f} times'} {than}"


def of_handshakes(facts: Facts) -> list[str]:
    """For ``bench handshake``: what the target does, what it costs in time, and who was the limit."""
    rows: list[Facts] = facts["handshakes"]
    said: list[str] = []
    able = [version for version in ("1.3", "1.2") if _find(rows, version=version)]
    if not able:
        why = next((row["refused"] for row in rows if "refused" in row), "nothing was asked")
        return [f"No handshake came about: {why}."]
    best = _find(rows, version=able[0])
    assert best is not None
    middle, trips = _p50(best), best["round_trips"]
    said.append(
        f"It speaks TLS {' and '.join(able)}; a full TLS {able[0]} handshake takes {figure(middle or 0)} ms here "
        f"(median of {best['count']}, "
        f"{best['group']}, {best['certificate'].upper() or 'no certificate'}), with {trips} round trip{'s' if trips > 1 else ''} "
        f"and {best['flight_bytes']:,} bytes from the server."
    )
    for version in able:
        full, resumed = _find(rows, version=version), _find(rows, version=version, resumed=True)
        whole, part = _p50(full), _p50(resumed)
        if whole and part:
            saved = 1 - part / whole
            words = f"saves {saved:.0%} of the time" if saved >= _SAME else "saves no time to speak of"
            said.append(f"TLS {version} resumption works (verified on each of {resumed['count'] if resumed else 0}) and {words}.")
        else:
            said.append(f"TLS {version} is not resumed: every client that comes back makes a full handshake.")
    if (hybrid := _find(rows, version="1.3", group="X25519MLKEM768")) and (plain := _find(rows, version="1.3", group="X25519")):
        said.append(
            f"{_compared(_p50(hybrid) or 0, _p50(plain) or 1, 'The post-quantum hybrid X25519MLKEM768', 'X25519')} "
            f"and makes the server's flight {hybrid['flight_bytes'] - plain['flight_bytes']:,} bytes longer."
        )
    elif "1.3" in able:
        said.append("It has no post-quantum group that we know (X25519MLKEM768).")
    if any(row.get("early_data") for row in rows):
        said.append("It lets clients that come back send early data (0-RTT), which can be replayed.")
    late, soon = (_first_byte(_find(rows, version="1.3", resumed=True, early=early)) for early in (False, True))
    if late and soon:
        words = f"{figure(soon)} ms after the hello with early data, {figure(late)} ms without"
        said.append(f"The first byte of an answer comes {words}.")
    for version in able:
        rsa, ecdsa = (_find(rows, version=version, certificate=kind) for kind in ("rsa", "ecdsa"))
        if (one := _p50(rsa)) and (other := _p50(ecdsa)):
            said.append(f"{_compared(one, other, f'With its RSA certificate a TLS {version} handshake', 'with ECDSA')}.")
            break
    if any(row.get("beyond_first_window") for row in rows):
        said.append("The server's flight is longer than TCP's first window (14,600 bytes): far clients pay one more round trip.")
    shown = [loop for loop in facts["loops"] if loop["label"] == best["label"]]
    if failed := sum(row.get("failed", 0) for row in rows):
        said.append(
            f"{failed} of the handshakes failed that others like them did not: the server or the way to it is not reliable."
        )
    for loop in shown:
        if found := loop["handshake_ms"]:
            p99 = "too few samples for p99" if found["p99"] is None else f"p99 {figure(found['p99'])} ms"
            rate = f"{loop['rate']:.0f} a second" + (
                f" of {loop['wanted_rate']:.0f} wanted" if loop["wanted_rate"] else ", closed loop"
            )
            failed = f"; {loop['failed']} failed" if loop["failed"] else ""
            said.append(f"{loop['label']}: {rate}, median {figure(found['p50'])} ms, {p99}{failed}.")
        else:
            said.append(f"{loop['label']}: no handshake of {loop['failed']} succeeded.")
    if limited := [loop["client_limit"] for loop in facts["loops"] if loop["client_limit"]]:
        said.append(f"In {len(limited)} of {len(facts['loops'])} loops the figures are partly the client's own: {limited[0]}.")
    return said


def _summary(facts: Facts, scenario: str, target: str) -> Facts | None:
    found = next((each for each in facts["scenarios"] if each["name"] == scenario), None)
    return None if found is None else found["summary"].get(target)


def _value(facts: Facts, scenario: str, target: str) -> float | None:
    found = _summary(facts, scenario, target)
    return None if found is None else float(found["value"])


def range_words(low: float, high: float, rounds: int, places: int = 2) -> str:
    """A ratio's range over the rounds in words, with what it does not prove."""
    if rounds < 2:
        return "a single round proves nothing"
    proven = "; the range includes 1, so no difference is proven" if low <= 1 <= high else ""
    return f"{low:.{places}f} to {high:.{places}f}{proven}"


def quotients(facts: Facts, one: tuple[str, str], other: tuple[str, str]) -> list[float]:
    """The cost of `one` (scenario, target) divided by that of `other` in each round that has both, ascending."""
    found = []
    rounds = {each["name"]: each["rounds"] for each in facts["scenarios"]}
    for above, below in zip(rounds.get(one[0], ()), rounds.get(other[0], ()), strict=False):
        if one[1] in above and other[1] in below and below[other[1]]["value"] > 0:
            found.append(above[one[1]]["value"] / below[other[1]]["value"])
    return sorted(found)


def of_peers(facts: Facts) -> list[str]:
    """For a run beside peers: what handshakes cost, what saves, who is cheapest, and how much of it is not crypto."""
    subject, base = facts["subject"], facts["base"]
    said: list[str] = []
    if (mine := _summary(facts, "tls1.3-full", subject)) is not None:
        beside = ""
        if mine["ratio"] and subject != base:
            words = range_words(mine["ratio_low"], mine["ratio_high"], mine["rounds"])
            beside = f", {mine['ratio']:.2f} of {base} ({words})"
        said.append(f"{subject} spends {figure(mine['value'])} µs per full TLS 1.3 handshake{beside}.")
        said += _of_floor(facts, "tls1.3-full", subject)
        said += _of_cheapest(facts, "tls1.3-full", subject)
    said += _of_kinds(facts, subject)
    said += _of_rotation(facts, subject)
    return said + _of_counters(facts, subject) + _of_open_loops(facts, subject)


def _of_floor(facts: Facts, scenario: str, subject: str) -> list[str]:
    part = next((each for each in (facts.get("floor") or {}).get("parts", []) if each["scenario"] == scenario), None)
    if part is None:
        return []
    several = part["rounds"] > 1
    other = f" ({part['other_low']:.0%} to {part['other_high']:.0%})" if several else ""
    own = f"{figure(part['rest'])} µs {subject}'s own"
    if several:
        own += f" ({figure(part['rest_low'])} to {figure(part['rest_high'])})"
    if part["rest_low"] <= 0:
        own += ", which proves no share of its own"
    end = "." if several else "; a single round gives no range."
    return [f"{part['other']:.0%} of that is not crypto{other}: {figure(part['kernel'])} µs are the kernel's, {own}{end}"]


def _of_cheapest(facts: Facts, scenario: str, subject: str) -> list[str]:
    others = {name: value for name in facts["names"] if (value := _value(facts, scenario, name)) is not None}
    cheapest = min(others, key=lambda name: others[name])
    if cheapest == subject:
        return [f"No full TLS 1.3 handshake here is cheaper than {subject}'s."] if len(others) > 1 else []
    ratios = quotients(facts, (scenario, cheapest), (scenario, subject))
    beside = f"{median(ratios):.2f} of {subject} ({range_words(ratios[0], ratios[-1], len(ratios))})" if ratios else ""
    return [f"The cheapest full TLS 1.3 handshake here is {cheapest}'s: {figure(others[cheapest])} µs, {beside}."]


def _of_kinds(facts: Facts, subject: str) -> list[str]:
    """What resumption saves, and what other keys and groups cost, each compared within a round."""
    said = []
    for version in ("1.3", "1.2"):
        if not (ratios := quotients(facts, (f"tls{version}-resumed", subject), (f"tls{version}-full", subject))):
            continue
        spread = f"{1 - ratios[-1]:.0%} to {1 - ratios[0]:.0%}"
        if len(ratios) < 2:
            words = f"saves {1 - median(ratios):.0%} at {subject}, by a single round, which proves nothing"
        elif ratios[-1] < 1:
            words = f"saves {1 - median(ratios):.0%} at {subject} ({spread})"
        else:
            words = f"is not shown to save anything at {subject} ({spread})"
        said.append(f"Resumption of a TLS {version} handshake {words}.")
    for scenario, what in (
        ("tls1.3-full-rsa", "RSA 2048 costs {} times ECDSA P-256"),
        ("tls1.3-full-mlkem", "X25519MLKEM768 costs {} times X25519"),
        ("tls1.3-full-mutual", "Mutual TLS costs {} times a handshake without a client's certificate"),
    ):
        if ratios := quotients(facts, (scenario, subject), ("tls1.3-full", subject)):
            words = range_words(ratios[0], ratios[-1], len(ratios))
            said.append(f"{what.format(f'{median(ratios):.2f}')} at {subject} (server CPU, TLS 1.3; {words}).")
    if ratios := quotients(facts, ("tls1.3-early", subject), ("tls1.3-resumed-request", subject)):
        words = range_words(ratios[0], ratios[-1], len(ratios))
        said.append(
            f"A resumed handshake with its request in early data costs {median(ratios):.2f} times one with the request after it "
            f"at {subject} ({words}); what it saves clients is a round trip."
        )
    if ratios := quotients(facts, ("tls1.3-full-staple", subject), ("tls1.3-full-unstapled", subject)):
        words = range_words(ratios[0], ratios[-1], len(ratios))
        said.append(
            f"With an OCSP staple a full TLS 1.3 handshake costs {median(ratios):.2f} times one without at {subject} ({words})."
        )
    return said


def _of_open_loops(facts: Facts, subject: str) -> list[str]:
    said = []
    for each in facts["scenarios"]:
        mine = each["summary"].get(subject)
        if each["loop"] != "open" or mine is None:
            continue
        words = f"The {each['what']}: {figure(mine['value'])} ms at {subject}"
        if mine["ratio"] and subject != facts["base"]:
            base = facts["base"]
            words += f", {figure(each['summary'][base]['value'])} ms at {base}"
            late = mine["doubtful"] or each["summary"][base]["doubtful"]
            spread = range_words(mine["ratio_low"], mine["ratio_high"], mine["rounds"])
            words += f"; within a round {mine['ratio']:.2f} ({'of a late client, which proves nothing' if late else spread})"
        said.append(words + ".")
        doubtful = [name for name, found in each["summary"].items() if found["doubtful"]]
        if doubtful:
            worst = max(each["latency"][name]["late"] for name in doubtful)
            said.append(
                f"That is the machine's more than the servers': the client was late itself in every sample of "
                f"{', '.join(doubtful)}, by up to {figure(worst)} ms."
            )
        if aside := sum(found["aside"] for found in each["summary"].values()):
            said.append(f"{aside} sample{'s' if aside > 1 else ''} of it did not count: the client was late itself.")
    return said


def _of_rotation(facts: Facts, subject: str) -> list[str]:
    """Whether clients resume across a rotation of ticket keys."""
    if (mine := _summary(facts, "rotation", subject)) is None:
        return []
    shares = [mine["details"][name] for name in RESUMED.values()]
    before, during, after, away = (f"{share:.{0 if share in (0, 100) else 1}f} %" for share in shares)
    others = [
        f"{found['details'][RESUMED['away']]:.0f} % at {name}"
        for name in facts["names"]
        if name != subject and (found := _summary(facts, "rotation", name)) is not None
    ]
    beside = f" ({', '.join(others)})" if others else ""
    words = f"of those that keep coming {before} before, {during} during and {after} after it"
    return [f"Across a rotation of ticket keys {away} of the clients that were away resume at {subject}{beside}; {words}."]


def _of_counters(facts: Facts, subject: str) -> list[str]:
    """How many instructions a handshake takes, and whether more or fewer cycles go with it."""
    of: Facts = next((each.get("counters", {}) for each in facts["scenarios"] if each["name"] == "tls1.3-full"), {})
    if (mine := of.get(subject)) is None:
        return []
    words = f"{subject} executes {thousands(mine['instructions'])} thousand instructions per full TLS 1.3 handshake"
    if mine["instructions_ratio"]:
        words += (
            f", {mine['instructions_ratio']:.2f} of {facts['base']}'s, in {mine['cycles_ratio']:.2f} of its cycles "
            f"({mine['instructions'] / mine['cycles']:.2f} instructions per cycle)"
        )
    return [words + "."]


def of_doubts(facts: Facts) -> list[str]:
    """What the reader has to know of the machine and the client before the figures beside peers are worth something."""
    said = []
    closed = [each for each in facts["scenarios"] if each["loop"] == "closed"]
    full_clients = {
        each["name"]: names
        for each in closed
        if (names := [name for name, of in each["summary"].items() if of["load_busy"] > _FULL and of["busy"] < _FULL])
    }
    if full_clients:
        where = "; ".join(f"{scenario} with {', '.join(names)}" for scenario, names in full_clients.items())
        said.append(f"The client's core was full in {where}: the rates there are the client's, the costs are not touched.")
    neither = [
        found["busy"] for each in closed for found in each["summary"].values() if max(found["busy"], found["load_busy"]) < _BUSY
    ]
    if neither:
        said.append(
            f"In {len(neither)} of {sum(len(each['summary']) for each in closed)} closed loops neither the server nor the client "
            f"had a full core (the server's down to {min(neither):.0%}): something else used them, and the rates are not what "
            f"the servers can do."
        )
    full_loads: dict[str, list[str]] = {}
    for each in facts["scenarios"]:
        for name, found in each["summary"].items():
            if each.get("relayed") and found["load_busy"] > _FULL and found["busy"] < _FULL:
                full_loads.setdefault(name, []).append(each["name"])
    for name, scenarios in full_loads.items():
        said.append(
            f"With {name} the load's core, client and upstream together, was full and the server's was not in "
            f"{', '.join(scenarios)}: that is not the most that {name} can do, only what each request cost it."
        )
    if own := [protocol for protocol, client in facts.get("clients", {}).items() if client == OWN_CLIENT]:
        tools = {"HTTP/1.1": "wrk", "HTTP/2": "h2load"}
        missing = " and ".join(tools[protocol] for protocol in own)
        verb = "is" if len(own) == 1 else "are"
        said.append(f"{missing} {verb} not installed: requests over {' and '.join(own)} come from {OWN_CLIENT}.")
    mine = (each["summary"].get(facts["subject"]) for each in facts["scenarios"])
    rounds = min((found["rounds"] for found in mine if found is not None), default=_ENOUGH)
    if 1 < rounds < _ENOUGH:
        said.append(
            f"{rounds} rounds are few: of two equal targets the ratios of all rounds lie on one side of 1 by chance in "
            f"{2 ** (1 - rounds):.0%} of runs."
        )
    load, cores = facts["machine"].get("load_average", (0,))[0], facts["machine"].get("cores") or 1
    if load > cores / 2:
        said.append(
            f"The machine was busy before the run began (load average {figure(load)} on {cores} cores): ratios within a round "
            f"mean something, absolute figures and latencies little."
        )
    return said
