"""The chunked transfer coding (RFC 9112 section 7.1): reading, strictly and with bounds, and writing.

Reading gives all data that the buffer holds as one piece, whatever the chunks. Invariants:

* A size is 1 to 16 hexadecimal digits and below 2^63; between it and CRLF there is nothing or extensions in the RFC's
  grammar. White space around ";" and "=" is the "bad white space" that a recipient must read (RFC 9110 section 5.6.3); anywhere
  else it is refused, after a bare size too.
* After a chunk's data comes CRLF and nothing else.
* Extensions are read and dropped: at most 256 bytes in a chunk, and over a body at most 4 KiB and a sixteenth of its data.
* Tiny chunks cost a reader far more than their sender. There is a credit of chunks: each costs one, each 16 bytes of data
  give one back and each wait for more bytes gives 8. A peer that writes a byte at a time, each when it has it, never runs
  out; a flood does.
"""

from __future__ import annotations

import re

from edge.http.fields import bad_request
from edge.http.h1_head import check_partial, trailer_fields
from edge.http.message import Fields

__all__ = ["ChunkedReader", "chunk"]

_EXTENSION_BYTES = 256
_EXTENSION_TOTAL = 4096
_CREDIT = 16_384
_CREDIT_PER_WAIT = 8
_CREDIT_BYTES = 16

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:([ \t]*+;[ \t]*+"
    + _TOKEN
    + rb"(?:[ \t]*+=[ \t]*+(?:"
    + _TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?+(?:[ \t]*+;[ \t]*+"
    + _TOKEN
    + rb"(?:[ \t]*+=[ \t]*+(?:"
    + _TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?+)*+))?+\r\n"
)
_UNFINISHED = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:\r|[ \t]++|[ \t]*+;[\t\x20-\x7e\x80-\xff]*+\r?)?)?")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; ``b""`` for nothing, because an empty chunk would be the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedReader:
    """One chunked body. `read` until `finished`; then `trailers` are there and the position is behind the message."""

    __slots__ = (
        "_after", "_bounded", "_credit", "_extensions", "_fresh", "_left", "_trailer_bytes", "_trailer_count",
        "finished", "in_trailers", "received", "trailers",
    )  # fmt: skip

    def __init__(self, trailer_bytes: int, trailer_count: int, *, bounded: bool) -> None:
        """`trailer_bytes` and `trailer_count` bound the trailer section. `bounded`: tiny chunks draw on the credit (clients)."""
        self.received = 0  # bytes of data announced so far
        self.finished = False
        self.in_trailers = False
        self.trailers: Fields = []
        self._left = 0  # of the current chunk
        self._after = False  # the CRLF after a chunk's data is due
        self._fresh = 0  # how much of an unfinished trailer section was checked
        self._credit = _CREDIT
        self._extensions = 0
        self._bounded = bounded
        self._trailer_bytes = trailer_bytes
        self._trailer_count = trailer_count

    def read(self, buf: bytes, pos: int, limit: int | None) -> tuple[bytes, int]:
        """All data of `buf` from `pos` on, and the position behind what was used; no data: more is needed, or it is finished.

        `limit` bounds the whole body in bytes. Raises `Fault`: 413 ``body-too-large``, 431 for trailers, 400 for the rest.
        """
        parts: list[bytes] = []
        size = len(buf)
        while not self.in_trailers:
            if self._left:
                if pos >= size:
                    break
                stop = min(size, pos + self._left)
                parts.append(buf[pos:stop])
                self._left -= stop - pos
                pos = stop
                if self._left:
                    break
                self._after = True
            if self._after:
                if not buf.startswith(b"\r\n", pos):
                    if pos == size or (pos == size - 1 and buf[pos] == 13):
                        break
                    raise bad_request("bad-chunk", "no CRLF after the data")
                pos += 2
                self._after = False
            match = _SIZE_LINE.match(buf, pos)
            if match is None:
                self._check_unfinished(buf, pos)
                break
            pos = match.end()
            self._begin(match, limit)
        if self.in_trailers:
            pos = self._read_trailers(buf, pos)
        if not self.finished:
            self._credit = min(_CREDIT, self._credit + _CREDIT_PER_WAIT)
        return (parts[0] if len(parts) == 1 else b"".join(parts)), pos

    def _begin(self, match: re.Match[bytes], limit: int | None) -> None:
        """A size line was read."""
        length = int(match[1], 16)
        extension = match[2]
        if extension is not None:
            self._extensions += len(extension)
            if len(extension) > _EXTENSION_BYTES or self._extensions > _EXTENSION_TOTAL + self.received // 16:
                raise bad_request("bad-chunk", "extensions too long")  # RFC 9112 section 7.1.1
        if length == 0:
            self.in_trailers = True
            return
        if length >= 1 << 63:
            raise bad_request("bad-chunk", "size")
        self.received += length
        if limit is not None and self.received > limit:
            raise bad_request("body-too-large", status=413)
        if self._bounded:
            self._credit = min(_CREDIT, self._credit - 1 + length // _CREDIT_BYTES)
            if self._credit < 0:
                raise bad_request("too-many-chunks")
        self._left = length

    def _check_unfinished(self, buf: bytes, pos: int) -> None:
        """Refuse a size line that cannot become a right one."""
        line = buf[pos : pos + _EXTENSION_BYTES + 20]
        if len(line) > _EXTENSION_BYTES + 18 or _UNFINISHED.fullmatch(line) is None:
            raise bad_request("bad-chunk", "size")

    def _read_trailers(self, buf: bytes, pos: int) -> int:
        """The trailer section and the CRLF that ends it."""
        if buf.startswith(b"\r\n", pos):
            self.finished = True
            return pos + 2
        end = buf.find(b"\r\n\r\n", pos)
        if end < 0:
            check_partial(buf, pos, pos + self._fresh, -1, self._trailer_bytes, self._trailer_count)
            self._fresh = len(buf) - pos
            return pos
        if end + 2 - pos > self._trailer_bytes:
            raise bad_request("fields-too-large", "trailers", status=431)
        self.trailers = trailer_fields(buf[pos:end], self._trailer_count)
        self.finished = True
        return end + 4
