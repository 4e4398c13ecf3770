"""`edge upgrade`: the installed version of the program takes the running one's place, on the same sockets."""

from __future__ import annotations

import argparse

from edge.cli.ask import find, refusal, said
from edge.cli.terminal import Exit, answer, note, print_json, printable

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0 when the new program serves; 1 when it could not, and the old one goes on."""
    _, got = find(args, {"op": "upgrade"}, args.timeout)
    fine = bool(got.get("ok"))
    if getattr(args, "json", False):
        print_json({"upgraded": fine, **said(got)})
        return Exit.FINE if fine else Exit.NOT_FINE
    if not fine:
        for line in str(got.get("said") or "").splitlines():
            note(f"  {printable(line)}")  # the new program's own words
        raise refusal(got)
    if got.get("in_place"):
        answer(f"upgrading in place: pid {got['pid']} becomes the new program; edge status --wait says when it is ready")
    else:
        answer(f"upgraded: pid {got['pid']} serves; what was open finishes in the old program")
    return Exit.FINE
