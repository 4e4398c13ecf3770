"""`edge certs`: the certificates that the running gateway serves, the one that expires first at the top."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from edge.cli.ask import ask
from edge.cli.moments import day, span
from edge.cli.terminal import Exit, answer, note, paint, plural, print_json, printable, table
from edge.settings.rules import listing

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0; with `--expiring`: 1 when one of them expires within that time (cron, Nagios), and only those are shown."""
    now = time.time()
    found = sorted(ask(args, "certs")["certificates"], key=lambda one: (one["not_after"], one["name"]))
    due = found if args.expiring is None else [one for one in found if one["not_after"] < now + args.expiring]
    code = Exit.NOT_FINE if args.expiring is not None and due else Exit.FINE
    if getattr(args, "json", False):
        print_json({"certificates": [{**one, "seconds_left": round(one["not_after"] - now)} for one in due]})
        return code
    if args.expiring is None or due:
        table(("expires", "left", "key", "staple", "hosts", "certificate"), [_row(one, now) for one in due])
        for one in due:
            staple = one.get("staple") or {}
            if staple.get("state") in ("error", "revoked"):
                answer(f"{paint(str(one['name']), 'bold', sys.stdout)}: staple: {printable(str(staple['detail']))}")
    if args.expiring is not None:
        of = f"{len(due)} of {plural(len(found), 'certificate')}" if due else f"none of {plural(len(found), 'certificate')}"
        text = f"{of} expire{'s' if len(due) < 2 else ''} within {span(args.expiring)}"
        note(paint(text, "red" if due else "green", sys.stderr))
        if due:
            note("What to do: edge help runbooks")
    return code


def _row(one: dict[str, Any], now: float) -> list[str]:
    left = one["not_after"] - now
    remaining = f"expired {span(-left)}" if left < 0 else "not valid yet" if one["not_before"] > now else span(left)
    hosts = listing(list(one["hosts"]), 2) or "-"
    return [day(one["not_after"]), remaining, str(one["key_type"]), _staple(one.get("staple"), now), hosts, str(one["name"])]


def _staple(staple: dict[str, Any] | None, now: float) -> str:
    """``good for 3 days``, ``not applicable``, ``none yet``, ``error``, ``REVOKED``, ``off``."""
    if not staple:
        return "-"
    state, until = str(staple["state"]), staple.get("until")
    if state == "revoked":
        return "REVOKED"
    if until:
        return f"good for {span(max(0.0, until - now))}"
    return {"none": "none yet", "not-applicable": "not applicable"}.get(state, state)
