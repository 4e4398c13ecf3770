"""What must hold for any bytes that a peer sends over HTTP/2, and the corpus of dialogues that changes start from.

A file of ``tests/corpus/h2`` is what a peer sends after its greeting, in hexadecimal, one frame a line; `#` begins a comment.
"""

from __future__ import annotations

import random
from pathlib import Path

from edge.errors import Fault
from edge.http.fields import LOWER_TOKEN, NEVER_IN_FIELDS, TOKEN, parse_authority, valid_value
from edge.http.h2 import CONNECTION_WINDOW, STREAM_WINDOW, Connection
from edge.http.h2_frames import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS
from edge.http.message import End, Fields, RequestHead, ResponseHead
from edge.settings.model import Limits

from .h2_tools import described, frame, frames, settings

CORPUS = Path(__file__).parent.parent / "corpus" / "h2"
LIMITS = Limits(header_bytes=2000, header_count=20, streams=8, h2_resets=20, h2_control=60)


def load(path: Path) -> bytes:
    lines = path.read_text().splitlines()
    return b"".join(bytes.fromhex(line.partition("#")[0]) for line in lines)


def dialogues(role: str) -> list[bytes]:
    """The corpus for a peer that is a ``client`` or a ``server``."""
    return [load(path) for path in sorted(CORPUS.glob(f"{role}-*.hex"))]


def mutate(data: bytes, chance: random.Random, pool: list[bytes]) -> bytes:
    """`data` with a few changes, of octets or of whole frames."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(6):
            case 0 if at < len(out):
                out[at] = chance.randrange(256)
            case 1 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 2:
                del out[at : at + chance.randint(1, 12)]
            case 3:
                out[at:at] = chance.randbytes(chance.randint(1, 9))
            case 4:
                other = chance.choice(pool)
                start = chance.randrange(len(other) + 1)
                out[at:at] = other[start : start + chance.randint(9, 60)]
            case _:
                out += chance.choice(pool)
    return bytes(out)


def check_fields(fields: Fields) -> None:
    for name, value in fields:
        assert LOWER_TOKEN.fullmatch(name)
        assert name not in NEVER_IN_FIELDS
        assert valid_value(value)


class Run:
    """One connection that is fed, and, when `answers`, answers at once; checks what it says."""

    def __init__(self, *, client: bool, answers: bool) -> None:
        self.answers = answers
        self.edge = Connection(LIMITS, client=client, now=0.0)
        self.client = client
        self.out = b""
        self.said: list[tuple[int, object]] = []
        self.fault: Fault | None = None
        self.open: dict[int, list[int | None]] = {}  # stream id: bytes of body so far, and what was declared
        self.edge.start()
        if client:
            for method in (b"GET", b"POST", b"HEAD", b"GET"):
                sid = self.edge.send_request(method, b"/", b"a.test", [], length=None, end=method != b"POST")
                self.edge.send_data(sid, b"x" * 1000)
        self.feed((b"" if client else PREFACE) + settings((4, 300)) + frame(SETTINGS, ACK))

    def feed(self, data: bytes) -> None:
        if self.fault is not None:
            return
        try:
            events = self.edge.feed(data, 0.0)
            self.check(events)
            while self.edge.has_more:
                self.check(self.edge.feed(b"", 0.0))
        except Fault as fault:
            self.fault = fault

    def check(self, events: list[tuple[int, object]]) -> None:
        for sid, what in events:
            self.said.append((sid, what))
            if isinstance(what, RequestHead):
                assert sid & 1
                assert sid not in self.open
                assert TOKEN.fullmatch(what.method)
                assert what.scheme == b"https"
                assert parse_authority(what.authority) == what.authority
                assert what.target[:1] == b"/" or (what.target, what.method) == (b"*", b"OPTIONS")
                assert not set(what.target) & {*range(33), 35, *range(127, 256)}
                check_fields(what.fields)
                self.open[sid] = [0, what.content_length]
                if self.answers:
                    self.edge.send_head(sid, 200, [(b"x", b"y")], length=None, end=False)
                    self.edge.send_data(sid, b"answer" * 10)
            elif isinstance(what, ResponseHead):
                assert 100 <= what.status <= 999
                assert what.status != 101
                check_fields(what.fields)
                self.open[sid] = [0, what.content_length]
            elif isinstance(what, bytes):
                body = self.open[sid]
                assert what
                assert body[0] is not None
                body[0] += len(what)
                assert body[1] is None or body[0] <= body[1]
                assert body[0] <= STREAM_WINDOW
                assert sum(each[0] or 0 for each in self.open.values()) <= CONNECTION_WINDOW or self.client
            elif isinstance(what, End):
                size, declared = self.open[sid]
                assert declared in (None, size)
                check_fields(what.trailers)
                if self.answers:
                    self.edge.send_end(sid, [])
            elif isinstance(what, Fault) and what.status and not self.client and sid and self.answers:
                self.edge.send_head(sid, what.status, [], length=0, end=True)
        assert self.edge.open_streams <= LIMITS.streams

    def finish(self) -> None:
        self.out += self.edge.drain()
        block_of = 0
        ended: set[int] = set()
        last = None
        for kind, flags, sid, payload in frames(self.out.removeprefix(PREFACE)):
            last = (kind, payload)
            assert len(payload) <= 1 << 16
            assert not block_of or (kind == CONTINUATION and sid == block_of)
            if kind in (HEADERS, CONTINUATION, DATA):
                assert sid not in ended, "a frame after the end of its stream"
            if kind in (HEADERS, CONTINUATION):
                block_of = 0 if flags & END_HEADERS else sid
            if (kind in (HEADERS, DATA) and flags & END_STREAM) or kind == RST_STREAM:
                ended.add(sid)
        if self.fault is not None:
            assert last is not None
            assert last[0] == GOAWAY
            assert int.from_bytes(last[1][4:8], "big") == self.fault.h2_code


def check(data: bytes, *, client: bool, seed: int) -> None:
    """Feed `data` whole and in pieces that `seed` chooses: both say the same, and nothing that is wrong.

    A third one answers as it reads; what it says depends on what was closed by then, but must not be wrong either.
    """
    whole = Run(client=client, answers=False)
    whole.feed(data)
    whole.finish()
    pieces, talker = Run(client=client, answers=False), Run(client=client, answers=True)
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice((1, 3, 9, 64, 1000))
        pieces.feed(data[at : at + size])
        talker.feed(data[at : at + size])
        at += size
    pieces.finish()
    talker.finish()
    assert described(whole.said) == described(pieces.said)  # type: ignore[arg-type]
    assert whole.out == pieces.out
