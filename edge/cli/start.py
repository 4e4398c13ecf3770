"""What a bare `edge` prints: what it is, the five commands to start with, and whether a gateway runs here."""

from __future__ import annotations

import argparse
import sys
import time

from edge.cli.ask import find
from edge.cli.status import headline
from edge.cli.terminal import Exit, Stop, answer, paint
from edge.cli.versions import number

__all__ = ["run"]

_PATIENCE = 1.0  # seconds

_FIRST = (
    ("edge proxy 8000", "TLS in front of a local port, without a file"),
    ("edge demo", "a gateway in front of a demo service, to try things on"),
    ("edge init NAME --to URL", "write a commented edge.toml"),
    ("edge check", "find every mistake in it"),
    ("edge run", "run the gateway in the foreground"),
)


def run(args: argparse.Namespace) -> int:
    """The start page, to stdout."""
    width = max(len(command) for command, _ in _FIRST) + 3
    answer(f"{paint('edge', 'bold', sys.stdout)} {number()}: a TLS gateway. HTTPS in front of your services, right by default.\n")
    for command, what in _FIRST:
        answer(f"  {paint(command, 'cyan', sys.stdout)}{' ' * (width - len(command))}{what}")
    answer("\nAll commands: edge --help. Manual: edge help.")
    found = _running(args)
    if found:
        answer(found)
    return Exit.FINE


def _running(args: argparse.Namespace) -> str:
    """A sentence about the gateway that runs here; empty when none does."""
    try:
        path, got = find(args, {"op": "status"}, _PATIENCE)
    except Stop as stop:
        return f"A gateway may run here, but {stop.message}." if stop.code is Exit.NOT_PERMITTED else ""
    except OSError:
        return ""
    about = headline(got, time.time()) if got.get("ok") else "it does not say how it is"
    return f"A gateway runs here: {about}. Its socket is {path}; more: edge status."
