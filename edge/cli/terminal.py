"""What a person sees: answers on stdout, everything else on stderr, colour only where a terminal wants it.

Invariants: a command never prints a traceback for something that its user can mend; it raises `Stop`, which carries the
exit code, one sentence and, where there is one, the next thing to try. Nothing but the answer that was asked for goes
to stdout, so that `edge routes | sort` and `edge explain --json | jq` always work. Colour and boxes need a terminal on
the other side, and `NO_COLOR` (any value but the empty one) or `TERM=dumb` turns colour off even there.
"""

from __future__ import annotations

import difflib
import enum
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import IO

__all__ = [
    "Exit",
    "Stop",
    "answer",
    "colourful",
    "nearest",
    "note",
    "page",
    "paint",
    "plural",
    "print_json",
    "printable",
    "table",
]


class Exit(enum.IntEnum):
    """The exit codes of every command."""

    FINE = 0
    NOT_FINE = 1
    USAGE = 2
    NO_GATEWAY = 3
    NOT_PERMITTED = 4
    INTERRUPTED = 130


class Stop(Exception):
    """The command ends here, with `code`, one sentence, and the `hint` that helps on."""

    def __init__(self, code: Exit, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def colourful(stream: IO[str]) -> bool:
    """Whether `stream` ends at a terminal that wants colour (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: IO[str]) -> str:
    """`text` in one of the six styles, or as it is when `stream` wants no colour."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colourful(stream) else text


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` with its control characters escaped: what came from a file or from the network cannot steer the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def answer(text: str) -> None:
    """The answer itself, to stdout; a line end is added."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Anything beside the answer, to stderr; a line end is added."""
    sys.stderr.write(text + "\n")


def print_json(value: dict[str, object]) -> None:
    """The answer as one JSON object to stdout, with the version of its form."""
    answer(json.dumps({"version": 1, **value}, ensure_ascii=False, indent=2))


def plural(count: int, one: str, many: str = "") -> str:
    """``1 host``, ``2 hosts``."""
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"


def nearest(word: str, words: Iterable[str]) -> str:
    """The word that was probably meant, or ``""``."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return found[0] if found else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Sequence[str] = ()) -> None:
    """A table to stdout: boxed by rich on a terminal, aligned columns without a box elsewhere (for grep, awk and diff)."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _boxed(head, clean)
    else:
        widths = [max(len(row[index]) for row in [head, *clean]) for index in range(len(head))]
        for row in [[name.upper() for name in head], *clean]:
            answer("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for line in notes:
        note(line)


def _boxed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(no_color=not colourful(sys.stdout), highlight=False)
    words = [max(len(word) for row in [head, *rows] for word in row[index].split(" ")) for index in range(len(head))]
    whole = sum(words) + 2 * len(head) <= console.width  # names and addresses are there to be copied: cut only where it must be
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    for name, width in zip(head, words, strict=True):
        shown.add_column(name, overflow="fold", min_width=width if whole else None)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def page(text: str) -> None:
    """`text` through the user's pager when stdout is a terminal and the text is longer than it; else straight to stdout.

    `$PAGER` is honoured; the default is less, told to pass colour on and to leave short texts alone.
    """
    height = shutil.get_terminal_size().lines
    pager = os.environ.get("PAGER") or (shutil.which("less") or "")
    if not sys.stdout.isatty() or not pager or text.count("\n") < height:
        answer(text.rstrip("\n"))
        return
    environment = {"LESS": "FRX", "LESSCHARSET": "utf-8", **os.environ}
    try:
        with subprocess.Popen(pager, shell=True, stdin=subprocess.PIPE, env=environment, text=True, encoding="utf-8") as process:
            try:
                process.communicate(text)
            except (BrokenPipeError, KeyboardInterrupt):  # q before the end; Ctrl-C belongs to the pager
                process.wait()
    except OSError:
        answer(text.rstrip("\n"))
