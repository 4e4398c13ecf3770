"""What must hold for any bytes whatever, with h11 and httptools (llhttp) as second opinions.

They are lenient where the gateway is strict, so nothing is asked of them about what is refused. But what the gateway accepts,
and one of them accepts too, must be the same requests: the same methods, targets and bodies, cut at the same places. And what the
gateway writes of it must be understood by all three.
"""

from __future__ import annotations

from typing import Any

import h11
import httptools

from edge.errors import Side
from edge.http.h1 import ClientCodec, ServerCodec
from edge.http.message import RequestHead
from edge.settings.model import Limits
from tests.http.h1_tools import Answer, Seen, ask, bytewise, serve, shredded

Request = tuple[bytes, bytes, bytes]  # method, target as received, body
BIG = 1 << 20


def h11_requests(data: bytes) -> tuple[list[Request], bool]:
    """The complete requests that h11 reads, and whether it refused something or stopped."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=BIG)
    connection.receive_data(data)
    requests: list[Request] = []
    method = target = body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method, event.target, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                requests.append((method, target, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return requests, True
                connection.start_next_cycle()
            else:
                return requests, event is h11.PAUSED
    except h11.ProtocolError:
        return requests, True


class _Collector:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.target = b""
        self.body = b""
        self.parser: Any = None

    def on_message_begin(self) -> None:
        self.target = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.requests.append((self.parser.get_method(), self.target, self.body))


def httptools_requests(data: bytes) -> tuple[list[Request], bool]:
    """The complete requests that httptools reads, and whether it refused something or stopped."""
    collector = _Collector()
    collector.parser = httptools.HttpRequestParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return collector.requests[:-1], True  # llhttp leaves the body of a request that asks for an upgrade to others
    except httptools.HttpParserError:
        return collector.requests, True
    return collector.requests, False


def _agree(seen: Seen, others: list[Request], stopped: bool, who: str) -> None:
    for ours, theirs in zip(seen.requests, others, strict=False):
        method, target, body = theirs
        assert ours["method"].encode("latin-1") == method, who
        assert ours["body"].encode("latin-1") == body, who
        if target[:1] == b"/":
            assert ours["target"].encode("latin-1") == target, who
    if not stopped and seen.fault is None and all(request["keep_alive"] for request in seen.requests):
        assert len(seen.requests) == len(others), who


def check_requests(data: bytes, seed: int = 0) -> Seen:
    """Everything that must hold for `data` as what a client sends."""
    seen = serve([data])
    assert seen.fault is None or (seen.fault.side is Side.CLIENT and 400 <= seen.fault.status <= 505)
    for pieces in (bytewise(data), shredded(data, seed)):
        again = serve(pieces)
        assert again.requests == seen.requests
        assert (again.fault is None) == (seen.fault is None)
    _agree(seen, *h11_requests(data), "h11")
    _agree(seen, *httptools_requests(data), "httptools")
    for request in seen.requests:
        _check_rewritten(request)
    return seen


def _check_rewritten(request: dict[str, Any]) -> None:
    """What goes to an upstream is read there as what came from the client, by every parser."""
    method, target, body = (request[name].encode("latin-1") for name in ("method", "target", "body"))
    authority = request["authority"].encode("latin-1")
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request["fields"]]
    trailers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request["trailers"]]
    if not authority:
        authority = b"none.example"
    codec = ClientCodec()
    declared: int | None = request["content_length"]
    bodiless = not body and not trailers
    wire = codec.request(method, target, authority, fields, length=None if trailers else declared, end=bodiless)
    if not bodiless:
        wire += codec.data(body[:3]) + codec.data(body[3:]) + codec.end(trailers)
    again = serve([wire], Limits(header_count=200, header_bytes=BIG, request_line=BIG))
    assert again.fault is None
    assert len(again.requests) == 1
    for name in ("method", "target", "body", "fields", "trailers"):
        assert again.requests[0][name] == request[name], name
    # RFC 3986 lets a target be more than these two accept, and llhttp knows no methods but its own
    for others, stopped in (h11_requests(wire), httptools_requests(wire)):
        assert stopped or others == [(method, target, body)]


def check_response(data: bytes, method: bytes = b"GET", seed: int = 0) -> Answer:
    """Everything that must hold for `data` and then the close as what an upstream answers."""
    answer = ask(ClientCodec(), method, b"", [data], eof=True)
    assert answer.fault is not None or answer.complete
    assert answer.fault is None or (answer.fault.side is Side.UPSTREAM and answer.fault.status == 502)
    for pieces in (bytewise(data), shredded(data, seed)):
        again = ask(ClientCodec(), method, b"", pieces, eof=True)
        assert (again.fault is None) == (answer.fault is None)
        if answer.fault is None:
            assert (again.body, again.trailers, again.interim) == (answer.body, answer.trailers, answer.interim)
            assert answer.head is not None
            assert again.head is not None
            assert (again.head.status, again.head.fields) == (answer.head.status, answer.head.fields)
    if answer.fault is None:
        _h11_agrees(answer, data, method)
        if answer.head is not None and len(answer.head.fields) < 200:  # with its framing it may be one field too many
            _check_relayed(answer, method)
    return answer


def _h11_agrees(answer: Answer, data: bytes, method: bytes) -> None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=BIG)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    status, body = 0, b""
    eof = False
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event is h11.NEED_DATA and not eof:
                eof = True
                connection.receive_data(b"")
            elif not isinstance(event, h11.InformationalResponse):
                return
    except h11.ProtocolError:
        return
    assert answer.head is not None
    assert (answer.head.status, answer.body) == (status, body)


def _check_relayed(answer: Answer, method: bytes) -> None:
    """What goes on to the client is read there as what came from the upstream."""
    head = answer.head
    assert head is not None
    codec = ServerCodec(Limits(), secure=True)
    codec.feed(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    request = codec.next_event()
    assert isinstance(request, RequestHead)
    wire = codec.head(
        head.status, head.fields, length=head.content_length, end=head.end, close=False, request=request, body=head.body
    )
    if not head.end:
        wire += codec.data(answer.body) + codec.end(answer.trailers)
    assert codec.keep_alive
    client = ClientCodec()
    again = ask(client, method, b"", [wire], eof=False)
    assert again.fault is None
    assert again.complete
    assert client.reusable
    assert again.head is not None
    assert (again.head.status, again.head.fields, again.body, again.trailers) == (
        head.status, head.fields, answer.body, answer.trailers,
    )  # fmt: skip
