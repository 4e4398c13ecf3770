"""An HTTP/1.1 connection to an upstream: one exchange at a time, then back to the pool.

Invariants: a connection is `released` only when both the request and the response were complete and framed so that the
next one can follow; in every other case it is closed and `gone`. Bytes or an end of file from an idle connection close it.
A connection that dies before any byte of a response lets its request be tried again (`Retry.IF_REUSED`): an upstream may close an
idle connection at any moment (RFC 9112 section 9.5). Some say 408 as they do so: a request that crosses it on a kept
connection is not answered by it, and is tried again if it is one that may be (RFC 9110 section 15.5.9).
"""

from __future__ import annotations

from edge.errors import Fault, Retry, Side
from edge.http.h1_client import ClientCodec
from edge.http.message import End, Fields, RequestHead, ResponseHead
from edge.relay.ports import HIGH, Keeper, Receiver, Transport
from edge.relay.websocket import ACCEPT, KEY, accept_for, find
from edge.upstream.retry import is_idempotent

__all__ = ["H1Upstream"]

_NO_TRAILERS: Fields = []


class H1Upstream:
    __slots__ = (
        "_closed", "_codec", "_half", "_heard", "_keeper", "_key", "_out", "_paused", "_receiver", "_request", "_transport",
        "_tunnel", "reused",
    )  # fmt: skip

    multiplexed = False
    room = 1

    def __init__(self, transport: Transport, keeper: Keeper) -> None:
        self._transport = transport
        self._keeper = keeper
        self._codec = ClientCodec()
        self._receiver: Receiver | None = None
        self._request: RequestHead | None = None
        self._out: list[bytes] = []
        self._key = b""  # the WebSocket key of a request that asks for a tunnel
        self._heard = False  # a byte of this exchange's response has come
        self._paused = False
        self._tunnel = False
        self._half = False  # one direction of the tunnel has ended
        self._closed = False
        self.reused = False

    # --- as a connection ---

    def has_room(self) -> bool:
        return self._receiver is None and not self._closed

    def open(self, receiver: Receiver, request: RequestHead, request_id: bytes = b"") -> H1Upstream:
        self._receiver = receiver
        self._request = request
        self._heard = False
        if request.protocol:
            self._key = find(request.fields, KEY)
        self._out.append(self._codec.send(request, request_id))
        self._transport.mark()
        return self

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.close()
            self._keeper.gone(self)

    def _break(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.abort()
            self._keeper.gone(self)

    # --- as the upstream's side of an exchange ---

    def send_data(self, data: bytes) -> None:
        self._out.append(data if self._tunnel else self._codec.data(data))
        self._transport.mark()

    def send_end(self, trailers: Fields) -> None:
        if self._tunnel:
            self._end_half()
            return
        last = self._codec.end(trailers)
        if last:
            self._out.append(last)
            self._transport.mark()

    def _end_half(self) -> None:
        """A tunnel ends when both its directions have."""
        if self._half:
            self._receiver = None
            self.close()
        else:
            self._half = True
            self._transport.half_close()

    def cancel(self) -> None:
        self._receiver = None
        self._break()

    def blocked(self) -> bool:
        return self._transport.pending >= HIGH

    def pause(self) -> None:
        self._paused = True
        self._transport.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume()
            self._pump()

    def credit(self, size: int) -> None:
        pass

    # --- as a session of its transport ---

    def output(self) -> list[bytes]:
        out = self._out
        if not out:
            return out
        self._out = []
        if len(out) > 1 and sum(map(len, out)) <= 16_384:
            return [b"".join(out)]
        return out

    def on_writable(self) -> None:
        if self._receiver is not None:
            self._receiver.upstream_writable()

    def on_data(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self._break()
        elif self._tunnel:
            receiver.response_data(data)
        else:
            self._heard = True
            if not self._paused:
                head = self._codec.again(data)
                if head is not None:
                    receiver.response_head(head)
                    if self._receiver is receiver:
                        self._receiver = None
                        self.reused = True
                        self._keeper.released(self)
                        receiver.response_end(_NO_TRAILERS)
                    return
            self._codec.feed(data)
            if not self._paused:
                self._pump()

    def _pump(self) -> None:
        codec = self._codec
        while (receiver := self._receiver) is not None and not self._paused and not self._closed:
            try:
                event = codec.next_event()
            except Fault as fault:
                self._fail(fault)
                return
            if event is None:
                return
            if isinstance(event, bytes):
                receiver.response_data(event)
            elif isinstance(event, End):
                self._complete(event.trailers)
            else:
                self._head(receiver, event)

    def _head(self, receiver: Receiver, head: ResponseHead) -> None:
        if head.status == 101:
            if find(head.fields, ACCEPT) != accept_for(self._key):
                self._fail(Fault(Side.UPSTREAM, "upstream-websocket-accept", status=502))
                return
            self._tunnel = True
            receiver.response_head(head)
            early = self._codec.take_buffered()
            if early and self._receiver is receiver:
                receiver.response_data(early)
        elif head.status < 200:
            receiver.response_informational(head.status, head.fields)
        elif head.status == 408 and not head.keep_alive and self.reused and self._repeatable():
            self._heard = False
            self._fail(Fault(Side.UPSTREAM, "upstream-closed", detail="408", status=502))
        else:
            receiver.response_head(head)
            if head.end and self._receiver is receiver:
                self._complete(_NO_TRAILERS)

    def _repeatable(self) -> bool:
        request = self._request
        return request is not None and request.end and not request.protocol and is_idempotent(request.method)

    def _complete(self, trailers: Fields) -> None:
        receiver = self._receiver
        self._receiver = None
        self.reused = True
        if self._codec.reusable:
            self._keeper.released(self)
        else:
            self.close()
        if receiver is not None:
            receiver.response_end(trailers)

    def on_eof(self, clean: bool) -> None:
        receiver = self._receiver
        if receiver is None:
            self.close()
            return
        if not clean:  # TLS without close_notify: somebody may have cut it (RFC 8446 section 6.1)
            self._fail(Fault(Side.UPSTREAM, "upstream-closed", detail="no close_notify", status=502))
            return
        if self._tunnel:
            if self._half:
                self._receiver = None
                self.close()
            self._half = True
            receiver.response_end([])
            return
        try:
            end = self._codec.eof()
        except Fault as fault:
            self._fail(fault)
            return
        if end is not None:
            self._complete(end.trailers)
        elif not self._paused:
            self._pump()

    def _fail(self, fault: Fault) -> None:
        receiver = self._receiver
        self._receiver = None
        if not self._heard and self.reused:
            fault.retry = Retry.IF_REUSED
        self._break()
        if receiver is not None:
            receiver.upstream_failed(fault)

    def on_lost(self, fault: Fault) -> None:
        receiver = self._receiver
        self._receiver = None
        if not self._heard and self.reused:
            fault.retry = Retry.IF_REUSED
        if not fault.status:
            fault.status = 502
        if not self._closed:
            self._closed = True
            self._keeper.gone(self)
        if receiver is not None:
            receiver.upstream_failed(fault)

    def on_deadline(self, now: float) -> None:
        self.close()
