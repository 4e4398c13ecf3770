"""The server role as a dialogue: order of calls, limits, and what is written."""

from __future__ import annotations

import pytest

from edge.errors import Fault, Side
from edge.http.h1 import ServerCodec
from edge.http.h1_head import _BLOCK_MEMO, _LINE_MEMO, _START_MEMO
from edge.http.message import End, Fields, RequestHead, SharedFields
from edge.settings.model import Limits
from tests.builders import fault_of
from tests.http.h1_tools import serve

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n"
OLD_KEEP = b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, limits: Limits | None = None, *, secure: bool = True) -> tuple[ServerCodec, RequestHead]:
    codec = ServerCodec(limits or Limits(), secure=secure)
    codec.feed(data)
    head = codec.next_event()
    assert isinstance(head, RequestHead)
    return codec, head


def post(length: int, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


# heads


@pytest.mark.parametrize(
    ("data", "status", "length", "end", "expected", "keep"),
    [
        (GET, 200, 5, False, b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 5\r\n\r\n", True),
        (GET, 200, 0, False, b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 0\r\n\r\n", True),
        (GET, 200, None, True, b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 0\r\n\r\n", True),
        (GET, 200, None, False, b"HTTP/1.1 200 OK\r\nx: 1\r\ntransfer-encoding: chunked\r\n\r\n", True),
        (GET, 299, 5, False, b"HTTP/1.1 299 \r\nx: 1\r\ncontent-length: 5\r\n\r\n", True),
        (GET, 204, None, True, b"HTTP/1.1 204 No Content\r\nx: 1\r\n\r\n", True),
        (GET, 204, 0, True, b"HTTP/1.1 204 No Content\r\nx: 1\r\n\r\n", True),
        (GET, 304, 50, True, b"HTTP/1.1 304 Not Modified\r\nx: 1\r\ncontent-length: 50\r\n\r\n", True),
        (GET, 304, None, False, b"HTTP/1.1 304 Not Modified\r\nx: 1\r\n\r\n", True),
        (HEAD, 200, 50, True, b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 50\r\n\r\n", True),
        (HEAD, 200, None, True, b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\n", True),
        (HEAD, 200, None, False, b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\n", True),
        (OLD, 200, 5, False, b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 5\r\nconnection: close\r\n\r\n", False),
        (OLD_KEEP, 200, 5, False, b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n", True),
        (OLD_KEEP, 200, None, False, b"HTTP/1.1 200 OK\r\nx: 1\r\nconnection: close\r\n\r\n", False),
    ],
)
def test_response_heads(data: bytes, status: int, length: int | None, end: bool, expected: bytes, keep: bool) -> None:
    codec, request = read(data)
    assert codec.head(status, [(b"x", b"1")], length=length, end=end, close=False, request=request) == expected
    if not end:
        bodiless = request.method == b"HEAD" or status in (204, 304)
        body = b"" if length == 0 else b"hello"
        written = codec.data(body)
        assert written == (b"" if bodiless else b"5\r\nhello\r\n" if length is None and request.version == 11 else body)
        assert codec.end([]) == (b"0\r\n\r\n" if length is None and request.version == 11 and not bodiless else b"")
    assert codec.keep_alive is keep


def test_close_is_said() -> None:
    codec, request = read(GET)
    head = codec.head(200, [], length=0, end=True, close=True, request=request)
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert not codec.keep_alive
    assert fault_of(codec.start_next).kind == "h1-out-of-order"


def test_an_answer_after_a_fault_closes() -> None:
    codec = ServerCodec(Limits(), secure=True)
    codec.feed(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert fault_of(codec.next_event).status == 400
    assert codec.head(400, [], length=2, end=False, close=False, request=None).endswith(b"connection: close\r\n\r\n")
    assert codec.data(b"no") == b"no"
    assert codec.end([]) == b""
    assert not codec.keep_alive


def test_an_answer_after_a_fault_in_the_body_closes() -> None:
    codec, request = read(CHUNKED + b"x")
    assert fault_of(codec.next_event).kind == "bad-chunk"
    assert codec.head(400, [], length=0, end=True, close=False, request=request).endswith(b"connection: close\r\n\r\n")


@pytest.mark.parametrize("field", [(b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x\n", b"a"), (b"x: 1\r\ny", b"")])
def test_a_line_end_in_a_field_never_leaves(field: tuple[bytes, bytes]) -> None:
    codec, request = read(GET)
    fault = fault_of(codec.head, 200, [field], length=0, end=True, close=False, request=request)
    assert (fault.side, fault.kind, fault.status) == (Side.EDGE, "bad-field", 500)


def test_framing_among_the_fields_is_left_out() -> None:
    codec, request = read(GET)
    fields: Fields = [(b"content-length", b"7"), (b"transfer-encoding", b"chunked"), (b"connection", b"x"), (b"x", b"1")]
    assert codec.head(200, fields, length=5, end=False, close=False, request=request) == (
        b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 5\r\n\r\n"
    )


# bodies outward


def test_more_than_promised_is_a_fault() -> None:
    codec, request = read(GET)
    codec.head(200, [], length=3, end=False, close=False, request=request)
    assert codec.data(b"ab") == b"ab"
    fault = fault_of(codec.data, b"cd")
    assert (fault.side, fault.kind, fault.status) == (Side.UPSTREAM, "body-too-long", 502)


def test_less_than_promised_is_a_fault() -> None:
    codec, request = read(GET)
    codec.head(200, [], length=3, end=False, close=False, request=request)
    codec.data(b"ab")
    assert fault_of(codec.end, []).kind == "body-too-short"
    assert not codec.keep_alive


def test_a_promise_that_nothing_keeps_is_a_fault() -> None:
    codec, request = read(GET)
    assert fault_of(codec.head, 200, [], length=3, end=True, close=False, request=request).kind == "body-too-short"


def test_empty_data_is_no_last_chunk() -> None:
    codec, request = read(GET)
    codec.head(200, [], length=None, end=False, close=False, request=request)
    assert codec.data(b"") == b""
    assert codec.data(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    trailers: Fields = [(b"x-sum", b"1"), (b"content-length", b"5"), (b"set-cookie", b"x")]
    assert codec.end(trailers) == b"0\r\nx-sum: 1\r\n\r\n"


@pytest.mark.parametrize("what", ["data", "end", "head", "informational", "tunnel"])
def test_nothing_is_written_after_the_end(what: str) -> None:
    codec, request = read(GET)
    codec.head(200, [], length=0, end=True, close=False, request=request)
    calls = {
        "data": lambda: codec.data(b"x"),
        "end": lambda: codec.end([]),
        "head": lambda: codec.head(200, [], length=0, end=True, close=False, request=request),
        "informational": lambda: codec.informational(103, []),
        "tunnel": lambda: codec.tunnel_head([], b"websocket"),
    }
    fault = fault_of(calls[what])
    assert (fault.side, fault.kind) == (Side.EDGE, "h1-out-of-order")


# interim responses and upgrades


def test_interim_responses() -> None:
    codec, _ = read(post(2))
    assert codec.continue_100() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert codec.informational(103, [(b"link", b"</a>")]) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    assert fault_of(codec.informational, 101, []).kind == "h1-out-of-order"
    assert fault_of(codec.informational, 200, []).kind == "h1-out-of-order"
    assert fault_of(codec.head, 100, [], length=0, end=True, close=False, request=None).kind == "h1-out-of-order"


def test_http10_hears_no_interim_responses() -> None:
    codec, _ = read(post(2).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert codec.continue_100() == b""
    assert codec.informational(103, []) == b""


def test_100_is_not_sent_when_the_body_is_there_or_the_answer_began() -> None:
    codec, _ = read(GET)
    assert codec.continue_100() == b""
    codec, request = read(post(2))
    codec.head(413, [], length=0, end=True, close=True, request=request)
    assert codec.continue_100() == b""


def test_upgrade() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nearly"
    codec, head = read(data)
    assert head.protocol == b"websocket"
    assert codec.tunnel_head([(b"sec-websocket-accept", b"y")], head.protocol) == (
        b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: y\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    assert codec.next_event() is None
    assert codec.take_buffered() == b"early"
    assert codec.buffered == 0
    assert not codec.keep_alive


def test_a_refused_upgrade_goes_on_as_http() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n" + GET
    assert len(serve([data]).requests) == 2


# one exchange at a time


def test_pipelined_requests_wait() -> None:
    codec, first = read(GET + GET)
    assert codec.next_event() is None
    assert codec.buffered == len(GET)
    assert not codec.keep_alive
    codec.head(200, [], length=0, end=True, close=False, request=first)
    codec.start_next()
    assert isinstance(codec.next_event(), RequestHead)
    assert codec.buffered == 0


def test_what_follows_a_body_is_not_looked_at() -> None:
    codec, _ = read(post(2, b"ok") + b"\0garbage")
    assert codec.next_event() == b"ok"
    assert isinstance(codec.next_event(), End)
    assert codec.next_event() is None
    assert codec.buffered == 8


def test_an_answer_before_the_body_came_ends_the_connection() -> None:
    codec, request = read(post(5, b"he"))
    codec.head(413, [], length=0, end=True, close=False, request=request)
    assert not codec.keep_alive
    codec.feed(b"llo")
    while codec.next_event() is not None:
        pass
    assert codec.keep_alive, "but when it does come, the next request can be read"


def test_a_whole_body_is_not_copied() -> None:
    codec, _ = read(post(5))
    body = bytes(bytearray(b"hello"))
    codec.feed(body)
    assert codec.next_event() is body


def test_equal_blocks_share_their_fields() -> None:
    data = GET.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\n\r\n")
    assert read(data)[1].fields is read(data)[1].fields


def test_https_over_a_plain_connection_is_misdirected() -> None:
    data = b"GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"
    codec = ServerCodec(Limits(), secure=False)
    codec.feed(data)
    assert fault_of(codec.next_event).status == 421
    assert read(data)[1].scheme == b"https"


def test_the_scheme_is_the_connections() -> None:
    assert read(GET)[1].scheme == b"https"
    assert read(GET, secure=False)[1].scheme == b"http"


# limits


def test_body_limit_of_a_declared_length() -> None:
    codec, head = read(post(11, b"hello"), Limits(request_body=10))
    assert head.content_length == 11
    assert fault_of(codec.next_event).status == 413


def test_the_route_may_raise_and_lift_the_limit() -> None:
    for limit in (11, None):
        codec, _ = read(post(11, b"hello"), Limits(request_body=10))
        codec.body_limit = limit
        assert codec.next_event() == b"hello"


def test_the_route_may_lower_the_limit_before_any_body_came() -> None:
    codec, _ = read(post(11))
    codec.body_limit = 10
    assert fault_of(codec.next_event).status == 413


def test_the_limit_is_per_message() -> None:
    codec, head = read(post(5, b"hello") + post(6, b"hello!"), Limits(request_body=5))
    codec.body_limit = 100
    assert codec.next_event() == b"hello"
    assert isinstance(codec.next_event(), End)
    codec.head(200, [], length=0, end=True, close=False, request=head)
    codec.start_next()
    codec.next_event()
    assert fault_of(codec.next_event).status == 413


def test_body_limit_of_chunks() -> None:
    codec, _ = read(CHUNKED + b"5\r\nhello\r\n5\r\nworld\r\n1\r\n!", Limits(request_body=10))
    assert fault_of(codec.next_event).status == 413
    codec, _ = read(CHUNKED + b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", Limits(request_body=10))
    assert codec.next_event() == b"helloworld"
    assert isinstance(codec.next_event(), End)


def test_requests_per_connection() -> None:
    seen = serve([GET * 5], Limits(requests_per_connection=3))
    assert [request["keep_alive"] for request in seen.requests] == [True, True, False]


def test_limits_are_exact() -> None:
    line, fields = GET.split(b"\r\n", 1)[0], GET.split(b"\r\n", 1)[1][:-2]
    exact = Limits(request_line=len(line), header_bytes=len(fields), header_count=1)
    assert len(serve([GET], exact).requests) == 1
    assert len(serve([GET[at : at + 1] for at in range(len(GET))], exact).requests) == 1
    for limits, status in (
        (Limits(request_line=len(line) - 1), 414),
        (Limits(header_bytes=len(fields) - 1), 431),
        (Limits(header_count=0), 431),
    ):
        for pieces in ([GET], [GET[at : at + 1] for at in range(len(GET))]):
            seen = serve(pieces, limits)
            assert seen.fault is not None
            assert seen.fault.status == status


def test_a_memo_does_not_lift_the_count() -> None:
    assert serve([GET]).fault is None
    fault = serve([GET], Limits(header_count=0)).fault
    assert fault is not None
    assert fault.status == 431


def test_trailers_share_the_limits_of_the_head() -> None:
    data = CHUNKED + b"0\r\n" + b"x: 1\r\n" * 3 + b"\r\n"
    assert serve([data], Limits(header_count=5)).fault is None
    fault = serve([data], Limits(header_count=4)).fault
    assert fault is not None
    assert fault.status == 431


def test_a_flood_of_tiny_chunks_is_refused() -> None:
    fault = serve([CHUNKED + b"1\r\nx\r\n" * 20_000]).fault
    assert fault is not None
    assert fault.kind == "too-many-chunks"


def test_many_small_chunks_that_come_as_they_are_made_are_fine() -> None:
    seen = serve([CHUNKED, *([b"1\r\nx\r\n"] * 20_000), b"0\r\n\r\n"])
    assert seen.fault is None
    assert len(seen.requests[0]["body"]) == 20_000


def test_many_chunks_of_fair_size_are_fine() -> None:
    seen = serve([CHUNKED + (b"10\r\n" + b"x" * 16 + b"\r\n") * 40_000 + b"0\r\n\r\n"])
    assert seen.fault is None


def test_memos_are_bounded() -> None:
    from edge.http import h1_head

    for number in range(_LINE_MEMO + 10):
        assert serve([b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Number: %d\r\n\r\n" % (number, number)]).fault is None
    assert len(h1_head._plain_lines) <= _LINE_MEMO
    assert len(h1_head._request_blocks) <= _BLOCK_MEMO
    assert len(h1_head._request_lines) <= _START_MEMO


def test_the_memo_of_written_lines_is_bounded() -> None:
    from edge.http import h1_framing

    codec, request = read(GET)
    for number in range(h1_framing._LINE_MEMO + 10):
        codec.informational(103, [(b"x-number", b"%d" % number)])
    assert len(h1_framing._lines) <= h1_framing._LINE_MEMO
    long = (b"x", b"a" * 1000)
    assert b"a" * 1000 in codec.head(200, [long], length=0, end=True, close=False, request=request)
    assert long not in h1_framing._lines


def test_a_protocol_is_a_token() -> None:
    codec, _ = read(GET)
    assert fault_of(codec.tunnel_head, [], b"a\r\nb: c").side is Side.EDGE


def test_an_idle_connection_holds_no_bytes() -> None:
    codec, _ = read(GET)
    assert codec._buf == b""
    codec, _ = read(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    while codec.next_event() is not None:
        pass
    assert codec._buf == b""


def test_a_slow_head_is_refused_at_its_first_wrong_byte() -> None:
    codec = ServerCodec(Limits(), secure=True)
    codec.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: b\n")
    assert fault_of(codec.next_event).kind == "bad-line-end"
    codec = ServerCodec(Limits(), secure=True)
    codec.feed(b"GET /\r\n")
    with pytest.raises(Fault, match="bad-request-line"):
        codec.next_event()


def test_the_cr_of_a_body_does_not_make_a_line_end_of_the_next_byte() -> None:
    for pieces in ([post(3, b"ab\r") + b"\n"], [post(3, b"ab\r"), b"\n"]):
        fault = serve(pieces).fault
        assert fault is not None
        assert fault.kind == "bad-line-end"


def test_a_whole_answer_with_shared_fields_is_the_same_the_second_time() -> None:
    shared = SharedFields([(b"x", b"1")])
    plain = [(b"x", b"1"), (b"x-request-id", b"b")]
    for fields, ident in ((shared, b"a"), (shared, b"b"), (plain, b"")):
        codec, request = read(GET)
        wire = codec.head(200, fields, length=2, end=True, close=False, request=request, request_id=ident, body=b"hi")
        assert wire.endswith(b"\r\n\r\nhi")
        assert sorted(wire.split(b"\r\n")) == sorted(
            [b"HTTP/1.1 200 OK", b"x: 1", b"content-length: 2", b"x-request-id: " + (ident or b"b"), b"", b"hi"]
        )
        assert codec.keep_alive
    for head, kept in ((GET.replace(b"GET", b"HEAD"), True), (GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False)):
        codec, request = read(head)
        wire = codec.head(200, shared, length=2, end=True, close=False, request=request, request_id=b"c", body=b"hi")
        assert wire.endswith(b"\r\n\r\n" if kept else b"\r\n\r\nhi")
        assert (b"connection: close" in wire) is not kept
        assert codec.keep_alive is kept


# requests that came before


def test_an_equal_request_is_known_and_nothing_else_is() -> None:
    limits = Limits()
    codec, first = read(GET, limits)
    other = ServerCodec(limits, secure=True)
    assert other.again(GET) is first
    assert other.again(GET) is None, "one at a time"
    assert other.whole(200, SharedFields([(b"x", b"1")]), b"", b"hi").endswith(b"\r\n\r\nhi")
    assert other.go_on()
    assert other.again(GET + GET) is None
    assert other.again(GET[:-1]) is None
    other.feed(GET[:5])
    assert other.again(GET) is None, "other bytes wait"
    assert ServerCodec(limits, secure=False).again(GET) is None
    assert ServerCodec(Limits(), secure=True).again(GET) is None, "what is equal but another object may be another limit"
    assert codec.again(GET) is None


def test_the_last_request_of_a_connection_is_not_taken_from_memory() -> None:
    limits = Limits(requests_per_connection=2)
    read(GET, limits)
    codec = ServerCodec(limits, secure=True)
    head = codec.again(GET)
    codec.head(204, [], length=None, end=True, close=False, request=head)
    assert codec.go_on()
    assert codec.again(GET) is None
    codec.feed(GET)
    last = codec.next_event()
    assert isinstance(last, RequestHead)
    assert not last.keep_alive


@pytest.mark.parametrize("data", [OLD, OLD_KEEP, HEAD, post(2, b"hi"), CHUNKED + b"0\r\n\r\n"])
def test_what_is_not_plain_is_written_in_the_long_way(data: bytes) -> None:
    limits = Limits()
    codec, _ = read(data, limits)
    while codec.expecting_body:
        codec.next_event()
    fields = SharedFields([(b"x", b"1")])
    plain = codec.whole(200, fields, b"", b"hi")
    assert bool(plain) is data.startswith(b"POST")
    if not plain:
        assert codec.whole(200, fields, b"", b"hi") == b"", "nothing has happened"
    assert codec.whole(200, SharedFields([]), b"", b"hi") == b""
