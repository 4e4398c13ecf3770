"""A client's HTTP/1.1 connection: one exchange after the other.

Invariants: the codec is not asked for the next request before the present exchange is finished, so pipelined requests wait as
bytes, and reading stops when `limits.pipelined` of them wait. After a malformed request the answer is sent and the connection
closed, because where the next request starts is unknown (RFC 9112 section 2.2). A client that has sent whole requests and then
only its FIN still gets each answer that begins within `HALF_CLOSED` seconds; beyond that it counts as gone. In a tunnel each
direction ends by itself.
"""

from __future__ import annotations

from math import inf

from edge.errors import Fault, Side
from edge.http.h1_server import ServerCodec
from edge.http.message import ConnectionInfo, End, Fields, RequestHead
from edge.relay.context import Context
from edge.relay.exchange import Exchange
from edge.relay.front import Front
from edge.relay.ports import HIGH, LOW, Transport
from edge.relay.websocket import ACCEPT, KEY, accept_for, find

__all__ = ["HALF_CLOSED", "H1Client"]

HALF_CLOSED = 2.0
_TURN = 32  # exchanges of one connection in one turn of the loop
_REST = 1.0  # seconds of quiet after which an idle connection gives memory back


class H1Client:
    __slots__ = (
        "_answer_at", "_clock", "_close", "_codec", "_conn", "_context", "_draining", "_exchange", "_front", "_gone_at",
        "_half_closed", "_header_since", "_idle_since", "_most", "_out", "_pumping", "_served", "_transport", "_tunnel",
    )  # fmt: skip

    def __init__(self, transport: Transport, front: Front, conn: ConnectionInfo, context: Context) -> None:
        self._transport = transport
        self._front = front
        self._conn = conn
        self._context = context
        self._clock = context.clock
        self._codec = ServerCodec(front.listener.limits, secure=conn.secure)
        self._exchange: Exchange | None = None
        self._out: list[bytes] = []
        self._answer_at = -1  # where in `_out` an answer begins that is not complete; -1: none, or its head has gone out
        self._tunnel = False
        self._pumping = False
        self._close = False  # no request is taken any more
        self._half_closed = False  # the client sends no more, but may still read
        self._gone_at = inf  # when such a client counts as gone
        self._draining = False
        self._served = 0
        most = front.listener.limits.requests_per_connection
        self._most = inf if most is None else most
        self._header_since = 0.0  # when the first byte of the request being read came; 0.0: none yet
        self._idle_since = self._clock.now
        self._transport.arm_session(self._idle_since + front.listener.limits.idle_timeout)

    # --- as a session of its transport ---

    def output(self) -> list[bytes]:
        out = self._out
        if not out:
            return out
        self._out = []
        self._answer_at = -1
        if len(out) > 1 and sum(map(len, out)) <= 16_384:
            return [b"".join(out)]
        return out

    def on_data(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None and not self._close and self._transport.pending <= LOW:
            head = self._codec.again(data)
            if head is not None:
                try:
                    self._begin(head)
                except Fault as fault:
                    self._broken(fault)
                return
        if self._tunnel:
            if exchange is not None:
                exchange.request_data(data)
                if not exchange.wants_body():
                    self._transport.pause()
            return
        self._codec.feed(data)
        if not self._pumping:
            self._pump()

    def on_writable(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.client_writable()
        elif not self._pumping:
            self._pump()

    def on_eof(self, clean: bool) -> None:
        exchange = self._exchange
        self._half_closed = True
        if exchange is None:
            if not self._codec.buffered or self._transport.pending <= LOW:  # else whole requests may wait for room
                self._transport.close()
        elif self._tunnel:
            if clean:
                exchange.request_end([])
            else:
                exchange.client_lost(Fault(Side.CLIENT, "client-closed", detail="no close_notify"))
        elif exchange.request_done:
            self._wait_half_closed()
        else:
            exchange.client_lost(Fault(Side.CLIENT, "client-closed", detail="in the middle of the request"))

    def _wait_half_closed(self) -> None:
        self._gone_at = self._clock.now + HALF_CLOSED
        self._transport.arm_session_earlier(self._gone_at)

    def on_lost(self, fault: Fault) -> None:
        self._close = True
        exchange = self._exchange
        if exchange is not None:
            exchange.client_lost(fault)

    def on_deadline(self, now: float) -> None:
        exchange = self._exchange
        if exchange is not None:
            if now >= self._gone_at and not self._tunnel and exchange.request_done and not exchange.status:
                exchange.client_lost(Fault(Side.CLIENT, "client-closed", detail="waiting for the answer"))
                return
            due = exchange.tick(now)
            if self._exchange is exchange:
                self._transport.arm_session(due)
            return
        limits = self._front.listener.limits
        if self._header_since:
            if now >= self._header_since + limits.header_timeout:
                self._refuse(Fault(Side.CLIENT, "header-timeout", status=408))
            else:
                self._transport.arm_session(self._header_since + limits.header_timeout)
        elif now >= self._idle_since + limits.idle_timeout or self._draining:
            self._transport.close()
        elif now < self._idle_since + _REST:
            self._transport.arm_session(self._idle_since + _REST)
        else:
            self._transport.idle()
            self._transport.arm_session(self._idle_since + limits.idle_timeout)

    # --- requests ---

    def _pump(self) -> None:
        """Take what the codec has, as far as the exchange and the socket go along."""
        self._pumping = True
        codec = self._codec
        try:
            for _ in range(_TURN):
                exchange = self._exchange
                if exchange is not None:
                    if exchange.request_done:
                        break
                    self._pump_body(exchange)
                    if self._exchange is exchange:
                        break
                    continue
                if self._close or self._transport.pending > LOW:
                    break
                event = codec.next_event()
                if not isinstance(event, RequestHead):
                    break
                self._begin(event)
            else:
                self._context.later(self._continue)
        except Fault as fault:
            self._broken(fault)
        finally:
            self._pumping = False
        self._after()

    def _broken(self, fault: Fault) -> None:
        exchange = self._exchange
        if exchange is None:
            self._refuse(fault)
        else:
            exchange.request_broken(fault)

    def _continue(self) -> None:
        if not self._pumping and not self._tunnel:
            self._pump()

    def _pump_body(self, exchange: Exchange) -> None:
        codec = self._codec
        while self._exchange is exchange and not exchange.request_done and exchange.wants_body():
            event = codec.next_event()
            if event is None:
                return
            if isinstance(event, bytes):
                exchange.request_data(event)
            elif isinstance(event, End):
                exchange.request_end(event.trailers)

    def _begin(self, head: RequestHead) -> None:
        self._header_since = 0.0
        self._served += 1
        exchange = Exchange(self._context, self._front, self._conn, self, head)
        self._exchange = exchange
        exchange.start()
        if self._half_closed:
            self._wait_half_closed()
        if not exchange.request_done and self._exchange is exchange and exchange.forward is not None:
            self._codec.body_limit = exchange.forward.terms.limits.request_body

    def _after(self) -> None:
        """Decide whether to go on reading, and when to look again."""
        exchange = self._exchange
        transport = self._transport
        codec = self._codec
        if self._tunnel or self._close:
            return
        if exchange is None:
            if self._half_closed:
                if transport.pending <= LOW:  # nothing more can come of what is left
                    transport.close()
                return
            if transport.pending > LOW:  # whole requests may wait until the client takes its answers
                if codec.buffered > self._front.listener.limits.pipelined:
                    transport.pause()
                return
            if codec.buffered and not self._header_since:
                self._header_since = now = self._clock.now
                transport.arm_session_earlier(now + self._front.listener.limits.header_timeout)
            transport.resume()
        elif exchange.request_done:
            if codec.buffered > self._front.listener.limits.pipelined:
                transport.pause()
        elif exchange.wants_body() or codec.buffered < LOW:
            transport.resume()
        else:
            transport.pause()

    def _refuse(self, fault: Fault) -> None:
        """A request that cannot be read: answer if possible, and close."""
        self._close = True
        method, target = self._codec.asked() or (b"-", b"-")
        head = RequestHead(method, b"https" if self._conn.secure else b"http", b"", target, [])
        exchange = Exchange(self._context, self._front, self._conn, self, head)
        self._exchange = exchange
        exchange.request_done = False
        exchange.refuse(fault)

    # --- as the client's side of an exchange ---

    def informational(self, status: int, fields: Fields) -> None:
        self._out.append(self._codec.informational(status, fields))
        self._transport.mark()

    def continue_100(self) -> None:
        self._out.append(self._codec.continue_100())
        self._transport.mark()

    def head(self, status: int, fields: Fields, length: int | None, end: bool, close: bool, body: bytes = b"") -> None:
        exchange = self._exchange
        assert exchange is not None
        if close or self._draining or self._served >= self._most:
            self._close = True
        codec, ident = self._codec, exchange.answer_id
        wire = codec.whole(status, fields, ident, body) if body and not self._close else b""
        if not wire:
            if not end:
                self._answer_at = len(self._out)
            wire = codec.head(
                status, fields, length=length, end=end, close=self._close, request=exchange.head, request_id=ident, body=body
            )
        self._out.append(wire)
        self._transport.mark()

    def data(self, data: bytes) -> None:
        self._out.append(data if self._tunnel else self._codec.data(data))
        self._transport.mark()

    def end(self, trailers: Fields) -> None:
        if self._tunnel:
            self._transport.half_close()
        else:
            last = self._codec.end(trailers)
            if last:
                self._out.append(last)
                self._transport.mark()

    def tunnel(self, fields: Fields) -> None:
        exchange = self._exchange
        assert exchange is not None
        if not find(fields, ACCEPT):
            fields = [*fields, (ACCEPT, accept_for(find(exchange.head.fields, KEY)))]
        self._out.append(self._codec.tunnel_head(fields, exchange.head.protocol))
        self._tunnel = True
        self._close = True
        self._transport.mark()
        self._transport.resume()
        early = self._codec.take_buffered()
        if early:
            exchange.request_data(early)
        if self._half_closed and self._exchange is exchange:
            exchange.request_end([])

    def retract(self) -> bool:
        if self._answer_at < 0:
            return False
        del self._out[self._answer_at :]
        self._answer_at = -1
        self._codec.retract()
        return True

    def abort(self, fault: Fault) -> None:
        self._close = True
        self._out.clear()
        self._transport.abort()

    def blocked(self) -> bool:
        return self._transport.pending >= HIGH

    def credit(self, size: int) -> None:
        pass

    def resume(self) -> None:
        if self._tunnel:
            self._transport.resume()
        elif not self._pumping:
            self._pump()

    def unsent(self) -> int:
        return self._transport.pending

    def arm(self, deadline: float) -> None:
        if deadline < self._transport.session_deadline:
            self._transport.arm_session(deadline)

    def limit_body(self, limit: int | None) -> None:
        self._codec.body_limit = limit

    def finished(self) -> None:
        exchange = self._exchange
        self._exchange = None
        codec = self._codec
        self._idle_since = now = self._clock.now
        transport = self._transport
        if self._close or exchange is None or not exchange.request_done or not codec.go_on():
            self._close = True
            transport.close()
            return
        if now + _REST < transport.session_deadline:
            transport.arm_session(now + _REST)
        if self._pumping:
            return
        if codec.has_more():
            self._pump()
        elif self._half_closed:
            transport.close()
        else:
            transport.resume()

    def renew(self, front: Front, conn: ConnectionInfo | None = None) -> None:
        """Decide the requests to come by `front`. What the codec allows a request stays as it was.

        `conn`: what there is to know of the connection is another from now on.
        """
        self._front = front
        if conn is None:
            self._conn.prepared = front.prepare(self._conn)
        else:
            self._conn = conn
            conn.prepared = None  # made for its first request, if there is one

    def drain(self) -> None:
        """Finish what is under way, a request that has begun to come or must be on its way included; take nothing new."""
        self._draining = True
        if self._exchange is None and self._served and not self._codec.buffered:
            self._close = True
            self._transport.close()
