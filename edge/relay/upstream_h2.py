"""An HTTP/2 connection to an upstream: many exchanges, one a stream.

Invariants: a stream's receiver hears exactly one ending. When the connection dies, every open stream fails; those that
the upstream says it never looked at (above the last stream of its GOAWAY, or REFUSED_STREAM) may be tried again
(RFC 9113 section 8.7). Response bytes are credited only when the client's side has taken them. A connection on which nothing
was heard until a stream was given up gets no new ones: its other end may be gone. Nobody should be given a connection before
the upstream's SETTINGS have come (`ready` tells), which say how many streams and whether extended CONNECT are allowed.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import Fault, H2Code, Retry, Side
from edge.http.h2 import Connection, Event
from edge.http.message import End, Fields, RequestHead, ResponseHead
from edge.relay.ports import HIGH, LOW, Clock, Keeper, Receiver, Transport
from edge.relay.websocket import KEY, without
from edge.settings.model import Limits

__all__ = ["H2Upstream", "H2UpstreamStream"]

_SILENCE = 5.0  # seconds

Ready = Callable[["Fault | None"], None]


class H2UpstreamStream:
    """The upstream's side of one exchange."""

    __slots__ = ("_conn", "_sid", "heard_all", "protocol", "receiver", "reused", "sent_all")

    def __init__(self, conn: H2Upstream, sid: int, receiver: Receiver, *, reused: bool, protocol: bytes, sent_all: bool) -> None:
        self._conn = conn
        self._sid = sid
        self.receiver: Receiver | None = receiver
        self.reused = reused
        self.protocol = protocol
        self.sent_all = sent_all
        self.heard_all = False  # of a tunnel: only the other direction is left

    def send_data(self, data: bytes) -> None:
        self._conn.codec.send_data(self._sid, data)
        self._conn.transport.mark()

    def send_end(self, trailers: Fields) -> None:
        self.sent_all = True
        self._conn.codec.send_end(self._sid, trailers)
        self._conn.transport.mark()
        if self.heard_all:
            self.receiver = None
            self._conn.forget(self._sid, reset=False)

    def cancel(self) -> None:
        self.receiver = None
        self._conn.forget(self._sid, reset=True)

    def blocked(self) -> bool:
        conn = self._conn
        pending = conn.transport.pending
        return conn.codec.queued(self._sid) >= LOW or (pending > 0 and pending + conn.codec.pending_output >= HIGH)

    def pause(self) -> None:
        pass  # bytes that are not credited stop the upstream by themselves

    def resume(self) -> None:
        pass

    def credit(self, size: int) -> None:
        self._conn.codec.credit(self._sid, size)
        self._conn.transport.mark()


class H2Upstream:
    __slots__ = ("_closed", "_going", "_heard", "_keeper", "_ready", "_used", "clock", "codec", "room", "streams", "transport")

    multiplexed = True

    def __init__(
        self, transport: Transport, keeper: Keeper, limits: Limits, clock: Clock, *, secure: bool, ready: Ready | None = None
    ) -> None:
        """`ready` is called once: when SETTINGS have come, or with why they never will."""
        self.transport = transport
        self.clock = clock
        self.codec = Connection(limits, client=True, secure=secure, now=clock.now)
        self.codec.start()
        self.streams: dict[int, H2UpstreamStream] = {}
        self._keeper = keeper
        self._closed = False
        self._going = False  # no new streams
        self._used = False
        self._heard = clock.now  # when something was last read, or the first of the open streams began
        self._ready = ready
        self.room = self.codec.peer_streams
        transport.mark()

    # --- as a connection ---

    def has_room(self) -> bool:
        return not self._closed and not self._going and self.codec.can_open

    def open(self, receiver: Receiver, request: RequestHead, request_id: bytes = b"") -> H2UpstreamStream:
        protocol = request.protocol
        fields = without(request.fields, KEY) if protocol else request.fields
        if request_id:
            fields = [*fields, (b"x-request-id", request_id)]
        try:
            sid = self.codec.send_request(
                request.method,
                request.target,
                request.authority,
                fields,
                length=request.content_length,
                end=request.end and not protocol,
                protocol=protocol,
                te_trailers=request.te_trailers,
            )
        except Fault:
            self._free()
            raise
        stream = H2UpstreamStream(
            self, sid, receiver, reused=self._used, protocol=protocol, sent_all=request.end and not protocol
        )
        self._used = True
        if not self.streams:
            self._heard = self.clock.now
        self.streams[sid] = stream
        self.transport.mark()
        return stream

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.codec.goaway()
            self.transport.close()
            self._keeper.gone(self)

    def forget(self, sid: int, *, reset: bool) -> None:
        """The exchange of this stream is over."""
        if self.streams.pop(sid, None) is None or self._closed:
            return
        if reset:
            self.codec.reset(sid, H2Code.CANCEL)
            self.transport.mark()
            if self.clock.now - self._heard >= _SILENCE:
                self._leave()
        self._free()

    def _free(self) -> None:
        """There is room for one more, or nothing left to do."""
        if not self._going:
            self._keeper.released(self)
        elif not self.streams:
            self.close()

    # --- as a session of its transport ---

    def output(self) -> list[bytes]:
        data = self.codec.drain()
        return [data] if data else []

    def on_writable(self) -> None:
        for stream in list(self.streams.values()):
            if stream.receiver is not None and not stream.blocked():
                stream.receiver.upstream_writable()

    def on_data(self, data: bytes) -> None:
        codec = self.codec
        self._heard = now = self.clock.now
        try:
            events = codec.feed(data, now)
            self._dispatch(events)
            while codec.has_more and not self._closed:
                self._dispatch(codec.feed(b"", self.clock.now))
        except Fault as fault:
            self._fail(fault)
            return
        if codec.peer_streams != self.room:
            self.room = codec.peer_streams
            self._keeper.resized(self, self.room)
        if self._ready is not None and codec.settled:
            if self.has_room():
                self._tell_ready(None)
            else:
                self.close()
                self._tell_ready(Fault(Side.UPSTREAM, "upstream-closed", detail="it allows no streams", status=502))
        for sid in codec.unblocked():
            stream = self.streams.get(sid)
            if stream is not None and stream.receiver is not None and not stream.blocked():
                stream.receiver.upstream_writable()
        self.transport.mark()

    def _dispatch(self, events: list[Event]) -> None:
        for sid, event in events:
            stream = self.streams.get(sid)
            receiver = stream.receiver if stream is not None else None
            if isinstance(event, bytes):
                if receiver is None:
                    self.codec.credit(sid, len(event))
                else:
                    receiver.response_data(event)
            elif isinstance(event, Fault):
                if sid == 0:
                    self._leave()
                elif stream is not None and receiver is not None:
                    stream.receiver = None
                    if not event.status:
                        event.status = 502
                    self.forget(sid, reset=False)
                    receiver.upstream_failed(event)
            elif receiver is None:
                pass
            elif isinstance(event, ResponseHead):
                if event.status < 200:
                    receiver.response_informational(event.status, event.fields)
                    continue
                if stream is not None and stream.protocol and event.status < 300:
                    # the tunnel stands (RFC 8441 section 4): what HTTP/1.1 calls 101
                    event = ResponseHead(101, event.fields, version=20, protocol=stream.protocol)
                elif stream is not None:
                    stream.protocol = b""
                receiver.response_head(event)
                if event.end:
                    self._ended(sid, [])
            elif isinstance(event, End):
                self._ended(sid, event.trailers)

    def _ended(self, sid: int, trailers: Fields) -> None:
        stream = self.streams.get(sid)
        if stream is None or (receiver := stream.receiver) is None:
            return
        if stream.protocol and not stream.sent_all:
            stream.heard_all = True
            receiver.response_end(trailers)
            return
        stream.receiver = None
        self.forget(sid, reset=not stream.sent_all)
        receiver.response_end(trailers)

    def _leave(self) -> None:
        """The upstream says goodbye: no new streams, the open ones finish."""
        if not self._going:
            self._going = True
            self._keeper.gone(self)
        if not self.streams:
            self.close()

    def on_eof(self, clean: bool) -> None:
        self._fail(Fault(Side.UPSTREAM, "upstream-closed", detail="the connection ended", retry=Retry.IF_REUSED, status=502))

    def _fail(self, fault: Fault) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self.close()
        self._tell(streams, fault)

    def _tell_ready(self, fault: Fault | None) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            if fault is not None:
                fault.retry = Retry.YES  # nothing was asked
            ready(fault)

    def _tell(self, streams: list[H2UpstreamStream], fault: Fault) -> None:
        if not fault.status:
            fault.status = 502
        self._tell_ready(fault)
        for stream in streams:
            receiver, stream.receiver = stream.receiver, None
            if receiver is not None:
                receiver.upstream_failed(fault)

    def on_lost(self, fault: Fault) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        if not self._closed:
            self._closed = True
            self._keeper.gone(self)
        self._tell(streams, fault)

    def on_deadline(self, now: float) -> None:
        if not self.streams:
            self.close()
