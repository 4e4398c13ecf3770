"""Clients' certificates whose chains were verified a moment ago and need not be again.

A chain costs the verification of a signature for each certificate in it and a search for issuers: 15 % of a handshake with a
client's certificate. And the clients of an API are few and come again and again. What comes of it depends on the leaf, on the
certificates sent with it, on the context (its trust store, purposes and depth) and on the time. A memory belongs to one context
and ends with it. It keeps only leaves that an anchor has issued itself, for which nothing that is sent with them matters: so what
it keeps by leaf is true until one of the two expires. A client that needs an intermediate certificate has to send it each time,
and to send one that is good.

Nothing else is spared: the client proves in every handshake that it has the key, and rules and revocation lists are asked.

A leaf is remembered from its second verification on, so that clients who never come back cost next to nothing. What is kept ends
after `LONGEST` at the latest, when the clock is found set back, and when there is more than `MOST`.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LONGEST", "MOST", "Verified"]

LONGEST = 300.0
"""Seconds."""

MOST = 1024
"""Certificates of one context."""


class Verified:
    """Leaves in DER; times in POSIX seconds."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: dict[bytes, tuple[float, float]] = {}  # since when and until when; an empty span: came once

    def holds(self, leaf: bytes, now: float) -> bool:
        span = self._spans.get(leaf)
        return span is not None and span[0] <= now < span[1]

    def add(self, leaf: bytes, now: float, end: Callable[[], float]) -> None:
        """A chain was verified. `end` tells until when it may be kept, and is asked from the second time on."""
        spans = self._spans
        known = leaf in spans
        if not known and len(spans) >= MOST:
            spans.clear()
        spans[leaf] = (now, min(now + LONGEST, end()) if known else now)
