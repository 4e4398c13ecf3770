"""Windows both ways, what waits behind them, fair turns, promised lengths, and how exchanges end."""

from __future__ import annotations

import random
from math import inf

import pytest

from edge.errors import Fault, H2Code
from edge.http.h2 import CONNECTION_WINDOW, STREAM_WINDOW
from edge.http.h2_frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, WINDOW_UPDATE
from edge.http.h2_sender import LOW_MARK

from .h2_tools import GET, POST, Peer, described, frame, frames, settings


def increment(sid: int, by: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, sid, by.to_bytes(4, "big"))


def updates(peer: Peer) -> list[tuple[int, int]]:
    return [(each.sid, int.from_bytes(each.payload, "big")) for each in peer.out() if each.kind == WINDOW_UPDATE]


def sizes(peer: Peer) -> list[tuple[int, int]]:
    return [(each.sid, len(each.payload)) for each in peer.out() if each.kind == DATA]


def answering(*sids: int, first: bytes = b"") -> Peer:
    """A peer with requests that are being answered."""
    peer = Peer()
    peer.feed(first + b"".join(peer.headers(sid, GET) for sid in sids))
    for sid in sids:
        peer.edge.send_head(sid, 200, [], length=None, end=False)
    peer.edge.drain()
    return peer


# inbound


def test_windows_are_credited_only_as_the_owner_says_and_in_batches() -> None:
    peer = Peer()
    peer.open(1)
    peer.feed(b"".join(peer.data(1, bytes(16_384)) for _ in range(8)))
    assert peer.edge.drain() == b""
    peer.edge.credit(1, STREAM_WINDOW // 2 - 1)
    assert updates(peer) == []
    peer.edge.credit(1, 1)
    assert updates(peer) == [(1, STREAM_WINDOW // 2)]
    peer.edge.credit(1, STREAM_WINDOW)  # more than was handed on counts once
    assert updates(peer) == [(1, STREAM_WINDOW // 2)]


def test_the_connections_window_is_credited_for_all_streams_together() -> None:
    peer = Peer()
    for sid in range(1, 9, 2):
        peer.open(sid)
        peer.feed(peer.data(sid, bytes(16_384)) * 8)
        peer.edge.credit(sid, STREAM_WINDOW)
    assert (0, CONNECTION_WINDOW // 2) in updates(peer)


def test_padding_is_given_back_at_once() -> None:
    peer = Peer()
    peer.open(1)
    for _ in range(STREAM_WINDOW // 2 // 256):
        peer.feed(frame(DATA, 8, 1, b"\xff" + bytes(255)))
    assert updates(peer) == [(1, STREAM_WINDOW // 2)]


@pytest.mark.parametrize("how", ["reset by us", "reset by the peer", "answered", "malformed"])
def test_a_stream_that_closes_gives_its_share_of_the_connection_back(how: str) -> None:
    peer = Peer()
    total = 0
    for sid in range(1, 2000, 2):
        peer.now += 1
        peer.feed(peer.headers(sid, [*POST, (b"content-length", b"65536")], end=False) + peer.data(sid, bytes(16_384)) * 3)
        if how == "reset by us":
            peer.edge.reset(sid, H2Code.CANCEL)
            peer.feed(peer.data(sid, bytes(16_384)))  # was on its way
        elif how == "reset by the peer":
            peer.feed(frame(RST_STREAM, 0, sid, bytes(4)))
        elif how == "answered":
            peer.edge.send_head(sid, 200, [], length=None, end=True)
            peer.feed(peer.data(sid, bytes(16_384)))
        else:
            peer.feed(peer.data(sid, bytes(16_384), end=False) + peer.data(sid, b"too much"))
        total += sum(by for sid, by in updates(peer) if sid == 0)
        assert peer.fault is None
        peer.edge.credit(sid, 49_152)  # late, and nothing more
    peer.edge.end_unread(inf)
    assert peer.edge.open_streams == 0
    assert total > 999 * 49_152 - CONNECTION_WINDOW


def test_a_complete_answer_ends_an_incomplete_request() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.send_head(1, 200, [], length=3, end=False)
    peer.edge.send_data(1, b"abc")
    peer.edge.send_end(1, [])
    assert peer.decoded() == [
        (1, [(b":status", b"200"), (b"content-length", b"3")]),
        (1, b"abc"),
        (1, "end"),
        (1, ("rst", H2Code.NO_ERROR)),
    ]
    peer.feed(peer.data(1, b"late") + peer.data(1, b"", end=True) + peer.headers(3, GET))
    assert [sid for sid, _ in peer.events] == [3]


def test_an_error_waits_a_moment_for_the_rest_of_the_request() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.send_head(1, 413, [], length=0, end=True)
    assert peer.decoded()[1:] == [(1, "end")]
    peer.feed(peer.data(1, b"late"))
    assert peer.events == []
    assert peer.edge.unread_due < inf
    peer.edge.end_unread(peer.edge.unread_due)
    assert peer.decoded() == [(1, ("rst", H2Code.NO_ERROR))]


def test_a_request_that_ends_soon_after_its_error_is_not_reset() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.send_head(1, 413, [], length=0, end=True)
    peer.feed(peer.data(1, b"late") + peer.data(1, b"", end=True))
    assert peer.decoded()[1:] == [(1, "end")]
    assert peer.edge.open_streams == 0
    assert peer.edge.unread_due == inf


def test_a_body_limit_waits_for_a_413() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.set_body_limit(1, 10)
    peer.feed(peer.data(1, b"0123456789") + peer.data(1, b"a") + peer.data(1, b"b", end=True))
    assert described(peer.events) == [(1, "body", b"0123456789"), (1, "fault", "body-too-large", 413, H2Code.PROTOCOL_ERROR)]
    peer.edge.send_head(1, 413, [], length=0, end=True)
    assert peer.decoded() == [(1, [(b":status", b"413"), (b"content-length", b"0")]), (1, "end")]


def test_a_body_limit_that_comes_late_is_raised() -> None:
    peer = Peer()
    peer.open(1)
    peer.feed(peer.data(1, b"0123456789"))
    peer.edge.set_body_limit(1, 10)
    peer.edge.set_body_limit(1, None)
    with pytest.raises(Fault) as caught:
        peer.edge.set_body_limit(1, 9)
    assert caught.value.status == 413


# outbound


def test_a_small_answer_is_two_frames() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, GET))
    peer.edge.send_head(1, 200, [(b"x", b"y")], length=2, end=False)
    peer.edge.send_data(1, b"ok")
    peer.edge.send_end(1, [])
    assert [(each.kind, each.flags) for each in peer.out()] == [(HEADERS, END_HEADERS), (DATA, END_STREAM)]
    assert peer.edge.open_streams == 0


def test_an_answer_without_body_is_one_frame() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, GET))
    peer.edge.send_head(1, 200, [], length=0, end=False)
    peer.edge.send_end(1, [])
    assert [(each.kind, each.flags) for each in peer.out()] == [(HEADERS, END_HEADERS | END_STREAM)]


def test_the_end_in_a_later_turn_is_a_frame_of_its_own() -> None:
    peer = answering(1)
    peer.edge.send_data(1, b"x")
    peer.edge.drain()
    peer.edge.send_end(1, [])
    assert peer.out() == [(DATA, END_STREAM, 1, b"")]


def test_a_window_of_one_octet() -> None:
    peer = answering(1, first=settings((4, 1)))
    peer.edge.send_data(1, b"abc")
    peer.edge.send_end(1, [(b"t", b"1")])
    assert peer.edge.queued(1) == 2
    said = peer.decoded()
    while peer.edge.open_streams:
        peer.feed(increment(1, 1))
        said += peer.decoded()
    assert said == [(1, b"a"), (1, b"b"), (1, b"c"), (1, [(b"t", b"1")]), (1, "end")]


def test_initial_window_changes_reach_open_streams_and_may_go_below_zero() -> None:
    peer = answering(1, first=settings((4, 10)))
    peer.edge.send_data(1, b"0123456789abc")
    peer.feed(settings((4, 3)))  # 10 sent: the window is -7
    peer.edge.drain()
    peer.feed(increment(1, 7))
    assert sizes(peer) == []
    peer.feed(increment(1, 2))
    assert sizes(peer) == [(1, 2)]
    peer.feed(settings((4, 1), (4, 4)))  # the last value counts: one octet more than before
    assert sizes(peer) == [(1, 1)]
    assert peer.edge.queued(1) == 0


def test_the_peers_frame_size_is_kept_for_data_and_fields() -> None:
    peer = answering(1, first=increment(0, 1 << 20) + settings((4, 1 << 20)))
    peer.edge.send_data(1, bytes(40_000))
    assert sizes(peer) == [(1, 16_384), (1, 16_384), (1, 7_232)]
    peer.feed(settings((5, 30_000)))
    peer.edge.drain()
    peer.edge.send_data(1, bytes(40_000))
    assert sizes(peer) == [(1, 30_000), (1, 10_000)]
    peer.feed(peer.headers(3, GET))
    peer.edge.send_head(3, 200, [(b"x", b"y" * 70_000)], length=None, end=True)
    assert [(each.kind, each.flags, len(each.payload)) for each in peer.out()] == [
        (HEADERS, END_STREAM, 30_000),
        (CONTINUATION, 0, 30_000),
        (CONTINUATION, END_HEADERS, 10_008),
    ]


def test_streams_that_wait_take_turns() -> None:
    sids = (1, 3, 5)
    peer = answering(*sids, first=settings((4, 1 << 20)))
    peer.edge.send_data(1, bytes(65_535))  # the connection's whole window
    peer.edge.drain()
    for sid in sids:
        peer.edge.send_data(sid, bytes(100_000))
    assert peer.edge.drain() == b""
    assert peer.edge.waiting_streams == 3
    peer.feed(increment(0, 6 * 16_384))
    assert [sid for sid, _ in sizes(peer)] == [1, 3, 5, 1, 3, 5]
    peer.feed(increment(0, 16_384))
    assert sizes(peer) == [(1, 16_384)]
    peer.feed(increment(0, 16_384))
    assert sizes(peer) == [(3, 16_384)]
    peer.feed(increment(0, 10))
    assert sizes(peer) == [(5, 10)]


def test_the_owner_is_told_when_a_queue_is_low() -> None:
    peer = answering(1, first=settings((4, 0)))
    peer.edge.send_data(1, bytes(3 * LOW_MARK))
    assert peer.edge.unblocked() == []
    peer.feed(increment(1, LOW_MARK))
    assert peer.edge.unblocked() == []
    peer.feed(increment(1, LOW_MARK))
    assert peer.edge.unblocked() == [1]
    assert peer.edge.unblocked() == []
    peer.edge.send_data(1, b"more")
    peer.feed(increment(1, 2 * LOW_MARK))
    assert peer.edge.unblocked() == [1]
    assert peer.edge.queued(1) == 0


def test_more_than_the_promised_length_is_never_sent() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, GET))
    peer.edge.send_head(1, 200, [], length=3, end=False)
    peer.edge.send_data(1, b"ab")
    with pytest.raises(Fault) as caught:
        peer.edge.send_data(1, b"cd")
    assert caught.value.kind == "body-too-long"
    assert peer.decoded()[1:] == [(1, b"ab"), (1, ("rst", H2Code.INTERNAL_ERROR))]


def test_less_than_the_promised_length_never_looks_complete() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, GET) + peer.headers(3, GET))
    peer.edge.send_head(1, 200, [], length=3, end=False)
    peer.edge.send_data(1, b"ab")
    peer.edge.send_end(1, [])
    peer.edge.send_head(3, 200, [], length=3, end=True)
    assert [each[1] for each in peer.decoded()[1:]] == [b"ab", ("rst", H2Code.INTERNAL_ERROR), ("rst", H2Code.INTERNAL_ERROR)]


@pytest.mark.parametrize(
    ("method", "status", "length"), [(b"HEAD", 200, 5), (b"GET", 304, 5), (b"GET", 204, None), (b"HEAD", 200, None)]
)
def test_answers_without_content_end_with_their_head(method: bytes, status: int, length: int | None) -> None:
    peer = Peer()
    peer.feed(peer.headers(1, [(b":method", method), *GET[1:]]))
    peer.edge.send_head(1, status, [], length=length, end=False)
    peer.edge.send_data(1, b"hello")
    peer.edge.send_end(1, [])
    head = [(b":status", b"%d" % status)] + ([(b"content-length", b"5")] if length else [])
    assert peer.decoded() == [(1, head), (1, "end")]


def test_interim_answers_come_before_the_final_one() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, GET))
    peer.edge.send_informational(1, 103, [(b"link", b"</a>")])
    peer.edge.send_informational(1, 101, [])
    peer.edge.send_head(1, 200, [], length=None, end=True)
    peer.edge.send_informational(1, 103, [])
    assert peer.decoded() == [(1, [(b":status", b"103"), (b"link", b"</a>")]), (1, [(b":status", b"200")]), (1, "end")]


def test_calls_for_streams_that_are_gone_do_nothing() -> None:
    peer = answering(1)
    peer.feed(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
    assert described(peer.events)[-1] == (1, "fault", "stream-reset", 0, H2Code.CANCEL)
    edge = peer.edge
    edge.send_head(1, 200, [], length=None, end=False)
    edge.send_data(1, b"x")
    edge.send_end(1, [])
    edge.credit(1, 10)
    edge.reset(1, H2Code.CANCEL)
    edge.set_body_limit(1, 0)
    edge.send_informational(99, 103, [])
    assert (edge.drain(), edge.queued(1), edge.open_streams) == (b"", 0, 0)


def test_a_reset_drops_what_is_queued() -> None:
    peer = answering(1, first=settings((4, 0)))
    peer.edge.send_data(1, b"x" * 100)
    peer.edge.send_end(1, [])
    peer.edge.reset(1, H2Code.INTERNAL_ERROR)
    assert peer.resets() == {1: H2Code.INTERNAL_ERROR}
    assert peer.edge.waiting_streams == 0
    peer.feed(settings((4, 1000)))
    assert sizes(peer) == []


def test_tiny_pieces_wait_as_one() -> None:
    peer = answering(1, first=settings((4, 3)))
    pieces = [b"%d" % (at % 10) for at in range(5000)]
    for piece in pieces:
        peer.edge.send_data(1, piece)
    peer.edge.drain()
    peer.feed(increment(1, 1000) + increment(1, 10_000))
    got = [each.payload for each in peer.out() if each.kind == DATA]
    assert b"".join(got) == b"".join(pieces)[3:]
    assert len(got) < 6


def test_a_tunnel_may_end_one_half() -> None:
    peer = Peer()
    peer.open(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]])
    peer.edge.send_head(1, 200, [], length=None, end=False)
    peer.edge.send_data(1, b"frames")
    peer.edge.send_end(1, [])
    assert peer.decoded() == [(1, [(b":status", b"200")]), (1, b"frames"), (1, "end")]
    peer.feed(peer.data(1, b"more") + peer.data(1, b"", end=True))
    assert described(peer.events) == [(1, "body", b"more"), (1, "end", ())]
    assert peer.edge.open_streams == 0


def test_a_refused_tunnel_is_an_exchange_like_others() -> None:
    peer = Peer()
    peer.open(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]])
    peer.edge.send_head(1, 403, [], length=0, end=True)
    assert peer.decoded()[1:] == [(1, "end")]
    peer.edge.end_unread(inf)
    assert peer.decoded() == [(1, ("rst", H2Code.NO_ERROR))]
    assert peer.edge.open_streams == 0


def test_random_windows_never_overrun_and_everything_arrives() -> None:
    rng = random.Random(3)
    for _ in range(30):
        initial = rng.choice((0, 1, 1000, 65_535))
        peer = Peer()
        sids = [1, 3, 5, 7]
        peer.feed(settings((4, initial)) + b"".join(peer.headers(sid, GET) for sid in sids))
        connection, windows = 65_535, dict.fromkeys(sids, initial)
        wanted, got, ended = dict.fromkeys(sids, b""), dict.fromkeys(sids, b""), set()
        for sid in sids:
            peer.edge.send_head(sid, 200, [], length=None, end=False)
        left = {sid: rng.randint(0, 12) for sid in sids}
        while len(ended) < len(sids):
            sid = rng.choice(sids)
            move = rng.random()
            if move < 0.4 and left[sid] >= 0:
                left[sid] -= 1
                if left[sid] >= 0:
                    piece = rng.randbytes(rng.choice((1, 100, 5000, 40_000)))
                    wanted[sid] += piece
                    peer.edge.send_data(sid, piece)
                else:
                    peer.edge.send_end(sid, [(b"t", b"1")] if rng.random() < 0.5 else [])
            elif move < 0.7:
                by = rng.choice((1, 500, 30_000))
                windows[sid] += by
                if sid not in ended:
                    peer.feed(increment(sid, by))
            elif move < 0.9:
                by = rng.choice((1, 500, 60_000))
                connection += by
                peer.feed(increment(0, by))
            else:
                change = rng.choice((0, 10, 20_000))
                windows = {each: size + change - initial for each, size in windows.items()}
                initial = change
                peer.now += 1
                peer.feed(settings((4, initial)))
            for each in peer.out():
                if each.kind == DATA:
                    got[each.sid] += each.payload
                    windows[each.sid] -= len(each.payload)
                    connection -= len(each.payload)
                    assert connection >= 0
                    assert windows[each.sid] >= 0 or not each.payload
                if each.flags & END_STREAM and each.kind in (DATA, HEADERS):
                    ended.add(each.sid)
            assert peer.fault is None
            # nothing waits while both its windows are open
            assert all(not peer.edge.queued(sid) or windows[sid] <= 0 or connection <= 0 for sid in sids)
        assert got == wanted


# draining


def test_a_drain_lets_streams_open_until_the_peer_knows() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.goaway()
    peer.edge.goaway()
    first, ping = peer.out()
    assert (first.kind, first.payload[:4], first.payload[4:8]) == (GOAWAY, b"\x7f\xff\xff\xff", bytes(4))
    peer.feed(peer.headers(3, GET))
    assert isinstance(peer.events[-1][1], object)
    assert peer.edge.open_streams == 2
    peer.feed(frame(PING, 1, 0, ping.payload))
    (last,) = peer.out()
    assert (last.kind, last.payload) == (GOAWAY, b"\0\0\0\3" + bytes(4))
    peer.feed(peer.headers(5, GET) + peer.data(1, b"still", end=True))
    assert peer.resets() == {5: H2Code.REFUSED_STREAM}
    assert not peer.edge.finished
    for sid in (1, 3):
        peer.edge.send_head(sid, 200, [], length=None, end=True)
    assert peer.edge.finished


def test_a_drain_at_once() -> None:
    peer = Peer()
    peer.open(1, end=True)
    peer.edge.goaway(now_final=True)
    assert [each.payload[:4] for each in peer.out()] == [b"\0\0\0\1"]
    peer.edge.goaway()
    assert peer.edge.drain() == b""


def test_pending_output_counts_what_drain_gives() -> None:
    peer = answering(1)
    peer.edge.send_data(1, bytes(1000))
    assert peer.edge.pending_output == 1009
    assert len(frames(peer.edge.drain())) == 1
    assert peer.edge.pending_output == 0
