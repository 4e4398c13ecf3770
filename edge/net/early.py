"""A client's connection between its first early data and the end of its handshake.

What this object is for must end: the client confirms the handshake within the time that it has for one, or is cut off. Until then
the transport does not close by itself and does not stop reading, because the client's Finished is still to be read and a
close_notify to be sent; there are no more than `MAX_EARLY_DATA` bytes of early data to be read meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.net.timers import Timed
from edge.relay.early import EarlyConnection

if TYPE_CHECKING:
    from edge.net.client import ClientTransport
    from edge.relay.exchange import Exchange
    from edge.relay.front import Front

__all__ = ["Unconfirmed"]


class Unconfirmed(Timed):
    __slots__ = ("_transport", "_waiting", "closing", "whole")

    def __init__(self, transport: ClientTransport, until: float) -> None:
        super().__init__(transport.hub.wheel)
        self._transport = transport
        self._waiting: list[Exchange] = []
        self.whole: Front | None = None  # what decides when it is confirmed; None before there are requests
        self.closing = False  # to be closed when it is confirmed
        self.arm(until)

    def conn(self, whole: Front) -> EarlyConnection:
        """What early requests are told of the connection as it is now. `whole` decides those that wait."""
        self.whole = whole
        return EarlyConnection(self._transport.conn, self._waiting)

    @property
    def waited_for(self) -> bool:
        """Whether there is something to `release`."""
        return bool(self._waiting)

    def release(self) -> None:
        """It is confirmed: let all that waited go on. In a turn of its own."""
        waiting = self._waiting[:]
        self._waiting.clear()
        assert self.whole is not None
        for exchange in waiting:
            exchange.confirmed(self.whole, self._transport.conn)

    def on_deadline(self, now: float) -> None:
        self._transport.hub.now = now
        self._transport.unconfirmed()
