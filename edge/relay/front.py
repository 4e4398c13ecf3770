"""What one listener does with a request, from its head to a verdict: an answer of ours, or where to forward it and as
what.

Order of the decisions: authority against the connection's policy, path, route, size, and then the
route's action. Each is a pure function of its room; this module puts them in a row and compiles at load what they
need. The request that an upstream sees is written anew here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.errors import Fault, Side
from edge.http.fields import split_authority
from edge.http.message import ConnectionInfo, Fields, RequestHead, ResponseHead, SharedFields
from edge.policy.authority import Authority
from edge.policy.clients import check_client, client_fields
from edge.policy.forwarded import Forwarding, Prepared
from edge.policy.headers import RouteHeaders, compile_headers, write_reply_fields, write_request_fields, write_response_fields
from edge.policy.phases import (
    PASS,
    Drop,
    Pipeline,
    Stage,
    Verdict,
    Wait,
    authority_step,
    check_hops,
    check_size,
)
from edge.policy.reply import Reply, health_reply, redirect_reply, respond_reply
from edge.relay.websocket import KEY, find
from edge.route.paths import Path, normalise
from edge.route.table import Match, RouteTable
from edge.route.target import pick_target, redirect_https, redirect_location, upstream_target
from edge.settings.model import Host, Listener, Route, Settings, Upstream
from edge.settings.names import NameIndex

if TYPE_CHECKING:
    from edge.relay.context import Context, Source
    from edge.relay.exchange import Exchange

__all__ = ["Forward", "Front", "Plan", "Terms", "is_event_stream"]

_AFTER_ROUTE = 2  # the phases authority and route are behind a request whose route is remembered
_MEMO_SIZE = 1024  # routes found
_MEMO_BYTES = 256  # of a target that is worth remembering
_ANSWERS = 256  # responses' fields
_COUNT_HOPS = frozenset({b"OPTIONS", b"TRACE"})  # Max-Forwards makes their fields differ by method
_ID = b"the id of each request"  # stands, by identity, where X-Request-Id goes
_EVENT_STREAM = b"text/event-stream"
_GRPC = b"application/grpc"


class Terms:
    """On what terms a route's requests go to one upstream: compiled once for each pair. Seconds; None is off."""

    __slots__ = ("between_bytes", "first_byte", "limits", "patience", "source", "target", "timeout", "tunnel_idle")

    def __init__(self, route: Route, target: Upstream, source: Source) -> None:
        self.target = target
        self.source = source  # of connections
        self.limits = route.limits
        self.timeout = route.timeout
        self.tunnel_idle = route.tunnel_idle_timeout
        own = route.first_byte_timeout, route.between_bytes_timeout
        self.first_byte = own[0] if own[0] is not None else target.first_byte_timeout
        self.between_bytes = own[1] if own[1] is not None else target.between_bytes_timeout
        gaps = (
            self.timeout, self.tunnel_idle, self.first_byte, self.between_bytes, self.limits.body_timeout,
            self.limits.write_timeout,
        )  # fmt: skip
        # the shortest of all: who looks this often misses none of them, whatever state the exchange is in
        self.patience = min(gap for gap in gaps if gap is not None)


class Plan:
    """A route with what was compiled from it."""

    __slots__ = ("headers", "host", "name", "only", "route", "tally", "terms")

    only: Terms  # where there is one upstream

    def __init__(self, route: Route, headers: RouteHeaders, context: Context) -> None:
        self.route = route
        self.headers = headers
        self.host = route.upstream_host.encode()
        self.name = (route.host or "") + route.path
        self.tally: object = None  # of whoever counts requests by route
        self.terms = {
            target.upstream.name: Terms(route, target.upstream, context.source(target.upstream)) for target in route.targets
        }
        for terms in self.terms.values():
            self.only = terms


class Forward:
    """A verdict: send `request` to an endpoint of `terms.target`. Shared by equal requests, so never changed."""

    __slots__ = ("grpc", "own_id", "request", "terms")

    def __init__(self, terms: Terms, request: RequestHead, *, own_id: bool, grpc: bool) -> None:
        self.terms = terms
        self.request = request
        self.own_id = own_id  # X-Request-Id is written beside the request's fields
        self.grpc = grpc


_Key = tuple[bytes, bytes, bytes, bytes, int, bool]
_Found = tuple[str, Path, Match, Plan]


def _key_of(exchange: Exchange) -> _Key:
    """What a route is remembered by. A host belongs to the settings, so its id stands for it as long as the front lives."""
    head, conn = exchange.head, exchange.conn
    return head.target, head.method, head.authority, head.scheme, id(conn.host), conn.sni is None


def is_event_stream(head: ResponseHead) -> bool:
    """Server-sent events: quiet times between them are normal."""
    return find(head.fields, b"content-type").startswith(_EVENT_STREAM)


def _unnamed(host: str) -> bytes:
    """Host for an HTTP/1.0 request that named none (RFC 9112 section 3.3): the connection's name, unless it is a pattern."""
    if host[:1] == "*":
        return b""
    return (f"[{host}]" if ":" in host else host).encode("ascii")


def _shared(fields: Fields) -> tuple[SharedFields, bool]:
    """`fields` without the place of the request id, to be shared; and whether it had that place."""
    rest = [field for field in fields if field[1] is not _ID]
    return SharedFields(rest), len(rest) < len(fields)


def _route_step(routes: RouteTable, plans: list[Plan]) -> Callable[[Exchange], Verdict]:
    def step(exchange: Exchange) -> Verdict:
        head = exchange.head
        exchange.path = path = normalise(head.target)
        exchange.match = match = routes.match(exchange.host, path, head.method, head.fields)
        exchange.plan = plans[match.index]
        return PASS

    return step


def _check_client(exchange: Exchange) -> Verdict:
    plan, conn = exchange.plan, exchange.conn
    assert plan is not None
    demand = plan.route.client_auth
    if demand is not None:
        prepared = conn.prepared
        assert isinstance(prepared, Prepared)
        check_client(demand, conn, prepared)
    return PASS


def _check_limits(exchange: Exchange) -> Verdict:
    head, plan = exchange.head, exchange.plan
    assert plan is not None
    if head.content_length is not None:
        check_size(head, plan.route.limits)
    return check_hops(head) if head.method in _COUNT_HOPS else PASS


def _answer_step(context: Context) -> Callable[[Exchange], Verdict]:
    def step(exchange: Exchange) -> Verdict:
        head, plan, path, match = exchange.head, exchange.plan, exchange.path, exchange.match
        assert plan is not None
        route = plan.route
        if route.respond is not None:
            return respond_reply(route.respond)
        if route.health:
            return health_reply(well=route.health == "live" or context.ready)
        if route.redirect is not None:
            location = redirect_location(route.redirect, exchange.conn.secure, head.authority, path, match.params)
            return redirect_reply(location, route.redirect.status)
        return PASS

    return step


class Front:
    """One listener's decisions under one set of settings. No part of it knows it, so that it goes with its last user."""

    __slots__ = (
        "_answers", "_context", "_forwarding", "_found", "_last", "_memorable", "_names", "_new_id", "_pipeline", "_plain",
        "_plans", "_router", "listener",
    )  # fmt: skip

    def __init__(self, settings: Settings, listener: Listener, context: Context) -> None:
        self.listener = listener
        self._context = context
        self._new_id = context.new_request_id
        self._forwarding = Forwarding(settings)
        headers, self._plain = compile_headers(settings)
        self._plans = [Plan(route, compiled, context) for route, compiled in zip(settings.routes, headers, strict=True)]
        self._memorable = not any(route.match_headers for route in settings.routes)
        self._found: dict[_Key, _Found] = {}
        self._last: tuple[object, object, object, tuple[SharedFields, bool]] = (None, None, None, (SharedFields([]), False))
        self._answers: dict[tuple[int, int, int, int], tuple[Fields, tuple[SharedFields, bool]]] = {}
        steps: list[tuple[Stage, Callable[[Exchange], Verdict]]] = [
            (Stage.AUTHORITY, authority_step(Authority(settings, listener))),
            (Stage.ROUTE, _route_step(RouteTable(settings, listener), self._plans)),
            (Stage.LIMITS, _check_limits),
            (Stage.ANSWER, _answer_step(context)),
        ]
        if any(route.client_auth is not None for route in settings.routes):
            steps.append((Stage.CLIENT, _check_client))
        self._router: Pipeline[Exchange] = Pipeline(steps[:_AFTER_ROUTE])
        self._pipeline: Pipeline[Exchange] = Pipeline(steps)
        self._names = NameIndex((name, host) for host in settings.hosts for name in host.names)

    def prepare(self, conn: ConnectionInfo) -> object:
        """What the requests of a connection have in common (`ConnectionInfo.prepared`)."""
        return self._forwarding.prepare(conn)

    def plan_of(self, exchange: Exchange) -> Plan:
        """The route of a request, which decides nothing about it and changes nothing. Raises Fault when it has none."""
        found = self._found.get(_key_of(exchange))
        if found is not None:
            exchange.host, exchange.path, exchange.match, exchange.plan = found
            return found[3]
        self._router.run(exchange)
        assert exchange.plan is not None
        return exchange.plan

    def host_of(self, exchange: Exchange) -> Host | None:
        """The host that a request names, once its route is known; that of its connection when it is none of ours."""
        return self._names.find(exchange.host) or exchange.conn.host

    # --- the request ---

    def decide(self, exchange: Exchange, start: int = 0) -> Reply | Drop | Wait | Forward:
        """The verdict on a request. `start`: where a `Wait` left off. Raises Fault for a request that gets an error."""
        key: _Key | None = None
        if not start:
            head, conn = exchange.head, exchange.conn
            prepared = conn.prepared
            if type(prepared) is not Prepared:
                conn.prepared = prepared = self._forwarding.prepare(conn)
            new_id = self._new_id
            exchange.request_id = self._forwarding.request_id(head, prepared, new_id()) if prepared.trusted else new_id()
            if prepared.seen_head is head:
                forward: Forward
                exchange.host, exchange.plan, forward = prepared.verdict
                return forward
            if self.listener.redirect_port is not None:
                return self._to_https(exchange, self.listener.redirect_port)
            key = _key_of(exchange)
            found = self._found.get(key)
            if found is not None:
                exchange.host, exchange.path, exchange.match, exchange.plan = found
                start = _AFTER_ROUTE
        verdict = self._pipeline.run(exchange, start)
        if verdict is not PASS:
            return verdict
        if not start and key is not None and self._memorable and len(exchange.head.target) <= _MEMO_BYTES:
            self._remember(key, exchange)
        return self._forward(exchange)

    def _remember(self, key: _Key, exchange: Exchange) -> None:
        path, match, plan = exchange.path, exchange.match, exchange.plan
        assert plan is not None
        if len(self._found) >= _MEMO_SIZE:
            self._found.clear()
        self._found[key] = (exchange.host, path, match, plan)

    def _forward(self, exchange: Exchange) -> Forward:
        """The request that the upstream gets, written anew."""
        head, plan, path, match = exchange.head, exchange.plan, exchange.path, exchange.match
        prepared = exchange.conn.prepared
        assert plan is not None and isinstance(prepared, Prepared)
        if (
            prepared.seen is head.fields
            and prepared.seen_plan is plan
            and prepared.authority == head.authority
            and prepared.version == head.version
            and head.method not in _COUNT_HOPS
        ):
            fields, own_id = prepared.written, prepared.own_id
        else:
            told = self._forwarding.request_fields(head, prepared, _ID)
            if exchange.conn.client is not None:
                told += self._told_of_client(plan, exchange.conn, prepared)
            fields, own_id = _shared(write_request_fields(head, plan.headers, told))
            prepared.seen, prepared.seen_plan, prepared.written, prepared.own_id = head.fields, plan, fields, own_id
        single = len(plan.terms) == 1
        terms = plan.only if single else plan.terms[pick_target(plan.route.targets, self._context.random()).name]
        upgrade: Fields = fields
        if head.protocol and head.version == 20:  # an extended CONNECT has no key; an HTTP/1.1 upstream wants one
            upgrade = [*fields, (KEY, b64encode(self._context.nonce()))]
        request = RequestHead(
            head.method,
            head.scheme,
            plan.host or head.authority or _unnamed(exchange.host),
            upstream_target(match, path),
            upgrade,
            content_length=head.content_length,
            end=head.end,
            protocol=head.protocol,
            te_trailers=head.te_trailers,
        )
        grpc = head.te_trailers and find(fields, b"content-type").startswith(_GRPC)
        forward = Forward(terms, request, own_id=own_id, grpc=grpc)
        if single and not head.protocol and self._pipeline.settled:
            prepared.seen_head, prepared.verdict = head, (exchange.host, plan, forward)
        else:
            prepared.seen_head = None
        return forward

    def _told_of_client(self, plan: Plan, conn: ConnectionInfo, prepared: Prepared) -> Fields:
        demand = plan.route.client_auth
        forward = demand.forward if demand is not None else ""
        if not forward:
            forward = conn.host.client_auth.forward if conn.host is not None else "off"
        return client_fields(forward, conn, prepared) if forward != "off" else []

    def _to_https(self, exchange: Exchange, port: int) -> Reply:
        """A listener that only redirects: to names that it knows, and to addresses."""
        head = exchange.head
        name = split_authority(head.authority)[0]
        exchange.host = name
        if self._names.find(name.removesuffix(".")) is None and not name.replace(".", "").isdigit() and ":" not in name:
            raise Fault(Side.CLIENT, "unknown-host", detail="no host of this name to redirect to", status=421)
        normalise(head.target)
        return redirect_reply(redirect_https(head.authority, port, head.target), 308)

    # --- the response ---

    def response_fields(self, head: ResponseHead, exchange: Exchange) -> tuple[Fields, bool]:
        """The fields for the client, and whether X-Request-Id is to be written beside them."""
        plan, conn = exchange.plan, exchange.conn
        last_head, last_plan, last_host, known = self._last
        if last_head is head and last_plan is plan and last_host is conn.host:
            return known
        compiled = plan.headers if plan is not None else self._plain
        key = (id(head.fields), id(plan), id(conn.host), head.version)
        found = self._answers.get(key)
        if found is not None:
            self._last = (head, plan, conn.host, found[1])
            return found[1]
        date = self._context.date()
        fields, own_id = _shared(write_response_fields(head, compiled, conn, date=date, request_id=_ID))
        if any(name == b"date" for name, _ in head.fields):
            if len(self._answers) >= _ANSWERS:
                self._answers.clear()
            self._answers[key] = (head.fields, (fields, own_id))  # the first keeps the id from being used again
        return fields, own_id

    def reply_fields(self, reply: Reply, exchange: Exchange) -> Fields:
        plan = exchange.plan
        compiled = plan.headers if plan is not None else self._plain
        return write_reply_fields(reply, compiled, exchange.conn, date=self._context.date(), request_id=exchange.request_id)
