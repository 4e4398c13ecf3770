"""One HTTP/2 stream of a connection: its state, its two windows, and what waits to be sent.

The states are those of RFC 9113 section 5.1 as two bits, one for each half: `OPEN`, `REMOTE` (the peer has ended),
`LOCAL` (we have ended), `CLOSED` (both). A stream that is closed is not kept.

Invariants: `queued` is the sum of the queue's bytes less `offset`, the part of its first piece that is already sent;
`unacked` is how many bytes of body were handed on and not yet credited; -1 in `expected`, `promised` and `body_room`
means that nothing was declared.
"""

from __future__ import annotations

from collections import deque

from edge.http.message import Fields

__all__ = ["CLOSED", "LOCAL", "OPEN", "REMOTE", "Stream"]

OPEN, REMOTE, LOCAL, CLOSED = range(4)

_JOIN = 4096  # bytes: pieces that stay below it together wait as one, so that tiny writes cost no object each


class Stream:
    """State of one stream; `Connection` and its base change it."""

    __slots__ = (
        "bodiless", "body_room", "credited", "discard", "ending", "expected", "failed", "head_done", "interim",
        "mark", "mark_turn", "offset", "promised", "protocol", "queue", "queued", "received", "recv_window", "send_window",
        "sid", "state", "unacked", "waiting",
    )  # fmt: skip

    def __init__(self, sid: int, send_window: int, recv_window: int) -> None:
        self.sid = sid
        self.state = OPEN
        self.send_window = send_window  # may be negative, RFC 9113 section 6.9.2
        self.recv_window = recv_window
        self.credited = 0  # bytes given back and not yet announced
        self.unacked = 0
        self.received = 0  # bytes of body so far
        self.expected = -1  # bytes of body still to come, by Content-Length
        self.body_room = -1  # bytes of body that the limit still allows
        self.promised = -1  # bytes of body still to be sent, by the Content-Length that we sent
        self.bodiless = False  # the message that we send (server) or receive (client) has no content: HEAD, 204, 304
        self.failed = False  # the answer is an error
        self.discard = False  # refused with an answer: what still arrives is thrown away
        self.interim = 0  # interim answers so far (client)
        self.head_done = False  # the final head was sent (server) or received (client)
        self.protocol = b""
        self.queue: deque[bytes] | None = None
        self.queued = 0
        self.offset = 0
        self.ending: Fields | None = None  # the end waits behind the queue, with these trailers
        self.waiting = False  # the owner is to be told when the queue is low
        self.mark = 0  # index of the last part written in turn `mark_turn`: END_STREAM may still be set there
        self.mark_turn = -1

    def put(self, data: bytes) -> None:
        """Queue `data` behind what waits already."""
        queue = self.queue
        if queue is None:
            self.queue = deque((data,))
        elif queue and len(queue[-1]) + len(data) <= _JOIN:
            queue[-1] += data
        else:
            queue.append(data)
        self.queued += len(data)

    def cut(self, size: int) -> bytes:
        """Take at most `size` bytes off the front of the queue, never across two pieces."""
        queue = self.queue
        assert queue, "nothing is queued"
        piece = queue[0]
        offset = self.offset
        if len(piece) - offset <= size:
            queue.popleft()
            self.offset = 0
            piece = piece[offset:] if offset else piece
        else:
            self.offset = offset + size
            piece = piece[offset : offset + size]
        self.queued -= len(piece)
        return piece
