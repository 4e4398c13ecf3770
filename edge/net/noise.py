"""What a peer may do after the handshake without sending data: a budget for each second of a connection.

KeyUpdates (RFC 8446 section 4.6.3) and attempts to renegotiate have one, records without data another. Both are counted by the
engine; the standards set no bound. A budget is per second and never for the whole of a connection: long ones are no attack.
"""

from __future__ import annotations

__all__ = ["Noise"]

_SECOND = 1.0


class Noise:
    """The present second of one connection. It begins with the first noise after the last one is over."""

    __slots__ = ("_before", "_seen", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._before = 0, 0  # what had been counted when the second began
        self._seen = 0, 0

    def excess(self, disturbances: int, empty_records: int, budgets: tuple[int, int], now: float) -> tuple[str, str] | None:
        """The kind of fault and its detail, if this is too much; all that was counted, and the budgets of both."""
        if now >= self._until:
            self._until = now + _SECOND
            self._before = self._seen
        self._seen = disturbances, empty_records
        for kind, count, before, budget in zip(_KINDS, self._seen, self._before, budgets, strict=True):
            if count - before > budget:
                return kind, f"{count - before} in a second, {count} in all"
        return None


_KINDS = "tls-disturbances", "empty-records"
