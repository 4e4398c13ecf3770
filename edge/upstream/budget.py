"""A bound on retries, so that they cannot turn an upstream's trouble into a flood.

Retries may be a share of the requests of the last ten seconds, and `ALWAYS` in ten seconds whatever the traffic, so that a
quiet service can retry at all. Ten buckets of one second slide over the clock; the oldest one is dropped as a whole.
"""

from __future__ import annotations

__all__ = ["ALWAYS", "RetryBudget"]

ALWAYS = 10
_WINDOW = 10  # seconds


class RetryBudget:
    """The retries of one upstream in one worker. `share`: retries per request, 0.2 for one in five."""

    __slots__ = ("_fresh", "_requests", "_retries", "_second", "_share", "_total_requests", "_total_retries", "_until")

    def __init__(self, share: float) -> None:
        self._share = share
        self._second = 0  # the second of the newest bucket
        self._until = 0.0  # when it is full
        self._fresh = 0  # requests that will be in it
        self._requests = [0] * _WINDOW
        self._retries = [0] * _WINDOW
        self._total_requests = 0
        self._total_retries = 0

    def request(self, now: float) -> None:
        """Counts a request (its first try)."""
        if now >= self._until:
            self._slide(int(now))
        self._fresh += 1

    def take(self, now: float) -> bool:
        """Counts a retry and returns True, or returns False when there is nothing left for one."""
        if now >= self._until:
            self._slide(int(now))
        if self._total_retries >= max(ALWAYS, int((self._total_requests + self._fresh) * self._share)):
            return False
        self._retries[self._second % _WINDOW] += 1
        self._total_retries += 1
        return True

    def _slide(self, second: int) -> None:
        self._requests[self._second % _WINDOW] += self._fresh
        self._total_requests += self._fresh
        self._fresh = 0
        for at in range(self._second + 1, min(second, self._second + _WINDOW) + 1):
            bucket = at % _WINDOW
            self._total_requests -= self._requests[bucket]
            self._total_retries -= self._retries[bucket]
            self._requests[bucket] = 0
            self._retries[bucket] = 0
        self._second = second
        self._until = second + 1.0
