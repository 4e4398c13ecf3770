"""Values with units: durations, sizes, rates and shares.

Each kind has the pattern that the schema publishes and a reader that turns a matching text into a number: seconds,
bytes, events a second, a share of one. The word ``off`` reads as None. Zero never matches: ``"off"`` is the only way to say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["KINDS", "Kind", "bytes_a_second", "meant", "rate", "seconds", "share", "size", "spoken_seconds"]

_NUMBER = r"(?=[0-9.]*[1-9])[0-9]{1,12}(\.[0-9]{1,6})?"
_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
# other spellings of units, in lower case and without "/s": those of nginx, HAProxy, systemd and of people
_SPELLINGS: Final = {
    "duration": {"ms": "msec millisecond milliseconds", "s": "sec secs second seconds", "m": "min mins minute minutes",
                 "h": "hr hrs hour hours", "d": "day days"},
    "size": {"B": "byte bytes", "KiB": "k kb kib kbyte", "MiB": "m mb mib mbyte", "GiB": "g gb gib gbyte"},
}  # fmt: skip
_SPLIT = re.compile(r"([0-9.]+)(.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value with a unit, as messages speak of it."""

    name: str
    article: str
    units: str
    unit: str  # what a bare number most probably meant
    example: str
    body: str  # the pattern, without anchors

    def pattern(self, *, off: bool) -> str:
        """Of the whole text: to Python, unlike others, ``$`` alone is before a last line break as well."""
        return rf"^(off|{self.body})$(?!\n)" if off else rf"^{self.body}$(?!\n)"


KINDS: Final = {
    "duration": Kind("duration", "a", "ms, s, m, h or d", "s", "30s", _NUMBER + "(ms|s|m|h|d)"),
    "size": Kind("size", "a", "B, KiB, MiB or GiB", "B", "8KiB", _NUMBER + "(B|KiB|MiB|GiB)"),
    "byte-rate": Kind("rate", "a", "B/s, KiB/s or MiB/s", "B/s", "500B/s", _NUMBER + "(B|KiB|MiB|GiB)/s"),
    "rate": Kind("rate", "a", "/s, /m or /h", "/s", "100/s", _NUMBER + "/(s|m|h)"),
    "share": Kind("share", "a", "%", "%", "20%", r"(?=[0-9.]*[1-9])(100|[0-9]{1,2}(\.[0-9]{1,4})?)%"),
}


def meant(name: str, text: str) -> str:
    """What a text that is no value of the kind `name` most probably means, in our spelling, or ``""``.

    >>> meant("duration", "5 minutes"), meant("size", "10m"), meant("byte-rate", "1 MB/s"), meant("duration", "31536000")
    ('5m', '10MiB', '1MiB/s', '365d')
    """
    kind = KINDS[name]
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*) *((?:/ *s)?)", text.strip(), re.ASCII)
    if found is None:
        return ""
    number, unit, tail = found.groups()
    if not unit and not tail:
        return spoken_seconds(float(number)) if name == "duration" else f"{number}{kind.unit}"
    spellings = _SPELLINGS.get("size" if name == "byte-rate" else name, {})
    ours = next((ours for ours, others in spellings.items() if unit.lower() in (ours.lower(), *others.split())), "")
    guess = f"{number}{ours}{'/s' if name == 'byte-rate' else ''}"
    return guess if ours and re.match(kind.pattern(off=False), guess) else ""


def spoken_seconds(amount: float) -> str:
    """A duration as one would write it: whole days, hours or (above one) minutes where it is that, else seconds."""
    for unit, least in (("d", 1), ("h", 1), ("m", 2)):
        if amount >= least * _DURATIONS[unit] and amount % _DURATIONS[unit] == 0:
            return f"{amount / _DURATIONS[unit]:.0f}{unit}"
    return f"{amount:g}s" if amount < 1e6 else f"{amount:.0f}s"


def _parts(text: str) -> tuple[str, str]:
    found = _SPLIT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return found[1], found[2]


def seconds(text: str) -> float | None:
    """A duration in seconds."""
    if text == "off":
        return None
    number, unit = _parts(text)
    return float(number) * _DURATIONS[unit]


def size(text: str) -> int | None:
    """A size in whole bytes, at least one."""
    if text == "off":
        return None
    number, unit = _parts(text)
    return max(1, int(float(number) * _SIZES[unit]))


def bytes_a_second(text: str) -> float | None:
    """A rate in bytes a second."""
    if text == "off":
        return None
    number, unit = _parts(text.removesuffix("/s"))
    return float(number) * _SIZES[unit]


def rate(text: str) -> float | None:
    """Events a second."""
    if text == "off":
        return None
    number, _, unit = text.partition("/")
    return float(number) / _DURATIONS[unit]


def share(text: str) -> float | None:
    """A share of one: ``"20%"`` is 0.2."""
    return None if text == "off" else float(text.removesuffix("%")) / 100.0
