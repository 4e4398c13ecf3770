"""Bytes made to be misread, against h11, httptools and ourselves: see `h1_oracles` for what must hold."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.http.h1_oracles import check_requests, check_response, h11_requests, httptools_requests
from tests.http.h1_tools import corpus

SMALL = 3000
REQUESTS = [data for folder in ("requests-valid", "requests-refused") for _, data, _ in corpus(folder) if len(data) < SMALL]
RESPONSES = [data for folder in ("responses-valid", "responses-refused") for _, data, _ in corpus(folder) if len(data) < SMALL]

# pieces from which heads and bodies are put together; each list begins with the harmless
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b" \r\n", b""]
LINES = [
    b"GET / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"POST /a?b HTTP/1.0",
    b"HEAD / HTTP/1.1",
    b"GET http://a/ HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"PUT /\t HTTP/1.1",
    b"GET /",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"QUERY / HTTP/1.1",
]
STATUS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 204 x",
    b"HTTP/1.1 304 x",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 100 x",
    b"HTTP/1.1 103 ",
    b"HTTP/1.1 500",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 101 x",
]
FIELDS = [
    b"Host: a",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"X: y",
    b"Connection: close",
    b"Connection: keep-alive",
    b"content-length:0",
    b"Content-Length: 5, 5",
    b"Content-Length: 05",
    b"Content-Length : 5",
    b"Content-Length: +5",
    b"Content-Length:\x0b5",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:\tchunked ",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding:",
    b" folded: x",
    b"X: \xff",
    b"X: \0",
    b"Connection: content-length, host",
    b"Connection: transfer-encoding",
    b"Content_Length: 7",
    b": x",
    b"X",
    b"Upgrade: h2c",
    b"Connection: upgrade",
    b"Expect: 100-continue",
    b"Trailer: x",
    b"X-Forwarded-For: 1",
    b"Host: b",
]
BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"05\r\nhello\r\n00\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5;\nhello\r\n0\r\n\r\n",
    b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    b"0\r\nContent-Length: 3\r\n\r\nabc",
    b"0\r\n\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello",
    b"5\r\nhel",
]


@st.composite
def message(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    """One message: mostly right, wrong in a place or two."""
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    if draw(st.integers(0, 9)):
        fields.insert(draw(st.integers(0, len(fields))), b"Host: a")
    head = [draw(st.sampled_from(lines)), *fields]
    wrong = draw(st.integers(-3, len(head)))  # the line whose end may be wrong
    raw = b"".join(line + (draw(st.sampled_from(ENDS)) if at == wrong else b"\r\n") for at, line in enumerate(head))
    return raw + (draw(st.sampled_from(ENDS)) if wrong == len(head) else b"\r\n") + draw(st.sampled_from(BODIES))


def mutate(data: bytes, chance: random.Random, pool: list[bytes]) -> bytes:
    """`data` with one to four small changes of the kind that parsers disagree about."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        kind = chance.randrange(6)
        if kind == 0 and raw:
            raw[min(at, len(raw) - 1)] = chance.choice(b"\r\n\t :;,=0x-_\0\x0b\x7f\xffaA5")
        elif kind == 1:
            raw[at:at] = bytes([chance.choice(b"\r\n\t :;,=0x-_\0\x0b\x7f\xffaA5")])
        elif kind == 2:
            del raw[at : at + chance.randint(1, 3)]
        elif kind == 3:
            raw[at:at] = chance.choice(
                [b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"]
            )
        elif kind == 4:
            other = chance.choice(pool)
            raw[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            piece = raw[at : at + chance.randint(1, 30)]
            raw[at:at] = piece
    return bytes(raw[:SMALL])


@settings(max_examples=600)
@given(st.lists(message(LINES), min_size=1, max_size=3), st.integers(0, 1000))
def test_requests_put_together(messages: list[bytes], seed: int) -> None:
    check_requests(b"".join(messages), seed)


@settings(max_examples=400)
@given(message(STATUS), st.sampled_from([b"GET", b"HEAD"]), st.integers(0, 1000))
def test_responses_put_together(data: bytes, method: bytes, seed: int) -> None:
    check_response(data, method, seed)


@settings(max_examples=200)
@given(st.binary(max_size=200))
@example(b"\r\n\r\n\r\n\r\n")
def test_any_bytes(data: bytes) -> None:
    check_requests(data)
    check_response(data)


@pytest.mark.parametrize("seed", range(8))
def test_corpus_changed_a_little(seed: int) -> None:
    chance = random.Random(seed)
    for number in range(60):
        check_requests(mutate(chance.choice(REQUESTS), chance, REQUESTS), number)
        check_response(mutate(chance.choice(RESPONSES), chance, RESPONSES), chance.choice([b"GET", b"HEAD"]), number)


@pytest.mark.parametrize(
    ("name", "data", "expected"), corpus("requests-valid"), ids=[name for name, _, _ in corpus("requests-valid")]
)
def test_the_corpus(name: str, data: bytes, expected: object) -> None:
    assert check_requests(data).fault is None


def test_the_oracles_do_read() -> None:
    data = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    wanted = [(b"POST", b"/a", b"ab"), (b"GET", b"/b", b"")]
    assert h11_requests(data)[0] == wanted
    assert httptools_requests(data) == (wanted, False)
