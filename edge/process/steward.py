"""The supervisor's side of the controller: what it asks, what it is told of the gateway and at a commit, and its sockets.

The controller gets the settings without private keys, and after a change of ``[admin] address`` the new sockets with them. That
change is no part of the transaction: a listener that nothing in serving depends on must not hold up a renewed certificate. An
address that cannot be had is told (``degraded``, and an event), and the old one is not kept, because somebody wanted it closed.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from edge.process.admin import bind_admin, close_admin
from edge.process.channel import Message
from edge.process.children import Child
from edge.process.control_socket import VERSION
from edge.process.controller import run_controller
from edge.process.errors import StartError
from edge.process.parcel import pack
from edge.settings.transfer import encode

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Steward"]


class Steward:
    def __init__(self, supervisor: Supervisor) -> None:
        work = supervisor.controller_work
        self._supervisor = supervisor
        self.child = Child("controller", lambda channel: run_controller(work, channel), self._on_message)
        supervisor.on_committed.append(lambda: _commit(supervisor))

    def tell(self) -> None:
        """How the gateway is now."""
        if self.child.ready:
            state = {"do": "state", "version": VERSION, "ok": True, **self._supervisor.status()}
            self._supervisor.children.send(self.child, state)

    def _on_message(self, message: Message) -> None:
        if message.get("is") == "ready":
            self.child.ready = True
            self.tell()
        elif "ask" in message:
            number = message.get("id")
            request = {**message, "op": message["ask"]}
            self._supervisor.operations.handle(request, "admin", lambda answer: self._answer(number, answer))

    def _answer(self, number: object, answer: Message) -> None:
        if self.child.ready:
            self._supervisor.children.send(self.child, {"re": number, "version": VERSION, **answer})


def _commit(supervisor: Supervisor) -> None:
    """Give the settings that have just been committed to the controller, and to the one that may follow it."""
    work, settings = supervisor.controller_work, supervisor.settings
    moved = work.bound_for != settings.admin.addresses
    if moved:
        close_admin(work.sockets)  # first: the new address may cover the old one
        work.sockets, lacking = _bound(supervisor)
        work.bound_for = settings.admin.addresses
        supervisor.degraded.pop("admin", None)
        if lacking:
            supervisor.degraded["admin"] = lacking
            supervisor.log.event("admin-unavailable", level="warning", detail=lacking)
    work.settings, work.generation = settings, supervisor.generation
    parcel = pack(encode(settings, keys=False))
    try:
        sockets = [sock.fileno() for sock in work.sockets] if moved else []
        order = {"do": "settings", "generation": supervisor.generation, "moved": moved}
        supervisor.children.send(supervisor.controller, order, [parcel, *sockets])
    finally:
        os.close(parcel)


def _bound(supervisor: Supervisor) -> tuple[list[socket.socket], str]:
    try:
        return bind_admin(supervisor.settings.admin)
    except StartError as error:
        return [], str(error)
