"""The client role: requests out, answers in with the same strictness, and what tells whether a request may be tried again."""

from __future__ import annotations

import pytest

from edge.errors import Fault, H2Code, Retry, Side
from edge.http.h2_control import STREAM_WINDOW
from edge.http.h2_frames import DATA, END_HEADERS, GOAWAY, HEADERS, PREFACE, PUSH_PROMISE, RST_STREAM
from edge.http.message import Fields, ResponseHead
from edge.settings.model import Limits

from .h2_tools import OK, Pairs, Peer, described, died, frame, frames, settings


def asked(*methods: bytes, first: bytes = b"", end: bool = True) -> Peer:
    """A peer that was asked, one request a method."""
    peer = Peer(client=True)
    peer.feed(first)
    for method in methods or (b"GET",):
        peer.edge.send_request(method, b"/p", b"b.test", [(b"x", b"y")], length=None, end=end)
    peer.edge.drain()
    return peer


def test_the_greeting_begins_with_the_preface_and_forbids_push() -> None:
    peer = Peer(client=True, greet=False)
    data = peer.edge.drain()
    assert data.startswith(PREFACE)
    values = frames(data[len(PREFACE) :])[0].payload
    assert b"\0\2\0\0\0\0" in values


def test_a_request_on_the_wire() -> None:
    peer = Peer(client=True)
    edge = peer.edge
    fields: Fields = [(b"x", b"y")]
    assert edge.send_request(b"POST", b"/p?q", b"b.test:81", fields, length=3, end=False, te_trailers=True) == 1
    edge.send_data(1, b"abc")
    edge.send_end(1, [(b"t", b"1")])
    pseudo = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"b.test:81"), (b":path", b"/p?q")]
    said = peer.decoded()
    assert said == [
        (1, [*pseudo, (b"content-length", b"3"), (b"te", b"trailers"), (b"x", b"y")]),
        (1, b"abc"),
        (1, [(b"t", b"1")]),
        (1, "end"),
    ]
    assert edge.send_request(b"GET", b"/", b"b.test", [], length=None, end=True) == 3
    assert edge.open_streams == 2


def test_an_answer_with_interim_ones_body_and_trailers() -> None:
    peer = asked()
    peer.feed(
        peer.headers(1, [(b":status", b"103"), (b"link", b"</a>")], end=False)
        + peer.headers(1, [(b":status", b"100")], end=False)
        + peer.headers(
            1, [*OK, (b"content-length", b"5"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"x_y", b"z")], end=False
        )
        + peer.data(1, b"hello")
        + peer.headers(1, [(b"grpc-status", b"0")])
    )
    assert described(peer.events) == [
        (1, 103, ((b"link", b"</a>"),), None, False),
        (1, 100, (), None, False),
        (1, 200, ((b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"x_y", b"z")), 5, False),
        (1, "body", b"hello"),
        (1, "end", ((b"grpc-status", b"0"),)),
    ]
    assert peer.edge.open_streams == 0


@pytest.mark.parametrize(("method", "status", "expected"), [(b"HEAD", b"200", 5), (b"GET", b"304", 5), (b"GET", b"204", None)])
def test_answers_without_content(method: bytes, status: bytes, expected: int | None) -> None:
    peer = asked(method)
    peer.feed(peer.headers(1, [(b":status", status), (b"content-length", b"5")]))
    assert described(peer.events) == [(1, int(status), (), expected, True)]
    peer = asked(method)
    peer.feed(peer.headers(1, [(b":status", status), (b"content-length", b"5")], end=False) + peer.data(1, b"", end=True))
    assert described(peer.events)[-1] == (1, "end", ())
    peer = asked(method)
    peer.feed(peer.headers(1, [(b":status", status), (b"content-length", b"5")], end=False) + peer.data(1, b"hello", end=True))
    assert peer.resets() == {1: H2Code.PROTOCOL_ERROR}


MALFORMED: dict[str, Pairs] = {
    "no status": [(b"x", b"y")],
    "status twice": [*OK, *OK],
    "status of two digits": [(b":status", b"20")],
    "status of four digits": [(b":status", b"2000")],
    "status 000": [(b":status", b"000")],
    "status 101": [(b":status", b"101")],
    "status 600": [(b":status", b"600")],
    "interim answer that ends": [(b":status", b"103")],
    "a request's pseudo-field": [*OK, (b":path", b"/")],
    "pseudo-field last": [(b"x", b"y"), *OK],
    "upper case": [*OK, (b"X", b"y")],
    "LF": [*OK, (b"x", b"a\nb")],
    "space last": [*OK, (b"x", b"a ")],
    "connection": [*OK, (b"connection", b"close")],
    "transfer-encoding": [*OK, (b"transfer-encoding", b"chunked")],
    "content-length twice": [*OK, (b"content-length", b"0"), (b"content-length", b"1")],
    "content-length without body": [*OK, (b"content-length", b"1")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_is_a_502_and_the_others_live_on(name: str) -> None:
    peer = asked(b"GET", b"GET")
    peer.feed(peer.headers(1, MALFORMED[name]) + peer.headers(3, OK))
    assert peer.resets() == {1: H2Code.PROTOCOL_ERROR}
    (_, fault), (sid, head) = peer.events
    assert isinstance(fault, Fault)
    assert (fault.side, fault.status, fault.retry, fault.kind[:9]) == (Side.UPSTREAM, 502, Retry.NO, "upstream-")
    assert (sid, isinstance(head, ResponseHead)) == (3, True)


@pytest.mark.parametrize("body", [[b"abc"], [b"abc", b"defg"], [b"abcdef"]])
def test_a_body_that_disagrees_with_its_length_is_a_502(body: list[bytes]) -> None:
    peer = asked()
    peer.feed(peer.headers(1, [*OK, (b"content-length", b"5")], end=False))
    for piece in body[:-1]:
        peer.feed(peer.data(1, piece))
    peer.feed(peer.data(1, body[-1], end=True))
    assert described(peer.events)[-1][:4] == (1, "fault", "upstream-bad-content-length", 502)
    assert not any(each[1] == "end" for each in described(peer.events))


def test_data_before_a_head_is_a_502() -> None:
    peer = asked()
    peer.feed(peer.headers(1, [(b":status", b"100")], end=False) + peer.data(1, b"x"))
    assert described(peer.events)[-1][:4] == (1, "fault", "upstream-unexpected-body", 502)


@pytest.mark.parametrize("status", [b"099", b"600", b"999", b"20", b"2000", b"200 ", b"+20"])
def test_a_status_beyond_the_classes_is_a_502(status: bytes) -> None:
    peer = asked()
    peer.feed(peer.headers(1, [(b":status", status)]))
    assert described(peer.events) == [(1, "fault", "upstream-bad-status", 502, H2Code.PROTOCOL_ERROR)]


def test_oversized_answers_are_a_502() -> None:
    peer = Peer(client=True, header_bytes=500)
    peer.edge.send_request(b"GET", b"/", b"b", [], length=None, end=True)
    peer.feed(peer.headers(1, [*OK, (b"x", b"y" * 600)]))
    assert described(peer.events)[-1][:4] == (1, "fault", "upstream-header-too-large", 502)


def test_interim_answers_without_end_are_a_flood() -> None:
    peer = asked()
    for _ in range(256):
        peer.feed(peer.headers(1, [(b":status", b"103")], end=False))
    assert len(peer.events) == 256
    peer.feed(peer.headers(1, [(b":status", b"103")], end=False))
    assert described(peer.events)[-1] == (1, "fault", "upstream-too-many-interim", 502, H2Code.PROTOCOL_ERROR)
    for _ in range(8 * Limits().h2_control):
        peer.feed(peer.headers(1, [(b":status", b"103")], end=False))
    assert died(peer) is H2Code.ENHANCE_YOUR_CALM


def test_an_upstreams_connection_outlives_what_was_on_its_way_to_cancelled_streams() -> None:
    peer = Peer(client=True)
    for _ in range(40):
        sid = peer.edge.send_request(b"GET", b"/", b"a.test", [], length=None, end=True)
        peer.feed(peer.headers(sid, OK, end=False))
        peer.edge.reset(sid, H2Code.CANCEL)
        peer.feed(peer.data(sid, b"x" * 64) * (STREAM_WINDOW // 64))
    assert peer.fault is None and peer.edge.open_streams == 0
    peer.feed(peer.data(sid, b"x") * 9000)  # more than was allowed to be on its way
    assert died(peer) is H2Code.ENHANCE_YOUR_CALM


def test_an_upstreams_connection_outlives_more_cancelled_streams_than_are_remembered() -> None:
    peer = Peer(client=True)
    sids = []
    for _ in range(5000):
        sids.append(peer.edge.send_request(b"GET", b"/", b"a.test", [], length=None, end=True))
        peer.edge.reset(sids[-1], H2Code.CANCEL)
        peer.edge.drain()
    for sid in sids[:10]:
        peer.feed(peer.headers(sid, OK, end=False) + peer.data(sid, b"x", end=True))
    assert peer.fault is None
    assert peer.resets() == {}


def test_resets_say_whether_to_try_again() -> None:
    peer = asked(b"GET", b"GET")
    peer.feed(frame(RST_STREAM, 0, 1, b"\0\0\0\7") + frame(RST_STREAM, 0, 3, b"\0\0\0\2"))
    assert [(what.retry, what.status) for _, what in peer.events if isinstance(what, Fault)] == [
        (Retry.YES, 502),
        (Retry.NO, 502),
    ]


def test_a_reset_without_error_after_a_whole_answer_is_no_event() -> None:
    peer = asked(b"POST", end=False)
    peer.feed(peer.headers(1, OK) + frame(RST_STREAM, 0, 1, bytes(4)))
    assert described(peer.events) == [(1, 200, (), None, True)]
    peer.edge.send_data(1, b"late")
    assert peer.edge.drain() == b""


def test_goaway_gives_back_what_was_not_processed() -> None:
    peer = asked(b"GET", b"GET", b"GET")
    peer.feed(frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4) + b"debug data"))
    assert [(sid, what.retry) for sid, what in peer.events if isinstance(what, Fault)] == [
        (3, Retry.YES),
        (5, Retry.YES),
        (0, Retry.NO),
    ]
    assert not peer.edge.can_open
    with pytest.raises(Fault) as caught:
        peer.edge.send_request(b"GET", b"/", b"b", [], length=None, end=True)
    assert caught.value.retry is Retry.YES
    peer.feed(peer.headers(1, OK))
    assert peer.events[-1][0] == 1
    assert peer.edge.finished


def test_the_peers_stream_limit_is_kept() -> None:
    peer = asked(first=settings((3, 2)))
    assert peer.edge.can_open
    peer.edge.send_request(b"GET", b"/", b"b", [], length=None, end=True)
    assert not peer.edge.can_open
    peer.feed(peer.headers(1, OK))
    assert peer.edge.can_open
    peer.feed(settings((3, 0)))
    assert not peer.edge.can_open


def test_a_request_body_waits_for_windows() -> None:
    peer = asked(b"POST", first=settings((4, 4)), end=False)
    peer.edge.send_data(1, b"0123456789")
    peer.edge.send_end(1, [])
    assert peer.decoded() == [(1, b"0123")]
    peer.feed(settings((4, 100)))
    assert [each for each in peer.decoded() if each[0]] == [(1, b"456789"), (1, "end")]


def test_extended_connect_needs_the_peers_leave() -> None:
    peer = Peer(client=True)
    with pytest.raises(Fault):
        peer.edge.send_request(b"GET", b"/chat", b"b", [], length=None, end=False, protocol=b"websocket")
    peer.feed(settings((8, 1)))
    assert peer.edge.peer_allows_connect_protocol
    peer.edge.drain()
    sid = peer.edge.send_request(
        b"GET", b"/chat", b"b", [(b"sec-websocket-version", b"13")], length=None, end=False, protocol=b"websocket"
    )
    ((_, fields),) = peer.decoded()
    assert fields[0] == (b":method", b"CONNECT")
    assert (b":protocol", b"websocket") in fields
    peer.feed(peer.headers(sid, OK, end=False) + peer.data(sid, b"frame"))
    head = peer.events[0][1]
    assert isinstance(head, ResponseHead)
    assert (head.status, head.protocol) == (200, b"websocket")
    assert peer.events[1] == (sid, b"frame")


@pytest.mark.parametrize(
    "script",
    [
        lambda p: frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + p.block(OK)),
        lambda p: p.headers(2, OK),
        lambda p: p.headers(9, OK),
        lambda p: p.data(9, b"x"),
        lambda p: frame(RST_STREAM, 0, 2, bytes(4)),
        lambda p: settings((2, 1)),
        lambda p: frame(HEADERS, END_HEADERS, 0, b"\x88"),
    ],
)
def test_what_a_server_must_not_do(script: object) -> None:
    assert callable(script)
    peer = asked()
    peer.feed(script(peer))
    assert peer.fault is not None
    assert (peer.fault.side, peer.fault.status) == (Side.UPSTREAM, 502)
    assert died(peer) is H2Code.PROTOCOL_ERROR


def test_a_cancelled_answer_is_ignored_and_credited() -> None:
    peer = asked(b"GET", b"GET")
    peer.feed(peer.headers(1, OK, end=False))
    peer.edge.reset(1, H2Code.CANCEL)
    peer.feed(peer.data(1, bytes(1000)) + peer.headers(1, [(b"t", b"x")]) + peer.headers(3, OK))
    assert [sid for sid, _ in peer.events] == [1, 3]
    assert peer.fault is None


def test_a_drain_in_the_client_role() -> None:
    peer = asked()
    peer.edge.goaway()
    assert [each.kind for each in peer.out()] == [GOAWAY]
    assert not peer.edge.can_open
    peer.feed(peer.headers(1, OK, end=False) + frame(DATA, 1, 1))
    assert peer.edge.finished
