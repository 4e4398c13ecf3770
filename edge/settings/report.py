"""Showing problems: for people, with the line, a caret and the mend; and for programs, as JSON.

edge.toml:4:1: error: unknown key 'upstrem'
    upstrem = "http://127.0.0.1:8000"
    ^~~~~~~
  write 'upstream'
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from edge.settings.problems import Problem, Severity

__all__ = ["on_one_line", "problems_json", "render", "summary"]

_WIDTH = 160  # columns of a source line that are shown
_COLOURS = {Severity.ERROR: "31", Severity.WARNING: "33", Severity.NOTE: "36"}


def _cells(text: str) -> int:
    """Terminal columns that a text takes."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _printable(text: str) -> str:
    return "".join(
        character if character.isprintable() else " " if character == "\t" else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _excerpt(problem: Problem, text: str) -> list[str]:
    """The line with the problem, and the line with the caret below it."""
    lines = text.split("\n")
    if not 0 < problem.line <= len(lines):
        return []
    line = _printable(lines[problem.line - 1])
    start = min(problem.column - 1, len(line))
    first = max(0, start - _WIDTH // 2) if len(line) > _WIDTH else 0
    shown = line[first : first + _WIDTH]
    before, marked = shown[: start - first], shown[start - first : start - first + problem.length]
    return ["    " + shown.rstrip(), "    " + " " * _cells(before) + "^" + "~" * max(0, _cells(marked) - 1)]


def render(problems: Iterable[Problem], sources: Mapping[str, str], *, colour: bool = False) -> str:
    """The problems as text that ends in a newline, or an empty string. `sources`: the text of each file by its name."""
    lines: list[str] = []
    for problem in problems:
        where = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file
        word = str(problem.severity)
        if colour:
            word = f"\x1b[1;{_COLOURS[problem.severity]}m{word}\x1b[0m"
        lines.append(
            f"{_printable(where)}: {word}: {_printable(problem.message)}" if where else f"{word}: {_printable(problem.message)}"
        )
        lines += _excerpt(problem, sources.get(problem.file, ""))
        if problem.mend:
            lines.append(f"  {_printable(problem.mend)}")
    return "\n".join(lines) + "\n" if lines else ""


def on_one_line(rendered: str) -> str:
    """What `render` made, for a log: without the excerpts, each mend after its problem, problems apart by ``; ``."""
    kept: list[str] = []
    for line in rendered.splitlines():
        if line.startswith("    "):
            continue
        if line.startswith("  ") and kept:
            kept[-1] += f" ({line.strip()})"
        elif line.strip():
            kept.append(line)
    return "; ".join(kept)


def problems_json(problems: Iterable[Problem]) -> dict[str, Any]:
    """What ``edge check --json`` prints."""
    return {
        "version": 1,
        "problems": [
            {
                "severity": str(problem.severity),
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "length": problem.length,
                "message": problem.message,
                "mend": problem.mend,
            }
            for problem in problems
        ],
    }


def summary(problems: Iterable[Problem]) -> str:
    """``2 errors, 1 warning``; notes are not counted. Empty when there is nothing to count."""
    counts = dict.fromkeys(Severity, 0)
    for problem in problems:
        counts[problem.severity] += 1
    parts = [
        f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
        for severity in (Severity.ERROR, Severity.WARNING)
        if counts[severity]
    ]
    return ", ".join(parts)
