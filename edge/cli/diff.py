"""`edge diff`: what another file would change, weakened security first.

Without a file: what a reload of the running gateway would change. With one: the same for that file. With two: what the second
one changes of the first. A file is loaded with its certificates, and is refused as `edge check` refuses it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edge.cli.ask import ask
from edge.cli.changes import as_json, counted, show
from edge.cli.loading import load_settings
from edge.cli.locate import configuration
from edge.cli.terminal import Exit, Stop, note, paint, print_json
from edge.settings.difference import compare
from edge.settings.outline import Outline, outline

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0 when both do the same, else 1; 3 when there is no running gateway to compare with."""
    if args.a == "-" and args.b == "-":
        raise Stop(Exit.USAGE, "only one of the two can be stdin")
    if args.b is not None:
        old, old_name = _file(args.a)
        new, new_name = _file(args.b)
    else:
        answer = ask(args, "outline")
        old, old_name = answer["outline"], "the running gateway"
        new, new_name = _file(args.a if args.a is not None else str(_read_by(args, answer)))
    changes = as_json(compare(old, new))
    if getattr(args, "json", False):
        print_json({"same": not changes, "from": old_name, "to": new_name, "changes": changes})
    else:
        show(changes)
        summary = counted(changes) if changes else "no change"
        weaker = any(change["weaker"] for change in changes)
        shown = paint(summary, "red" if weaker else "green" if not changes else "bold", sys.stderr)
        note(f"{old_name} → {new_name}: {shown}")
    return Exit.NOT_FINE if changes else Exit.FINE


def _read_by(args: argparse.Namespace, answer: dict[str, Any]) -> Path:
    """The file that a reload would read: the gateway's own, unless another one was named."""
    named = getattr(args, "config", None)
    own = answer.get("config")
    return Path(own) if own and not named else configuration(args)


def _file(name: str) -> tuple[Outline, str]:
    if name == "-":
        return outline(load_settings(Path("stdin"), sys.stdin.buffer.read().decode("utf-8", "replace"))), "stdin"
    return outline(load_settings(Path(name))), name
