"""`edge upgrade`: the installed version of the program takes the running one's place, on the same sockets."""

from __future__ import annotations

import argparse

from edge.cli.ask import ask, said
from edge.cli.terminal import Exit, answer, print_json

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0 when the new program serves; 1 when it could not, and the old one goes on."""
    got = ask(args, "upgrade", timeout=args.timeout)
    if getattr(args, "json", False):
        print_json(said(got))
    else:
        answer(f"upgraded: pid {got.get('pid', '-')} serves, what was open finishes in the old one")
    return Exit.FINE
