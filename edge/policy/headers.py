"""The fields that travel on: what is dropped, replaced and added, towards the upstream and towards the client.

A head is written anew, never copied: what the codecs left in `fields` minus what this gateway answers for, plus
what it says itself, then the operator's rules, which have the last word (`remove`, then `set`, then `add`), also about
what the gateway wrote. Rules are compiled with a route, so that a request costs one pass over its fields.

From clients never: `Client-Cert` and `Client-Cert-Chain` (RFC 9440 section 2.4: only the gateway that verified may say it), and
whatever `forwarded` answers for. `Early-Data` is kept, whoever says it (RFC 8470 section 5.1: an intermediary must not remove
it): it only ever asks for more caution. `edge.relay.early` adds it.

HSTS (RFC 6797) is written on TLS only, and what an upstream says about it on a plain connection is dropped (section
7.2). An upstream's own value wins: an application must be able to withdraw it. A route without a host takes the
value of the connection's host, which knows whether its name may have one.
"""

from __future__ import annotations

from edge.http.fields import underscored
from edge.http.message import ConnectionInfo, Fields, RequestHead, ResponseHead
from edge.policy.forwarded import FROM_CLIENTS_DROPPED
from edge.policy.reply import Reply
from edge.settings.model import HeaderRules, Hsts, Route, Settings

__all__ = [
    "RouteHeaders", "compile_headers", "hsts_value", "max_forwards", "write_reply_fields", "write_request_fields",
    "write_request_trailers", "write_response_fields", "write_response_trailers",
]  # fmt: skip

_FROM_CLIENTS_NEVER = FROM_CLIENTS_DROPPED | {
    b"client-cert", b"client-cert-chain",
    # CGI and its kin read these as the same
    b"client_cert", b"client_cert_chain", b"client-cert_chain", b"client_cert-chain",
}  # fmt: skip
_VERSIONS = {10: b"1.0", 11: b"1.1", 20: b"2.0"}
_HSTS = b"strict-transport-security"
_NO_RULES = HeaderRules()
_COUNTS_HOPS = frozenset({b"OPTIONS", b"TRACE"})
_MOST_HOPS = 999_999_999


class _Rules:
    """One direction's rules, compiled."""

    __slots__ = ("drop", "extra")

    def __init__(self, rules: HeaderRules) -> None:
        self.drop: frozenset[bytes] = rules.remove | {name for name, _ in rules.set}
        self.extra: Fields = [*rules.set, *rules.add]


class RouteHeaders:
    """A route's header policy, compiled at load."""

    __slots__ = ("has_host", "hsts", "pseudonym", "request", "request_drop", "response", "response_watch")

    def __init__(self, route: Route | None, pseudonym: bytes) -> None:
        self.request = _Rules(route.request_headers if route is not None else _NO_RULES)
        self.response = _Rules(route.response_headers if route is not None else _NO_RULES)
        self.has_host = route is not None and route.host is not None
        self.hsts = hsts_value(route.hsts if route is not None else None)
        self.pseudonym = pseudonym
        self.request_drop = _FROM_CLIENTS_NEVER | self.request.drop
        # names that are not simply passed on in a response
        self.response_watch = self.response.drop | {b"via", b"date", b"x-request-id", _HSTS}


def compile_headers(settings: Settings) -> tuple[list[RouteHeaders], RouteHeaders]:
    """The header policies of `settings.routes`, in their order, and the one for answers before a route is known."""
    pseudonym = settings.server.via.encode("ascii")
    return [RouteHeaders(route, pseudonym) for route in settings.routes], RouteHeaders(None, pseudonym)


def hsts_value(hsts: Hsts | None) -> bytes:
    """The value of Strict-Transport-Security (RFC 6797 section 6.1); ``b""`` for none."""
    if hsts is None:
        return b""
    value = b"max-age=%d" % hsts.max_age
    if hsts.include_subdomains:
        value += b"; includeSubDomains"
    if hsts.preload:
        value += b"; preload"
    return value


def max_forwards(head: RequestHead) -> int | None:
    """How many more times an OPTIONS or TRACE request may be passed on (RFC 9110 section 7.6.2); None: no limit.

    With 0 it must be answered here (`phases.check_hops`); else what is passed on has one less. Of several numbers the smallest
    counts, and none counts for more than `_MOST_HOPS`.
    """
    if head.method in _COUNTS_HOPS:
        return min((hops for name, value in head.fields if name == b"max-forwards" and (hops := _hops(value)) >= 0), default=None)
    return None


def _hops(value: bytes) -> int:
    """The number that a Max-Forwards has, or -1."""
    if not value.isdigit():
        return -1
    value = value.lstrip(b"0")
    return min(int(value or b"0"), _MOST_HOPS) if len(value) <= 9 else _MOST_HOPS


def write_request_fields(head: RequestHead, compiled: RouteHeaders, forwarded: Fields) -> Fields:
    """The fields for the upstream; `forwarded` is what `Forwarding.request_fields` returned. A new list."""
    drop = compiled.request_drop
    fields = [field for field in head.fields if field[0] not in drop]
    if head.method in _COUNTS_HOPS:
        hops = max_forwards(head)
        if hops:
            fields = [field for field in fields if field[0] != b"max-forwards"]
            fields.append((b"max-forwards", b"%d" % (hops - 1)))
    return _finish(fields, forwarded, compiled.request)


def write_request_trailers(trailers: Fields, compiled: RouteHeaders) -> Fields:
    """The trailers for the upstream: many a server reads them as fields of the head, so what may not stand there may not here."""
    drop = compiled.request_drop
    return [field for field in trailers if field[0] not in drop and not underscored(field[0])]


def write_response_trailers(trailers: Fields, compiled: RouteHeaders) -> Fields:
    """The trailers for the client, without what the head's rules remove or write."""
    watch = compiled.response_watch
    return [field for field in trailers if field[0] not in watch]


def write_response_fields(
    resp: ResponseHead, compiled: RouteHeaders, conn: ConnectionInfo, *, date: bytes, request_id: bytes
) -> Fields:
    """The fields for the client from an upstream's final response. A new list.

    `date` is the value of Date now, for an upstream that sent none (RFC 9110 section 6.6.1).
    """
    watch = compiled.response_watch
    rules = compiled.response
    fields: Fields = []
    via = _VERSIONS.get(resp.version, b"1.1") + b" " + compiled.pseudonym
    has_date = False
    has_hsts = False
    for field in resp.fields:
        name = field[0]
        if name not in watch:
            fields.append(field)
        elif name == b"via":
            via = field[1] + b", " + via
        elif name == b"date":
            if not has_date:
                has_date = True
                date = field[1]
        elif name == _HSTS and conn.secure and name not in rules.drop and not has_hsts:
            has_hsts = True  # RFC 6797 section 8.1: a client reads the first one only
            fields.append(field)
    own: Fields = [(b"date", date), (b"via", via), (b"x-request-id", request_id)]
    if conn.secure and not has_hsts:
        hsts = _hsts(compiled, conn)
        if hsts:
            own.append((_HSTS, hsts))
    return _finish(fields, own, rules)


def write_reply_fields(reply: Reply, compiled: RouteHeaders, conn: ConnectionInfo, *, date: bytes, request_id: bytes) -> Fields:
    """The fields of an answer that the gateway makes itself, under the same rules; no Via, nothing was passed on. A new list."""
    own: Fields = [(b"date", date), (b"x-request-id", request_id)]
    if conn.secure:
        hsts = _hsts(compiled, conn)
        if hsts:
            own.append((_HSTS, hsts))
    return _finish([field for field in reply.fields if field[0] not in compiled.response.drop], own, compiled.response)


def _finish(fields: Fields, own: Fields, rules: _Rules) -> Fields:
    if rules.drop:
        fields += [field for field in own if field[0] not in rules.drop]
        fields += rules.extra
    else:
        fields += own
        if rules.extra:
            fields += rules.extra
    return fields


def _hsts(compiled: RouteHeaders, conn: ConnectionInfo) -> bytes:
    if compiled.has_host or conn.host is None:
        return compiled.hsts
    return hsts_value(conn.host.hsts)
