"""Times as people say them: how long, how long ago, and when on this machine's clock."""

from __future__ import annotations

import argparse
import datetime

from edge.settings.units import KINDS, seconds

__all__ = ["ago", "clock", "day", "duration", "span"]

_STEPS = ((86_400, "day"), (3600, "h"), (60, "min"), (1, "s"))


def span(length: float) -> str:
    """``3 days``, ``2 h``, ``40 s``: the largest unit that fits at least once; from ten days on, whole days."""
    for unit, word in _STEPS:
        if length >= unit:
            count = int(length / unit)
            return f"{count} {word}{'s' if word == 'day' and count > 1 else ''}"
    return "0 s"


def ago(moment: float, now: float) -> str:
    """How long ago a POSIX time was."""
    return "just now" if now - moment < 1 else f"{span(now - moment)} ago"


def clock(moment: float) -> str:
    """A POSIX time as date and time of day here."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def day(moment: float) -> str:
    """A POSIX time's date (UTC, as in certificates)."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d")


def duration(text: str) -> float:
    """A duration on the command line, in seconds: as in the settings file, or a bare number of seconds."""
    import re

    if re.fullmatch(r"[0-9]{1,9}", text) and int(text):
        return float(text)
    if re.fullmatch(KINDS["duration"].pattern(off=False), text):
        found = seconds(text)
        assert found is not None
        return found
    raise argparse.ArgumentTypeError(f"{text!r} is not a duration: for example 30s, 5m or 7d")
