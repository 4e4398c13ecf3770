"""Requests over HTTP/2: what is malformed resets its stream and no other, and what a head becomes."""

from __future__ import annotations

import pytest

from edge.errors import Fault, H2Code
from edge.http.h2_frames import CONTINUATION, END_HEADERS, END_STREAM, HEADERS
from edge.http.message import RequestHead

from .h2_tools import GET, POST, Pairs, Peer, described, frame


def but(name: bytes, value: bytes | None, *more: tuple[bytes, bytes]) -> Pairs:
    """`GET` with one pseudo-field changed, or left out."""
    return [(key, value if key == name else old) for key, old in GET if key != name or value is not None] + list(more)  # type: ignore[misc]


CONNECT = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]

MALFORMED: dict[str, Pairs] = {
    # RFC 9113 section 8.2.1
    "upper case": [*GET, (b"X-a", b"b")],
    "empty name": [*GET, (b"", b"b")],
    "space in a name": [*GET, (b"x y", b"b")],
    "colon in a name": [*GET, (b"x:y", b"b")],
    "control in a name": [*GET, (b"x\x01", b"b")],
    "non-ASCII in a name": [*GET, (b"x\xe9", b"b")],
    "CR": [*GET, (b"x", b"a\rb")],
    "LF": [*GET, (b"x", b"a\nb")],
    "NUL": [*GET, (b"x", b"a\0b")],
    "another control character": [*GET, (b"x", b"a\x01b")],
    "space first": [*GET, (b"x", b" a")],
    "tab last": [*GET, (b"x", b"a\t")],
    # section 8.2.2
    "connection": [*GET, (b"connection", b"x")],
    "keep-alive": [*GET, (b"keep-alive", b"x")],
    "proxy-connection": [*GET, (b"proxy-connection", b"x")],
    "transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "upgrade": [*GET, (b"upgrade", b"h2c")],
    "te gzip": [*GET, (b"te", b"trailers, gzip")],
    # section 8.3
    "pseudo-field after a field": [*GET[:3], (b"x", b"y"), GET[3]],
    "unknown pseudo-field": [*GET, (b":test", b"x")],
    "a response's pseudo-field": [*GET, (b":status", b"200")],
    "method twice": [GET[0], *GET],
    "scheme twice": [*GET, GET[1]],
    "path twice": [*GET, (b":path", b"/b")],
    "authority twice": [*GET, GET[2]],
    "no method": but(b":method", None),
    "no scheme": but(b":scheme", None),
    "no path": but(b":path", None),
    "no authority and no host": but(b":authority", None),
    "empty path": but(b":path", b""),
    "path without slash": but(b":path", b"x"),
    "path with a space": but(b":path", b"/a b"),
    "path with a tab": but(b":path", b"/a\tb"),
    "path with a fragment": but(b":path", b"/a#b"),
    "path not ASCII": but(b":path", b"/\xe9"),
    "path in absolute form": but(b":path", b"https://a.test/"),
    "asterisk with GET": but(b":path", b"*"),
    "method with a space": but(b":method", b"GE T"),
    "empty method": but(b":method", b""),
    "CONNECT with a path": but(b":method", b"CONNECT"),
    "CONNECT with a scheme": [(b":method", b"CONNECT"), GET[1], (b":authority", b"a.test:443")],
    "CONNECT to nowhere": [(b":method", b"CONNECT")],
    "CONNECT to a bad port": [(b":method", b"CONNECT"), (b":authority", b"a.test:x")],
    "CONNECT with a connection's field": [(b":method", b"CONNECT"), (b":authority", b"a.test:443"), (b"upgrade", b"x")],
    "CONNECT with a bad field": [(b":method", b"CONNECT"), (b":authority", b"a.test:443"), (b"x", b"a\nb")],
    "scheme ftp": but(b":scheme", b"ftp"),
    "scheme of another transport": but(b":scheme", b"http"),
    "userinfo": but(b":authority", b"u@a.test"),
    "empty authority": but(b":authority", b""),
    "bad port": but(b":authority", b"a.test:99999"),
    "host disagrees": [*GET, (b"host", b"b.test")],
    "two hosts": but(b":authority", None, (b"host", b"a"), (b"host", b"a")),
    "empty host": but(b":authority", None, (b"host", b"")),
    "content-length twice": [*POST, (b"content-length", b"1"), (b"content-length", b"2")],
    "content-length twice the same": [*POST, (b"content-length", b"1"), (b"content-length", b"1")],
    "content-length with a sign": [*POST, (b"content-length", b"+1")],
    "content-length list": [*POST, (b"content-length", b"1, 1")],
    "content-length huge": [*POST, (b"content-length", b"9" * 30)],
    ":protocol with GET": [*GET, (b":protocol", b"websocket")],
    ":protocol twice": [CONNECT[1], *CONNECT],
    "extended CONNECT with content-length": [*CONNECT, (b"content-length", b"3")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_resets_its_stream_and_others_live_on(name: str) -> None:
    peer = Peer()
    peer.open(1)
    # it adds to the compression state all the same: the last field is indexed by what follows
    peer.feed(
        peer.headers(3, [*MALFORMED[name], (b"x-state", b"kept")], end=False) + peer.data(3, b"ignored") + peer.data(1, b"other")
    )
    assert peer.fault is None
    assert peer.resets() == {3: H2Code.PROTOCOL_ERROR}
    (sid, fault), *rest = peer.events
    assert (sid, isinstance(fault, Fault) and fault.status) == (3, 0)
    assert described(rest) == [(1, "body", b"other")]
    peer.events.clear()
    peer.feed(peer.headers(5, [*GET, (b"x-state", b"kept")]))
    assert described(peer.events) == [(5, b"GET", b"https", b"a.test", b"/", ((b"x-state", b"kept"),), None, True)]


@pytest.mark.parametrize(
    "trailer",
    [
        (b":path", b"/"),
        (b"content-length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"host", b"a"),
        (b"X", b"y"),
        (b"x", b"y\n"),
        (b"connection", b"x"),
    ],
)
def test_malformed_trailers_reset_the_stream(trailer: tuple[bytes, bytes]) -> None:
    peer = Peer()
    peer.open(1)
    peer.feed(peer.data(1, b"x") + peer.headers(1, [trailer]) + peer.headers(3, GET))
    assert peer.resets() == {1: H2Code.PROTOCOL_ERROR}
    assert [(sid, type(what).__name__) for sid, what in peer.events] == [(1, "bytes"), (1, "Fault"), (3, "RequestHead")]


def test_a_content_length_beside_end_stream_must_be_zero() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, [*POST, (b"content-length", b"5")]) + peer.headers(3, [*POST, (b"content-length", b"0")]))
    assert peer.resets() == {1: H2Code.PROTOCOL_ERROR}
    assert described(peer.events)[1] == (3, b"POST", b"https", b"a.test", b"/", (), 0, True)


def head_of(fields: Pairs, *, end: bool = True) -> RequestHead:
    peer = Peer()
    ((_, head),) = peer.feed(peer.headers(1, fields, end=end))
    assert isinstance(head, RequestHead)
    return head


def test_what_a_head_becomes() -> None:
    head = head_of(
        [
            (b":method", b"PUT"),
            (b":scheme", b"https"),
            (b":authority", b"A.Test:8443"),
            (b":path", b"/x?y=%20"),
            (b"cookie", b"a=1"),
            (b"x-b", b"c"),
            (b"te", b"Trailers"),
            (b"cookie", b"b=2"),
            (b"expect", b"100-Continue"),
            (b"x-b", b"d"),
            (b"host", b"a.test:8443"),
            (b"content-length", b"7"),
            (b"proxy-authorization", b"secret"),
            (b"x_b", b"forged"),
            (b"cookie", b"c=3"),
        ],
        end=False,
    )
    assert (head.method, head.authority, head.target, head.version) == (b"PUT", b"a.test:8443", b"/x?y=%20", 20)
    assert head.fields == [(b"cookie", b"a=1; b=2; c=3"), (b"x-b", b"c"), (b"x-b", b"d")]
    assert (head.te_trailers, head.expect_continue, head.content_length, head.end) == (True, True, 7, False)


def test_host_stands_for_the_authority() -> None:
    assert head_of(but(b":authority", None, (b"host", b"B.test:443"))).authority == b"b.test:443"


def test_options_may_ask_for_the_server() -> None:
    assert head_of([(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")]).target == b"*"


def test_an_extended_connect_opens_a_websocket() -> None:
    head = head_of([*CONNECT, (b"sec-websocket-version", b"13")], end=False)
    assert (head.method, head.protocol, head.end, head.target) == (b"GET", b"websocket", False, b"/")


def test_a_plain_connect_waits_for_a_501() -> None:
    peer = Peer()
    peer.feed(peer.headers(1, [(b":method", b"CONNECT"), (b":authority", b"a.test:443"), (b"x", b"y")], end=False))
    assert described(peer.events) == [(1, "fault", "connect-refused", 501, H2Code.PROTOCOL_ERROR)]


def test_an_extended_connect_to_something_else_waits_for_a_501() -> None:
    peer = Peer()
    peer.feed(
        peer.headers(1, [(b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *GET[1:]], end=False)
        + peer.data(1, b"?" * 100)
    )
    assert described(peer.events) == [(1, "fault", "unknown-protocol", 501, H2Code.PROTOCOL_ERROR)]
    peer.edge.send_head(1, 501, [], length=0, end=True)
    assert peer.decoded() == [(1, [(b":status", b"501"), (b"content-length", b"0")]), (1, "end")]


@pytest.mark.parametrize("extra", [[(b"x", b"y" * 2000)], [(b"x", b"")] * 30, [(b"x%d" % at, b"z" * 100) for at in range(40)]])
def test_fields_over_the_limits_wait_for_a_431_and_the_state_is_kept(extra: Pairs) -> None:
    peer = Peer(header_bytes=1000, header_count=20)
    peer.feed(peer.headers(1, [*GET, *extra, (b"x-state", b"kept")]) + peer.headers(3, [*GET, (b"x-state", b"kept")]))
    assert [(sid, type(what).__name__) for sid, what in peer.events] == [(1, "Fault"), (3, "RequestHead")]
    fault = peer.events[0][1]
    assert isinstance(fault, Fault)
    assert (fault.status, fault.kind) == (431, "header-too-large")
    peer.edge.send_head(1, 431, [], length=2, end=False)
    peer.edge.send_data(1, b"no")
    peer.edge.send_end(1, [])
    assert peer.decoded() == [(1, [(b":status", b"431"), (b"content-length", b"2")]), (1, b"no"), (1, "end")]


def test_the_crumbs_of_a_cookie_count_as_one_field() -> None:
    crumbs = [(b"cookie", b"c%d=%d" % (at, at)) for at in range(200)]
    head = head_of([*GET, *crumbs, *[(b"x", b"y")] * 95])
    assert len(head.fields) == 96
    peer = Peer()
    peer.feed(peer.headers(1, [*GET, *crumbs, *[(b"x", b"y")] * 96]))
    assert described(peer.events) == [(1, "fault", "header-too-large", 431, H2Code.PROTOCOL_ERROR)]


def test_trailers_over_the_limits_reset_the_stream() -> None:
    peer = Peer(header_count=10)
    peer.open(1)
    peer.feed(peer.headers(1, [(b"x", b"y")] * 11))
    assert peer.resets() == {1: H2Code.PROTOCOL_ERROR}


def test_fields_of_several_frames_wait_for_a_431_too() -> None:
    peer = Peer()
    block = peer.block([*GET, *((b"x-%d" % at, bytes([97 + at % 26]) * 1000) for at in range(100))])
    peer.feed(frame(HEADERS, END_STREAM, 1, block[:16_000]))
    for at in range(16_000, len(block), 16_000):
        peer.feed(frame(CONTINUATION, END_HEADERS if at + 16_000 >= len(block) else 0, 1, block[at : at + 16_000]))
    assert described(peer.events) == [(1, "fault", "header-too-large", 431, H2Code.PROTOCOL_ERROR)]


def test_repeated_blocks_share_their_head() -> None:
    peer = Peer()
    fields = [*GET, (b"x", b"y"), (b"authorization", b"Bearer z")]
    peer.feed(peer.headers(1, fields))
    heads = []
    for sid in (3, 5, 7):
        ((_, head),) = peer.feed(peer.headers(sid, fields))
        assert isinstance(head, RequestHead)
        assert head.fields == fields[4:]
        heads.append(head)
    assert heads[2] is heads[1]


def test_equal_blocks_mean_something_else_once_the_table_changed() -> None:
    peer = Peer()
    block = peer.block([*GET, (b"x", b"1")])
    again = peer.block([*GET, (b"x", b"1")])
    assert again != block
    first = peer.headers(3, [*GET, (b"x", b"1")])
    peer.feed(b"\0\0" + bytes((len(block),)) + b"\1\5\0\0\0\1" + block + first)
    peer.feed(first.replace(b"\0\0\0\3", b"\0\0\0\5", 1))
    # a new entry moves the others: where the authority was, the same octets now name another field
    peer.feed(peer.headers(7, [*GET, (b"y", b"2")]))
    peer.feed(first.replace(b"\0\0\0\3", b"\0\0\0\x09", 1))
    assert [what.fields for _, what in peer.events if isinstance(what, RequestHead)] == [
        [(b"x", b"1")],
        [(b"x", b"1")],
        [(b"x", b"1")],
        [(b"y", b"2")],
    ]
    assert peer.resets() == {9: H2Code.PROTOCOL_ERROR}


def test_end_stream_is_not_part_of_a_remembered_block() -> None:
    peer = Peer()
    peer.feed(
        peer.headers(1, GET)
        + peer.headers(3, GET)
        + peer.headers(5, GET, end=False)
        + peer.headers(7, [*GET, (b"content-length", b"4")], end=False)
    )
    assert [what.end for _, what in peer.events if isinstance(what, RequestHead)] == [True, True, False, False]
    block = peer.headers(9, [*GET, (b"content-length", b"4")], end=False)
    peer.feed(block + block.replace(b"\1\4\0\0\0\x09", b"\1\5\0\0\0\x0b"))
    assert peer.resets() == {11: H2Code.PROTOCOL_ERROR}
