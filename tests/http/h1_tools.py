"""Feeding the HTTP/1.1 codecs in every way, and what came of it as plain values."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edge.errors import Fault
from edge.http.h1 import ClientCodec, ServerCodec
from edge.http.message import End, Fields, RequestHead, ResponseHead
from edge.settings.model import Limits

CORPUS = Path(__file__).parent.parent / "corpus" / "h1"
HEAD_NAMES = (
    "method",
    "target",
    "authority",
    "version",
    "keep_alive",
    "protocol",
    "expect_continue",
    "te_trailers",
    "content_length",
)


def corpus(folder: str) -> list[tuple[str, bytes, Any]]:
    """Name, bytes and expectation of every file of a folder."""
    expected = json.loads((CORPUS / folder / "expected.json").read_text())
    files = {path.stem: path.read_bytes() for path in (CORPUS / folder).glob("*.http")}
    assert files.keys() == expected.keys()
    return [(name, files[name], expected[name]) for name in sorted(files)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def shredded(data: bytes, seed: int) -> list[bytes]:
    """`data` in pieces of random sizes."""
    chance = random.Random(seed)
    pieces, at = [], 0
    while at < len(data):
        size = chance.choice((1, 1, 2, 3, 5, 8, 40, 500))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def feeds(data: bytes, seeds: Iterable[int] = (1, 2, 3)) -> Iterator[list[bytes]]:
    """Whole, byte by byte (long data in its beginning and end only), and in random pieces."""
    yield [data]
    if len(data) <= 3000:
        yield bytewise(data)
    else:
        yield [*bytewise(data[:500]), data[500:-500], *bytewise(data[-500:])]
    for seed in seeds:
        yield shredded(data, seed)


def text(fields: Fields) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in fields]


def plain_request(head: RequestHead, body: bytes, trailers: Fields) -> dict[str, Any]:
    """A request as the corpus writes it."""
    plain: dict[str, Any] = {}
    for name in HEAD_NAMES:
        value = getattr(head, name)
        plain[name] = value.decode("latin-1") if isinstance(value, bytes) else value
    return {**plain, "fields": text(head.fields), "body": body.decode("latin-1"), "trailers": text(trailers)}


class Seen:
    """What a server made of a connection's bytes: complete requests, the fault if any, and the bytes that were not used."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.heads: list[RequestHead] = []
        self.fault: Fault | None = None
        self.left = 0


def serve(pieces: Iterable[bytes], limits: Limits | None = None) -> Seen:
    """Feeds a server codec that answers each request at once and goes on while it may."""
    codec = ServerCodec(limits or Limits(), secure=True)
    seen = Seen()
    head: RequestHead | None = None
    body = b""
    try:
        for piece in pieces:
            again = codec.again(piece)
            if again is None:
                codec.feed(piece)
            while True:
                event, again = again or codec.next_event(), None
                if isinstance(event, RequestHead):
                    assert head is None
                    head, body = event, b""
                    seen.heads.append(event)
                    assert event.end is not codec.expecting_body
                elif isinstance(event, bytes):
                    assert event, "no empty pieces"
                    body += event
                elif event is None and (head is None or not head.end):
                    break
                if isinstance(event, End) or (event is not None and head is not None and head.end):
                    assert head is not None
                    seen.requests.append(plain_request(head, body, event.trailers if isinstance(event, End) else []))
                    codec.head(204, [], length=None, end=True, close=False, request=head)
                    head = None
                    if not codec.keep_alive:
                        seen.left = codec.buffered
                        return seen
                    codec.start_next()
    except Fault as fault:
        seen.fault = fault
    assert seen.fault is None or raises_again(codec) is seen.fault, "a fault is terminal"
    seen.left = codec.buffered
    return seen


def raises_again(codec: ServerCodec | ClientCodec) -> Fault | None:
    codec.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        codec.next_event()
    except Fault as fault:
        return fault
    return None


class Answer:
    """What a client made of a response's bytes."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.head: ResponseHead | None = None
        self.body = b""
        self.trailers: Fields = []
        self.complete = False
        self.fault: Fault | None = None


def ask(codec: ClientCodec, method: bytes, protocol: bytes, pieces: Iterable[bytes], *, eof: bool) -> Answer:
    """Sends a request without body and feeds the response."""
    answer = Answer()
    codec.request(method, b"/", b"a.example", [], length=None, end=True, protocol=protocol)

    def take(event: ResponseHead | bytes | End) -> None:
        assert not answer.complete
        if isinstance(event, ResponseHead):
            if event.status < 200 and event.status != 101:
                answer.interim.append(event.status)
                return
            assert answer.head is None
            answer.head = event
            answer.body = event.body
            answer.complete = event.end
            assert not event.body or event.end
        elif isinstance(event, bytes):
            assert event
            answer.body += event
        else:
            answer.trailers = event.trailers
            answer.complete = True

    try:
        for piece in pieces:
            if (event := codec.again(piece)) is not None:
                take(event)
                continue
            codec.feed(piece)
            while (event := codec.next_event()) is not None:
                take(event)
        if eof and (event := codec.eof()) is not None:
            take(event)
    except Fault as fault:
        answer.fault = fault
    assert answer.fault is None or raises_again(codec) is answer.fault, "a fault is terminal"
    return answer
