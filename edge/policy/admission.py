"""Budgets of handshakes, by the address that they come from: decided before any cryptography.

Three kinds are counted apart, because they cost and mean different things: full handshakes (a signature each), resumed ones (some
symmetric cryptography) and abandoned ones (a client that took our work and went, or never finished what it began). A client that
has used up its budget of abandoned handshakes may not even connect.

Each budget is a GCRA (generic cell rate algorithm, ITU-T I.371): one number an address, the time at which its budget will be
whole again. IPv6 addresses count by /64, for that is what one customer has. A table has at most `MOST` addresses; beyond, the
one that came first goes, which can only ever be in a client's favour.
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

    __slots__ = ("_interval", "_most", "_slack", "_whole_at")

    def __init__(self, rate: float, burst: float, most: int = MOST) -> None:
        """`rate`: events a second. `burst`: seconds whose share may come at once, at least one event."""
        self._interval = 1.0 / rate
        self._slack = max(0.0, burst - self._interval)
        self._most = most
        self._whole_at: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._whole_at)

    def has(self, key: bytes, now: float) -> bool:
        """Whether one more would be within the budget. Nothing is spent."""
        return self._whole_at.get(key, 0.0) - now <= self._slack

    def spend(self, key: bytes, now: float) -> bool:
        """Spend one, if it is there; whether it was."""
        table = self._whole_at
        whole_at = table.get(key, 0.0)
        if whole_at - now > self._slack:
            return False
        self._set(table, key, max(whole_at, now) + self._interval)
        return True

    def charge(self, key: bytes, now: float) -> None:
        """Spend one, there or not: what has happened is counted. The debt is bounded by the burst and one more."""
        table = self._whole_at
        whole_at = min(table.get(key, 0.0), now + self._slack + self._interval)
        self._set(table, key, max(whole_at, now) + self._interval)

    def _set(self, table: dict[bytes, float], key: bytes, whole_at: float) -> None:
        if key not in table and len(table) >= self._most:
            del table[next(iter(table))]
        table[key] = whole_at

    def forget(self, now: float) -> None:
        """Drop addresses whose budget is whole: called from time to time."""
        whole = [key for key, whole_at in self._whole_at.items() if whole_at <= now]
        for key in whole:
            del self._whole_at[key]
