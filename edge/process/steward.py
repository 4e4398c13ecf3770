"""The supervisor's side of the controller: what it is told at a commit, and the sockets that it is given.

The controller gets the settings without private keys, and after a change of ``[admin] address`` the new sockets with them. That
change is no part of the transaction: a listener that nothing in serving depends on must not hold up a renewed certificate. An
address that cannot be had is told (``degraded``, and an event), and the old one is not kept, because somebody wanted it closed.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from edge.process.admin import bind_admin, close_admin
from edge.process.errors import StartError
from edge.process.parcel import pack
from edge.settings.transfer import encode

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["commit_controller"]


def commit_controller(supervisor: Supervisor) -> None:
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
