"""What a bare `edge` prints: what it is, the five commands to start with, and whether a gateway runs here."""

from __future__ import annotations

import argparse
import sys

from edge.cli.locate import running_socket
from edge.cli.terminal import Exit, answer, paint
from edge.cli.versions import number

__all__ = ["run"]

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
    found = running_socket(args)
    if found is not None:
        answer(f"A gateway runs here; its socket is {found}.")
    return Exit.FINE
