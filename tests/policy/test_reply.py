"""Answers of the gateway's own."""

from __future__ import annotations

import json

import pytest

from edge.errors import Fault, MethodNotAllowed, Side
from edge.http.message import RequestHead
from edge.policy.reply import Reply, error_reply, is_grpc, redirect_reply, respond_reply
from edge.settings.model import Respond
from tests.builders import request

ID = b"0123456789abcdef"
NO_ROUTE = Fault(Side.CLIENT, "no-route", status=404)
REFUSED = Fault(Side.UPSTREAM, "connect-refused", status=502, detail="10.0.0.1:8000: connection refused")


def accepting(*values: bytes) -> RequestHead:
    return request(fields=[(b"accept", value) for value in values])


def content_type(reply: Reply) -> bytes:
    return dict(reply.fields)[b"content-type"]


@pytest.mark.parametrize(
    ("head", "json_wanted"),
    [
        (None, True),
        (request(), True),
        (accepting(b"*/*"), True),
        (accepting(b"application/json"), True),
        (accepting(b"application/problem+json"), True),
        (accepting(b"application/json, text/plain, */*"), True),
        (accepting(b"application/*"), True),
        (accepting(b"text/plain;q=0.5, application/json;q=0.9"), True),
        (accepting(b"image/png"), True),
        (accepting(b"text/plain;q=nonsense, */*;q=0.1"), True),
        (accepting(b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), False),
        (accepting(b"text/plain"), False),
        (accepting(b"text/*"), False),
        (accepting(b"Application/JSON;q=0.1", b"TEXT/plain ; q=0.2"), False),
        (accepting(b"application/json;q=0, */*"), False),
    ],
)
def test_the_form_follows_accept(head: RequestHead | None, json_wanted: bool) -> None:
    reply = error_reply(NO_ROUTE, head, ID)
    assert reply.status == 404
    assert content_type(reply) == (b"application/problem+json" if json_wanted else b"text/plain; charset=utf-8")
    assert ID in reply.body


def test_a_problem() -> None:
    assert json.loads(error_reply(NO_ROUTE, None, ID).body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "kind": "no-route",
        "request_id": ID.decode(),
    }


def test_text() -> None:
    assert error_reply(NO_ROUTE, accepting(b"text/plain"), ID).body == b"404 Not Found\nno-route\nrequest " + ID + b"\n"


@pytest.mark.parametrize("head", [None, accepting(b"text/plain"), request(fields=[(b"content-type", b"application/grpc")])])
def test_nothing_about_what_is_behind(head: RequestHead | None) -> None:
    reply = error_reply(REFUSED, head, ID)
    said = reply.body + b"".join(value for _, value in reply.fields)
    assert b"10.0.0.1" not in said
    assert b"refused" not in said


@pytest.mark.parametrize(("side", "status"), [(Side.CLIENT, 400), (Side.UPSTREAM, 502), (Side.EDGE, 500)])
def test_a_fault_without_a_status(side: Side, status: int) -> None:
    assert error_reply(Fault(side, "x"), None, ID).status == status


def test_a_status_without_a_title_of_its_own() -> None:
    assert json.loads(error_reply(Fault(Side.CLIENT, "x", status=418), None, ID).body)["title"] == "Error"


def test_allow_retry_after_and_no_store() -> None:
    assert (b"allow", b"GET, HEAD") in error_reply(MethodNotAllowed(b"GET, HEAD"), None, ID).fields
    assert dict(error_reply(Fault(Side.EDGE, "no-upstream", status=503), None, ID).fields)[b"retry-after"] == b"5"
    assert b"retry-after" not in dict(error_reply(NO_ROUTE, None, ID).fields)
    assert (b"cache-control", b"no-store") in error_reply(NO_ROUTE, None, ID).fields


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (NO_ROUTE, b"12"),
        (REFUSED, b"14"),
        (Fault(Side.CLIENT, "bad-path", status=400), b"13"),
        (Fault(Side.CLIENT, "body-too-large", status=413), b"8"),
        (Fault(Side.UPSTREAM, "slow", status=504), b"14"),
        (MethodNotAllowed(b"GET"), b"2"),
    ],
)
def test_grpc(fault: Fault, code: bytes) -> None:
    reply = error_reply(fault, request(fields=[(b"content-type", b"application/grpc+proto")]), ID)
    assert (reply.status, reply.body) == (200, b"")
    fields = dict(reply.fields)
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-status"] == code
    assert fields[b"grpc-message"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/grpc", True),
        (b"Application/gRPC; x=y", True),
        (b"application/grpc+json", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
    ],
)
def test_what_is_grpc(value: bytes, expected: bool) -> None:
    assert is_grpc(request(fields=[(b"a", b"b"), (b"content-type", value)])) is expected
    assert not is_grpc(request())


def test_fixed_answers() -> None:
    reply = respond_reply(Respond(status=200, body=b"ok\n", content_type="text/plain"))
    assert (reply.status, reply.fields, reply.body) == (200, [(b"content-type", b"text/plain")], b"ok\n")
    assert respond_reply(Respond(status=204)).fields == []


def test_redirects() -> None:
    reply = redirect_reply(b"https://example.com/", 308)
    assert (reply.status, reply.fields, reply.body) == (308, [(b"location", b"https://example.com/")], b"")
    assert repr(reply) == "<Reply 308 0 bytes>"
