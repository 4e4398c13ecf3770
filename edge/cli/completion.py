"""`edge completion`: the completions of a shell, made from the grammar itself (by shtab), so that they are never behind it."""

from __future__ import annotations

import argparse

from edge.cli.parser import build
from edge.cli.terminal import Exit, answer

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """The script of `args.shell`, to stdout."""
    import shtab

    answer(shtab.complete(build(), shell=args.shell).rstrip("\n"))
    return Exit.FINE
