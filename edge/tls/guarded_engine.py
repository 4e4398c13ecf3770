"""The connection of a client to a host one of whose certificates may not be shown without a staple, while another one may.

Which one it is is known only when the handshake is over, unless the client asks for a staple (then OpenSSL asks us,
`edge.tls.staples`). A client that does not ask is therefore turned away at the end of the handshake, before it has sent a byte.
A session that is resumed shows no certificate and is let in.
"""

from __future__ import annotations

from typing import Any

from edge.errors import Fault, Side
from edge.tls.binding import lib
from edge.tls.clients import ClientCheck
from edge.tls.server_engine import ServerEngine
from edge.tls.staples import Stapler

__all__ = ["GuardedEngine", "demand_staple"]


class GuardedEngine(ServerEngine):
    __slots__ = ("_stapler",)

    def __init__(self, pointer: Any, owner: object, sni: str | None, stapler: Stapler, *, check: ClientCheck | None) -> None:
        super().__init__(pointer, owner, sni, check=check)
        self._stapler = stapler

    def _complete(self) -> None:
        super()._complete()
        demand_staple(self._stapler, self._ssl)


def demand_staple(stapler: Stapler, ssl: Any) -> None:
    """Raise Fault ``staple-missing`` when a handshake that is over has shown a certificate that needed one."""
    if not lib.SSL_session_reused(ssl) and stapler.refuses(ssl):
        raise Fault(Side.EDGE, "staple-missing", detail="of the certificate that this client can use")
