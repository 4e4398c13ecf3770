"""The admin listener's sockets: bound by the supervisor before privileges fall, inherited by every controller it starts.

They stay open while a controller is restarted, so that a probe that comes meanwhile waits a moment instead of being refused. A
default address that is taken is no reason not to serve: several gateways may share a machine. An address that somebody wrote is.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from edge.process.errors import NOT_PERMITTED, StartError
from edge.process.inherited import Inherited
from edge.process.sockets import holders
from edge.settings.model import Address, Admin

__all__ = ["Claimed", "bind_admin", "claim_admin", "close_admin"]

_BACKLOG = 128
_NO_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


Claimed = dict[Address, list[socket.socket]]


def claim_admin(admin: Admin, inherited: Inherited) -> Claimed:
    """What was passed for the admin listener. To be taken before the listeners settle what is left. Raises StartError."""
    passed = {address: inherited.claim(address) for address in admin.addresses}
    return {address: sockets for address, sockets in passed.items() if sockets is not None}


def bind_admin(admin: Admin, claimed: Claimed | None = None) -> tuple[list[socket.socket], str]:
    """The listening sockets, and a sentence when the default address could not be had. Raises StartError for a written one.

    What is in `claimed` is used instead of being bound.
    """
    made: list[socket.socket] = []
    left_out = 0
    for address in admin.addresses:
        try:
            made += claimed[address] if claimed is not None and address in claimed else [_bind(address)]
        except OSError as error:
            if ":" in address.host and error.errno in _NO_FAMILY and len(admin.addresses) > left_out + 1:
                left_out += 1
                continue
            close_admin(made)
            text = _explained(address, error)
            if admin.written:
                raise StartError(text, NOT_PERMITTED) from error
            return [], text
    return made, ""


def close_admin(sockets: Iterable[socket.socket]) -> None:
    """Close them. Idempotent."""
    for sock in sockets:
        sock.close()


def _bind(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _explained(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        by = ", ".join(holders(address.port))
        return f"admin listener on {address.text}: the port is taken{f' by {by}' if by else ''}"
    return f"admin listener on {address.text}: {error.strerror or error}"
