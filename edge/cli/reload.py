"""`edge reload`: has the running gateway take its file as it is now, waits, and says what is live or why nothing changed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edge.cli.ask import find, refusal, said
from edge.cli.changes import counted, show
from edge.cli.terminal import Exit, answer, note, paint, print_json, printable

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0 when the new settings are live in every worker; 1 when they were refused, and what ran goes on."""
    path, got = find(args, {"op": "reload", "allow_weaker": args.allow_weaker}, args.timeout)
    if getattr(args, "json", False):
        print_json({"reloaded": bool(got.get("ok")), "socket": str(path), **said(got)})
        return Exit.FINE if got.get("ok") else Exit.NOT_FINE
    if not got.get("ok"):
        return _refused(got)
    for warning in got.get("warnings", []):
        note(printable_block(str(warning)))
    changes: list[dict[str, Any]] = got.get("changes", [])
    show(changes)
    what = counted(changes) if changes else "nothing changed"
    answer(f"{paint('live', 'green', sys.stdout)}: generation {got['generation']}, {what} ({str(got['digest'])[:12]})")
    return Exit.FINE


def _refused(got: dict[str, Any]) -> int:
    for problem in got.get("problems", []):
        note(printable_block(str(problem)))
    changes: list[dict[str, Any]] = got.get("changes", [])
    if got.get("error") == "weaker":
        show(changes, sys.stderr)
        note(f"{paint('refused', 'red', sys.stderr)}: {counted(changes)}. What ran goes on.")
        note("      If that is meant: edge reload --allow-weaker")
        return Exit.NOT_FINE
    stop = refusal(got)
    why = str(got["error"]) if got.get("problems") else printable(stop.message)  # the problems stand above
    note(f"{paint('refused', 'red', sys.stderr)}: {why}. What ran goes on.")
    if stop.hint:
        note(f"      {stop.hint}")
    return stop.code


def printable_block(text: str) -> str:
    """Several lines, each without control characters."""
    return "\n".join(printable(line) for line in text.rstrip("\n").split("\n"))
