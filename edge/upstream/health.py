"""Active health checks: when the next one is due, and what a result changes.

An endpoint begins as healthy, so that a start does not refuse everything until the first checks are back; `fall` failures in
a row make it unhealthy and `rise` successes in a row healthy again. Checks of one endpoint are spread by up to a tenth of the
interval, so that workers and endpoints do not check in step.
"""

from __future__ import annotations

from edge.settings.model import Health

__all__ = ["HealthCheck"]


class HealthCheck:
    """The state of one endpoint's checks."""

    __slots__ = ("_health", "_streak", "healthy")

    def __init__(self, health: Health, *, healthy: bool = True) -> None:
        self._health = health
        self.healthy = healthy
        self._streak = 0  # results in a row that contradict `healthy`

    def record(self, ok: bool) -> bool:
        """Takes the result of a check. True when the verdict changed."""
        if ok is self.healthy:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (self._health.rise if ok else self._health.fall):
            return False
        self.healthy = ok
        self._streak = 0
        return True

    def delay(self, r: float) -> float:
        """Seconds until the next check: the interval ± 10 %; `r` is a random number, 0 ≤ r < 1."""
        return self._health.interval * (0.9 + 0.2 * r)

    @staticmethod
    def is_well(status: int) -> bool:
        """Whether a check's HTTP status is a success: any 2xx or 3xx."""
        return 200 <= status < 400
