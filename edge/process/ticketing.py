"""The supervisor's duty to ticket keys: renews them when it is time, tells the workers, follows the settings, says how it is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from edge.process import parcel
from edge.process.errors import StartError
from edge.process.loop import Timer
from edge.process.rotation import Rotation
from edge.settings.files import Unreadable
from edge.settings.model import Settings
from edge.settings.tickets import SecretError

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Ticketing", "begin"]

_SECTION = "ticket-keys"  # of what a program leaves to the one that takes over
_LONGEST = 60.0  # seconds without a look at the clock: it may have been set


def begin(settings: Settings, rotation: Rotation, sections: Mapping[str, bytes]) -> None:
    """Fill the ring of this process; contexts that are made from now on have its keys. Raises StartError.

    `sections`: what the program before us left; the tickets that it issued go on being good.
    """
    if _SECTION in sections:
        with suppress(ValueError):  # of a version that packs them in another way: then clients make full handshakes
            rotation.adopt(sections[_SECTION])
    try:
        rotation.configure(settings.tickets, time.time())
    except (SecretError, Unreadable) as error:
        raise StartError(f"ticket_secret: {settings.tickets.file} {error}") from error


class Ticketing:
    """From the start of the supervisor to its end."""

    def __init__(self, supervisor: Supervisor, rotation: Rotation) -> None:
        self._supervisor = supervisor
        self._rotation = rotation
        self._timer = Timer(0.0, None)
        self._held = supervisor.counted.gauge("edge_ticket_keys")
        self._since = supervisor.counted.gauge("edge_ticket_key_timestamp_seconds")
        supervisor.on_committed.append(self._committed)
        if not rotation.problem:
            supervisor.sections[_SECTION] = rotation.pack
        supervisor.more_status["resumption"] = lambda: rotation.describe(time.time())
        self._plan()

    def _plan(self) -> None:
        rotation, degraded = self._rotation, self._supervisor.degraded
        self._held.set(rotation.held)
        self._since.set(rotation.since)
        if rotation.problem:
            degraded["resumption"] = f"resumption is {rotation.describe(0.0)}"
            return
        self._timer.cancel()
        self._timer = self._supervisor.loop.later(min(rotation.wait(time.time()), _LONGEST), self._look)

    def _look(self) -> None:
        if self._rotation.turn(time.time()):
            self._tell()
        self._plan()

    def _committed(self) -> None:
        """Other settings are in force."""
        supervisor, tickets = self._supervisor, self._supervisor.settings.tickets
        supervisor.degraded.pop("ticket-secret", None)
        try:
            changed = self._rotation.configure(tickets, time.time())
        except (SecretError, Unreadable) as error:
            detail = f"{tickets.file} {error}; the secret of before goes on"
            supervisor.degraded["ticket-secret"] = f"ticket_secret: {detail}"
            supervisor.log.event("ticket-secret-unusable", level="error", detail=detail)
            return
        if changed:
            self._tell()
        self._plan()

    def _tell(self) -> None:
        supervisor = self._supervisor
        supervisor.log.event("ticket-keys-renewed", detail=self._rotation.describe(time.time()))
        descriptor = parcel.pack(self._rotation.pack())
        try:
            for worker in supervisor.workers:
                supervisor.children.send(worker, {"do": "tickets"}, [descriptor])
        finally:
            os.close(descriptor)
