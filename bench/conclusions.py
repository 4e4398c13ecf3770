"""Sentences made from the figures of a report, for its first lines. They know the JSON alone: whoever has it can check them.

A sentence compares medians of one run. It says "about the same" below a tenth, because one run on one machine proves no less.
"""

from __future__ import annotations

from typing import Any

__all__ = ["figure", "of_handshakes"]

Facts = dict[str, Any]
_SAME = 0.1


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
    for version in able:
        rsa, ecdsa = (_find(rows, version=version, certificate=kind) for kind in ("rsa", "ecdsa"))
        if (one := _p50(rsa)) and (other := _p50(ecdsa)):
            said.append(f"{_compared(one, other, f'With its RSA certificate a TLS {version} handshake', 'with ECDSA')}.")
            break
    if any(row.get("beyond_first_window") for row in rows):
        said.append("The server's flight is longer than TCP's first window (14,600 bytes): far clients pay one more round trip.")
    shown = [loop for loop in facts["loops"] if loop["label"] == best["label"]]
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
