"""Raw HTTP/2 for tests: frames made by hand, frames read back, and a connection with a peer that only writes bytes."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, NamedTuple

from hpack import Decoder, Encoder
from hpack.struct import HeaderTuple

from edge.errors import Fault, H2Code
from edge.http.h2 import Connection, Event
from edge.http.h2_frames import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS
from edge.http.message import End, RequestHead, ResponseHead
from edge.settings.model import Limits

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.test"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200")]
Pairs = list[tuple[bytes, bytes]]


class Frame(NamedTuple):
    kind: int
    flags: int
    sid: int
    payload: bytes


def frame(kind: int, flags: int = 0, sid: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + sid.to_bytes(4, "big") + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HL", *pair) for pair in pairs))


def frames(data: bytes) -> list[Frame]:
    """All frames of `data`, which must end with a whole one."""
    found = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        sid = int.from_bytes(data[at + 5 : at + 9], "big")
        assert len(data) >= at + 9 + size, "a frame was cut"
        found.append(Frame(data[at + 3], data[at + 4], sid, data[at + 9 : at + 9 + size]))
        at += 9 + size
    return found


class Peer:
    """A `Connection` under test and the other side of it."""

    def __init__(self, *, client: bool = False, limits: Limits | None = None, greet: bool = True, **changes: Any) -> None:
        self.edge = Connection(limits or dataclasses.replace(Limits(), **changes), client=client, now=0.0)
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.events: list[Event] = []
        self.fault: Fault | None = None
        self.now = 0.0
        self.edge.start()
        if greet:
            self.feed((b"" if client else PREFACE) + settings() + frame(SETTINGS, ACK))
            self.greeting = self.edge.drain()

    def feed(self, data: bytes) -> list[Event]:
        """Feed `data` to the end; a connection error goes to `fault`."""
        events: list[Event] = []
        try:
            events += self.edge.feed(data, self.now)
            while self.edge.has_more:
                events += self.edge.feed(b"", self.now)
        except Fault as fault:
            self.fault = fault
        self.events += events
        return events

    def block(self, fields: Pairs) -> bytes:
        return self.encoder.encode([HeaderTuple(*field) for field in fields])

    def headers(self, sid: int, fields: Pairs, *, end: bool = True) -> bytes:
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), sid, self.block(fields))

    def data(self, sid: int, data: bytes, *, end: bool = False) -> bytes:
        return frame(DATA, END_STREAM if end else 0, sid, data)

    def out(self) -> list[Frame]:
        return frames(self.edge.drain())

    def decoded(self) -> list[tuple[int, Any]]:
        """What `drain` says: (sid, fields or bytes or "end" or ("rst", code)); other frames as they are."""
        said: list[tuple[int, Any]] = []
        block, end = b"", False
        for kind, flags, sid, payload in self.out():
            if kind in (HEADERS, CONTINUATION):
                block += payload
                end = end or bool(kind == HEADERS and flags & END_STREAM)
                if flags & END_HEADERS:
                    said.append((sid, [tuple(field) for field in self.decoder.decode(block, raw=True)]))
                    if end:
                        said.append((sid, "end"))
                    block, end = b"", False
            elif kind == DATA:
                if payload:
                    said.append((sid, payload))
                if flags & END_STREAM:
                    said.append((sid, "end"))
            elif kind == RST_STREAM:
                said.append((sid, ("rst", H2Code(int.from_bytes(payload, "big")))))
            else:
                said.append((sid, Frame(kind, flags, sid, payload)))
        return said

    def resets(self) -> dict[int, H2Code]:
        return {each.sid: H2Code(int.from_bytes(each.payload, "big")) for each in self.out() if each.kind == RST_STREAM}

    def open(self, sid: int = 1, fields: Pairs = POST, *, end: bool = False) -> None:
        """Open a stream and forget what was said about it."""
        self.feed(self.headers(sid, fields, end=end))
        assert self.fault is None
        self.events.clear()
        self.edge.drain()


def died(peer: Peer) -> H2Code | None:
    """The error code of the GOAWAY that ended the connection, after a check that it really ended."""
    if peer.fault is None:
        return None
    last = peer.out()[-1]
    assert last.kind == GOAWAY
    code = H2Code(int.from_bytes(last.payload[4:8], "big"))
    assert code is peer.fault.h2_code
    assert peer.edge.finished
    assert peer.feed(peer.headers(4001, GET)) == []
    assert peer.edge.drain() == b""
    return code


def described(events: list[Event]) -> list[tuple[Any, ...]]:
    """Events as plain values, with neighbouring pieces of one body joined."""
    found: list[tuple[Any, ...]] = []
    for sid, what in events:
        if isinstance(what, RequestHead):
            found.append(
                (sid, what.method, what.scheme, what.authority, what.target, tuple(what.fields), what.content_length, what.end)
            )
        elif isinstance(what, ResponseHead):
            found.append((sid, what.status, tuple(what.fields), what.content_length, what.end))
        elif isinstance(what, End):
            found.append((sid, "end", tuple(what.trailers)))
        elif isinstance(what, Fault):
            found.append((sid, "fault", what.kind, what.status, what.h2_code))
        elif found and found[-1][:2] == (sid, "body"):
            found[-1] = (sid, "body", found[-1][2] + what)
        else:
            found.append((sid, "body", what))
    return found
