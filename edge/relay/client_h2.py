"""A client's HTTP/2 connection: one exchange a stream.

Invariants: an exchange is told exactly once that its client is gone. What a stream may queue here is bounded by its
exchange, which stops its upstream when `blocked`; request bytes are credited to the client only as the upstream takes
them, so the windows that we announced bound what we hold. A stream whose exchange is over, but whose client takes nothing
of what is left of the answer, is reset after `write_timeout`, whatever the other streams do.
"""

from __future__ import annotations

from math import inf

from edge.errors import Fault, H2Code, Side
from edge.http.h2 import Connection, Event
from edge.http.message import ConnectionInfo, End, Fields, RequestHead
from edge.relay.context import Context
from edge.relay.exchange import Exchange
from edge.relay.front import Front
from edge.relay.ports import HIGH, LOW, Transport
from edge.relay.websocket import ACCEPT, without

__all__ = ["H2Client", "H2ClientStream"]

_SHARED = 512 * 1024  # bytes that all streams of a connection may have waiting for its windows before each has enough
_LAST_CALL = 5.0  # seconds for the answer to the PING behind a GOAWAY; later streams are refused without it
_REST = 1.0  # seconds of quiet after which an idle connection gives memory back


class H2ClientStream:
    """The client's side of one exchange."""

    __slots__ = ("_conn", "_sid", "exchange")

    exchange: Exchange

    def __init__(self, conn: H2Client, sid: int) -> None:
        self._conn = conn
        self._sid = sid

    def informational(self, status: int, fields: Fields) -> None:
        self._conn.codec.send_informational(self._sid, status, fields)
        self._conn.transport.mark()

    def continue_100(self) -> None:
        self.informational(100, [])

    def head(self, status: int, fields: Fields, length: int | None, end: bool, close: bool, body: bytes = b"") -> None:
        conn = self._conn
        codec = conn.codec
        if body:
            codec.send_head(self._sid, status, fields, length=length, end=False, request_id=self.exchange.answer_id)
            codec.send_data(self._sid, body)
            codec.send_end(self._sid, [])
        else:
            codec.send_head(self._sid, status, fields, length=length, end=end, request_id=self.exchange.answer_id)
        conn.transport.mark()

    def data(self, data: bytes) -> None:
        conn = self._conn
        conn.codec.send_data(self._sid, data)
        conn.transport.mark()

    def end(self, trailers: Fields) -> None:
        conn = self._conn
        conn.codec.send_end(self._sid, trailers)
        conn.transport.mark()

    def tunnel(self, fields: Fields) -> None:
        self.head(200, without(fields, ACCEPT), length=None, end=False, close=False)

    def retract(self) -> bool:
        return False  # its frames stand among those of other streams

    def abort(self, fault: Fault) -> None:
        conn = self._conn
        conn.codec.reset(self._sid, fault.h2_code)
        conn.transport.mark()

    def blocked(self) -> bool:
        conn = self._conn
        codec = conn.codec
        queued = codec.queued(self._sid)
        if queued and (queued >= LOW or queued * codec.waiting_streams >= _SHARED):
            return True
        pending = conn.transport.pending
        return pending > 0 and pending + codec.pending_output >= HIGH

    def credit(self, size: int) -> None:
        conn = self._conn
        conn.codec.credit(self._sid, size)
        conn.transport.mark()

    def resume(self) -> None:
        pass  # body bytes are passed on as they come; what is not credited stops the client

    def unsent(self) -> int:
        return self._conn.codec.queued(self._sid) or self._conn.transport.pending

    def arm(self, deadline: float) -> None:
        self._conn.transport.arm_session_earlier(deadline)

    def limit_body(self, limit: int | None) -> None:
        self._conn.codec.set_body_limit(self._sid, limit)

    def finished(self) -> None:
        self._conn.forget(self._sid)


class H2Client:
    __slots__ = (
        "_closing", "_conn", "_context", "_draining", "_final_by", "_front", "_head_since", "_idle_since", "_leftovers",
        "_said_all", "_served", "_settle_by", "codec", "streams", "transport",
    )  # fmt: skip

    def __init__(self, transport: Transport, front: Front, conn: ConnectionInfo, context: Context) -> None:
        self.transport = transport
        self._front = front
        self._conn = conn
        self._context = context
        now = context.clock.now
        self.codec = Connection(front.listener.limits, client=False, secure=conn.secure, now=now)
        self.codec.start()
        self.streams: dict[int, H2ClientStream] = {}
        self._closing = False
        self._draining = False
        self._said_all = False  # no answer comes behind the PING that asks whether the client knows of the end
        self._final_by = inf
        self._served = 0
        self._idle_since = now
        # streams whose exchange is over but whose client has not taken everything: when to give up, bytes left when last looked
        self._leftovers: dict[int, tuple[float, int]] = {}
        limits = front.listener.limits
        self._settle_by = now + limits.handshake_timeout
        self._head_since = 0.0  # when a field block began that is not complete; 0.0: none
        transport.mark()
        transport.arm_session(min(self._settle_by, now + limits.idle_timeout))

    # --- as a session of its transport ---

    def output(self) -> list[bytes]:
        data = self.codec.drain()
        return [data] if data else []

    def on_data(self, data: bytes) -> None:
        try:
            self._dispatch(self.codec.feed(data, self._context.clock.now))
        except Fault as fault:
            self._fail(fault)
            return
        self._after()

    def _more(self) -> None:
        """Go on with what was left for another turn of the loop."""
        if self._closing:
            return
        try:
            self._dispatch(self.codec.feed(b"", self._context.clock.now))
        except Fault as fault:
            self._fail(fault)
            return
        self._after()

    def _after(self) -> None:
        codec = self.codec
        if codec.head_open:
            if not self._head_since:
                self._head_since = now = self._context.clock.now
                self.transport.arm_session_earlier(now + self._front.listener.limits.header_timeout)
        elif self._head_since:
            self._head_since = 0.0
        for sid in codec.unblocked():
            stream = self.streams.get(sid)
            if stream is not None and not stream.blocked():
                stream.exchange.client_writable()
        if self._finished and not self.streams and not self._closing:
            self._closing = True
            self.transport.linger = not self._said_all  # the answer to the PING shows that the client has what stood before it
            self.transport.close()
        elif codec.has_more and not self._closing:
            self.transport.pause()
            # beyond that `on_writable` goes on: answers to what was read before wait for the client
            if self.transport.pending < HIGH or codec.finished:
                self._context.later(self._more)
        elif self.transport.pending < HIGH:
            self.transport.resume()
        else:
            self.transport.pause()
        self.transport.mark()

    def _dispatch(self, events: list[Event]) -> None:
        streams = self.streams
        for sid, event in events:
            if isinstance(event, RequestHead):
                self._begin(sid, event)
                continue
            stream = streams.get(sid)
            if isinstance(event, bytes):
                if stream is None:
                    self.codec.credit(sid, len(event))
                else:
                    stream.exchange.request_data(event)
            elif isinstance(event, End):
                if stream is not None:
                    stream.exchange.request_end(event.trailers)
            elif isinstance(event, Fault):
                self._stream_fault(sid, stream, event)

    def _begin(self, sid: int, head: RequestHead) -> None:
        self._served += 1
        self._said_all = False
        stream = H2ClientStream(self, sid)
        exchange = Exchange(self._context, self._front, self._conn, stream, head)
        stream.exchange = exchange
        self.streams[sid] = stream
        exchange.start()
        if exchange.forward is not None and not exchange.request_done:
            try:
                self.codec.set_body_limit(sid, exchange.forward.terms.limits.request_body)
            except Fault as fault:
                exchange.request_broken(fault)
        most = self._front.listener.limits.requests_per_connection
        if most is not None and self._served >= most and not self._draining:
            self.drain()

    def _stream_fault(self, sid: int, stream: H2ClientStream | None, fault: Fault) -> None:
        if stream is not None:
            if fault.status:
                stream.exchange.request_broken(fault)
            else:
                stream.exchange.client_lost(fault)
        elif sid and fault.status:
            # a request too large to be read, yet whole enough to be answered
            stream = H2ClientStream(self, sid)
            head = RequestHead(b"-", b"https", b"", b"-", [], version=20)
            stream.exchange = Exchange(self._context, self._front, self._conn, stream, head)
            self.streams[sid] = stream
            stream.exchange.refuse(fault)
        elif sid and not (self._draining and fault.h2_code is H2Code.REFUSED_STREAM):  # which only crossed our GOAWAY
            self._context.log_refused(self._conn, fault)

    def forget(self, sid: int) -> None:
        """The exchange of this stream is over."""
        stream = self.streams.pop(sid, None)
        if stream is None or self._closing:
            return
        if not stream.exchange.response_done or (stream.exchange.status == 101 and not self.codec.queued(sid)):
            self.codec.reset(sid, H2Code.CANCEL)
            self.transport.mark()
        elif left := self.codec.queued(sid):
            self._leave_over(sid, left)
        elif not stream.exchange.request_done or stream.exchange.head.protocol:
            self.transport.arm_session_earlier(self.codec.unread_due)
        if not self.streams:
            self._idle_since = now = self._context.clock.now
            if self._finished:
                self._closing = True
                self.transport.close()
            else:  # while it drains too: requests may be on their way until the PING is answered
                if self._draining:
                    self._final_by = min(self._final_by, now + _REST)
                self.transport.arm_session_earlier(now + _REST)

    @property
    def _finished(self) -> bool:
        """The drain is over, and the codec has nothing more to say, not even why it broke."""
        return self._draining and self.codec.finished and not self.codec.has_more

    def _fail(self, fault: Fault) -> None:
        """The connection broke the rules: GOAWAY is on its way out; the streams are gone."""
        self._context.log_refused(self._conn, fault)
        self._closing = True
        self.transport.close()
        self._lose_streams(fault)

    def _lose_streams(self, fault: Fault) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.exchange.client_lost(fault)

    def on_eof(self, clean: bool) -> None:
        self._closing = True
        self.transport.close()
        self._lose_streams(Fault(Side.CLIENT, "client-closed"))

    def on_lost(self, fault: Fault) -> None:
        self._closing = True
        self._lose_streams(fault)

    def on_writable(self) -> None:
        for stream in list(self.streams.values()):
            if not stream.blocked():
                stream.exchange.client_writable()
        if self._closing:
            return
        if self.codec.has_more:
            self._context.later(self._more)
        else:
            self.transport.resume()

    def on_deadline(self, now: float) -> None:
        due = inf
        for stream in list(self.streams.values()):
            due = min(due, stream.exchange.tick(now))
        if self._closing:
            return
        if not self.codec.acknowledged:
            if now >= self._settle_by:
                self._fail(self.codec.give_up("h2-settings-timeout", H2Code.SETTINGS_TIMEOUT))  # RFC 9113 section 6.5.3
                return
            due = min(due, self._settle_by)
        if now >= self._final_by:
            self._final_by = inf
            self.codec.goaway(now_final=True)
            self.transport.mark()
        due = min(due, self._final_by)
        limits = self._front.listener.limits
        if self._head_since:
            if now >= self._head_since + limits.header_timeout:
                self._fail(self.codec.give_up("header-timeout", H2Code.ENHANCE_YOUR_CALM))
                return
            due = min(due, self._head_since + limits.header_timeout)
        if self._leftovers:
            due = min(due, self._look_at_leftovers(now, limits.write_timeout))
        if self.codec.unread_due <= now:
            self.codec.end_unread(now)
            self.transport.mark()
        due = min(due, self.codec.unread_due)
        self.transport.arm_session_earlier(due)
        if self.codec.open_streams or self.streams:  # an upstream may be slow to end an answer that was over with its head
            return
        if now >= self._idle_since + limits.idle_timeout or (self._draining and self.codec.going_away):
            self._draining = True
            self.codec.goaway(now_final=True)  # says which requests may be asked again: those that it crosses on its way
            self.transport.mark()
            self._closing = True
            self.transport.close()
        else:
            self.transport.idle()
            self.transport.arm_session_earlier(self._idle_since + limits.idle_timeout)

    def _leave_over(self, sid: int, left: int) -> None:
        leftovers, limits = self._leftovers, self._front.listener.limits
        if len(leftovers) > 2 * limits.streams:  # most of them have been taken long since
            queued = self.codec.queued
            for other in [other for other in leftovers if not queued(other)]:
                del leftovers[other]
        due = self._context.clock.now + limits.write_timeout
        leftovers[sid] = due, left
        self.transport.arm_session_earlier(due)

    def _look_at_leftovers(self, now: float, patience: float) -> float:
        """Reset the streams whose client took nothing for too long; when to look again."""
        codec = self.codec
        for sid, (due, left) in list(self._leftovers.items()):
            queued = codec.queued(sid)
            if not queued:
                del self._leftovers[sid]
            elif queued < left:
                self._leftovers[sid] = now + patience, queued
            elif now >= due:
                del self._leftovers[sid]
                codec.reset(sid, H2Code.CANCEL)
                self.transport.mark()
        return min((due for due, _ in self._leftovers.values()), default=inf)

    def renew(self, front: Front, conn: ConnectionInfo | None = None) -> None:
        """Decide the requests to come by `front`. What was announced to the client in SETTINGS stays as it was.

        `conn`: what there is to know of the connection is another from now on.
        """
        self._front = front
        if conn is None:
            self._conn.prepared = front.prepare(self._conn)
        else:
            self._conn = conn
            conn.prepared = None  # made for its first request, if there is one

    def drain(self) -> None:
        """Say GOAWAY; open streams finish."""
        if not self._draining:
            self._draining = True
            self._said_all = not self.codec.open_streams
            self.codec.goaway()
            self.transport.mark()
            now = self._context.clock.now
            self._final_by = now + (_LAST_CALL if self.streams else _REST)
            self.transport.arm_session_earlier(self._final_by)
