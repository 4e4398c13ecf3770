"""Field blocks of an HTTP/2 connection: gathered, decoded, and read as the head of a request, a response, or trailers.

A block may come in pieces (HEADERS, then CONTINUATION), between which no other frame may stand (RFC 9113 section 6.10). It
is decoded whatever becomes of its stream, for the compression state is the connection's. Requests that are alike are read once:
as long as a block does not change the decoder's table, the same bytes mean the same head.

Invariants:

* A malformed head resets its stream and no other. One that is only too large, or that has a status, waits for its answer.
* Blocks in pieces are bounded in bytes and in frames, remembered heads in number and in size.
* What is said of a stream that is not there is a connection error exactly when the peer knows that it is closed or was never
  opened (sections 5.1 and 5.1.1).
"""

from __future__ import annotations

from typing import Final

from edge.errors import Fault, H2Code, Side
from edge.http.h2_control import STREAM_WINDOW, Control
from edge.http.h2_frames import END_HEADERS, END_STREAM, MAX_ID, PADDED, PRIORITY_FLAG, rst_stream
from edge.http.h2_head import malformed, request_head, response_head, too_large, trailers
from edge.http.h2_stream import CLOSED, REMOTE, Stream
from edge.http.message import End, Fields, RequestHead

__all__ = ["Blocks"]

_INTERIM: Final = 256  # 1xx responses to one request
_CONTINUATIONS: Final = 32  # frames of one field block
_GAPS: Final = 16
_HEADS_KEPT: Final = 32  # requests whose block is remembered
_BLOCK_KEPT: Final = 4096  # bytes: longer blocks are not


class Blocks(Control):
    """What a connection does with HEADERS and CONTINUATION."""

    _gaps: list[tuple[int, int]]  # ids that the peer skipped, newest last
    _block: list[bytes] | None  # pieces of a field block that is not complete
    _block_sid: int
    _block_size: int
    _block_end: bool  # END_STREAM stood on its HEADERS
    _block_bound: int  # what is too large, but not by far, gets its 431
    _heads: dict[bytes, RequestHead]  # by block; they hold for `_heads_generation` of the decoder only
    _heads_generation: int

    @property
    def head_open(self) -> bool:
        """Whether a field block has begun and its last frame has not come."""
        return self._block is not None

    def _on_headers(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        pad = depends = -1
        if flags & PADDED:
            if start == stop:
                raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
            pad = data[start]
            start += 1
        if flags & PRIORITY_FLAG:
            if stop - start < 5:
                raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
            depends = int.from_bytes(data[start : start + 4], "big") & MAX_ID
            start += 5
        if pad > 0:
            stop -= pad
            if stop < start:  # section 6.2
                raise self._error("h2-padding", H2Code.PROTOCOL_ERROR)
        if not sid:
            raise self._error("h2-stream-id", H2Code.PROTOCOL_ERROR)
        end = flags & END_STREAM != 0
        if not flags & END_HEADERS:
            self._block = [data[start:stop]]
            self._block_sid = sid
            self._block_size = stop - start
            self._block_end = end
        else:
            self._on_block(sid, data[start:stop], end)
        if depends == sid and sid in self._streams:  # RFC 7540 section 5.3.1, where the flag comes from
            self._break(self._streams[sid], malformed("bad-priority", side=self._side))

    def _on_continuation(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        pieces = self._block
        if pieces is None:  # section 6.10
            raise self._error("h2-continuation", H2Code.PROTOCOL_ERROR)
        pieces.append(data[start:stop])
        self._block_size += stop - start
        if self._block_size > self._block_bound or len(pieces) > _CONTINUATIONS:
            raise self._error("h2-continuation-flood", H2Code.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._block = None
            self._on_block(sid, b"".join(pieces), self._block_end)

    def _on_block(self, sid: int, block: bytes, end: bool) -> None:
        """A whole field block: a request, a response, or trailers."""
        stream = self._streams.get(sid)
        if stream is None and not self.client and sid > self._last_peer and sid & 1:
            self._on_request(sid, block, end)
            return
        fields = self._decoder.read(block)  # before anything else: the table must see every block
        if stream is None:
            self._spend()
            if not self._gone(sid):
                self._spend_reset()
                self._out.append(rst_stream(sid, H2Code.STREAM_CLOSED))
        elif stream.state & REMOTE:  # section 5.1
            self._break(stream, self._error("h2-stream-closed", H2Code.STREAM_CLOSED))
        elif self.client and not stream.head_done:
            self._on_response(stream, fields, end)
        else:
            self._on_trailers(stream, fields, end)

    def _on_request(self, sid: int, block: bytes, end: bool) -> None:
        if sid > self._last_peer + 2:
            self._gaps = [*self._gaps[1 - _GAPS :], (self._last_peer, sid)]
        self._last_peer = sid
        decoder = self._decoder
        kept = self._heads.get(block) if self._heads_generation == decoder.generation else None
        fault: Fault | None = None
        head: RequestHead | None = None
        if kept is not None and kept.end == end:
            head = kept
        else:
            generation = decoder.generation
            fields = decoder.read(block)
            try:
                if fields is None:
                    raise too_large(Side.CLIENT)
                head = request_head(fields, end=end, secure=self.secure)
            except Fault as error:
                fault = error.kept()
            else:
                if decoder.generation == generation and len(block) <= _BLOCK_KEPT:
                    self._keep_head(block, head)
        if self.going_away or len(self._streams) >= self.limits.streams:  # section 5.1.2
            self._refuse(sid, Fault(Side.CLIENT, "h2-refused-stream", h2_code=H2Code.REFUSED_STREAM))
            return
        if fault is not None and not fault.status:
            self._refuse(sid, fault)
            return
        stream = Stream(sid, self._peer_window, STREAM_WINDOW)
        self._streams[sid] = stream
        if end:
            stream.state = REMOTE
        if head is None:
            assert fault is not None
            stream.discard = True
            self._events.append((sid, fault))
            return
        if head.content_length is not None:
            stream.expected = head.content_length
        stream.bodiless = head.method == b"HEAD"
        stream.protocol = head.protocol
        self._events.append((sid, head))

    def _keep_head(self, block: bytes, head: RequestHead) -> None:
        heads = self._heads
        if self._heads_generation != self._decoder.generation or len(heads) >= _HEADS_KEPT:
            heads.clear()
            self._heads_generation = self._decoder.generation
        heads[block] = head

    def _on_response(self, stream: Stream, fields: Fields | None, end: bool) -> None:
        try:
            if fields is None:
                raise too_large(Side.UPSTREAM)
            head = response_head(fields, end=end, bodiless=stream.bodiless)
        except Fault as fault:
            self._break(stream, fault)
            return
        if head.status < 200:
            self._spend()  # interim answers have no end of their own
            stream.interim += 1
            if stream.interim > _INTERIM:
                self._break(stream, malformed("too-many-interim", side=Side.UPSTREAM))
                return
        else:
            stream.head_done = True
            tunnel = stream.protocol and head.status < 300
            if head.status in {204, 304}:
                stream.bodiless = True
            if tunnel:
                head.protocol = stream.protocol
                head.content_length = None
            elif not stream.bodiless and head.content_length is not None:
                stream.expected = head.content_length
        self._events.append((stream.sid, head))
        if end:
            stream.state |= REMOTE
            if stream.state == CLOSED:
                self._close(stream)

    def _on_trailers(self, stream: Stream, fields: Fields | None, end: bool) -> None:
        try:
            if not end:  # section 8.1
                raise malformed("bad-trailer", "no END_STREAM", side=self._side)
            if stream.expected > 0:
                raise malformed("bad-content-length", "disagrees with DATA", side=self._side)
            if fields is None:
                raise malformed("trailers-too-large", side=self._side)
            fields = trailers(fields, self._side)
        except Fault as fault:
            self._break(stream, fault)
            return
        self._ended(stream, fields)

    def _ended(self, stream: Stream, fields: Fields) -> None:
        """The peer's half is complete."""
        if not stream.discard:
            self._events.append((stream.sid, End(fields)))
        stream.state |= REMOTE
        if stream.state == CLOSED:
            self._close(stream)

    def _gone(self, sid: int) -> bool:
        """How a stream that is not there went: True when we reset it, False when the peer did.

        Raises the connection error that sections 5.1 and 5.1.1 ask for when the peer knows it to be closed, or never opened it.
        """
        left = self._reset.get(sid)
        if left is not None:
            return left >= 0
        if sid <= self._forgotten and not self._idle(sid):
            return True  # nobody knows any more
        if self._idle(sid) or any(low < sid < high for low, high in self._gaps):
            raise self._error("h2-stream-id", H2Code.PROTOCOL_ERROR)
        raise self._error("h2-stream-closed", H2Code.STREAM_CLOSED)

    def _refuse(self, sid: int, fault: Fault) -> None:
        """A stream that never came to be."""
        if self.going_away:
            self._spend()
        else:
            self._spend_reset()
        self._out.append(rst_stream(sid, fault.h2_code))
        self._remember_reset(sid, STREAM_WINDOW)
        self._events.append((sid, fault))
