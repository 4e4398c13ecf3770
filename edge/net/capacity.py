"""How many connections of clients one worker has at a time, on all of its listeners together.

What is beyond is closed at once and counted; the log tells it in sum, once a second, because a flood must not become a flood of
lines.
"""

from __future__ import annotations

__all__ = ["Capacity"]


class Capacity:
    """Who takes a place gives it back, once."""

    __slots__ = ("_refused", "_taken", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0
        self._refused: dict[str, int] = {}

    def take(self, listener: str) -> bool:
        """Take a place for a connection of this listener; False when there is none."""
        if self._taken >= self.most:
            self._refused[listener] = self._refused.get(listener, 0) + 1
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        """The connection has ended."""
        self._taken -= 1

    def refused(self) -> dict[str, int]:
        """How many were refused since this was asked last, by listener."""
        refused, self._refused = self._refused, {}
        return refused
