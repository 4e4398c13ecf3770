"""The sending half of an HTTP/2 connection: heads, bodies under two windows, fair turns, and what goes back as credit.

What may go out at once is written to the turn's output; the rest waits in its stream's queue until the peer opens a
window, and then the streams that wait take turns of one frame each (RFC 9113 section 5.2). `drain` gives everything
that a turn wrote as one bytes.

Invariants: while a stream waits although its own window is open, the connection's window is closed (or the other way
round); nothing is written for a stream after its END_STREAM or RST_STREAM; a message whose declared length was not
kept never ends with END_STREAM, but with RST_STREAM; inbound credit is given for what the far side consumed, and for
whatever a closing stream still owed, so that no stream takes the connection's window with it.

Calls for streams that are gone do nothing: a reset may always cross them.
"""

from __future__ import annotations

from math import inf

from edge.errors import Fault, H2Code, Side
from edge.http.h2_frames import (
    DATA,
    END_STREAM,
    FRAME,
    MAX_FRAME,
    Budget,
    headers,
    rst_stream,
    window_update,
)
from edge.http.h2_hpack import FieldEncoder
from edge.http.h2_stream import CLOSED, LOCAL, REMOTE, Stream
from edge.http.message import Field, Fields
from edge.settings.model import Limits

__all__ = ["DEFAULT_WINDOW", "LOW_MARK", "Sender"]

LOW_MARK = 16 * 1024  # bytes waiting in a stream below which `unblocked` names it
DEFAULT_WINDOW = 65_535  # RFC 9113 section 6.9.2
UNREAD = 2.0  # seconds
_RESETS_KEPT = 256, 4096  # reset streams that are remembered, because frames may still be on their way: of clients, of upstreams
_SHARED_BY = 8  # budgets of a client that an upstream's connection has, whose streams belong to many
_EARNS = 1024  # bytes of DATA that are worth frames in return
_EARNED_AT_MOST = 1000  # frames that DATA of ours may earn the peer in advance

_STATUS = {status: (b":status", b"%d" % status) for status in range(100, 600)}


class Sender:
    """State that both halves of a connection share, and everything that writes frames. `Connection` is the whole."""

    def __init__(
        self, limits: Limits, *, client: bool, now: float, encoder: FieldEncoder, stream_window: int, connection_window: int
    ) -> None:
        self.limits = limits
        self.client = client
        self._now = now
        self._encoder = encoder
        self._streams: dict[int, Stream] = {}
        self._unread: dict[int, float] = {}  # answered streams whose request still comes: until when it is thrown away
        self._reset: dict[int, int] = {}  # stream id: bytes that may be on their way because we reset it; -1: the peer did
        self._forgotten = 0  # the highest stream id that was in there and is no more
        share = _SHARED_BY if client else 1
        self._resets = Budget(share * limits.h2_resets, now)
        self._control = Budget(share * limits.h2_control, now)
        self._dead = False  # a connection error was sent: nothing is read or written any more

        self._out: list[bytes] = []
        self._turn = 0
        self._replies = 0  # bytes in `_out` that only answer the peer's control frames
        self._waiting: dict[int, Stream] = {}  # streams with a queue, the next to be served first
        self._unblocked: dict[int, None] = {}
        self._earned = 0  # WINDOW_UPDATE and PING frames that our DATA entitles the peer to

        self._send_window = DEFAULT_WINDOW
        self._peer_window = DEFAULT_WINDOW  # SETTINGS_INITIAL_WINDOW_SIZE of the peer
        self._peer_frame = MAX_FRAME  # SETTINGS_MAX_FRAME_SIZE of the peer
        self._stream_window = stream_window
        self._connection_window = connection_window
        self._recv_window = connection_window
        self._credited = 0  # bytes of the connection's window given back and not yet announced

    # What the owner asks

    @property
    def open_streams(self) -> int:
        """Streams that are not closed."""
        return len(self._streams)

    @property
    def waiting_streams(self) -> int:
        """Streams whose data waits for the peer's windows: no progress of theirs for long is a stalled peer."""
        return len(self._waiting)

    @property
    def pending_output(self) -> int:
        """Bytes that `drain` would give."""
        return sum(map(len, self._out))

    def queued(self, sid: int) -> int:
        """Bytes of the stream's body that wait for the peer's windows."""
        stream = self._streams.get(sid)
        return stream.queued if stream is not None else 0

    def unblocked(self) -> list[int]:
        """Streams whose waiting bytes fell below `LOW_MARK` (or to none) since the last call."""
        if not self._unblocked:
            return []
        found = list(self._unblocked)
        self._unblocked.clear()
        return found

    def drain(self) -> bytes:
        """Everything to be written, as one bytes; b"" when there is nothing."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._turn += 1
        self._replies = 0
        return data

    # Heads

    def send_informational(self, sid: int, status: int, fields: Fields) -> None:
        """An interim response (server role); `status` is 100 to 199 but never 101 (RFC 9113 sections 8.1 and 8.6)."""
        stream = self._streams.get(sid)
        if stream is None or stream.head_done or not 100 <= status < 200 or status == 101:
            return
        self._out.append(headers(sid, self._encoder.write([_STATUS[status], *fields]), 0, self._peer_frame))

    def send_head(self, sid: int, status: int, fields: Fields, *, length: int | None, end: bool, request_id: bytes = b"") -> None:
        """The response's final head (server role). `length` is written as Content-Length and then holds for the body.
        `request_id` is written as X-Request-Id unless it is b"".

        Where the answer has no content (HEAD, 204, 304) the stream ends with the head, whatever `end` says, and what is
        sent for it afterwards is dropped (RFC 9110 sections 6.4.1, 9.3.2).
        """
        stream = self._streams.get(sid)
        if stream is None or stream.head_done:
            return
        stream.head_done = True
        stream.failed = status >= 400
        if status >= 300:
            stream.protocol = b""  # no tunnel comes of it
        bodiless = stream.bodiless or status in {204, 304}
        first: list[Field] = [_STATUS[status]]
        if length is not None and status != 204:
            first.append((b"content-length", b"%d" % length))
            if not bodiless:
                stream.promised = length
        if bodiless:
            end, stream.bodiless = True, True
        elif end and length:
            self.reset(sid, H2Code.INTERNAL_ERROR)
            return
        self._write_head(stream, self._encoder.write_head(first, fields, request_id), end)

    def _write_head(self, stream: Stream, block: bytes, end: bool) -> None:
        out = self._out
        stream.mark = len(out)
        stream.mark_turn = self._turn
        out.append(headers(stream.sid, block, 0, self._peer_frame))
        if end:
            self._finish(stream, [])

    # Bodies

    def send_data(self, sid: int, data: bytes) -> None:
        """Send or queue `data`. Raises `Fault` and resets the stream when it is more than the declared length."""
        stream = self._streams.get(sid)
        size = len(data)
        if stream is None or stream.state & LOCAL or stream.ending is not None or not size:
            return
        if stream.promised >= 0:
            stream.promised -= size
            if stream.promised < 0:
                self.reset(sid, H2Code.INTERNAL_ERROR)
                side = Side.CLIENT if self.client else Side.UPSTREAM
                raise Fault(side, "body-too-long", detail="more than its Content-Length", h2_code=H2Code.INTERNAL_ERROR)
        if not stream.queued and size <= stream.send_window and size <= self._send_window and size <= self._peer_frame:
            self._write_data(stream, data, size)
            return
        stream.put(data)
        while stream.queued and self._write_queued(stream):
            pass
        if stream.queued:
            stream.waiting = True
            self._waiting[sid] = stream

    def send_end(self, sid: int, trailers: Fields) -> None:
        """End our half, behind what is queued. A body shorter than its declared length ends in RST_STREAM(INTERNAL_ERROR)."""
        stream = self._streams.get(sid)
        if stream is None or stream.state & LOCAL or stream.ending is not None:
            return
        if stream.promised > 0:
            self.reset(sid, H2Code.INTERNAL_ERROR)
        elif stream.queued:
            stream.ending = trailers
        else:
            self._finish(stream, trailers)

    def _write_data(self, stream: Stream, data: bytes, size: int) -> None:
        out = self._out
        stream.mark = len(out)
        stream.mark_turn = self._turn
        out.append(FRAME.pack(size >> 8, size & 0xFF, DATA, 0, stream.sid))
        out.append(data)
        stream.send_window -= size
        self._send_window -= size
        # frames that a tiny window made small earn nothing: the peer asked for them one by one
        if self._earned < _EARNED_AT_MOST and (size >= _EARNS or not stream.queued):
            self._earned += 2

    def _write_queued(self, stream: Stream) -> bool:
        """Write one DATA frame from the stream's queue; False when a window is closed."""
        room = min(stream.send_window, self._send_window, self._peer_frame)
        if room <= 0:
            return False
        piece = stream.cut(room)
        self._write_data(stream, piece, len(piece))
        return True

    def _finish(self, stream: Stream, trailers: Fields) -> None:
        """END_STREAM: on a HEADERS frame of trailers, on the frame just written, or on an empty DATA frame.

        Nobody reads what still comes of an answered request: RST_STREAM(NO_ERROR), RFC 9113 section 8.1. After an error it is
        thrown away for a moment before, because some clients (curl 7.88) forget an answer that a reset follows at
        once. A client that was told of success goes on sending, and the reset tells it to stop.
        """
        out = self._out
        if trailers:
            out.append(headers(stream.sid, self._encoder.write(trailers), END_STREAM, self._peer_frame))
        elif stream.mark_turn == self._turn:
            part = out[stream.mark]
            out[stream.mark] = part[:4] + bytes((part[4] | END_STREAM,)) + part[5:]
        else:
            out.append(FRAME.pack(0, 0, DATA, END_STREAM, stream.sid))
        stream.state |= LOCAL
        stream.ending = None
        if stream.state == CLOSED:
            self._close(stream)
        elif self.client or stream.protocol:
            pass
        elif stream.failed:
            stream.discard = True
            stream.body_room = -1
            self._credit_unread(stream)
            self._unread[stream.sid] = self._now + UNREAD
        else:
            self.reset(stream.sid, H2Code.NO_ERROR)

    def _credit_unread(self, stream: Stream) -> None:
        n, stream.unacked = stream.unacked, 0
        self._credit_stream(stream, n)
        self._credit_connection(n)

    @property
    def unread_due(self) -> float:
        """When `end_unread` has something to do; `inf` for never."""
        return min(self._unread.values(), default=inf)

    def end_unread(self, now: float) -> None:
        """Reset the streams that were answered `UNREAD` seconds ago and whose request still comes."""
        for sid in [sid for sid, due in self._unread.items() if due <= now]:
            self.reset(sid, H2Code.NO_ERROR)

    def _flush(self) -> None:
        """A window was opened: streams that wait take turns of one frame."""
        waiting = self._waiting
        moved = True
        while moved and waiting and self._send_window > 0:
            moved = False
            for sid, stream in list(waiting.items()):
                if self._send_window <= 0:
                    break
                if stream.send_window <= 0:
                    continue
                before = stream.queued
                self._write_queued(stream)
                moved = True
                del waiting[sid]
                if stream.queued:
                    waiting[sid] = stream  # behind the others
                if stream.waiting and (not stream.queued or before > LOW_MARK >= stream.queued):
                    self._unblocked[sid] = None
                    stream.waiting = stream.queued > 0
                if not stream.queued and stream.ending is not None:
                    self._finish(stream, stream.ending)

    # Credit and closing

    def credit(self, sid: int, n: int) -> None:
        """`n` bytes of the stream's body were consumed: windows go back to the peer, in batches of half a window."""
        stream = self._streams.get(sid)
        if stream is None:
            return  # what a closed stream owed was credited when it closed
        n = min(n, stream.unacked)
        stream.unacked -= n
        self._credit_stream(stream, n)
        self._credit_connection(n)

    def _credit_stream(self, stream: Stream, n: int) -> None:
        stream.credited += n
        if stream.credited * 2 >= self._stream_window and not stream.state & REMOTE:
            self._out.append(window_update(stream.sid, stream.credited))
            stream.recv_window += stream.credited
            stream.credited = 0

    def _credit_connection(self, n: int) -> None:
        self._credited += n
        if self._credited * 2 >= self._connection_window and not self._dead:
            self._out.append(window_update(0, self._credited))
            self._recv_window += self._credited
            self._credited = 0

    def reset(self, sid: int, code: H2Code) -> None:
        """RST_STREAM; the stream is gone afterwards. What it had queued is dropped."""
        stream = self._streams.get(sid)
        if stream is None or self._dead:
            return
        self._out.append(rst_stream(sid, code))
        self._remember_reset(sid, max(0, stream.recv_window))
        self._close(stream)

    def _remember_reset(self, sid: int, window: int) -> None:
        """`window`: bytes that the peer may have sent before it hears of it; -1 when it was the peer who reset the stream."""
        kept = self._reset
        if len(kept) >= _RESETS_KEPT[self.client]:
            oldest = next(iter(kept))
            del kept[oldest]
            self._forgotten = max(self._forgotten, oldest)
        kept[sid] = window

    def _close(self, stream: Stream) -> None:
        stream.state = CLOSED
        del self._streams[stream.sid]
        self._unread.pop(stream.sid, None)
        if stream.queued:
            self._waiting.pop(stream.sid, None)
        if stream.unacked:
            self._credit_connection(stream.unacked)
            stream.unacked = 0
