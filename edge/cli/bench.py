"""`edge bench`: hands its arguments to the bench, which has a grammar of its own."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from edge.cli.terminal import Exit, Stop

__all__ = ["run"]


def run(arguments: list[str]) -> int:
    """Run the installed bench. Raises Stop(USAGE) when this installation has none."""
    if find_spec("edge.bench") is None or find_spec("edge.bench.__main__") is None:
        raise Stop(Exit.USAGE, "edge bench is not in this installation", "From a checkout: make bench")
    code = importlib.import_module("edge.bench.__main__").main(arguments)
    return int(code or 0)
