"""Budgets of handshakes, by the address that they come from: decided before any cryptography.

Three kinds are counted apart, because they cost and mean different things: full handshakes (a signature each), resumed ones (some
symmetric cryptography) and abandoned ones (a client that took our work and went, or never finished what it began). A client that
has used up its budget of abandoned handshakes may not even connect.

Each budget is a GCRA (generic cell rate algorithm, ITU-T I.371): one number an address, the time at which its budget will be
whole again. IPv6 addresses count by /64, for that is what one customer has.

Addresses are kept in two tables, those heard of since the last turn and those of before. A turn drops the second; it is due when
the first is full, or when whatever is in the second must be whole again. So no more than `MOST` are remembered, forgetting costs
the same however many there are, and what is forgotten too early can only ever be in a client's favour.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MOST", "Budget", "address_key"]

MOST: Final = 65_536
"""Addresses of one budget that are remembered."""


def address_key(packed: bytes) -> bytes:
    """What an address counts as: 4 bytes for IPv4, the first 8 of 16 for IPv6; IPv4 inside of IPv6 is IPv4."""
    if len(packed) == 16:
        return packed[12:] if packed[:12] == b"\0\0\0\0\0\0\0\0\0\0\xff\xff" else packed[:8]
    return packed


class Budget:
    """So many a second, and a number that may come at once."""

    __slots__ = ("_before", "_interval", "_longest", "_most", "_slack", "_turned_at", "_whole_at")

    def __init__(self, rate: float, burst: float, most: int = MOST) -> None:
        """`rate`: events a second. `burst`: seconds whose share may come at once, at least one event."""
        self._interval = 1.0 / rate
        self._slack = max(0.0, burst - self._interval)
        self._longest = self._slack + 2 * self._interval  # seconds until the largest debt is paid
        self._most = max(1, most // 2)  # in one table
        self._whole_at: dict[bytes, float] = {}
        self._before: dict[bytes, float] = {}
        self._turned_at = 0.0

    def __len__(self) -> int:
        """How many are remembered; who is in both tables counts twice."""
        return len(self._whole_at) + len(self._before)

    def _known(self, key: bytes) -> float:
        whole_at = self._whole_at.get(key)
        return self._before.get(key, 0.0) if whole_at is None else whole_at

    def has(self, key: bytes, now: float) -> bool:
        """Whether one more would be within the budget. Nothing is spent."""
        return self._known(key) - now <= self._slack

    def spend(self, key: bytes, now: float) -> bool:
        """Spend one, if it is there; whether it was."""
        whole_at = self._known(key)
        if whole_at - now > self._slack:
            return False
        self._set(key, max(whole_at, now) + self._interval, now)
        return True

    def charge(self, key: bytes, now: float) -> None:
        """Spend one, there or not: what has happened is counted. The debt is bounded by the burst and one more."""
        whole_at = min(self._known(key), now + self._slack + self._interval)
        self._set(key, max(whole_at, now) + self._interval, now)

    def _set(self, key: bytes, whole_at: float, now: float) -> None:
        if len(self._whole_at) >= self._most and key not in self._whole_at:
            self._turn(now)
        self._whole_at[key] = whole_at

    def forget(self, now: float) -> None:
        """Drop what must be whole by now: called from time to time."""
        if now - self._turned_at > self._longest:
            self._turn(now)

    def _turn(self, now: float) -> None:
        self._before, self._whole_at, self._turned_at = self._whole_at, {}, now
