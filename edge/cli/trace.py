"""What the gateway would do with one request, step by step, each with the line of the settings that decided it.

The steps until the handshake is over stand in `edge.cli.handshake`; here are the request's.

Nothing is decided here: each step asks the code that the data path asks (the host index, the HTTP/1.1 codec, the authority
rule, the route table, and in the end `Front`, which decides for real), so that the answer cannot differ from what a client
would see. No socket is opened and no name is looked up; which endpoint of an upstream is taken depends on the moment and
is left open.
"""

from __future__ import annotations

import re
from typing import cast

from edge.cli.client_certificate import names_of
from edge.cli.handshake import handshake, listener_of, relayed
from edge.cli.steps import Question, Trace
from edge.errors import Fault, MethodNotAllowed
from edge.http.h1 import ServerCodec
from edge.http.message import ConnectionInfo, Fields, RequestHead, ResponseHead
from edge.policy.authority import Authority
from edge.policy.phases import Drop, Wait
from edge.policy.reply import Reply
from edge.relay.context import Context
from edge.relay.exchange import Exchange
from edge.relay.front import Forward, Front
from edge.relay.ports import ClientPort
from edge.route.paths import Path, normalise
from edge.route.table import Match, RouteTable
from edge.settings.client_rules import admitting, rule_text
from edge.settings.model import Listener, Place, Route, Settings, Upstream

__all__ = ["trace"]


class _Clock:
    """A time that stands still."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


class _Now:
    """The part of a worker's context that decisions ask for."""

    __slots__ = ("clock", "ready")

    def __init__(self) -> None:
        self.clock = _Clock()
        self.ready = True

    def source(self, upstream: Upstream) -> None:
        """Nothing is sent."""

    def new_request_id(self) -> bytes:
        return b"(new)"

    def date(self) -> bytes:
        return b"(now)"

    def random(self) -> float:
        return 0.0


def trace(settings: Settings, question: Question) -> Trace:
    """Everything that decides about `question`, in the order in which it is decided."""
    found = Trace()
    listener = listener_of(settings, question, found)
    if listener is None:
        return found
    conn = ConnectionInfo(question.source, 50_000, listener, secure=listener.tls)
    if listener.stream is not None and not listener.tls:
        relayed(listener.stream, listener.place, "every byte goes on to the upstream", found)
        return found
    if listener.tls and not handshake(settings, question, listener, conn, found):
        return found
    try:
        head = _head(question, conn)
        context = cast(Context, _Now())
        front = Front(settings, listener, context)
        exchange = Exchange(context, front, conn, cast(ClientPort, None), head)
        if listener.redirect_port is not None:
            _outcome(front, exchange, None, found)
            return found
        name = Authority(settings, listener).check(head, conn)
        found.add("authority", f"{name}, " + ("under the policy of this connection" if conn.secure else "without TLS"))
        path = normalise(head.target)
        found.add("path", path.normal.decode("ascii"), more=[] if path.raw == path.normal else [f"came as {_text(path.raw)}"])
        match = _route(settings, listener, name, path, head, found)
        _demanded(match.route, conn, found)
        if match.route.early_data and listener.tls and question.method in ("GET", "HEAD", "OPTIONS"):
            found.add("early data", "answered before the end of the handshake, if it comes so and has no body", match.route.place)
        _outcome(front, exchange, match.route, found)
    except Fault as fault:
        _refused(fault, found)
    return found


def _head(question: Question, conn: ConnectionInfo) -> RequestHead:
    """The request as the codec reads it, so that what the codec refuses is refused here too."""
    lines = [f"{question.method} ".encode("latin-1", "replace") + question.target + b" HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in question.headers):
        lines.append(b"Host: " + question.authority.encode("latin-1", "replace"))
    lines += [f"{name}: {value}".encode() for name, value in question.headers]
    codec = ServerCodec(conn.listener.limits, secure=conn.secure)
    codec.feed(b"\r\n".join(lines) + b"\r\n\r\n")
    head = codec.next_event()
    if not isinstance(head, RequestHead):
        raise ValueError("the request has no end")
    if conn.alpn == b"h2":
        head.version = 20
    return head


def _route(settings: Settings, listener: Listener, name: str, path: Path, head: RequestHead, found: Trace) -> Match:
    table = RouteTable(settings, listener)
    considered = table.explain(name, path, head.method, head.fields)
    others = [f"{_place(one.route.place)}{_pattern(one.route)}: {one.verdict}" for one in considered if one.verdict != "chosen"]
    try:
        match = table.match(name, path, head.method, head.fields)
    except Fault:
        found.add("route", "none" if not others else "none of those that match the path", more=others)
        raise
    params = [f"{{{key}}} is {value}" for key, value in (match.params or {}).items()]
    found.add("route", _pattern(match.route), match.route.place, [*params, *others])
    return match


def _demanded(route: Route, conn: ConnectionInfo, found: Trace) -> None:
    """What the route demands of the client's certificate; `Front` says what comes of it."""
    demand = route.client_auth
    if demand is None:
        return
    leaf = conn.client
    if leaf is None:
        found.add(
            "client", "the route demands a certificate" if demand.required else "the route asks for a certificate", route.place
        )
    elif demand.allow:
        rule = admitting(demand.allow, leaf)
        outcome = "no rule of the route admits it" if rule is None else f"admitted by: {rule_text(rule)}"
        found.add("allow", outcome, route.place, [*map(rule_text, demand.allow), *names_of(leaf)] if rule is None else ())


def _place(place: Place) -> str:
    return f"{place.file}:{place.line}: " if place.line else ""


def _pattern(route: Route) -> str:
    conditions = [
        *(sorted(route.methods) if route.methods else []),
        *(f"{_text(name)}: {_text(value)}" for name, value in route.match_headers),
    ]
    return f"{route.host or '(every host)'} {route.path}" + (f" [{', '.join(conditions)}]" if conditions else "")


def _refused(fault: Fault, found: Trace) -> None:
    more = [f"because: {fault.detail}"] if fault.detail else []
    if isinstance(fault, MethodNotAllowed):
        more.append(f"allowed: {_text(fault.allow)}")
    found.add("refused", f"{fault.status} {fault.kind}", more=[*more, f"what it means: edge help {fault.kind}"])
    found.end("refuse", fault.status, fault.kind)


def _outcome(front: Front, exchange: Exchange, route: Route | None, found: Trace) -> None:
    """What `Front` makes of the request: an answer of ours, or the request that an upstream gets."""
    verdict = front.decide(exchange)
    if isinstance(verdict, Reply):
        fields = front.reply_fields(verdict, exchange)
        location = next((_text(value) for name, value in fields if name == b"location"), "")
        place = route.place if route is not None else front.listener.place
        found.add(
            "answer",
            _answered(verdict.status, location, route),
            place,
            _lines(fields),
        )
        found.end("redirect" if location else "respond", verdict.status, location=location)
        return
    if isinstance(verdict, Drop):
        raise verdict.fault
    if isinstance(verdict, Wait):
        found.add("waiting", "an answer from outside decides")
        found.end("wait")
        return
    plan = exchange.plan
    assert plan is not None
    _upstreams(plan.route, verdict, found)
    request = verdict.request
    sent = [f"host: {_text(request.authority)}", *_lines(request.fields)]
    if verdict.own_id:
        sent.append(f"x-request-id: {_text(exchange.request_id)}")
    found.add("request", f"{_text(request.method)} {_text(request.target)}", more=sent)
    fields, own_id = front.response_fields(ResponseHead(200, []), exchange)
    if own_id:
        fields = [*fields, (b"x-request-id", exchange.request_id)]
    removed = [f"without {_text(name)}" for name in sorted(plan.route.response_headers.remove)]
    found.add("answer", "the upstream's, with", more=[*_lines(fields), *removed])
    found.end("relay")


def _answered(status: int, location: str, route: Route | None) -> str:
    if location:
        return f"{status} to {location}"
    if route is not None and route.health:
        otherwise = ", 503 while the gateway is not ready" if route.health == "ready" else ""
        return f"{status}, the gateway's own health{otherwise}"
    return f"{status}, by edge itself"


def _lines(fields: Fields) -> list[str]:
    return [f"{_text(name)}: {_text(value)}" for name, value in fields]


def _upstreams(route: Route, forward: Forward, found: Trace) -> None:
    body = "no limit" if route.limits.request_body is None else _size(route.limits.request_body)
    total = "no total timeout" if route.timeout is None else f"{route.timeout:g} s in all"
    first = "no limit" if forward.terms.first_byte is None else f"{forward.terms.first_byte:g} s"
    found.add("limits", f"body {body}; {total}; first byte of the answer: {first}")
    weights = sum(target.weight for target in route.targets)
    for target in route.targets:
        upstream = target.upstream
        share = f", {100 * target.weight / weights:g} % of the requests" if len(route.targets) > 1 else ""
        endpoints = [one.url + (f" (weight {one.weight})" if one.weight != 1 else "") for one in upstream.endpoints]
        place = upstream.place if upstream.place.line else route.place
        if endpoints == [upstream.name]:
            endpoints = []
        if upstream.tls is not None:
            endpoints.append("TLS, verified" if upstream.tls.verify else "TLS, NOT verified: anybody can stand in between")
        found.add("upstream", f"{upstream.name}{share}", place, endpoints)


def _size(size: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


_ODD = re.compile(r"[^\x20-\x7e]")


def _text(value: bytes) -> str:
    """Bytes for people: what is not visible ASCII is escaped."""
    return _ODD.sub(lambda found: f"\\x{ord(found.group()):02x}", value.decode("latin-1"))
