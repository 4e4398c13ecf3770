"""Giving memory back to the system after many connections came or went at once.

The C library keeps what a burst of handshakes has freed, because it lies scattered between what lives on: 11 of 37 KiB for each
of a thousand connections that came together. It can be asked to give whole free pages back. That takes some milliseconds, so it
is done when a burst is over and the worker has nothing else to do. Only glibc has the call; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

__all__ = ["Tidy"]

_WORTH = 200  # connections that came or went since the last time
_QUIET = 20  # connections in a second


class Tidy:
    """Asked once a second, decides whether now is the time."""

    __slots__ = ("_before", "_open", "_seen", "_trim")

    def __init__(self, trim: Callable[[], object] | None = None) -> None:
        self._trim = trim if trim is not None else _system_trim()
        self._before = 0  # connections accepted up to the last look
        self._seen = 0  # and up to the last trim
        self._open = 0  # connections open at the last trim

    def look(self, accepted: int, connections: int) -> bool:
        """`accepted`: connections since the start. `connections`: those that are open now. True: memory was given back."""
        came, self._before = accepted - self._before, accepted
        if came > _QUIET or (accepted - self._seen < _WORTH and abs(connections - self._open) < _WORTH):
            return False
        self._seen, self._open = accepted, connections
        self._trim()
        return True


def _system_trim() -> Callable[[], object]:
    found = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: found(0)) if found is not None else (lambda: None)
