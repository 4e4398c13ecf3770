"""`edge upstreams`: every endpoint as the workers see it: well or not and why, and how much goes there now."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edge.cli.ask import ask
from edge.cli.moments import span
from edge.cli.terminal import Exit, answer, note, paint, plural, print_json, printable, table
from edge.cli.watching import watch
from edge.net.tell import gather

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0 when every endpoint is well in every worker, else 1."""
    return watch(lambda: _once(args), args.interval) if args.watch else _once(args)


def _once(args: argparse.Namespace) -> int:
    got = ask(args, "upstreams")
    found = gather("upstreams", [one["value"] for one in got["workers"] if one.get("value")])
    endpoints: list[dict[str, Any]] = found["endpoints"]
    unwell = [one for one in endpoints if one["unwell_in"]]
    code = Exit.NOT_FINE if unwell else Exit.FINE
    if getattr(args, "json", False):
        print_json({"endpoints": endpoints, "left_out": found["left_out"]})
        return code
    table(("upstream", "endpoint", "state", "requests", "open", "idle", "waiting"), [_row(one) for one in endpoints])
    for one in endpoints:
        if one["trouble"]:
            answer(f"{paint(one['endpoint'], 'bold', sys.stdout)}: {printable(one['trouble'])}")
    state = f"{len(unwell)} not well" if unwell else "all well"
    more = f"; {found['left_out']} more are not shown" if found["left_out"] else ""
    note(f"{plural(len(endpoints), 'endpoint')}, {state}{more}")
    if got.get("silent"):
        note(f"no answer from worker {', '.join(map(str, got['silent']))}")
    return code


def _row(one: dict[str, Any]) -> list[str]:
    inline = one["upstream"] == one["endpoint"]
    return [
        "-" if inline else one["upstream"],
        one["endpoint"],
        _state(one),
        str(one["active"]),
        str(one["connections"]),
        str(one["idle"]),
        str(one["waiting"]),
    ]


def _state(one: dict[str, Any]) -> str:
    if not one["unwell_in"] and one["failures"]:
        return f"failing, {one['failures']} in a row"
    if not one["unwell_in"]:
        return "well" if one["checked"] else "well, not checked"
    share = "" if one["unwell_in"] == one["workers"] else f" in {one['unwell_in']} of {one['workers']} workers"
    if not one["healthy"]:
        return f"unwell{share}"
    return f"aside for {span(one['ejected_for'])}{share}"
