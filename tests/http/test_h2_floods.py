"""What a hostile peer can do in a second is bounded, and so is what it can make us hold."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

import pytest

from edge.errors import Fault, H2Code
from edge.http.h2_frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, WINDOW_UPDATE
from edge.settings.model import Limits

from .h2_tools import GET, POST, Peer, described, died, frame, settings

CALM = H2Code.ENHANCE_YOUR_CALM
CANCEL = b"\0\0\0\x08"

CONTROL = {
    "PING": frame(PING, 0, 0, bytes(8)),
    "PING ACK": frame(PING, 1, 0, bytes(8)),
    "SETTINGS": settings(),
    "SETTINGS with a value": settings((4, 70_000)),
    "SETTINGS ACK": frame(4, 1),
    "PRIORITY": frame(PRIORITY, 0, 5, bytes(5)),
    "empty DATA": frame(DATA, 0, 1),
    "DATA of padding": frame(DATA, 8, 1, b"\x01\0"),
    "WINDOW_UPDATE of the connection": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
    "WINDOW_UPDATE of a stream": frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
    "unknown frames": frame(0xBB, 0, 3, b"?"),
    "GOAWAY": frame(7, 0, 0, bytes(8)),
    "PRIORITY_UPDATE": frame(0x10, 0, 0, b"\0\0\0\1u=1"),
}


@pytest.mark.parametrize("name", CONTROL)
def test_control_frames_have_a_budget_a_second(name: str) -> None:
    limit = Limits().h2_control
    peer = Peer()
    peer.open(1)
    for second in range(5):  # within the budget for as long as it likes
        peer.now = float(second)
        for _ in range(9):
            peer.feed(CONTROL[name] * (limit // 10))
            peer.edge.drain()
    assert peer.fault is None
    peer.now += 1
    for _ in range(11):
        peer.feed(CONTROL[name] * (limit // 10))
        if peer.fault is None:
            peer.edge.drain()
    assert died(peer) is CALM


@pytest.mark.parametrize(
    "how", ["reset", "window of zero", "window overflow", "DATA after END_STREAM", "malformed", "self-dependency"]
)
def test_rapid_reset_and_its_kin_have_a_budget(how: str) -> None:
    peer = Peer()
    closed = 0
    for sid in range(1, 2 * 1000, 2):
        request = peer.headers(sid, GET[:3] if how == "malformed" else GET)
        provoke = {
            "reset": frame(RST_STREAM, 0, sid, CANCEL),
            "window of zero": frame(WINDOW_UPDATE, 0, sid, bytes(4)),
            "window overflow": frame(WINDOW_UPDATE, 0, sid, b"\x7f\xff\xff\xff"),
            "DATA after END_STREAM": peer.data(sid, b"x"),
            "malformed": b"",
            "self-dependency": frame(PRIORITY, 0, sid, sid.to_bytes(4, "big") + b"\0"),
        }[how]
        peer.feed(request + provoke)
        if peer.fault is not None:
            break
        closed += 1
    assert died(peer) is CALM
    assert closed == Limits().h2_resets


def test_resets_at_the_pace_of_people_are_welcome() -> None:
    peer = Peer()
    for sid in range(1, 2 * 1000, 2):
        peer.now += 0.01
        peer.feed(peer.headers(sid, GET) + frame(RST_STREAM, 0, sid, CANCEL))
    assert peer.fault is None
    assert peer.edge.open_streams == 0


def test_streams_beyond_the_limit_are_refused_and_closed_ones_do_not_count() -> None:
    peer = Peer(streams=3)
    peer.feed(b"".join(peer.headers(sid, GET) for sid in (1, 3, 5, 7)))
    assert peer.resets() == {7: H2Code.REFUSED_STREAM}
    assert described(peer.events)[-1] == (7, "fault", "h2-refused-stream", 0, H2Code.REFUSED_STREAM)
    peer.edge.send_head(3, 204, [], length=None, end=True)
    peer.feed(peer.headers(9, GET))
    assert peer.edge.open_streams == 3
    for sid in range(11, 1000, 2):
        peer.edge.send_head(sid - 2, 204, [], length=None, end=True)
        peer.feed(peer.headers(sid, GET))
    assert not peer.edge.drain().count(b"\0\0\4\3")


@pytest.mark.parametrize("piece", [b"", b"\0", bytes(16_000)])
def test_continuation_floods_end_early(piece: bytes) -> None:
    peer = Peer()
    peer.feed(frame(HEADERS, END_STREAM, 1, b"\x82"))
    sent = 0
    while peer.fault is None and sent < 1000:
        peer.feed(frame(CONTINUATION, 0, 1, piece))
        sent += 1
    assert died(peer) is CALM
    assert sent <= 33


def test_header_bombs_end_the_connection_quickly() -> None:
    peer = Peer()
    peer.feed(frame(HEADERS, END_HEADERS, 1, b"\x82\x40\x01x\x7f\xa1\x17" + b"y" * 3104))
    start = time.process_time()
    peer.feed(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\xbe" * 16_000))
    assert time.process_time() - start < 0.5
    assert died(peer) is CALM


def test_a_peer_that_does_not_read_gets_no_endless_answers() -> None:
    peer = Peer()
    for second in range(1000):
        peer.now = float(second)
        peer.feed(frame(PING, 0, 0, bytes(8)) * 500)
        if peer.fault is not None:
            break
        assert peer.edge.pending_output < 70_000
    assert peer.fault is not None
    assert peer.fault.h2_code is CALM


def test_tiny_windows_earn_no_updates() -> None:
    peer = Peer()
    peer.feed(settings((4, 0)) + peer.headers(1, GET))
    peer.edge.send_head(1, 200, [], length=None, end=False)
    peer.edge.send_data(1, bytes(100_000))
    for _ in range(20):
        peer.feed(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 100)
        if peer.fault is None:
            peer.edge.drain()
    assert died(peer) is CALM


def test_updates_and_pings_that_our_data_calls_for_cost_nothing() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, GET))
    peer.edge.send_head(1, 200, [], length=None, end=False)
    for at in range(5000):
        peer.edge.send_data(1, bytes(16_384))
        peer.edge.drain()
        update = frame(WINDOW_UPDATE, 0, 1, b"\0\0\x80\0")
        peer.feed(frame(WINDOW_UPDATE, 0, 0, b"\0\0\x40\0") + (update if at % 2 else frame(PING, 0, 0, bytes(8))))
    assert peer.fault is None


def test_unknown_settings_are_not_kept() -> None:
    peer = Peer()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for high in range(16, 80):
            peer.now += 1
            peer.feed(settings(*((high * 256 + low, 1) for low in range(256))))
            peer.edge.drain()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert peer.fault is None
    assert grown < 20_000


def test_what_is_remembered_of_closed_streams_is_bounded() -> None:
    peer = Peer()
    sid = 1
    tracemalloc.start()
    try:
        for round_ in range(2):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(5000):
                peer.now += 0.01
                peer.feed(peer.headers(sid, GET) + frame(RST_STREAM, 0, sid, CANCEL))
                peer.events.clear()
                peer.edge.drain()
                sid += 2 if round_ else 4  # with gaps, too
            grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert peer.fault is None
    assert grown < 20_000


def test_refused_answers_hold_no_body() -> None:
    peer = Peer(header_count=5)
    peer.feed(peer.headers(1, [*POST, *[(b"x", b"y")] * 10], end=False))
    assert isinstance(peer.events[0][1], Fault)
    for _ in range(100):
        peer.feed(peer.data(1, bytes(16_000)))
        peer.edge.drain()
    assert peer.fault is None
    assert len(peer.events) == 1


FAULTS: dict[str, Callable[[Peer], bytes]] = {
    "a malformed request": lambda peer: peer.headers(1, [*GET, (b"connection", b"x")]),
    "a bad authority": lambda peer: peer.headers(1, [*GET[:2], (b":authority", b"u@a.test"), GET[3]]),
    "malformed trailers": lambda peer: peer.headers(1, POST, end=False) + peer.headers(1, [(b":path", b"/")]),
    "too many fields": lambda peer: peer.headers(1, GET + [(b"x", b"y" * 1000)] * 40),
    "a closed stream": lambda peer: peer.headers(1, GET) + peer.data(1, b"x"),
    "a connection error": lambda peer: frame(PING, 0, 1, bytes(8)),
    "a broken block": lambda peer: frame(HEADERS, END_HEADERS, 1, b"\x80"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_refused_leaves_nothing_for_the_collector(name: str) -> None:
    peer = Peer()
    data = FAULTS[name](peer)
    gc.collect()
    gc.disable()
    try:
        peer.feed(data)
        peer.events.clear()
        peer.fault = None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_an_idle_connection_holds_no_body() -> None:
    peer = Peer()
    peer.open(1)
    tracemalloc.start()
    try:
        peer.feed(peer.data(1, b"x" * 16_000) * 6)
        peer.edge.credit(1, 96_000)
        peer.edge.drain()
        peer.events.clear()
        assert tracemalloc.get_traced_memory()[0] < 32_000
    finally:
        tracemalloc.stop()


def test_requests_behind_the_last_goaway_have_a_budget_too() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.goaway(now_final=True)
    peer.feed(b"".join(peer.headers(sid, GET) for sid in range(3, 1003, 2)))
    assert peer.fault is None
    peer.feed(b"".join(peer.headers(sid, GET) for sid in range(1003, 4003, 2)))
    assert died(peer) is CALM


def test_what_crosses_a_reset_of_ours_costs_nothing_as_far_as_the_window_went() -> None:
    peer = Peer()
    peer.open(1)
    peer.edge.reset(1, H2Code.NO_ERROR)
    peer.feed(peer.data(1, b"x" * 40) * 3000)
    assert peer.fault is None
    peer.feed(peer.data(1, b"x" * 40) * 3000)
    assert died(peer) is CALM
