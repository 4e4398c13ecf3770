"""Whatever may be said in a message survives being written by one role and read by the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import FORBIDDEN_TRAILERS, NEVER_IN_FIELDS
from edge.http.h1 import ClientCodec, ServerCodec
from edge.http.message import End, Fields, RequestHead, ResponseHead
from edge.settings.model import Limits
from tests.http.h1_tools import shredded

TOKEN = st.text("!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12).map(str.encode)
EDGE = st.sampled_from([bytes([octet]) for octet in (*range(33, 127), *range(128, 256))])
INNER = st.lists(st.sampled_from([bytes([octet]) for octet in (9, *range(32, 127), *range(128, 256))]), max_size=20).map(b"".join)
VALUE = st.one_of(st.just(b""), EDGE, st.builds(lambda a, b, c: a + b + c, EDGE, INNER, EDGE))
FIELDS = st.lists(st.tuples(TOKEN.filter(lambda name: name not in NEVER_IN_FIELDS), VALUE), max_size=6)
TRAILERS = st.lists(st.tuples(TOKEN.filter(lambda name: name not in FORBIDDEN_TRAILERS), VALUE), max_size=3)
METHOD = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"QUERY", b"brew"])
TARGET = st.text("".join(chr(code) for code in range(33, 127) if chr(code) != "#"), max_size=30).map(
    lambda rest: b"/" + rest.encode()
)
PIECES = st.lists(st.binary(max_size=40), max_size=5)
LIMITS = Limits()


@given(METHOD, TARGET, FIELDS, PIECES, st.booleans(), TRAILERS, st.integers(0, 99))
def test_requests(
    method: bytes, target: bytes, fields: Fields, pieces: list[bytes], declared: bool, trailers: Fields, seed: int
) -> None:
    client = ClientCodec()
    body = b"".join(pieces)
    wire = client.request(method, target, b"a.example:1", fields, length=len(body) if declared else None, end=False)
    wire += b"".join(client.data(piece) for piece in pieces) + client.end(trailers)
    server = ServerCodec(LIMITS, secure=False)
    heads: list[RequestHead] = []
    ends: list[End] = []
    got = b""
    for piece in shredded(wire, seed):
        server.feed(piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, RequestHead):
                heads.append(event)
            elif isinstance(event, End):
                ends.append(event)
            else:
                got += event
    assert len(heads) == 1
    head = heads[0]
    assert (head.method, head.target, head.authority, head.fields) == (method, target, b"a.example:1", fields)
    assert got == body
    assert head.content_length == (len(body) if declared else None)
    if head.end:
        assert declared
        assert not body
    else:
        assert len(ends) == 1
        assert ends[0].trailers == ([] if declared else trailers)
    assert server.buffered == 0


@given(st.sampled_from([200, 201, 404, 500, 599]), FIELDS, PIECES, st.booleans(), TRAILERS, st.integers(0, 99))
def test_responses(status: int, fields: Fields, pieces: list[bytes], declared: bool, trailers: Fields, seed: int) -> None:
    client, server = ClientCodec(), ServerCodec(LIMITS, secure=True)
    server.feed(client.request(b"GET", b"/", b"a", [], length=None, end=True))
    request = server.next_event()
    assert isinstance(request, RequestHead)
    body = b"".join(pieces)
    wire = server.head(status, fields, length=len(body) if declared else None, end=False, close=False, request=request)
    wire += b"".join(server.data(piece) for piece in pieces) + server.end(trailers)
    heads: list[ResponseHead] = []
    ends: list[End] = []
    got = b""
    for piece in shredded(wire, seed):
        client.feed(piece)
        while (event := client.next_event()) is not None:
            if isinstance(event, ResponseHead):
                heads.append(event)
                got += event.body
            elif isinstance(event, End):
                ends.append(event)
            else:
                got += event
    assert len(heads) == 1
    assert (heads[0].status, heads[0].fields) == (status, fields)
    assert got == body
    if not heads[0].end:
        assert len(ends) == 1
        assert ends[0].trailers == ([] if declared else trailers)
    assert client.reusable
    assert server.keep_alive
