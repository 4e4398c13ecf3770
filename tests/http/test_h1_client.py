"""The client role as a dialogue: what is written, when a connection may be used again, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from edge.errors import Retry, Side
from edge.http.h1 import ClientCodec
from edge.http.message import End, Fields, ResponseHead
from tests.builders import fault_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
FIELDS: Fields = [(b"x", b"1")]


def request(codec: ClientCodec, method: bytes = b"GET", length: int | None = None, end: bool = True, **more: Any) -> bytes:
    return codec.request(method, b"/p?q", b"a.example", FIELDS, length=length, end=end, **more)


@pytest.mark.parametrize(
    ("method", "length", "end", "more", "framing"),
    [
        (b"GET", None, True, {}, b""),
        (b"POST", None, True, {}, b"content-length: 0\r\n"),
        (b"GET", 0, True, {}, b"content-length: 0\r\n"),
        (b"POST", 5, False, {}, b"content-length: 5\r\n"),
        (b"POST", None, False, {}, b"transfer-encoding: chunked\r\n"),
        (b"GET", None, True, {"protocol": b"websocket"}, b"connection: upgrade\r\nupgrade: websocket\r\n"),
        (b"GET", None, True, {"te_trailers": True}, b"connection: te\r\nte: trailers\r\n"),
    ],
)
def test_request_heads(method: bytes, length: int | None, end: bool, more: dict[str, Any], framing: bytes) -> None:
    written = request(ClientCodec(), method, length, end, **more)
    assert written == method + b" /p?q HTTP/1.1\r\nhost: a.example\r\nx: 1\r\n" + framing + b"\r\n"


def test_a_request_without_authority_has_an_empty_host() -> None:
    written = ClientCodec().request(b"GET", b"/", b"", [], length=None, end=True)
    assert written == b"GET / HTTP/1.1\r\nhost: \r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "authority"),
    [(b"GET", b"/ x", b"a"), (b"GET", b"/\r\nX: y", b"a"), (b"GET", b"/", b"a\nb"), (b"G T", b"/", b"a"), (b"GET", b"/", b"a b")],
)
def test_nothing_splits_the_request_line(method: bytes, target: bytes, authority: bytes) -> None:
    fault = fault_of(ClientCodec().request, method, target, authority, [], length=None, end=True)
    assert (fault.side, fault.kind) == (Side.EDGE, "bad-field")


def test_a_protocol_is_a_token() -> None:
    assert fault_of(request, ClientCodec(), protocol=b"a\r\nb: c").kind == "bad-field"


def test_a_clients_promise_is_the_clients_fault() -> None:
    codec = ClientCodec()
    request(codec, b"POST", 3, False)
    codec.data(b"ab")
    fault = fault_of(codec.end, [])
    assert (fault.side, fault.kind, fault.status) == (Side.CLIENT, "body-too-short", 400)
    fault = fault_of(codec.data, b"cd")
    assert (fault.side, fault.kind) == (Side.CLIENT, "body-too-long")


def test_a_connection_is_used_again() -> None:
    codec = ClientCodec()
    assert codec.reusable
    for _ in range(3):
        request(codec)
        assert not codec.reusable
        codec.feed(OK)
        head = codec.next_event()
        assert isinstance(head, ResponseHead)
        assert head.end
        assert codec.next_event() is None
        assert codec.reusable


def test_not_before_the_request_is_out() -> None:
    codec = ClientCodec()
    request(codec, b"POST", None, False)
    codec.feed(OK)
    assert isinstance(codec.next_event(), ResponseHead)
    assert not codec.reusable
    assert fault_of(request, codec).kind == "h1-out-of-order"
    assert codec.end([]) == b"0\r\n\r\n"
    assert codec.reusable


def test_not_before_the_body_was_pulled() -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
    assert not codec.reusable
    head = codec.next_event()
    assert isinstance(head, ResponseHead)
    assert (head.end, head.body) == (True, b"ab")
    assert codec.reusable


def test_bytes_on_an_idle_connection_make_it_useless() -> None:
    codec = ClientCodec()
    codec.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert codec.next_event() is None
    assert not codec.reusable
    fault = fault_of(request, codec)
    assert (fault.side, fault.kind, fault.retry, fault.status) == (Side.UPSTREAM, "upstream-unsolicited", Retry.YES, 502)


def test_a_response_ahead_of_its_request_is_not_its_response() -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(OK + OK)
    assert isinstance(codec.next_event(), ResponseHead)
    assert codec.next_event() is None
    assert not codec.reusable


def test_closed_before_the_response() -> None:
    codec = ClientCodec()
    request(codec)
    fault = fault_of(codec.eof)
    assert (fault.kind, fault.retry, fault.status) == ("upstream-closed", Retry.IF_REUSED, 502)
    assert fault_of(codec.next_event) is fault


def test_closed_within_the_response() -> None:
    for part in (b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"):
        codec = ClientCodec()
        request(codec)
        codec.feed(part)
        while codec.next_event() is not None:
            pass
        fault = fault_of(codec.eof)
        assert (fault.kind, fault.retry) == ("upstream-body-cut", Retry.NO)


def test_closed_while_idle() -> None:
    codec = ClientCodec()
    assert codec.eof() is None
    assert not codec.reusable


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nbody", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n", False),
    ],
)
def test_events_that_were_left_at_the_close_still_come(data: bytes, complete: bool) -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(data)
    assert codec.eof() is None
    assert isinstance(codec.next_event(), ResponseHead)
    assert codec.next_event() == b"body"
    if complete:
        assert isinstance(codec.next_event(), End)
        assert codec.next_event() is None
    else:
        assert fault_of(codec.next_event).kind == "upstream-body-cut"
    assert not codec.reusable


def test_upgrade() -> None:
    codec = ClientCodec()
    request(codec, protocol=b"websocket")
    codec.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n\x81\x00")
    head = codec.next_event()
    assert isinstance(head, ResponseHead)
    assert (head.status, head.protocol, head.end, head.keep_alive) == (101, b"websocket", True, False)
    assert codec.next_event() is None
    assert codec.take_buffered() == b"\x81\x00"
    assert codec.eof() is None
    assert not codec.reusable


def test_a_close_delimited_body_comes_as_it_is_fed() -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    codec.next_event()
    piece = b"some bytes"
    codec.feed(piece)
    assert codec.next_event() is piece
    assert codec.next_event() is None
    assert isinstance(codec.eof(), End)


def test_memos_are_bounded() -> None:
    from edge.http import h1_head

    codec = ClientCodec()
    for number in range(h1_head._START_MEMO + 10):
        request(codec)
        codec.feed(b"HTTP/1.1 200 %d\r\nContent-Length: 0\r\nConnection: x-%d\r\n\r\n" % (number, number))
        assert isinstance(codec.next_event(), ResponseHead)
        assert codec.reusable
    assert len(h1_head._status_lines) <= h1_head._START_MEMO
    assert len(h1_head._connections) <= h1_head._START_MEMO
    assert len(h1_head._response_blocks) <= h1_head._BLOCK_MEMO


def test_a_memo_does_not_lift_the_count_of_fields() -> None:
    from edge.http import h1_head

    block = b"X: 1\r\nX: 2"
    assert h1_head.response_block(block, 2).count == 2
    assert fault_of(h1_head.response_block, block, 1).kind == "fields-too-large"


def test_upstreams_may_send_tiny_chunks() -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
    codec.next_event()
    assert codec.next_event() == b"x" * 50_000
    assert isinstance(codec.next_event(), End)
    assert codec.reusable


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_an_equal_answer_is_known_and_nothing_else_is() -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(WHOLE)
    first = codec.next_event()
    assert codec.again(WHOLE) is None, "nobody asked"
    request(codec)
    assert codec.again(WHOLE[:-1]) is None
    assert codec.again(WHOLE + WHOLE) is None
    assert codec.again(WHOLE) is first
    assert codec.reusable
    request(codec)
    codec.feed(WHOLE[:5])
    assert codec.again(WHOLE) is None, "other bytes wait"


def test_an_equal_answer_to_something_else_is_read() -> None:
    codec = ClientCodec()
    request(codec)
    codec.feed(WHOLE)
    codec.next_event()
    request(codec, b"HEAD")
    assert codec.again(WHOLE) is None, "its body would be the next answer"
    codec = ClientCodec()
    request(codec, b"POST", 3, False)
    assert codec.again(WHOLE) is None, "the request is still going out"
