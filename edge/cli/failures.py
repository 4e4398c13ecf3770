"""`edge failures`: the last failed handshakes, each in a plain sentence: who, which name, why, and what to do about it."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time
from typing import Any

from edge.cli.ask import ask
from edge.cli.faults import sentence
from edge.cli.moments import ago, span
from edge.cli.terminal import Exit, answer, note, paint, plural, print_json, printable
from edge.cli.watching import watch
from edge.net.tell import gather

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0, whether or not there were any: strangers' failures are no fault of the gateway."""
    return watch(lambda: _once(args), args.interval) if args.watch else _once(args)


def _once(args: argparse.Namespace) -> int:
    got = ask(args, "failures")
    found = gather("failures", [one["value"] for one in got["workers"] if one.get("value")])
    now = time.time()
    entries = [one for one in found["failures"] if args.since is None or one["last"] >= now - args.since]
    if getattr(args, "json", False):
        print_json({"failures": [_with_sentence(one) for one in entries], "total": found["total"]})
        return Exit.FINE
    for one in reversed(entries):  # the newest stands last, beside the prompt
        _show(one, now)
    when = f" in the last {span(args.since)}" if args.since is not None else ""
    if entries:
        handshakes = plural(sum(one["count"] for one in entries), "failed handshake")
        clients = plural(len({one["peer"] for one in entries}), "client")
        note(f"{handshakes}{when} from {clients}; {found['total']} since the workers started")
    else:
        note(f"no failed handshakes{when}")
    if got.get("silent"):
        note(f"no answer from worker {', '.join(map(str, got['silent']))}")
    return Exit.FINE


def _told(one: dict[str, Any]) -> tuple[str, str]:
    """What happened, and what to do (may be empty), for one entry."""
    means, remedy = sentence(one["kind"], one["detail"] if one["detail"] != one["sni"] else "")
    asked = f"asked for {one['sni']}" if one["sni"] else "named no host"
    if one["stage"] == "hello" and not one["sni"]:
        asked = "connected"
    where = f" on {one['listener']}" if one["listener"] else ""
    return f"{one['peer']} {asked}{where}: {means}.", _as_sentence(remedy)


def _as_sentence(remedy: str) -> str:
    """With a capital, but for a command's name, and a full stop."""
    first = remedy[:1] if remedy.startswith("edge ") else remedy[:1].upper()
    return f"{first}{remedy[1:].rstrip('.')}." if remedy else ""


def _with_sentence(one: dict[str, Any]) -> dict[str, Any]:
    text, remedy = _told(one)
    return {**one, "text": text, "what_to_do": remedy}


def _show(one: dict[str, Any], now: float) -> None:
    text, remedy = _told(one)
    times = f"{one['count']} times, last " if one["count"] > 1 else ""
    when = f"{times}{ago(one['last'], now)}"
    out = sys.stdout
    width = max(40, min(shutil.get_terminal_size().columns, 120)) - 4 if out.isatty() else 0
    answer(f"{paint(one['kind'], 'bold', out)}  {paint(when, 'dim', out)}")
    for paragraph in (text, remedy):
        clean = printable(paragraph)
        for line in textwrap.wrap(clean, width, break_long_words=False, break_on_hyphens=False) if width else [clean]:
            answer(f"    {line}" if line else "")
