"""The cases of h2spec, as bytes: one test per clause of RFC 9113 and RFC 7541, whole, byte by byte and in random pieces."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from edge.errors import H2Code
from edge.http.h2 import CONNECTION_WINDOW, STREAM_WINDOW
from edge.http.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from edge.http.message import End, RequestHead

from .h2_tools import GET, POST, Peer, described, died, frame, frames, settings

BLOCK = b"\x82\x87\x84\x41\x06a.test"  # GET https / a.test


def increment(sid: int, by: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, sid, by.to_bytes(4, "big"))


def rst(sid: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, sid, code.to_bytes(4, "big"))


def depends(sid: int, on: int) -> bytes:
    return frame(PRIORITY, 0, sid, on.to_bytes(4, "big") + b"\x10")


def request(sid: int, block: bytes = BLOCK, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, sid, block)


OPEN = request(1, b"\x83\x87\x84\x41\x06a.test", END_HEADERS)  # POST, its body to come


def answered(peer: Peer) -> bytes:
    """Stream 1 is answered and closed."""
    peer.feed(request(1))
    peer.edge.send_head(1, 204, [], length=None, end=True)
    peer.edge.drain()
    return b""


P, F, Z, X, Q = (
    H2Code.PROTOCOL_ERROR,
    H2Code.FRAME_SIZE_ERROR,
    H2Code.FLOW_CONTROL_ERROR,
    H2Code.STREAM_CLOSED,
    H2Code.COMPRESSION_ERROR,
)

CONNECTION_ERRORS: dict[str, tuple[H2Code, Callable[[Peer], bytes]]] = {
    # 4.2 frame size, 4.3 field blocks
    "a frame beyond MAX_FRAME_SIZE": (F, lambda p: OPEN + frame(DATA, 0, 1, bytes(16_385))),
    "HEADERS beyond MAX_FRAME_SIZE": (F, lambda p: request(1, bytes(16_385))),
    "an invalid field block": (Q, lambda p: request(1, b"\x00\x85\xf2\xb2")),
    "PRIORITY between HEADERS and CONTINUATION": (P, lambda p: request(1, BLOCK, 0) + depends(1, 0)),
    "HEADERS to another stream before CONTINUATION": (P, lambda p: request(1, BLOCK, 0) + request(3)),
    "an unknown frame before CONTINUATION": (P, lambda p: request(1, BLOCK, 0) + frame(0xFA)),
    # 5.1 idle, half-closed, closed
    "DATA on an idle stream": (P, lambda p: frame(DATA, 1, 1, b"test")),
    "RST_STREAM on an idle stream": (P, lambda p: rst(1)),
    "WINDOW_UPDATE on an idle stream": (P, lambda p: increment(1, 100)),
    "CONTINUATION on an idle stream": (P, lambda p: frame(CONTINUATION, 4, 1, BLOCK)),
    "CONTINUATION on a half-closed stream": (P, lambda p: request(1) + frame(CONTINUATION, 4, 1, BLOCK)),
    "CONTINUATION after RST_STREAM": (P, lambda p: OPEN + rst(1) + frame(CONTINUATION, 4, 1, BLOCK)),
    "DATA on a closed stream": (X, lambda p: answered(p) + frame(DATA, 1, 1, b"test")),
    "HEADERS on a closed stream": (X, lambda p: answered(p) + request(1)),
    "CONTINUATION on a closed stream": (P, lambda p: answered(p) + frame(CONTINUATION, 4, 1, BLOCK)),
    # 5.1.1 stream identifiers
    "an even stream id": (P, lambda p: request(2)),
    "a stream id below the last": (P, lambda p: request(5) + request(3)),
    "DATA on a stream that was skipped": (P, lambda p: request(5) + frame(DATA, 1, 3, b"x")),
    "HEADERS on stream 0": (P, lambda p: request(0)),
    # 6.1, 6.2 padding and stream 0
    "DATA on stream 0": (P, lambda p: frame(DATA, 1, 0, b"test")),
    "DATA with padding as long as the frame": (P, lambda p: OPEN + frame(DATA, 9, 1, b"\x05test")),
    "DATA with padding longer than the frame": (P, lambda p: OPEN + frame(DATA, 9, 1, b"\x06test")),
    "padded DATA without a pad length": (P, lambda p: OPEN + frame(DATA, 9, 1)),
    "HEADERS with too much padding": (P, lambda p: request(1, b"\x20" + BLOCK, 5 | PADDED)),
    "padded HEADERS without a pad length": (F, lambda p: request(1, b"", 5 | PADDED)),
    "HEADERS with a cut priority": (F, lambda p: request(1, b"\0\0\0", 5 | PRIORITY_FLAG)),
    # 6.3, 6.4
    "PRIORITY on stream 0": (P, lambda p: depends(0, 1)),
    "PRIORITY of an idle stream on itself": (P, lambda p: depends(2, 2)),
    "short PRIORITY on an idle stream": (F, lambda p: frame(PRIORITY, 0, 1, bytes(4))),
    "RST_STREAM on stream 0": (P, lambda p: rst(0)),
    "RST_STREAM of 3 octets": (F, lambda p: OPEN + frame(RST_STREAM, 0, 1, bytes(3))),
    # 6.5
    "SETTINGS ACK with a payload": (F, lambda p: frame(SETTINGS, ACK, 0, b"\0")),
    "SETTINGS on a stream": (P, lambda p: frame(SETTINGS, 0, 1)),
    "SETTINGS of 3 octets": (F, lambda p: frame(SETTINGS, 0, 0, bytes(3))),
    "ENABLE_PUSH 2": (P, lambda p: settings((2, 2))),
    "INITIAL_WINDOW_SIZE 2^31": (Z, lambda p: settings((4, 2**31))),
    "MAX_FRAME_SIZE 16383": (P, lambda p: settings((5, 16_383))),
    "MAX_FRAME_SIZE 2^24": (P, lambda p: settings((5, 2**24))),
    "ENABLE_CONNECT_PROTOCOL 2": (P, lambda p: settings((8, 2))),
    # 6.6 to 6.8
    "PUSH_PROMISE from a client": (P, lambda p: OPEN + frame(PUSH_PROMISE, 4, 1, bytes(4) + BLOCK)),
    "PING on a stream": (P, lambda p: frame(PING, 0, 1, bytes(8))),
    "PING of 6 octets": (F, lambda p: frame(PING, 0, 0, bytes(6))),
    "GOAWAY on a stream": (P, lambda p: frame(GOAWAY, 0, 1, bytes(8))),
    "GOAWAY of 7 octets": (F, lambda p: frame(GOAWAY, 0, 0, bytes(7))),
    # 6.9
    "WINDOW_UPDATE of 0 on the connection": (P, lambda p: increment(0, 0)),
    "WINDOW_UPDATE of 3 octets": (F, lambda p: frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    "the connection's window beyond 2^31-1": (Z, lambda p: increment(0, 2**31 - 1) * 2),
    "a stream's window beyond 2^31-1 by SETTINGS": (Z, lambda p: OPEN + increment(1, 2**31 - 65_536) + settings((4, 65_537))),
    # 6.10
    "CONTINUATION on stream 0": (P, lambda p: request(1, BLOCK, 0) + frame(CONTINUATION, 4, 0)),
    "CONTINUATION after END_HEADERS": (P, lambda p: request(1) + frame(CONTINUATION, 4, 1)),
    "CONTINUATION after DATA": (P, lambda p: OPEN + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, 4, 1)),
    # RFC 7541
    "index 0": (Q, lambda p: request(1, BLOCK + b"\x80")),
    "an index beyond both tables": (Q, lambda p: request(1, BLOCK + b"\xc6")),
    "a literal whose name's index is beyond both tables": (Q, lambda p: request(1, BLOCK + b"\x7f\x10\x01a")),
    "an endless integer": (Q, lambda p: request(1, BLOCK + b"\xff" + b"\x80" * 20)),
    "Huffman padding of more than 7 bits": (Q, lambda p: request(1, BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")),
    "Huffman padding of zeros": (Q, lambda p: request(1, BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")),
    "EOS in a Huffman string": (Q, lambda p: request(1, BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")),
    "a size update beyond the setting": (Q, lambda p: request(1, b"\x3f\xe2\x1f" + BLOCK)),
    "a size update after a field": (Q, lambda p: request(1, BLOCK + b"\x20")),
    "a cut string": (Q, lambda p: request(1, BLOCK + b"\x00\x01a\x05b")),
    "a cut literal": (Q, lambda p: request(1, BLOCK + b"\x40")),
}

STREAM_ERRORS: dict[str, tuple[H2Code, Callable[[Peer], bytes]]] = {
    "DATA on a half-closed stream": (X, lambda p: request(1) + frame(DATA, 1, 1, b"test")),
    "HEADERS on a half-closed stream": (X, lambda p: request(1) + request(1)),
    "DATA after RST_STREAM": (X, lambda p: OPEN + rst(1) + frame(DATA, 1, 1, b"test")),
    "HEADERS after RST_STREAM": (X, lambda p: OPEN + rst(1) + request(1)),
    "HEADERS that depend on themselves": (P, lambda p: request(1, b"\0\0\0\x01\x10" + BLOCK, 5 | PRIORITY_FLAG)),
    "PRIORITY that depends on itself": (P, lambda p: OPEN + depends(1, 1)),
    "PRIORITY of 4 octets": (F, lambda p: OPEN + frame(PRIORITY, 0, 1, bytes(4))),
    "WINDOW_UPDATE of 0 on a stream": (P, lambda p: OPEN + increment(1, 0)),
    "a stream's window beyond 2^31-1": (Z, lambda p: OPEN + increment(1, 2**31 - 1) * 2),
    "a second HEADERS without END_STREAM": (P, lambda p: OPEN + request(1, b"\x00\x01a\x01b", END_HEADERS)),
    "pseudo-fields in trailers": (P, lambda p: OPEN + request(1, b"\x82")),
    "content-length against one DATA": (
        P,
        lambda p: p.headers(1, [*POST, (b"content-length", b"1")], end=False) + p.data(1, b"test", end=True),
    ),
    "content-length against two DATA": (
        P,
        lambda p: p.headers(1, [*POST, (b"content-length", b"1")], end=False) + p.data(1, b"te") + p.data(1, b"st", end=True),
    ),
    "a body shorter than its content-length": (
        P,
        lambda p: p.headers(1, [*POST, (b"content-length", b"9")], end=False) + p.data(1, b"test", end=True),
    ),
    "trailers before the content-length is reached": (
        P,
        lambda p: p.headers(1, [*POST, (b"content-length", b"9")], end=False) + p.headers(1, [(b"a", b"b")]),
    ),
    "DATA beyond the stream's window": (Z, lambda p: OPEN + frame(DATA, 0, 1, bytes(16_384)) * 8 + frame(DATA, 0, 1, b"x")),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
@pytest.mark.parametrize("split", ["whole", "bytewise"])
def test_connection_errors(name: str, split: str) -> None:
    code, script = CONNECTION_ERRORS[name]
    peer = Peer()
    data = script(peer)
    for piece in [data] if split == "whole" else [data[at : at + 1] for at in range(len(data))]:
        if peer.fault is None:
            peer.feed(piece)
    assert died(peer) is code


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_stream_errors_and_the_other_streams_live_on(name: str) -> None:
    code, script = STREAM_ERRORS[name]
    peer = Peer()
    peer.feed(script(peer))
    assert peer.fault is None
    assert peer.resets() == {1: code}
    peer.events.clear()
    peer.feed(peer.headers(101, GET))
    ((sid, head),) = peer.events
    assert (sid, isinstance(head, RequestHead)) == (101, True)
    assert peer.edge.open_streams == 1


def test_what_is_legal_though_odd() -> None:
    peer = Peer()
    peer.feed(
        frame(0x16, 0xFF, 0, b"unknown") + frame(0x16, 0, 5, b"unknown") + settings((0x99, 1)) + frame(PING, 0xFE, 0, b"01234567")
    )
    assert peer.fault is None
    assert [each.kind for each in peer.out()] == [SETTINGS, PING]
    # reserved bit of the id, undefined flags, priority on idle, half-closed and closed streams, padding of one octet
    peer.feed(frame(HEADERS, 0xD5, 2**31 + 1, BLOCK) + depends(1, 0) + depends(9, 1))
    assert described(peer.events)[0][:2] == (1, b"GET")
    answered_late = peer.edge
    answered_late.send_head(1, 204, [], length=None, end=True)
    peer.feed(depends(1, 0) + increment(1, 5) + rst(1))
    peer.feed(frame(HEADERS, END_HEADERS | PADDED, 3, b"\0" + BLOCK) + frame(DATA, PADDED | END_STREAM, 3, b"\x03abc\0\0\0"))
    assert peer.fault is None
    assert described(peer.events)[-2:] == [(3, "body", b"abc"), (3, "end", ())]


def test_the_greeting() -> None:
    peer = Peer(greet=False)
    first, update = frames(peer.edge.drain())
    values = {
        int.from_bytes(first.payload[at : at + 2], "big"): int.from_bytes(first.payload[at + 2 : at + 6], "big")
        for at in range(0, len(first.payload), 6)
    }
    assert (first.kind, values[2], values[3], values[4], values[8]) == (SETTINGS, 0, 100, STREAM_WINDOW, 1)
    assert (update.kind, int.from_bytes(update.payload, "big")) == (WINDOW_UPDATE, CONNECTION_WINDOW - 65_535)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", PREFACE[:-1] + b"x", b"\0"])
def test_a_wrong_preface_ends_the_connection_at_its_first_wrong_octet(data: bytes) -> None:
    peer = Peer(greet=False)
    peer.feed(data)
    assert died(peer) is H2Code.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK), request(1), frame(0x77)])
def test_settings_come_first(data: bytes) -> None:
    peer = Peer(greet=False)
    peer.feed(PREFACE + data)
    assert died(peer) is H2Code.PROTOCOL_ERROR


def test_data_beyond_the_connections_window() -> None:
    peer = Peer()
    for sid in range(1, 2 * CONNECTION_WINDOW // STREAM_WINDOW, 2):
        peer.feed(peer.headers(sid, POST, end=False) + frame(DATA, 0, sid, bytes(16_384)) * (STREAM_WINDOW // 16_384))
    assert peer.fault is None
    peer.feed(peer.headers(41, POST, end=False) + frame(DATA, 0, 41, b"x"))
    assert died(peer) is H2Code.FLOW_CONTROL_ERROR


def test_events_before_a_connection_error_are_not_lost() -> None:
    peer = Peer()
    events = peer.edge.feed(request(1) + request(2), 0.0)
    assert [sid for sid, _ in events] == [1]
    assert peer.edge.has_more
    peer.feed(b"")
    assert died(peer) is H2Code.PROTOCOL_ERROR


def test_any_split_says_the_same() -> None:
    def dialogue(peer: Peer) -> bytes:
        return b"".join(
            (
                peer.headers(1, [*POST, (b"content-length", b"10")], end=False),
                depends(7, 3),
                peer.data(1, b"01234"),
                frame(0x42, 1, 1, b"?"),
                peer.headers(3, [*GET, (b"x", b"y" * 300)]),
                frame(HEADERS, 0, 5, peer.block([*POST, (b"k", b"v")])),
                frame(CONTINUATION),
            )
        )[:-9] + b"".join(
            (
                frame(CONTINUATION, END_HEADERS, 5),
                frame(DATA, PADDED, 1, b"\x0256789\0\0"),
                settings((4, 100)),
                frame(PING, 0, 0, bytes(8)),
                peer.data(1, b"", end=True),
                rst(3),
                peer.data(5, b"z"),
                peer.headers(5, [(b"t", b"1")]),
                increment(0, 7),
                frame(GOAWAY, 0, 0, bytes(8)),
            )
        )

    whole = Peer()
    data = dialogue(whole)
    whole.feed(data)
    expected, output = described(whole.events), whole.edge.drain()
    assert [each[1] for each in expected if each[0] == 5] == [b"POST", "body", "end"]
    assert whole.fault is None
    rng = random.Random(7)
    for trial in range(60):
        peer = Peer()
        said = b""
        at = 0
        while at < len(data):
            step = 1 if trial == 0 else rng.choice((1, 2, 9, 10, rng.randint(1, 400)))
            peer.feed(data[at : at + step])
            said += peer.edge.drain()
            at += step
        assert described(peer.events) == expected
        assert said == output


def test_a_turn_acts_on_a_bounded_number_of_frames() -> None:
    for one, turns in ((frame(PRIORITY, 0, 1, bytes(5)), 2), (frame(PING, 0, 0, bytes(8)), 18), (frame(0x77), 2)):
        peer = Peer()
        peer.edge.feed(one * 900, 0.0)
        taken = 1
        while peer.edge.has_more:
            peer.edge.feed(b"", 0.0)
            taken += 1
        assert taken == turns
        assert peer.edge.feed(one, 9.0) == []


def test_trailers_reach_the_owner_without_what_must_not_travel() -> None:
    peer = Peer()
    peer.feed(
        peer.headers(1, POST, end=False)
        + peer.data(1, b"x")
        + peer.headers(1, [(b"grpc-status", b"0"), (b"authorization", b"no")])
    )
    last = peer.events[-1][1]
    assert isinstance(last, End)
    assert last.trailers == [(b"grpc-status", b"0")]
