"""Finding what belongs to a host name: by the exact name, then by the longest wildcard.

A wildcard ``*.example.com`` covers exactly one label, as in certificates (RFC 9525 section 6.3). Names are compared
lower-case, without a port and without the root's trailing dot; callers hand them over in that form (`canonical`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["NameIndex", "canonical"]

T = TypeVar("T")


def canonical(name: str) -> str:
    """The form in which names are compared: lower-case, without a trailing dot."""
    return name.lower().removesuffix(".")


class NameIndex(Generic[T]):
    """Values by host name. Two dictionary look-ups at most, whatever the number of hosts."""

    __slots__ = ("_exact", "_wildcard")

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._exact: dict[str, T] = {}
        self._wildcard: dict[str, T] = {}  # by what follows "*."
        for name, value in entries:
            if name.startswith("*."):
                self._wildcard[name[2:]] = value
            else:
                self._exact[name] = value

    def find(self, name: str) -> T | None:
        """The value for a canonical name, or None."""
        found = self._exact.get(name)
        if found is not None:
            return found
        first, dot, parent = name.partition(".")
        return self._wildcard.get(parent) if dot and first else None

    def values(self) -> list[T]:
        """All values, exact names first."""
        return [*self._exact.values(), *self._wildcard.values()]
