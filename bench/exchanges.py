"""What the bench's own client says and hears on one connection: HTTP/1.1 and HTTP/2 without a socket.

A closed loop of equal requests needs little of either protocol, and a client in Python can afford no more: whatever it spends
delays the server's next request. So an answer of HTTP/1.1 is its status, its length and its end, and of HTTP/2 frames are
read by hand; the first octet of a header block tells a status of 2xx (RFC 7541 appendix A: 0x88 to 0x8a), which is what
every server sends, and whatever else stands there counts as an error. Requests are encoded once and once more, after which
all their fields stand in the server's table, as with any client that keeps its connection.

Invariants: `feed` gives how many answers have ended, good or bad; `errors` counts those that were no success. What is to be sent
is in `out`. Windows towards the server are kept (RFC 9113 section 6.9); ours are so large that one update for each GiB does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Protocol

from hpack import Encoder

__all__ = ["H1", "H2", "Exchange", "Fields"]

Fields = Sequence[tuple[str, str]]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_TABLE_SIZE, _STREAMS, _INITIAL_WINDOW, _FRAME_SIZE = 1, 3, 4, 5
_WINDOW = (1 << 31) - 1
_AGAIN = 1 << 30  # octets of answers after which the connection's window is opened again
_SUCCESS = range(0x88, 0x8B)  # an indexed :status of 200, 204 or 206


class Exchange(Protocol):
    """One connection's protocol. `begin` puts a request into `out`; the client has no more of them under way than it may."""

    out: bytearray
    errors: int

    def begin(self) -> None: ...

    def feed(self, octets: bytes) -> int: ...


class H1:
    """HTTP/1.1 with keep-alive, one request at a time; with `body` a POST of so many octets."""

    __slots__ = ("_left", "_request", "_tail", "errors", "out")

    def __init__(self, authority: str, path: str, fields: Fields, body: int) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in fields)
        more += f"Content-Length: {body}\r\n" if body else ""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {authority}\r\n{more}\r\n"
        self._request = head.encode() + bytes(body)
        self._tail = b""
        self._left: int | None = None  # of the body; None: before its head, negative: chunked
        self.out = bytearray()
        self.errors = 0

    def begin(self) -> None:
        self.out += self._request

    def feed(self, octets: bytes) -> int:
        if self._left is None:
            head, found, octets = (self._tail + octets).partition(b"\r\n\r\n")
            if not found:
                self._tail = head
                return 0
            self._tail = b""
            self.errors += head[9:10] != b"2"
            length = _LENGTH.search(head)
            self._left = -1 if length is None else int(length[1])
        if self._left < 0:
            self._tail = (self._tail + octets)[-len(_LAST_CHUNK) :]
            if self._tail != _LAST_CHUNK:
                return 0
            self._tail = b""
        else:
            self._left -= len(octets)
            if self._left > 0:
                return 0
        self._left = None
        return 1


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class H2:
    """HTTP/2, as many requests at a time as are begun; with `body` each is a POST of so many octets."""

    __slots__ = (
        "_block", "_body", "_buffer", "_credit", "_fields", "_first", "_frame_size", "_initial", "_sending", "_sid", "_taken",
        "_waiting", "errors", "out",
    )  # fmt: skip

    def __init__(self, authority: str, path: str, fields: Fields, body: int) -> None:
        pseudo = [(":method", "POST" if body else "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
        length = [("content-length", str(body))] if body else []
        self._fields = [*pseudo, *((name.lower(), value) for name, value in fields), *length]
        self._body = body
        self._first = self._block = b""  # of the first request and of all others; none before the server's settings
        self._buffer = bytearray()
        self._credit, self._initial, self._frame_size = 65_535, 65_535, 16_384
        self._sending: dict[int, list[int]] = {}  # what is left of a stream's body, and of its window
        self._sid = -1
        self._taken = 0
        self._waiting: set[int] | int = 0  # streams without a head; requests, while there are no settings
        self.errors = 0
        settings = struct.pack(">HIHI", 2, 0, _INITIAL_WINDOW, _WINDOW)
        self.out = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, settings))
        self.out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW - 65_535))

    def begin(self) -> None:
        if isinstance(self._waiting, int):
            self._waiting += 1
            return
        self._sid += 2
        block, self._first = self._first or self._block, b""
        self._waiting.add(self._sid)
        self.out += _frame(_HEADERS, _END_HEADERS | (0 if self._body else _END_STREAM), self._sid, block)
        if self._body:
            self._sending[self._sid] = [self._body, self._initial]
            self._send(self._sid)

    def _send(self, sid: int) -> None:
        """As much of a stream's body as both windows allow."""
        left, window = self._sending[sid]
        while left and (count := min(left, window, self._credit, self._frame_size)) > 0:
            left, window, self._credit = left - count, window - count, self._credit - count
            self.out += _frame(_DATA, 0 if left else _END_STREAM, sid, bytes(count))
        if left:
            self._sending[sid] = [left, window]
        else:
            del self._sending[sid]

    def feed(self, octets: bytes) -> int:
        buffer, ended, start = self._buffer, 0, 0
        buffer += octets
        while len(buffer) - start >= 9:
            end = start + 9 + int.from_bytes(buffer[start : start + 3], "big")
            if len(buffer) < end:
                break
            kind, flags, sid = struct.unpack_from(">BBI", buffer, start + 3)
            if kind == _DATA:
                self._taken += end - start - 9
                ended += flags & _END_STREAM
            elif kind == _HEADERS:
                self._head(sid, flags, buffer, start + 9)
                ended += flags & _END_STREAM
            elif kind == _RST_STREAM:
                ended += self._reset(sid, struct.unpack_from(">I", buffer, start + 9)[0])
            else:
                self._control(kind, flags, sid, bytes(buffer[start + 9 : end]))
            start = end
        del buffer[:start]
        if self._taken > _AGAIN:
            self.out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken))
            self._taken = 0
        return ended

    def _head(self, sid: int, flags: int, buffer: bytearray, place: int) -> None:
        if isinstance(self._waiting, int) or sid not in self._waiting:
            return  # trailers
        self._waiting.remove(sid)
        place += bool(flags & _PADDED) + 5 * bool(flags & _PRIORITY)
        while buffer[place] & 0xE0 == 0x20:  # the table's new size, RFC 7541 section 6.3
            more = buffer[place] == 0x3F
            place += 1
            while more:
                more = buffer[place] >= 0x80
                place += 1
        self.errors += buffer[place] not in _SUCCESS

    def _reset(self, sid: int, code: int) -> int:
        """1 when the stream had not ended; a server that answers before it has read the body may say NO_ERROR afterwards."""
        self._sending.pop(sid, None)
        if isinstance(self._waiting, int) or sid not in self._waiting:
            self.errors += code != 0
            return 0
        self._waiting.remove(sid)
        self.errors += 1
        return 1

    def _control(self, kind: int, flags: int, sid: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._settings(dict(struct.iter_unpack(">HI", payload)))
        elif kind == _PING and not flags & _ACK:
            self.out += _frame(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            raise ConnectionError("the server says GOAWAY")
        elif kind == _WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if sid == 0:
                self._credit += more
                for each in list(self._sending):
                    self._send(each)
            elif sid in self._sending:
                self._sending[sid][1] += more
                self._send(sid)

    def _settings(self, values: dict[int, int]) -> None:
        self.out += _frame(_SETTINGS, _ACK, 0)
        self._frame_size = values.get(_FRAME_SIZE, self._frame_size)
        change = values.get(_INITIAL_WINDOW, self._initial) - self._initial
        self._initial += change
        for each in list(self._sending):
            self._sending[each][1] += change
            self._send(each)
        if isinstance(self._waiting, int):
            begun, self._waiting = self._waiting, set()
            if begun > values.get(_STREAMS, begun):
                raise ConnectionError(f"the server allows only {values[_STREAMS]} streams")
            encoder = Encoder()
            encoder.header_table_size = min(4096, values.get(_TABLE_SIZE, 4096))
            self._first, self._block, again = (encoder.encode(self._fields) for _ in range(3))
            if self._block != again:  # they do not fit into the table together
                self._first = self._block = Encoder().encode([(name, value, True) for name, value in self._fields])
            for _ in range(begun):
                self.begin()
