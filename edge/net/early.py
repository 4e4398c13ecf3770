"""A client's connection between its first early data and the end of its handshake.

What this object is for must end: the client confirms the handshake within the time that it has for one, or is cut off. Until then
the transport does not close by itself and does not stop reading, because the client's Finished is still to be read and a
close_notify to be sent; there are no more than `MAX_EARLY_DATA` bytes of early data to be read meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.net.timers import Timed
from edge.relay.early import EarlyFront, early_copy

if TYPE_CHECKING:
    from edge.http.message import ConnectionInfo
    from edge.net.client import ClientTransport
    from edge.relay.exchange import Exchange
    from edge.relay.front import Front

__all__ = ["Unconfirmed"]


class Unconfirmed(Timed):
    __slots__ = ("_transport", "_waiting", "closing", "conn", "whole")

    def __init__(self, transport: ClientTransport, until: float) -> None:
        super().__init__(transport.hub.wheel)
        self._transport = transport
        self._waiting: list[Exchange] = []
        self.conn: ConnectionInfo = transport.conn  # that of early requests, from `describe` on
        self.whole: Front | None = None  # what decides when it is confirmed
        self.closing = False  # to be closed when it is confirmed
        self.arm(until)

    def describe(self) -> None:
        """The transport's connection is described: early requests get a description of their own."""
        self.conn = early_copy(self._transport.conn)

    def front(self, front: Front) -> Front:
        """What decides the requests until then, in place of `front`."""
        self.whole = front
        return EarlyFront(front, self._waiting)

    def release(self) -> None:
        """It is confirmed: let all that waited go on. In a turn of its own."""
        waiting, self._waiting = self._waiting, []
        assert self.whole is not None
        for exchange in waiting:
            exchange.confirmed(self.whole, self._transport.conn)

    def on_deadline(self, now: float) -> None:
        self._transport.hub.now = now
        self._transport.unconfirmed()
