"""Changes of the settings as people read them: what takes protection away first, one line each."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from edge.cli.terminal import paint, plural, printable
from edge.settings.difference import Change

__all__ = ["as_json", "counted", "show"]


def show(changes: Sequence[dict[str, Any]], stream: TextIO | None = None) -> None:
    """One line each, to stdout or `stream`: ``!`` stands before what is weaker."""
    out = sys.stdout if stream is None else stream
    width = max(40, shutil.get_terminal_size().columns) if out.isatty() else 0
    for change in changes:
        mark = paint("!", "red", out) if change["weaker"] else " "
        text = printable(str(change["text"]))
        lines = textwrap.wrap(text, width - 3, break_long_words=False, break_on_hyphens=False) if width else [text]
        out.write(f"{mark} {lines[0]}\n" + "".join(f"    {line}\n" for line in lines[1:]))


def counted(changes: Sequence[dict[str, Any]]) -> str:
    """``3 changes, 1 of them weakens security``."""
    weaker = sum(bool(change["weaker"]) for change in changes)
    if not weaker:
        return plural(len(changes), "change")
    verb = "weakens" if weaker == 1 else "weaken"
    if weaker == len(changes):
        return f"{plural(weaker, 'change')}, {'which' if weaker == 1 else 'all of which'} {verb} security"
    return f"{plural(len(changes), 'change')}, {weaker} of them {verb} security"


def as_json(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Changes as the control socket gives them."""
    return [asdict(change) for change in changes]
