"""Requests that come as early data (0-RTT): which are answered at once, and what becomes of all others (RFC 8470).

Theory. Until the client's handshake is confirmed, a request may be a copy of one that was answered before, perhaps by another
gateway with the same ticket keys or before a filter's window. The replay filter makes that rare; what it cannot make impossible,
the rules here make harmless:

* A request is answered at once only when its method is safe (RFC 9110 section 9.2.1), it is complete, it asks for no tunnel, its
  route says ``early_data`` and its host takes early data. To the upstream it says ``Early-Data: 1`` (RFC 8470 section 5.1).
* Any other request waits for the end of the handshake and is then decided as if it had come at that time. That costs a round trip
  which the client would have spent anyway, and spares it the second one that 425 (Too Early) would cost (section 3 allows both).
* An upstream that answers 425 is believed: the client gets its answer and asks again (section 5.2). We don't ask again ourselves,
  for that would hold the request until the handshake is over, which only the client knows to be soon.

An error that is found before a route is (400, 404, 421) is answered at once: nothing has been done for it.

Invariants: an exchange has the `ConnectionInfo` with `early` set if and only if it was decided before the handshake was over;
what waits is bounded by the early data that a ticket allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import Fault
from edge.http.message import ConnectionInfo, RequestHead
from edge.policy.phases import Drop, Reply, Wait
from edge.relay.front import Forward, Front

if TYPE_CHECKING:
    from edge.relay.exchange import Exchange

__all__ = ["EarlyConnection", "EarlyFront"]

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_FIELD = (b"early-data", b"1")


class EarlyConnection(ConnectionInfo):
    """What the requests are told of a connection whose handshake is not confirmed."""

    __slots__ = ("waiting",)

    def __init__(self, conn: ConnectionInfo, waiting: list[Exchange]) -> None:
        """As `conn` is now. Exchanges that have to wait are put into `waiting`; `Exchange.confirmed` lets one go on."""
        ConnectionInfo.__init__(self, conn.peer, conn.peer_port, conn.listener, secure=conn.secure)
        self.local = conn.local
        self.local_port = conn.local_port
        self.early = True
        self.host = conn.host
        self.sni = conn.sni
        self.tls_version = conn.tls_version
        self.suite = conn.suite
        self.group = conn.group
        self.resumed = conn.resumed
        self.alpn = conn.alpn
        self.ja4 = conn.ja4
        self.client = conn.client
        self.waiting = waiting


class EarlyFront(Front):
    """A front for connections whose handshake is not confirmed: the same decisions, for the requests that may be decided.

    The connection of each request is an `EarlyConnection`.
    """

    __slots__ = ()

    def __init__(self, front: Front) -> None:
        for name in Front.__slots__:
            setattr(self, name, getattr(front, name))

    def decide(self, exchange: Exchange, start: int = 0) -> Reply | Drop | Wait | Forward:
        if not self._may_be_early(exchange):
            conn = exchange.conn
            assert isinstance(conn, EarlyConnection)
            conn.waiting.append(exchange)
            return Wait()
        verdict = super().decide(exchange, start)
        if type(verdict) is not Forward:
            return verdict
        request = verdict.request
        fields = [field for field in request.fields if field[0] != _FIELD[0]]
        early = RequestHead(
            request.method, request.scheme, request.authority, request.target, [*fields, _FIELD],
            content_length=request.content_length, end=request.end, te_trailers=request.te_trailers,
        )  # fmt: skip
        return Forward(verdict.terms, early, own_id=verdict.own_id, grpc=verdict.grpc)

    def _may_be_early(self, exchange: Exchange) -> bool:
        head = exchange.head
        if head.method not in SAFE or not head.end or head.protocol:
            return False
        try:
            plan = self.plan_of(exchange)
        except Fault:
            return True  # `decide` finds it again, and it is the answer
        host = self.host_of(exchange)
        return plan.route.early_data and host is not None and host.tls.early_data
