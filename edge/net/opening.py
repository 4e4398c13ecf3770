"""The session of a client's connection that has none yet: in the handshake, and until the first byte of HTTP/1.1.

What ends the connection meanwhile is a failed handshake, and told as one; a client that only never asked is no failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import Fault, Side

if TYPE_CHECKING:
    from edge.net.client import ClientTransport

__all__ = ["Opening"]


class Opening:
    __slots__ = ("_transport",)

    def __init__(self, transport: ClientTransport) -> None:
        self._transport = transport

    def output(self) -> list[bytes]:
        return []

    def on_data(self, data: bytes) -> None:
        self._transport.first_data(data)

    def on_writable(self) -> None:
        pass

    def on_eof(self, clean: bool) -> None:
        transport = self._transport
        if not transport.established and transport.bytes_in:
            transport.handshake_lost(Fault(Side.CLIENT, "client-closed", detail="during the handshake"))
        transport.close()

    def on_lost(self, fault: Fault) -> None:
        self._transport.handshake_lost(fault)

    def on_deadline(self, now: float) -> None:
        transport = self._transport
        if not transport.in_handshake:
            transport.close()
            return
        transport.handshake_lost(Fault(Side.CLIENT, "handshake-timeout", detail=f"{transport.bytes_in} bytes came"))
        transport.abort()
