"""The types that keys are made of: values with units, counts, words and switches. Each carries its part of the schema."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from edge.settings.units import KINDS

__all__ = [
    "ByteRateOrOff", "Count", "CountOrOff", "Duration", "DurationOrOff", "RateOrOff", "Share",
    "ShareOrOff", "Size", "SizeOrOff", "Switch",
    "Word", "Words", "example",
]  # fmt: skip


def _unit(kind: str, *, off: bool) -> Meta:
    return Meta(pattern=KINDS[kind].pattern(off=off), extra_json_schema={"x-unit": kind, "x-off": off})


def example(value: object) -> Meta:
    """What `config/edge.toml` shows for a key that has no default."""
    return Meta(examples=[value])


Duration = Annotated[str, _unit("duration", off=False)]
DurationOrOff = Annotated[str, _unit("duration", off=True)]
Size = Annotated[str, _unit("size", off=False)]
SizeOrOff = Annotated[str, _unit("size", off=True)]
ByteRateOrOff = Annotated[str, _unit("byte-rate", off=True)]
RateOrOff = Annotated[str, _unit("rate", off=True)]
Share = Annotated[str, _unit("share", off=False)]
ShareOrOff = Annotated[str, _unit("share", off=True)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
CountOrOff = Annotated[int, Meta(ge=1, le=1_000_000_000)] | Literal["off"]
Word = Annotated[str, Meta(min_length=1)]
Words: TypeAlias = Word | list[Word]
Switch = Literal["on", "off"]
