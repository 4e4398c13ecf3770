"""Every file of the corpus, fed whole, byte by byte, in random pieces and with trailing bytes: the outcome is always the same."""

from __future__ import annotations

from typing import Any

import pytest

from edge.errors import Side
from edge.http.h1 import ClientCodec
from tests.http.h1_tools import ask, corpus, feeds, serve, text

NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"

VALID = corpus("requests-valid")
REFUSED = corpus("requests-refused")
ANSWERS = corpus("responses-valid")
BAD_ANSWERS = corpus("responses-refused")


def names(cases: list[tuple[str, bytes, Any]]) -> list[str]:
    return [name for name, _, _ in cases]


@pytest.mark.parametrize(("name", "data", "expected"), VALID, ids=names(VALID))
def test_valid_requests(name: str, data: bytes, expected: list[dict[str, Any]]) -> None:
    for pieces in feeds(data):
        seen = serve(pieces)
        assert seen.fault is None, seen.fault
        assert len(seen.requests) == len(expected)
        for found, wanted in zip(seen.requests, expected, strict=True):
            assert {key: found[key] for key in wanted} == wanted
            assert found["trailers"] == wanted.get("trailers", [])


@pytest.mark.parametrize(("name", "data", "expected"), VALID, ids=names(VALID))
def test_what_follows_a_valid_request_is_the_next_one(name: str, data: bytes, expected: list[dict[str, Any]]) -> None:
    for pieces in feeds(data + NEXT):
        seen = serve(pieces)
        assert seen.fault is None
        if expected[-1]["keep_alive"]:
            assert [request["target"] for request in seen.requests[len(expected) :]] == ["/next"]
        else:
            assert len(seen.requests) == len(expected)


@pytest.mark.parametrize(("name", "data", "expected"), REFUSED, ids=names(REFUSED))
@pytest.mark.parametrize("trailing", [b"", NEXT], ids=["alone", "trailing"])
def test_refused_requests(name: str, data: bytes, expected: dict[str, Any], trailing: bytes) -> None:
    for number, pieces in enumerate(feeds(data + trailing)):
        seen = serve(pieces)
        assert seen.requests == [], "nothing of it may pass"
        assert seen.fault is not None
        assert (seen.fault.side, seen.fault.status) == (Side.CLIENT, expected["status"])
        if number == 0 and not trailing:
            assert seen.fault.kind == expected["kind"]


@pytest.mark.parametrize(("name", "data", "expected"), ANSWERS, ids=names(ANSWERS))
def test_valid_responses(name: str, data: bytes, expected: dict[str, Any]) -> None:
    for pieces in feeds(data):
        codec = ClientCodec()
        answer = ask(codec, expected["method"].encode(), expected["protocol"].encode(), pieces, eof=expected["eof"])
        assert answer.fault is None
        assert answer.complete
        assert answer.head is not None
        assert answer.head.status == expected["status"]
        assert answer.head.content_length == expected["content_length"]
        assert answer.body.decode("latin-1") == expected["body"]
        assert answer.interim == expected.get("interim", [])
        assert text(answer.trailers) == expected.get("trailers", [])
        assert codec.reusable is expected["reusable"]
        if "fields" in expected:
            assert text(answer.head.fields) == expected["fields"]
        if "left" in expected:
            assert answer.head.protocol == expected["protocol"].encode()
            assert codec.take_buffered() == expected["left"].encode("latin-1")


@pytest.mark.parametrize(("name", "data", "expected"), ANSWERS, ids=names(ANSWERS))
def test_bytes_that_nobody_asked_for_end_the_connection(name: str, data: bytes, expected: dict[str, Any]) -> None:
    if expected["eof"] or expected["status"] == 101:
        return  # they are its body
    for pieces in feeds(data + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
        codec = ClientCodec()
        answer = ask(codec, expected["method"].encode(), expected["protocol"].encode(), pieces, eof=False)
        assert answer.fault is None
        assert answer.body.decode("latin-1") == expected["body"]
        assert not codec.reusable


@pytest.mark.parametrize(("name", "data", "expected"), BAD_ANSWERS, ids=names(BAD_ANSWERS))
def test_refused_responses(name: str, data: bytes, expected: dict[str, Any]) -> None:
    for number, pieces in enumerate(feeds(data)):
        codec = ClientCodec()
        answer = ask(codec, expected["method"].encode(), expected["protocol"].encode(), pieces, eof=expected["eof"])
        assert not answer.complete, "a broken response never looks complete"
        assert answer.fault is not None
        assert (answer.fault.side, answer.fault.status) == (Side.UPSTREAM, 502)
        assert not codec.reusable
        if number == 0:
            assert answer.fault.kind == expected["kind"]
