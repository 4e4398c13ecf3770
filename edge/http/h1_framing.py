"""What both roles of HTTP/1.1 share: the input buffer, bodies inward, and bodies outward.

A codec is two machines side by side, one for what comes in (`In`) and one for what goes out (`Out`). Each is one enum value;
a Fault on the way in is terminal: the codec raises it again whenever it is asked, and the connection can only answer and close.

Bytes are copied only where a message ends or begins inside what was fed: a body that fills the buffer is handed on as it came.
Encoded field lines are remembered in a bounded memo like that of `h1_head`: a field is checked and put together once.
"""

from __future__ import annotations

import enum

from edge.errors import Fault, Side
from edge.http.chunked import ChunkedReader, chunk
from edge.http.fields import FORBIDDEN_TRAILERS, NEVER_IN_FIELDS, bad_request
from edge.http.message import End, Field, Fields, SharedFields

__all__ = [
    "IN_BROKEN", "IN_CHUNKED", "IN_DONE", "IN_HEAD", "IN_LENGTH", "IN_TUNNEL", "IN_UNTIL_CLOSE",
    "OUT_CHUNKED", "OUT_DONE", "OUT_HEAD", "OUT_LENGTH", "OUT_NOTHING", "OUT_TUNNEL", "OUT_UNTIL_CLOSE",
    "Framing", "encode_head",
]  # fmt: skip


class In(enum.Enum):
    """What the next bytes are."""

    HEAD = enum.auto()
    LENGTH = enum.auto()  # a body of declared length
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()  # a response's body that ends with the connection
    DONE = enum.auto()  # the message is over; what is buffered belongs to the next one
    TUNNEL = enum.auto()  # no longer HTTP
    BROKEN = enum.auto()


class Out(enum.Enum):
    """What may be written next."""

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    NOTHING = enum.auto()  # a body that must not be written (HEAD, 204, 304): swallowed until its end
    DONE = enum.auto()
    TUNNEL = enum.auto()


# a look-up in an enum costs ten times one in a module, and the machines are asked some fifty times in an exchange
IN_HEAD, IN_LENGTH, IN_CHUNKED, IN_UNTIL_CLOSE, IN_DONE, IN_TUNNEL, IN_BROKEN = In
OUT_HEAD, OUT_LENGTH, OUT_CHUNKED, OUT_UNTIL_CLOSE, OUT_NOTHING, OUT_DONE, OUT_TUNNEL = Out


_LINE_MEMO = 4096  # encoded field lines of at most _LINE_BYTES
_LINE_BYTES = 512
_lines: dict[Field, bytes] = {}


def encode_head(start: bytes, fields: Fields, framing: bytes) -> bytes:
    """A head on the wire: `start` is its first line and `framing` further lines, both with their CRLFs.

    Fields that say what `framing` says are left out, so a message never has two framings. A CR or LF that got into a name or
    a value in spite of everything ends here and not in the peer's parser (RFC 9110 section 5.5): Fault ``bad-field`` (edge), 500.
    """
    if type(fields) is SharedFields:
        lines = fields.encoded
        if not lines:
            lines = fields.encoded = _encode_lines(fields)
    else:
        lines = _encode_lines(fields)
    return b"%b%b%b\r\n" % (start, lines, framing)


def _encode_lines(fields: Fields) -> bytes:
    known = _lines.get
    return b"".join([known(field) or _encode(field) for field in fields])


def _encode(field: Field) -> bytes:
    """One field line, remembered: most fields of most messages are those of the message before."""
    if field[0] in NEVER_IN_FIELDS:
        return b""
    line = b"%b: %b\r\n" % field
    if line.count(b"\n") != 1 or line.count(b"\r") != 1:
        raise Fault(Side.EDGE, "bad-field", detail="line end inside a field", status=500)
    if len(line) <= _LINE_BYTES:
        if len(_lines) >= _LINE_MEMO:
            _lines.clear()
        _lines[field] = line
    return line


class Framing:
    """Input buffer and body framing of one connection."""

    __slots__ = ("_buf", "_chunks", "_drained", "_fault", "_in", "_left", "_out", "_out_left", "_pos", "body_limit")

    _sender = Side.EDGE  # whose promise the outgoing body keeps; set by the roles

    def __init__(self) -> None:
        self._buf = b""
        self._pos = 0  # start of what was not used yet
        self._drained = True  # next_event said None and nothing came since (the client role keeps this)
        self._in = IN_HEAD
        self._left = 0  # bytes of a body of declared length that are still to come
        self._chunks: ChunkedReader | None = None
        self._fault: Fault | None = None
        self._out = OUT_HEAD
        self._out_left = 0
        self.body_limit: int | None = None  # bytes of the message that is coming in; None: unlimited

    def feed(self, data: bytes) -> None:
        """Bytes from the peer."""
        pos = self._pos
        if pos == len(self._buf):
            self._buf = data
        elif pos:
            self._buf = self._buf[pos:] + data
        else:
            self._buf += data
        self._pos = 0
        self._drained = False

    @property
    def buffered(self) -> int:
        """Bytes that were fed and not used yet."""
        return len(self._buf) - self._pos

    def has_more(self) -> bool:
        """Whether there are any."""
        return self._pos < len(self._buf)

    @property
    def expecting_body(self) -> bool:
        """Whether body bytes of the current message, or its end, are still to come in."""
        return self._in is IN_LENGTH or self._in is IN_CHUNKED or self._in is IN_UNTIL_CLOSE

    def take_buffered(self) -> bytes:
        """After a switch of protocols: what the peer already sent in the new one."""
        rest = self._buf[self._pos :]
        self._buf = b""
        self._pos = 0
        return rest

    def _used(self, pos: int) -> None:
        """The buffer was used up to `pos`; a connection that waits holds on to nothing."""
        if pos == len(self._buf):
            self._buf = b""
            self._pos = 0
        else:
            self._pos = pos

    def _expect_body(self, length: int | None, chunked: bool, trailer_bytes: int, trailer_count: int, *, bounded: bool) -> None:
        """A head was read whose body is framed so; neither `length` nor `chunked`: until the connection closes."""
        if chunked:
            self._in = IN_CHUNKED
            self._chunks = ChunkedReader(trailer_bytes, trailer_count, bounded=bounded)
        elif length is not None:
            self._in = IN_LENGTH
            self._left = length
        else:
            self._in = IN_UNTIL_CLOSE

    def _body_event(self) -> bytes | End | None:
        """The next piece of the body, its end, or None when more bytes are needed."""
        state = self._in
        if state is IN_LENGTH:
            left = self._left
            if not left:
                self._in = IN_DONE
                return End()
            if self.body_limit is not None and left > self.body_limit:
                raise bad_request("body-too-large", status=413)
            buf, pos = self._buf, self._pos
            size = len(buf) - pos
            if not size:
                return None
            if size > left:
                self._pos = pos + left
                self._left = 0
                return buf[pos : pos + left]
            self._buf = b""
            self._pos = 0
            self._left = left - size
            return buf[pos:] if pos else buf
        if state is IN_CHUNKED:
            chunks = self._chunks
            assert chunks is not None
            if not chunks.finished:
                data, used = chunks.read(self._buf, self._pos, self.body_limit)
                self._used(used)
                if data:
                    return data
                if not chunks.finished:
                    return None
            self._in = IN_DONE
            self._chunks = None
            return End(chunks.trailers)
        if state is IN_UNTIL_CLOSE:
            return self.take_buffered() or None
        return None

    def _begin_body(self, length: int | None, *, chunked: bool, end: bool) -> None:
        """A head was written; its body is framed so."""
        if end:
            self._out = OUT_DONE
        elif length is not None:
            self._out = OUT_LENGTH
            self._out_left = length
        else:
            self._out = OUT_CHUNKED if chunked else OUT_UNTIL_CLOSE

    def data(self, data: bytes) -> bytes:
        """Body bytes on the wire. Raises Fault ``body-too-long`` beyond the declared length: the connection must break."""
        state = self._out
        if state is OUT_LENGTH:
            self._out_left -= len(data)
            if self._out_left < 0:
                raise self._broken_promise("body-too-long")
            return data
        if state is OUT_CHUNKED:
            return chunk(data)
        if state is OUT_UNTIL_CLOSE:
            return data
        if state is OUT_NOTHING:
            return b""
        raise self._out_of_order("data")

    def end(self, trailers: Fields | None = None) -> bytes:
        """The end of the body on the wire. Trailers that may not travel, or have no place in this framing, are left out.

        Raises Fault ``body-too-short`` when the declared length was not reached: the connection must break, so that a body cut
        short never looks complete.
        """
        state = self._out
        if state is OUT_HEAD or state is OUT_DONE or state is OUT_TUNNEL:
            raise self._out_of_order("end")
        if state is OUT_LENGTH and self._out_left:
            raise self._broken_promise("body-too-short")
        self._out = OUT_DONE
        if state is not OUT_CHUNKED:
            return b""
        if not trailers:
            return b"0\r\n\r\n"
        return encode_head(b"0\r\n", [field for field in trailers if field[0] not in FORBIDDEN_TRAILERS], b"")

    def _broken_promise(self, kind: str) -> Fault:
        return Fault(self._sender, kind, status=502 if self._sender is Side.UPSTREAM else 400)

    def _out_of_order(self, what: str) -> Fault:
        return Fault(Side.EDGE, "h1-out-of-order", detail=f"{what} in {self._out.name}", status=500)
