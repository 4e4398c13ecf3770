"""The service manager, as the supervisor speaks to it: ready, status, stopping, and the watchdog.

The watchdog hears from a loop that turns while some worker answers. A single worker that hangs is no reason to start everything
again: the supervisor replaces it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from edge.process import heartbeat
from edge.process.notify import Notifier

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["ServiceManager"]

_GRACE = 5.0  # seconds beyond the drain


class ServiceManager:
    """Silent until `begin`: before that another process is the main one."""

    def __init__(self, supervisor: Supervisor, notifier: Notifier) -> None:
        self.notifier = notifier
        self._supervisor = supervisor
        self._ours = False
        self._stopping = False
        supervisor.on_state.append(self._changed)

    def begin(self) -> None:
        """We serve, and we are the main process."""
        self._ours = True
        self.notifier.ready(self._status())
        if self.notifier.due(0.0) != float("inf"):
            self._supervisor.loop.every(heartbeat.INTERVAL, self._beat)

    def reloading(self) -> None:
        """New settings are being taken."""
        if self._ours:
            self.notifier.reloading(time.monotonic())

    def reloaded(self) -> None:
        """They have been, or they have not; it serves, unless it has begun to end."""
        if self._ours and not self._stopping:
            self.notifier.ready(self._status())

    def leave_to(self, pid: int) -> None:
        """Another process is the main one from now on; nothing more is said by this one."""
        if self._ours:
            self.notifier.main_pid(pid)
        self._ours = False
        self.notifier.close()

    def _beat(self) -> None:
        supervisor = self._supervisor
        if self._ours and (self._stopping or any(supervisor.is_well(worker) for worker in supervisor.workers)):
            self.notifier.beat(time.monotonic())

    def _changed(self) -> None:
        supervisor = self._supervisor
        if not self._ours or self._stopping:
            return
        if supervisor.state > supervisor.state.SERVING:
            self._stopping = True
            server = supervisor.settings.server
            self.notifier.stopping((server.drain_delay or 0.0) + server.drain + _GRACE, self._status())
        else:
            self.notifier.status(self._status())

    def _status(self) -> str:
        supervisor = self._supervisor
        state = supervisor.state.name.lower()
        workers = sum(worker.ready for worker in supervisor.workers)
        lacking = "".join(f"; {text}" for text in supervisor.degraded.values())
        whole = len(supervisor.workers)
        return f"{state}, generation {supervisor.generation}, {workers} of {whole} workers, pid {os.getpid()}{lacking}"
