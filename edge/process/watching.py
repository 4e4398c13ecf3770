"""Reloads that follow a change on disk: certificates, keys, authorities, and the settings files where that was asked for.

A renewal writes several files, one after another, and between the first and the last chain and key do not fit. So a reload that
is refused is tried again for some seconds in silence, and only the last refusal is told; what runs goes on all the time.

A file is watched from when it was read, not from when the watch began: what stat said of it before is compared with what it says
then. So a change during the start, or while new settings are being tried, is taken as well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edge.process.conductor import PASSING, Asked, Way
from edge.process.loop import Timer
from edge.process.watch import Watch

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Watching"]

_TRIES = 10
_BETWEEN = 1.0  # seconds
_SOONEST = 0.05  # seconds between two looks


class Watching:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._watch = Watch(self._paths(), time.monotonic(), supervisor.conductor.states)
        self._timer = Timer(0.0, None)
        self._again = Timer(0.0, None)
        self._tries = 0
        supervisor.loop.watch(self._watch, self._look)
        supervisor.on_committed.append(self._committed)
        self._plan()

    def _paths(self) -> list[str]:
        settings = self._supervisor.settings
        if settings.server.watch == "off" or self._supervisor.origin is None:
            return []
        return [path for path in settings.files if settings.server.watch == "all" or path not in settings.documents]

    def _committed(self) -> None:
        self._watch.set(self._paths(), time.monotonic(), self._supervisor.conductor.states)
        self._plan()

    def _plan(self) -> None:
        self._timer.cancel()
        self._timer = self._supervisor.loop.later(max(_SOONEST, self._watch.due() - time.monotonic()), self._look)

    def _look(self) -> None:
        changed = self._watch.changed(time.monotonic())
        if changed and not self._supervisor.ends:
            self._supervisor.log.event("files-changed", files=changed[:20])
            self._tries = 0
            self._ask()
        self._plan()

    def _ask(self) -> None:
        self._again.cancel()
        self._tries += 1
        self._supervisor.conductor.ask(Asked(Way.WATCH, "a change on disk", tentative=self._tries < _TRIES), self._on_answer)

    def _on_answer(self, answer: dict[str, Any]) -> None:
        if not answer["ok"] and answer["error"] in PASSING and self._tries < _TRIES and self._supervisor.serving:
            self._again.cancel()
            self._again = self._supervisor.loop.later(_BETWEEN, self._ask)

    def close_copies(self) -> None:
        """In a child: its own copy must not take the events."""
        self._watch.close()
