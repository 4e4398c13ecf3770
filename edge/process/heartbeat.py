"""Heartbeats: whether workers turn their loops.

A worker reports several times a second. One that has not for a second is stalled: its siblings serve its sockets until it is
heard again. One that has not for much longer is hung and is replaced. Judging is suspended when the judge itself was late (the
machine slept, or all were stopped together), because then everybody's silence says nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from edge.process.children import Child

__all__ = ["HUNG", "INTERVAL", "STALLED", "Heartbeats", "Verdict"]

INTERVAL = 0.25  # seconds between two looks
STALLED = 1.0  # seconds without a beat
HUNG = 10.0
_LATE = 0.75  # seconds over the interval


class Verdict(enum.Enum):
    STALLED = "stalled"
    RECOVERED = "recovered"
    HUNG = "hung"


class Heartbeats:
    __slots__ = ("_looked_at", "stalled")

    def __init__(self) -> None:
        self._looked_at = 0.0
        self.stalled: set[int] = set()  # pids

    def judge(self, workers: Iterable[Child], now: float) -> Iterator[tuple[Child, Verdict]]:
        """What has changed since the last look. `now`: monotonic seconds. Only who has ever beaten is judged."""
        beating = [worker for worker in workers if worker.pid and worker.beat_at]
        late = self._looked_at and now - self._looked_at > INTERVAL + _LATE
        self._looked_at = now
        self.stalled &= {worker.pid for worker in beating}
        for worker in beating:
            if late:
                worker.beat_at = max(worker.beat_at, now - STALLED if worker.pid in self.stalled else now)
            silence = now - worker.beat_at
            if silence >= HUNG:
                yield worker, Verdict.HUNG
            elif silence >= STALLED and worker.pid not in self.stalled:
                self.stalled.add(worker.pid)
                yield worker, Verdict.STALLED
            elif silence < STALLED and worker.pid in self.stalled:
                self.stalled.discard(worker.pid)
                yield worker, Verdict.RECOVERED
