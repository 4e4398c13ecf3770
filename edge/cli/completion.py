"""`edge completion`: the completions of a shell, made from the grammar itself (by shtab), so that they are never behind it."""

from __future__ import annotations

import argparse

from edge.cli.catalogue import NAMES
from edge.cli.manual import topics
from edge.cli.parser import actions, build
from edge.cli.terminal import Exit, answer

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """The script of `args.shell`, to stdout."""
    import shtab

    parser = build()
    for action in actions(parser, "help"):
        if action.dest == "topic":
            action.choices = [*topics(), *NAMES]
    answer(shtab.complete(parser, shell=args.shell).rstrip("\n"))
    return Exit.FINE
