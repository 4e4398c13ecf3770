"""HTTP/2 frames as bytes: the header that every frame begins with, the frames that the gateway writes, and budgets.

A frame is nine octets (24-bit length, type, flags, a reserved bit and a 31-bit stream id) and its payload (RFC 9113
section 4.1). Nothing here keeps state but `Budget`, a token bucket that is handed the time and bounds what a peer may
do in a second.
"""

from __future__ import annotations

import struct

from edge.errors import H2Code

__all__ = [
    "ACK", "CONTINUATION", "DATA", "END_HEADERS", "END_STREAM", "FRAME", "GOAWAY", "HEADERS", "MAX_FRAME", "MAX_ID", "MAX_WINDOW",
    "PADDED", "PING", "PREFACE", "PRIORITY", "PRIORITY_FLAG", "PUSH_PROMISE", "RST_STREAM", "SETTINGS", "WINDOW_UPDATE", "Budget",
    "goaway", "headers", "ping", "rst_stream", "window_update",
]  # fmt: skip

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# frame types (RFC 9113 section 6)
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# flags; ACK and END_STREAM share a bit
END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
PRIORITY_FLAG = 0x20

MAX_FRAME = 16_384  # octets of payload that we accept: the protocol's least, never raised
MAX_WINDOW = 2**31 - 1
MAX_ID = 2**31 - 1

FRAME = struct.Struct(">HBBBL")  # length in two pieces, type, flags, stream id
_RST = struct.Struct(">HBBBLL")
_GOAWAY = struct.Struct(">HBBBLLL")


class Budget:
    """A token bucket: `rate` units a second, at most one second's worth saved up."""

    __slots__ = ("level", "rate", "stamp")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.level = rate
        self.stamp = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Spend `amount`; False when there is not that much left."""
        if now > self.stamp:
            self.level = min(self.rate, self.level + (now - self.stamp) * self.rate)
            self.stamp = now
        self.level -= amount
        return self.level >= 0


def rst_stream(sid: int, code: H2Code) -> bytes:
    """RST_STREAM (RFC 9113 section 6.4)."""
    return _RST.pack(0, 4, RST_STREAM, 0, sid, code)


def window_update(sid: int, increment: int) -> bytes:
    """WINDOW_UPDATE of a stream, or of the connection when `sid` is 0 (RFC 9113 section 6.9)."""
    return _RST.pack(0, 4, WINDOW_UPDATE, 0, sid, increment)


def goaway(last: int, code: H2Code) -> bytes:
    """GOAWAY that names the last stream that was or might be acted on (RFC 9113 section 6.8)."""
    return _GOAWAY.pack(0, 8, GOAWAY, 0, 0, last, code)


def ping(payload: bytes) -> bytes:
    """PING; `payload` is eight octets (RFC 9113 section 6.7)."""
    return FRAME.pack(0, 8, PING, 0, 0) + payload


def headers(sid: int, block: bytes, flags: int, max_frame: int) -> bytes:
    """HEADERS, and CONTINUATION where `block` is longer than a frame; `flags` is 0 or END_STREAM (RFC 9113 section 6.2)."""
    size = len(block)
    if size <= max_frame:
        return FRAME.pack(size >> 8, size & 0xFF, HEADERS, flags | END_HEADERS, sid) + block
    parts = [FRAME.pack(max_frame >> 8, max_frame & 0xFF, HEADERS, flags, sid), block[:max_frame]]
    for at in range(max_frame, size, max_frame):
        piece = block[at : at + max_frame]
        parts += (
            FRAME.pack(len(piece) >> 8, len(piece) & 0xFF, CONTINUATION, 0 if at + max_frame < size else END_HEADERS, sid),
            piece,
        )
    return b"".join(parts)
