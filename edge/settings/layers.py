"""Inheritance: tables of several places merged into one, key by key, the narrower winning.

A `Merged` remembers for each key where its value was written, so that messages and `--effective` can point there.
Everything here works on plain tables that fit the schema; `typed` turns one into its struct, with the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from edge.settings.problems import Path
from edge.settings.source import Source

__all__ = ["Merged", "Place", "inherited", "listed", "merge", "typed", "written"]

T = TypeVar("T")
Place = tuple[Path, Mapping[str, Any]]  # a table and where it stands


@dataclass(slots=True)
class Merged:
    """Values, and the path that each came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Path] = field(default_factory=dict)

    def origin(self, key: str, otherwise: Path) -> Path:
        return self.origins.get(key, otherwise)


def merge(places: Iterable[Place]) -> Merged:
    """The tables of places, widest first, as one."""
    merged = Merged()
    for path, table in places:
        for key, value in table.items():
            merged.values[key] = value
            merged.origins[key] = (*path, key)
    return merged


def typed(source: Source, path: Path, values: object, kind: type[T]) -> T | None:
    """The struct of a table, or None when the shape was wrong (which was told before)."""
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        if not source.failed:
            source.error(path, f"not possible here: {error}")
        return None


def listed(value: Any) -> list[Any]:
    """A list as it is, one value as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def written(*layers: tuple[Path, Any]) -> list[tuple[Path, Any]]:
    """Those of the layers that hold a value."""
    return [(path, value) for path, value in layers if value is not None]


def inherited(source: Source, key: str, *holders: Place) -> list[tuple[Path, Any]]:
    """Where `key` is written: at the top, then in the holders, widest first. Each with its value."""
    places: list[Place] = [((), source.tree), *holders]
    return [((*path, key), table[key]) for path, table in places if key in table]
