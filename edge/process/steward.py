"""The controller as the supervisor keeps it: begun once the workers serve, asked, told, missed, and given what a commit changes.

The controller gets the settings without private keys, and after a change of ``[admin] address`` the new sockets with them. That
change is no part of the transaction: a listener that nothing in serving depends on must not hold up a renewed certificate. An
address that cannot be had is told (``degraded``, and an event), and the old one is not kept, because somebody wanted it closed.

It talks to strangers, so what it may ask is what the admin listener offers, and no more: it cannot end the gateway.

It beats like a worker. One that does not is killed and replaced, for otherwise probes would wait on it until they give the
gateway up. What does not fit into a message goes as a parcel.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from edge.process.admin import bind_admin, close_admin
from edge.process.channel import Message
from edge.process.children import Child
from edge.process.control_socket import VERSION, failure
from edge.process.controller import ControllerWork, run_controller
from edge.process.errors import StartError
from edge.process.heartbeat import HUNG, INTERVAL, Heartbeats, Verdict
from edge.process.parcel import pack
from edge.settings.transfer import encode

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Steward"]

_LATER = 5.0  # seconds before another attempt when the system has no process for it
_MAY_ASK = frozenset({"status", "reload"})
_LARGE = 32 * 1024  # bytes of a message that goes as a parcel


class Steward:
    def __init__(self, supervisor: Supervisor, work: ControllerWork, lacking: str) -> None:
        """`lacking`: a sentence about the admin listener when it could not be had."""
        self._supervisor = supervisor
        self._lacking = lacking
        self._heartbeats = Heartbeats()
        self.work = work
        self.child = Child("controller", lambda channel: run_controller(work, channel), self._on_message)
        self.child.on_parcels = self._on_parcels
        self.on_staples: Callable[[int], None] = os.close  # called with the parcel of what came of an attempt to fetch one
        supervisor.on_committed.append(self._commit)
        supervisor.on_state.append(self._tell)

    def begin(self) -> None:
        """Start it, and keep it alive from now on."""
        self._note(self._lacking)
        self._supervisor.loop.every(INTERVAL, self._look)
        self._start()

    def _start(self) -> None:
        try:
            self._supervisor.children.start(self.child)
        except OSError as error:  # the gateway serves without it
            self._supervisor.log.event("child-not-started", level="error", child=self.child.name, detail=str(error))
            self._supervisor.loop.later(_LATER, self._start)

    def close(self) -> None:
        """Close the supervisor's copies of what is the controller's alone. Idempotent."""
        close_admin(self.work.sockets)
        if self.work.staple_files is not None:
            self.work.staple_files.close()

    # what it says

    def _on_parcels(self, message: Message, descriptors: list[int]) -> None:
        own = [descriptors.pop(0)] if message.get("is") == "staples" and descriptors else []
        for descriptor in descriptors:
            os.close(descriptor)
        if own:
            self.on_staples(own[0])
        else:
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        if message.get("is") == "ready":
            self.child.ready = True
            self._supervisor.changed()
        elif message.get("is") == "beat":
            self.child.beat_at = time.monotonic()
        elif "ask" in message:
            number = message.get("id")
            request = {**message, "op": message["ask"]}
            if str(request["op"]) not in _MAY_ASK:
                self._send({"re": number, **failure("unknown-operation", "the controller may not ask for this")})
                return
            self._supervisor.operations.handle(request, "admin", lambda answer: self._send({"re": number, **answer}))

    def _look(self) -> None:
        """Replace one that does not turn its loop any more."""
        for child, verdict in self._heartbeats.judge([self.child], time.monotonic()):
            if verdict is Verdict.HUNG:
                self._supervisor.log.event("controller-hung", level="error", pid=child.pid, seconds=HUNG)
                self._supervisor.children.kill(child)

    # what it is told

    def _tell(self) -> None:
        if self.child.ready:
            self._send({"do": "state", "ok": True, **self._supervisor.status()})

    def _send(self, message: Message) -> None:
        message["version"] = VERSION
        children, data = self._supervisor.children, orjson.dumps(message)
        if len(data) < _LARGE:
            children.send(self.child, message)
            return
        parcel = pack(data)
        try:
            children.send(self.child, {"do": "open"}, [parcel])
        finally:
            os.close(parcel)

    def _commit(self) -> None:
        """Give it the settings that have just been committed, and to the one that may follow it."""
        supervisor, work, settings = self._supervisor, self.work, self._supervisor.settings
        moved = work.bound_for != settings.admin.addresses
        if moved:
            close_admin(work.sockets)  # first: the new address may cover the old one
            work.sockets, lacking = self._bound()
            work.bound_for = settings.admin.addresses
            self._note(lacking)
        work.settings, work.generation = settings, supervisor.generation
        names, files = supervisor.destinations.files()
        sockets = [sock.fileno() for sock in work.sockets] if moved else []
        order = {"do": "settings", "generation": supervisor.generation, "moved": moved, "logs": names}
        parcel = pack(encode(settings, keys=False))
        try:
            supervisor.children.send(self.child, order, [parcel, *files, *sockets])
        finally:
            os.close(parcel)

    def _bound(self) -> tuple[list[socket.socket], str]:
        try:
            return bind_admin(self._supervisor.settings.admin)
        except StartError as error:
            return [], str(error)

    def _note(self, lacking: str) -> None:
        supervisor = self._supervisor
        supervisor.degraded.pop("admin", None)
        if lacking:
            supervisor.degraded["admin"] = lacking
            supervisor.log.event("admin-unavailable", level="warning", detail=lacking)
