"""Problems: what is wrong with the settings, where, and what to write instead.

A problem points at characters of one file. Its message never holds a secret: a value that came from the environment, a
file or a credential is named as it is written (``${env:X}``), never as it is. All problems of one load are collected,
so that one run shows them all; only an error keeps the settings from being used.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Path", "Problem", "Reason", "Severity", "Span", "nearest", "quoted"]

Path = tuple[str | int, ...]  # keys and indices from the top of the file


class Severity(StrEnum):
    """An error keeps the settings from being used; a warning does not; a note tells what was meant (a protection taken away)."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Reason(StrEnum):
    """What a program has to know of a problem: something is written wrongly, or this user may not read a file."""

    MISTAKE = "mistake"
    NOT_PERMITTED = "not-permitted"


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of one line. `line` and `column` count from 1; line 0 means no particular place in the file."""

    file: str
    line: int = 0
    column: int = 0
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to change. `mend` says what to write instead, or is empty."""

    severity: Severity
    file: str
    line: int
    column: int
    length: int
    message: str
    mend: str = ""
    reason: Reason = Reason.MISTAKE

    @property
    def order(self) -> tuple[str, int, int, str]:
        return self.file, self.line, self.column, self.message


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or an empty string."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def quoted(words: Iterable[str]) -> str:
    """``"a", "b" or "c"``."""
    parts = [f'"{word}"' for word in words]
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
