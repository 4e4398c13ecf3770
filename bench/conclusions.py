"""Sentences made from the figures of a report, for its first lines. They know the JSON alone: whoever has it can check them.

A sentence compares medians of one run. It says "about the same" below a tenth, because one run on one machine proves no less.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LATE", "figure", "of_handshakes", "of_peers"]

Facts = dict[str, Any]
_SAME = 0.1

LATE = "client late at p99, ms"
"""A detail of open loops: how late the client itself was."""


def figure(value: float) -> str:
    """Three digits or so: 1234, 123, 12.3, 1.23, 0.12."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _p50(row: Facts | None) -> float | None:
    found = (row or {}).get("handshake_ms") or {}
    value = found.get("p50")
    return None if value is None else float(value)


def _find(rows: list[Facts], **wanted: Any) -> Facts | None:
    """The first measured row with this offer; what is not wanted is as an ordinary client has it."""
    plain = {"certificate": "", "resumed": False} | wanted
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
    median, trips = _p50(best), best["round_trips"]
    said.append(
        f"It speaks TLS {' and '.join(able)}; a full TLS {able[0]} handshake takes {figure(median or 0)} ms here "
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


def of_peers(facts: Facts) -> list[str]:
    """For a run beside peers: what handshakes cost, what saves, who is cheapest, and how much of it is not crypto."""
    subject, base = facts["subject"], facts["base"]
    said: list[str] = []
    if (mine := _summary(facts, "tls1.3-full", subject)) is not None:
        beside = ""
        if mine["ratio"] and subject != base:
            doubtful = mine["ratio_low"] <= 1 <= mine["ratio_high"]
            proven = "; the range includes 1, so no difference is proven" if doubtful else ""
            proven = "; a single round proves nothing" if mine["rounds"] < 2 else proven
            beside = f", {mine['ratio']:.2f} of {base} ({mine['ratio_low']:.2f} to {mine['ratio_high']:.2f}{proven})"
        said.append(f"{subject} spends {figure(mine['value'])} µs per full TLS 1.3 handshake{beside}.")
        for part in (facts.get("floor") or {}).get("parts", []):
            if part["scenario"] == "tls1.3-full" and part["total"]:
                own = (
                    f"{figure(part['rest'])} µs {subject}'s own" if part["rest"] > 0 else "and none that could be told is its own"
                )
                said.append(
                    f"{max(0.0, 1 - part['crypto'] / part['total']):.0%} of that is not crypto: "
                    f"{figure(part['kernel'])} µs are the kernel's, {own}."
                )
        others = {name: value for name in facts["names"] if (value := _value(facts, "tls1.3-full", name)) is not None}
        cheapest = min(others, key=lambda name: others[name])
        if cheapest != subject:
            said.append(
                f"The cheapest full TLS 1.3 handshake here is {cheapest}'s: {figure(others[cheapest])} µs, "
                f"{others[cheapest] / mine['value']:.2f} of {subject}."
            )
    for version in ("1.3", "1.2"):
        full, resumed = (_value(facts, f"tls{version}-{kind}", subject) for kind in ("full", "resumed"))
        if full and resumed:
            saved = 1 - resumed / full
            words = f"saves {saved:.0%}" if saved >= _SAME else "saves nothing to speak of"
            said.append(f"Resumption of a TLS {version} handshake {words} at {subject}.")
    plain = _value(facts, "tls1.3-full", subject)
    for scenario, what in (
        ("tls1.3-full-rsa", "RSA 2048 costs {} times ECDSA P-256"),
        ("tls1.3-full-mlkem", "X25519MLKEM768 costs {} times X25519"),
        ("tls1.3-full-mutual", "Mutual TLS costs {} times a handshake without a client's certificate"),
    ):
        if plain and (value := _value(facts, scenario, subject)):
            said.append(f"{what.format(f'{value / plain:.2f}')} at {subject} (server CPU, TLS 1.3).")
    with_it, without = (_value(facts, f"tls1.3-full-{kind}", subject) for kind in ("staple", "unstapled"))
    if with_it and without:
        said.append(f"With an OCSP staple a full TLS 1.3 handshake costs {with_it / without:.2f} times one without at {subject}.")
    for each in facts["scenarios"]:
        if each["loop"] == "open" and (mine := each["summary"].get(subject)):
            words = f"The {each['what']}: {figure(mine['value'])} ms at {subject}"
            if mine["ratio"] and subject != base:
                words += f", {figure(each['summary'][base]['value'])} ms at {base}"
            late = max(found["details"].get(LATE, 0.0) for found in each["summary"].values())
            doubt = f"; the client was late itself by up to {figure(late)} ms, so this is the machine's more than the servers'"
            said.append(f"{words} (median over the rounds{doubt if late > mine['value'] / 10 else ''}).")
    full_clients = [
        f"{each['name']} with {name}"
        for each in facts["scenarios"]
        for name, found in each["summary"].items()
        if each["loop"] == "closed" and found["load_busy"] > 0.95 and found["busy"] < 0.95
    ]
    if full_clients:
        said.append(
            f"The client's core was full in {', '.join(full_clients)}: the rates there are the client's, the "
            f"costs are not touched."
        )
    return said
