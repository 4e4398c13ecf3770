"""`edge bench`: hands its arguments to the bench, which has a grammar of its own."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

import edge
from edge.cli.terminal import Exit, Stop

__all__ = ["run"]


def run(arguments: list[str]) -> int:
    """Run the bench: the installed one, or the one beside this package in a checkout. Raises Stop(USAGE) when there is none."""
    name = _module()
    if not name:
        raise Stop(Exit.USAGE, "edge bench is not in this installation", "From a checkout: make bench")
    code = importlib.import_module(name).main(arguments)
    return int(code or 0)


def _module() -> str:
    if find_spec("edge.bench") is not None:
        return "edge.bench.__main__"
    beside = find_spec("bench")
    if beside is None or beside.origin is None:
        return ""
    checkout = Path(str(edge.__file__)).parent.parent
    return "bench.__main__" if Path(beside.origin).parent.parent == checkout else ""
