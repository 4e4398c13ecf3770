"""HTTP/2 connections, both roles (RFC 9113, RFC 8441): bytes in, messages out, and back.

`Connection` walks the frames itself. HEADERS, CONTINUATION, DATA, WINDOW_UPDATE and RST_STREAM act on streams of our
own (`h2_stream`), which cost a tenth of the library's; the library's connection object keeps what belongs to the
connection: the preface, SETTINGS both ways with their acknowledgements and effects, PING, and HPACK's tables
(`h2_hpack`). Field blocks become messages in `h2_blocks`; sending is `h2_sender`. A differential test holds the whole
against the library.

Invariants:

* A malformed message resets its stream and no other (RFC 9113 section 8.1.1); its field block is decoded all the same,
  for the compression state is the connection's. Connection errors are terminal: GOAWAY is in `drain`, `feed` raises
  `Fault` once, nothing happens afterwards.
* Bytes of body that were handed on and not credited never exceed the connection's window, nor a stream's its own:
  that is the memory that a peer can make us hold. Header blocks in pieces are bounded in bytes and in frames.
* Everything that costs us without bringing a request nearer has a budget a second: resets, whether sent by the peer or
  provoked by it, and control frames; an acknowledgement is refused to a peer that does not read.
* One `feed` acts on `FRAMES_A_TURN` frames at most, fewer where they are dear; `has_more` says that the rest waits for
  ``feed(b"", now)``, and until it is false nothing more should be read from the peer.

Every bytes event should be given back with `credit` when the far side has consumed it; a stream that closes gives back
the rest by itself. An event with a `Fault` of status 0 means that the stream is gone; one with a status means that it
waits for an answer with that status, and that the rest of the request is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from h2.exceptions import ProtocolError

from edge.errors import Fault, H2Code, Retry, Side
from edge.http.h2_blocks import Blocks
from edge.http.h2_control import CONNECTION_WINDOW, STREAM_WINDOW, Event
from edge.http.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    MAX_ID,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    rst_stream,
)
from edge.http.h2_head import malformed
from edge.http.h2_hpack import HPACKError, OversizedError
from edge.http.h2_stream import REMOTE, Stream
from edge.http.message import Field, Fields
from edge.settings.model import Limits

__all__ = ["CONNECTION_WINDOW", "FRAMES_A_TURN", "STREAM_WINDOW", "Connection", "Event"]

FRAMES_A_TURN: Final = 500  # of the cheapest kind
_HEADERS_WEIGH: Final = 3  # more than one of those
_LIBRARY_WEIGHS: Final = 9  # the same, for what the library handles
_LIBRARY_FRAMES: Final = frozenset({SETTINGS, PING})


class Connection(Blocks):
    """One HTTP/2 connection. `client`: our role. `secure`: whether TLS carries it, for `:scheme`. `now`: monotonic seconds."""

    def __init__(self, limits: Limits, *, client: bool, secure: bool = True, now: float) -> None:
        super().__init__(limits, client=client, secure=secure, now=now)
        self.has_more = False
        self._rest = b""
        self._fault: Fault | None = None
        self._preface = b"" if client else PREFACE
        self._gaps = []
        self._block = None
        self._block_sid = 0
        self._block_size = 0
        self._block_end = False
        self._block_bound = 4 * limits.header_bytes + MAX_FRAME
        self._heads = {}
        self._heads_generation = 0

    def set_body_limit(self, sid: int, limit: int | None) -> None:
        """Bound the request body of a stream to `limit` bytes; None: no bound.

        Beyond it the stream waits for a 413: as an event, or raised at once when more had come already.
        """
        stream = self._streams.get(sid)
        if stream is None:
            return
        if limit is None:
            stream.body_room = -1
        elif limit < stream.received:
            raise self._refuse_body(stream)
        else:
            stream.body_room = limit - stream.received

    def send_request(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        fields: Fields,
        *,
        length: int | None,
        end: bool,
        protocol: bytes = b"",
        te_trailers: bool = False,
    ) -> int:
        """Open a stream with a request (client role) and return its id.

        `length`: Content-Length, None for a body of unknown length. `protocol`: an extended CONNECT (RFC 8441).
        Raises `Fault`: with retry when `can_open` is false, without where the peer has not allowed extended CONNECT.
        """
        if not self.can_open:
            raise Fault(Side.EDGE, "h2-cannot-open", retry=Retry.YES, status=502)
        if protocol and not self.peer_allows_connect_protocol:
            raise Fault(Side.EDGE, "h2-cannot-open", detail="the upstream does not allow extended CONNECT", status=502)
        self._last_ours = sid = self._last_ours + 2
        stream = Stream(sid, self._peer_window, STREAM_WINDOW)
        self._streams[sid] = stream
        block: list[Field] = [
            (b":method", b"CONNECT" if protocol else method),
            (b":scheme", b"https" if self.secure else b"http"),
            (b":authority", authority),
            (b":path", target),
        ]
        if protocol:
            block.append((b":protocol", protocol))
            stream.protocol = protocol
        else:
            stream.bodiless = method == b"HEAD"
            if length is not None:
                block.append((b"content-length", b"%d" % length))
                stream.promised = length
        if te_trailers:
            block.append((b"te", b"trailers"))
        block += fields
        self._write_head(stream, self._encoder.write(block), end)
        return sid

    def feed(self, data: bytes, now: float) -> list[Event]:
        """What `data` says. Raises `Fault` for a connection error, after the events that came before it were returned."""
        if self._fault is not None:
            raise self._take_fault()
        if self._dead:
            return []
        if self._rest:
            data = self._rest + data if data else self._rest
        self._now = now
        if self._unread:
            self.end_unread(now)
        self.has_more = False
        events = self._events
        at = 0
        try:
            if self._preface:
                at = self._read_preface(data)
            at = self._walk(data, at)
            self._rest = data[at:] if at < len(data) else b""
            self._events = []  # whoever has them, an idle connection does not hold their bytes
            return events
        except Fault as error:
            fault = error
        except OversizedError:
            fault = self._error("h2-header-bomb", H2Code.ENHANCE_YOUR_CALM)
        except HPACKError as error:
            fault = self._error("h2-compression", H2Code.COMPRESSION_ERROR, str(error))
        except ProtocolError as error:
            fault = self._error("h2-settings", H2Code(int(error.error_code)), str(error))
        self._die(fault)
        self._fault = fault.kept()
        self._events = []
        self._rest = b""
        del fault
        if not events:
            raise self._take_fault()
        self.has_more = True
        return events

    def _take_fault(self) -> Fault:
        fault, self._fault, self.has_more = self._fault, None, False
        assert fault is not None
        return fault

    def _read_preface(self, data: bytes) -> int:
        """RFC 9113 section 3.4: how many bytes of `data` belong to the preface."""
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise self._error("h2-preface", H2Code.PROTOCOL_ERROR)
        if size == len(self._preface):
            self._library.receive_data(PREFACE)
        self._preface = self._preface[size:]
        return size

    def _walk(self, data: bytes, at: int) -> int:
        """Act on the frames of `data` from `at` on; where the first one begins that was left."""
        size = len(data)
        unpack = FRAME.unpack_from
        turns = FRAMES_A_TURN
        while size - at >= 9:
            high, low, kind, flags, sid = unpack(data, at)
            start = at + 9
            stop = start + (high << 8 | low)
            if stop - start > MAX_FRAME:  # RFC 9113 section 4.2
                raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
            if stop > size:
                break
            if turns <= 0:
                self.has_more = True
                break
            turns -= 1
            sid &= MAX_ID
            if self._block is not None and (kind != CONTINUATION or sid != self._block_sid):  # section 6.10
                raise self._error("h2-continuation", H2Code.PROTOCOL_ERROR)
            if not self.settled and (kind != SETTINGS or flags & ACK):  # section 3.4
                raise self._error("h2-preface", H2Code.PROTOCOL_ERROR, "no SETTINGS first")
            if kind == DATA:
                self._on_data(sid, flags, data, start, stop)
            elif kind == HEADERS:
                self._on_headers(sid, flags, data, start, stop)
                turns -= _HEADERS_WEIGH
            else:
                if kind in _LIBRARY_FRAMES:
                    turns -= _LIBRARY_WEIGHS
                handler = _HANDLERS.get(kind)
                if handler is not None:
                    handler(self, sid, flags, data, start, stop)
                else:
                    self._spend()  # unknown frames are ignored, section 5.5
            at = stop
        return at

    def _on_data(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        length = stop - start
        self._recv_window -= length
        if self._recv_window < 0:  # section 6.9.1
            raise self._error("h2-flow-control", H2Code.FLOW_CONTROL_ERROR)
        stream = self._streams.get(sid)
        if stream is None:
            self._stray_data(sid, length)
            return
        if flags & PADDED:  # section 6.1
            if not length or data[start] >= length:
                raise self._error("h2-padding", H2Code.PROTOCOL_ERROR)
            stop -= data[start]
            start += 1
        stream.recv_window -= length
        size = stop - start
        stream.unacked += length  # so that whatever happens below, the connection gets it back
        if stream.state & REMOTE:
            self._break(stream, self._error("h2-stream-closed", H2Code.STREAM_CLOSED))
            return
        if stream.recv_window < 0:
            self._break(stream, self._error("h2-flow-control", H2Code.FLOW_CONTROL_ERROR))
            return
        if self.client and (not stream.head_done or (stream.bodiless and size)):
            self._break(stream, malformed("unexpected-body", side=self._side))
            return
        end = flags & END_STREAM
        if stream.expected >= 0:
            stream.expected -= size
            if stream.expected < 0 or (end and stream.expected):  # section 8.1.1
                self._break(stream, malformed("bad-content-length", "disagrees with DATA", side=self._side))
                return
        stream.received += size
        if stream.discard:
            self.credit(sid, length)
        else:
            if size != length:
                self.credit(sid, length - size)
            if stream.body_room >= 0:
                stream.body_room -= size
                if stream.body_room < 0:
                    self._events.append((sid, self._refuse_body(stream)))
                    size = 0
            if size:
                self._events.append((sid, data[start:stop]))
        if end:
            self._ended(stream, [])
        elif not size:
            self._spend()

    def _stray_data(self, sid: int, length: int) -> None:
        """DATA for a stream that is not there: it still counts for the connection's window."""
        ours = self._gone(sid)
        self._credit_connection(length)
        left = self._reset.get(sid, -1) - length
        if length and left >= 0:
            self._reset[sid] = left  # it had been sent before the reset was heard of: the stream's window is the bound of that
            return
        self._spend()
        if not ours:
            self._out.append(rst_stream(sid, H2Code.STREAM_CLOSED))

    def _refuse_body(self, stream: Stream) -> Fault:
        """Throw the rest of the body away; the stream waits for its 413."""
        stream.discard = True
        stream.body_room = -1
        self.credit(stream.sid, stream.unacked)
        return Fault(Side.CLIENT, "body-too-large", status=413)


_HANDLERS: Final[dict[int, Callable[[Connection, int, int, bytes, int, int], None]]] = {
    PRIORITY: Connection._on_priority,
    RST_STREAM: Connection._on_rst_stream,
    SETTINGS: Connection._on_settings,
    PUSH_PROMISE: Connection._on_push_promise,
    PING: Connection._on_ping,
    GOAWAY: Connection._on_goaway,
    WINDOW_UPDATE: Connection._on_window_update,
    CONTINUATION: Connection._on_continuation,
}
