"""Answers that the gateway makes itself.

An error is problem+json (RFC 9457) or plain text by Accept, with the request id, and says nothing about what is behind the
gateway: the title belongs to the status, a fault's `detail` stays in the log, and its `kind` is shown only for the client's
own mistakes, where it helps to mend them. A gRPC client gets a response without a body whose fields are its trailers, because
it reads nothing else; the codes are those that gRPC prescribes for HTTP statuses, besides 413.

A `Reply` has a body for HEAD too: who writes it sends the length and leaves the body out (RFC 9110 section 9.3.2).
"""

from __future__ import annotations

from urllib.parse import quote

import orjson

from edge.errors import Fault, MethodNotAllowed, Side
from edge.http.message import Fields, RequestHead
from edge.settings.model import Respond

__all__ = ["Reply", "error_reply", "health_reply", "is_grpc", "redirect_reply", "respond_reply"]

_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 411: "Length Required", 413: "Content Too Large", 414: "URI Too Long",
    415: "Unsupported Media Type", 417: "Expectation Failed",
    421: "Misdirected Request", 425: "Too Early", 426: "Upgrade Required", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip

# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md; 413 is RESOURCE_EXHAUSTED as in gRPC's own limits
_GRPC_UNKNOWN = 2
_GRPC_CODES = {400: 13, 401: 16, 403: 7, 404: 12, 413: 8, 429: 14, 502: 14, 503: 14, 504: 14}

_NO_ANSWER = {Side.CLIENT: 400, Side.UPSTREAM: 502, Side.EDGE: 500}  # for faults whose status is 0
_RETRY_AFTER = b"5"  # seconds: a connect back-off or a health check later

_JSON_RANGES = (b"application/problem+json", b"application/json")
_TEXT_RANGES = (b"text/plain", b"text/html")  # who asks for html reads text


class Reply:
    """A whole answer. The verdict of a phase that answers instead of the upstream."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: Fields, body: bytes = b"") -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def __repr__(self) -> str:
        return f"<Reply {self.status} {len(self.body)} bytes>"


def error_reply(fault: Fault, head: RequestHead | None, request_id: bytes) -> Reply:
    """The answer to a failed request; `head` is None when none could be read."""
    status = fault.status or _NO_ANSWER[fault.side]
    title = _TITLES.get(status, "Error")
    if head is not None and is_grpc(head):
        fields = [
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % _GRPC_CODES.get(status, _GRPC_UNKNOWN)),
            (b"grpc-message", quote(title, safe=" ").encode("ascii")),
        ]
        return Reply(200, fields)
    if head is None or _wants_json(head):
        content_type = b"application/problem+json"
        problem: dict[str, str | int] = {"type": "about:blank", "title": title, "status": status}
        if fault.side is Side.CLIENT:
            problem["kind"] = fault.kind
        problem["request_id"] = request_id.decode("ascii")
        body = orjson.dumps(problem, option=orjson.OPT_APPEND_NEWLINE)
    else:
        content_type = b"text/plain; charset=utf-8"
        kind = f"{fault.kind}\n" if fault.side is Side.CLIENT else ""
        body = f"{status} {title}\n{kind}request {request_id.decode('ascii')}\n".encode()
    fields = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    if isinstance(fault, MethodNotAllowed):
        fields.append((b"allow", fault.allow))
    elif status == 503:
        fields.append((b"retry-after", _RETRY_AFTER))
    return Reply(status, fields, body)


def respond_reply(respond: Respond) -> Reply:
    """A route's fixed answer."""
    fields = [(b"content-type", respond.content_type.encode())] if respond.content_type and respond.body else []
    return Reply(respond.status, fields, respond.body)


def health_reply(*, well: bool) -> Reply:
    """The gateway's own health, for DNS and balancers; says no more than that, and no cache keeps it."""
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    return Reply(200, fields, b"ok\n") if well else Reply(503, fields, b"unready\n")


def redirect_reply(location: bytes, status: int) -> Reply:
    """A redirect to `location`, which is safe to write as it is."""
    return Reply(status, [(b"location", location)])


def is_grpc(head: RequestHead) -> bool:
    """Whether the client speaks gRPC: content-type application/grpc, with or without a suffix or parameters."""
    for name, value in head.fields:
        if name == b"content-type":
            value = value.lower()
            return value.startswith(b"application/grpc") and value[16:17] in (b"", b"+", b";", b" ")
    return False


def _wants_json(head: RequestHead) -> bool:
    """By Accept (RFC 9110 section 12.5.1), problem+json when it has no opinion: no Accept, ``*/*`` alone, or equal weights."""
    ranges: dict[bytes, float] = {}
    for name, value in head.fields:
        if name == b"accept":
            for part in value.lower().split(b","):
                media, _, parameters = part.partition(b";")
                ranges[media.strip()] = _weight(parameters)
    if not ranges:
        return True
    anything = ranges.get(b"*/*", 0.0)
    text = max((ranges[media] for media in _TEXT_RANGES if media in ranges), default=ranges.get(b"text/*", anything))
    json = max((ranges[media] for media in _JSON_RANGES if media in ranges), default=ranges.get(b"application/*", anything))
    return json >= text


def _weight(parameters: bytes) -> float:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
