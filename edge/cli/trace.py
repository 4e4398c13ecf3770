"""What the gateway would do with one request, step by step, each with the line of the settings that decided it.

Nothing is decided here: each step asks the code that the data path asks (the host index, the HTTP/1.1 codec, the authority rule, the
route table, the header rules), so that the answer cannot differ from what a client would see. No socket is opened and
no name is looked up; which endpoint of an upstream is taken depends on the moment and is left open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from edge.cli.client_certificate import verdict as certificate_verdict
from edge.errors import Fault, MethodNotAllowed
from edge.http.fields import split_authority
from edge.http.h1 import ServerCodec
from edge.http.message import ConnectionInfo, RequestHead
from edge.policy.authority import Authority
from edge.policy.forwarded import Forwarding
from edge.policy.headers import compile_headers, hsts_value, write_request_fields
from edge.route.paths import Path, normalise
from edge.route.table import Match, RouteTable
from edge.route.target import redirect_https, redirect_location, upstream_target
from edge.settings.model import ClientAuthMode, Host, Listener, Place, Route, Settings
from edge.settings.names import NameIndex, canonical

__all__ = ["Question", "Step", "Trace", "trace"]

_ID = b"(a new one for each request)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as it was asked about. `sni` None: the URL's host, if it is a name; `certificate`: PEM."""

    secure: bool
    authority: str
    port: int
    target: bytes
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    sni: str | None = None
    certificate: bytes | None = None
    source: str = "192.0.2.1"


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: what it is about, what came out, where it was written, and more lines about it."""

    about: str
    outcome: str
    place: Place = Place()
    more: tuple[str, ...] = ()


@dataclass(slots=True)
class Trace:
    """The steps, and what the client gets in the end. `status` 0: no HTTP answer at all, or the upstream's own."""

    steps: list[Step] = field(default_factory=list)
    action: str = ""  # "relay", "redirect", "respond", "refuse" or "alert"
    status: int = 0
    reason: str = ""  # the Fault's kind, when refused
    location: str = ""

    def add(self, about: str, outcome: str, place: Place = Place(), more: Sequence[str] = ()) -> None:
        self.steps.append(Step(about, outcome, place, tuple(more)))

    def end(self, action: str, status: int = 0, reason: str = "", location: str = "") -> None:
        self.action, self.status, self.reason, self.location = action, status, reason, location


def trace(settings: Settings, question: Question) -> Trace:
    """Everything that decides about `question`, in the order in which it is decided."""
    found = Trace()
    listener = _listener(settings, question, found)
    if listener is None:
        return found
    conn = ConnectionInfo(question.source, 50_000, listener, secure=listener.tls)
    if listener.tls and not _handshake(settings, question, listener, conn, found):
        return found
    try:
        head = _head(question, conn)
        if listener.redirect_port is not None:
            _to_https(listener, head, found)
            return found
        name = Authority(settings, listener).check(head, conn)
        found.add("authority", f"{name}: the connection's own policy" if conn.secure else name)
        path = normalise(head.target)
        found.add("path", path.normal.decode("ascii"), more=[] if path.raw == path.normal else [f"came as {_text(path.raw)}"])
        match = _route(settings, listener, name, path, head, found)
    except Fault as fault:
        _refused(fault, found)
        return found
    _outcome(settings, question, conn, head, path, match, found)
    return found


def _listener(settings: Settings, question: Question, found: Trace) -> Listener | None:
    on_port = [one for one in settings.listeners if any(address.port == question.port for address in one.addresses)]
    named = split_authority(question.authority.encode("latin-1", "replace"))[0]
    exact = [one for one in on_port if any(address.host == named for address in one.addresses)]
    chosen = (exact or on_port or [None])[0]
    if chosen is None:
        ports = sorted({address.port for one in settings.listeners for address in one.addresses})
        found.add("listener", f"none listens on port {question.port}", more=[f"there are: {', '.join(f':{port}' for port in ports)}"])
        found.end("refuse", reason="no-listener")
        return None
    others = [f"also on this port: {one.name}" for one in on_port if one is not chosen]
    found.add("listener", f"{chosen.name} ({_addresses(chosen)}, {'TLS' if chosen.tls else 'plain'})", chosen.place, others)
    if question.secure and not chosen.tls:
        found.add("handshake", "fails: this listener speaks plain HTTP")
        found.end("refuse", reason="plain-listener")
        return None
    if chosen.tls and not question.secure:
        found.add("handshake", "none came: plain HTTP on a TLS listener is answered with 400", more=["Ask with https://"])
        found.end("refuse", 400, "not-tls")
        return None
    return chosen


def _addresses(listener: Listener) -> str:
    return ", ".join(f"[{one.host}]:{one.port}" if ":" in one.host else f"{one.host}:{one.port}" for one in listener.addresses)


def _handshake(settings: Settings, question: Question, listener: Listener, conn: ConnectionInfo, found: Trace) -> bool:
    """The host and what its handshake asks for; False when it fails."""
    hosts = [host for host in settings.hosts if listener.name in host.listeners]
    index: NameIndex[Host] = NameIndex((name, host) for host in hosts for name in host.names)
    sni = _sni(question)
    if sni:
        host = index.find(canonical(sni))
        if host is None:
            found.add("host", f"no host has the name {sni}: the handshake is refused", more=["alert: unrecognized_name"])
            found.end("alert", reason="unknown-sni")
            return False
        found.add("host", f"{', '.join(host.names)} (the handshake names {sni})", host.place)
        conn.sni = sni
    else:
        host = index.find(listener.no_sni) if listener.no_sni is not None else None
        if host is None:
            found.add("host", "no name in the handshake, and `no_sni` refuses that", listener.place, ["alert: unrecognized_name"])
            found.end("alert", reason="no-sni")
            return False
        found.add("host", f"{', '.join(host.names)} (no name in the handshake: `no_sni`)", host.place)
    conn.host = host
    conn.alpn = host.tls.alpn[0].encode() if host.tls.alpn else b""
    versions = " and ".join(dict.fromkeys([host.tls.min_version, host.tls.max_version]))
    kinds = ", ".join(f"{one.key_type} ({one.name})" for one in host.certificates)
    place = host.certificates[0].place if host.certificates else host.place
    found.add("context", f"TLS {versions}; {', '.join(host.tls.alpn)}", place if place.line else host.place, [f"certificates: {kinds}"])
    return _client_certificate(question, host, found)


def _sni(question: Question) -> str:
    if question.sni is not None:
        return question.sni
    name = split_authority(question.authority.encode("latin-1", "replace"))[0]
    try:
        ip_address(name)
    except ValueError:
        return name
    return ""  # clients do not send addresses (RFC 6066 section 3)


def _client_certificate(question: Question, host: Host, found: Trace) -> bool:
    auth = host.client_auth
    if auth.mode is ClientAuthMode.OFF or auth.trust is None:
        found.add("client", "no certificate is asked for")
        return True
    asked = f"a certificate of {auth.trust.name!r} is {'required' if auth.mode is ClientAuthMode.REQUIRE else 'asked for'}"
    if question.certificate is None:
        if auth.mode is ClientAuthMode.REQUEST:
            found.add("client", f"{asked}; none is shown, which is accepted", host.place)
            return True
        found.add("client", f"{asked}; none is shown: the handshake fails", host.place, ["show one: --cert FILE"])
        found.end("alert", reason="client-certificate-missing")
        return False
    refused = certificate_verdict(question.certificate, auth)
    found.add("client", f"{asked}; " + (f"this one is refused: {refused}" if refused else "this one is accepted"), host.place)
    if refused:
        found.end("alert", reason="client-certificate-refused")
    return not refused


def _head(question: Question, conn: ConnectionInfo) -> RequestHead:
    """The request as the codec reads it, so that what the codec refuses is refused here too."""
    lines = [f"{question.method} ".encode("latin-1", "replace") + question.target + b" HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in question.headers):
        lines.append(b"Host: " + question.authority.encode("latin-1", "replace"))
    lines += [f"{name}: {value}".encode("utf-8") for name, value in question.headers]
    codec = ServerCodec(conn.listener.limits, secure=conn.secure)
    codec.feed(b"\r\n".join(lines) + b"\r\n\r\n")
    head = codec.next_event()
    if not isinstance(head, RequestHead):
        raise ValueError("the request has no end")
    if conn.alpn == b"h2":
        head.version = 20
    return head


def _to_https(listener: Listener, head: RequestHead, found: Trace) -> None:
    location = _text(redirect_https(head.authority, listener.redirect_port or 443, head.target))
    found.add("redirect", f"308 to {location}", listener.place)
    found.end("redirect", 308, location=location)


def _route(settings: Settings, listener: Listener, name: str, path: Path, head: RequestHead, found: Trace) -> Match:
    table = RouteTable(settings, listener)
    method = b"GET" if head.method == b"CONNECT" else head.method
    considered = table.explain(name, path, method, head.fields)
    others = [
        f"{_place(one.route.place)}{_pattern(one.route)}: {one.verdict}" for one in considered if one.verdict != "chosen"
    ]
    try:
        match = table.match(name, path, method, head.fields)
    except Fault:
        found.add("route", "none" if not others else "none of those that match the path", more=others)
        raise
    params = [f"{{{key}}} is {value}" for key, value in (match.params or {}).items()]
    found.add("route", _pattern(match.route), match.route.place, [*params, *others])
    return match


def _place(place: Place) -> str:
    return f"{place.file}:{place.line}: " if place.line else ""


def _pattern(route: Route) -> str:
    conditions = [*(sorted(route.methods) if route.methods else []), *(f"{_text(name)}: {_text(value)}" for name, value in route.match_headers)]
    return f"{route.host or '(every host)'} {route.path}" + (f" [{', '.join(conditions)}]" if conditions else "")


def _refused(fault: Fault, found: Trace) -> None:
    more = [f"because: {fault.detail}"] if fault.detail else []
    if isinstance(fault, MethodNotAllowed):
        more.append(f"allowed: {_text(fault.allow)}")
    found.add("refused", f"{fault.status} {fault.kind}", more=[*more, "what it means: edge help errors"])
    found.end("refuse", fault.status, fault.kind)


def _outcome(settings: Settings, question: Question, conn: ConnectionInfo, head: RequestHead, path: Path, match: Match, found: Trace) -> None:
    route = match.route
    if route.redirect is not None:
        location = _text(redirect_location(route.redirect, conn.secure, head.authority, path, match.params))
        found.add("redirect", f"{route.redirect.status} to {location}", route.place)
        found.end("redirect", route.redirect.status, location=location)
    elif route.respond is not None:
        answer = route.respond
        found.add("respond", f"{answer.status}, {len(answer.body)} bytes of {answer.content_type}", route.place)
        found.end("respond", answer.status)
    else:
        _relay(settings, conn, head, path, match, found)
    hsts = hsts_value((route.hsts if route.host is not None else conn.host and conn.host.hsts) or None)
    own = [f"strict-transport-security: {_text(hsts)}"] if conn.secure and hsts else []
    rules = route.response_headers
    own += [f"{_text(name)}: {_text(value)}" for name, value in (*rules.set, *rules.add)]
    own += [f"without {_text(name)}" for name in sorted(rules.remove)]
    if own:
        found.add("answer", "goes to the client with these headers changed", more=own)


def _relay(settings: Settings, conn: ConnectionInfo, head: RequestHead, path: Path, match: Match, found: Trace) -> None:
    route = match.route
    limit = "no limit" if route.limits.request_body is None else _size(route.limits.request_body)
    total = "no total timeout" if route.timeout is None else f"{route.timeout:g} s in all"
    found.add("limits", f"body: {limit}; {total}", route.place)
    weights = sum(target.weight for target in route.targets)
    for target in route.targets:
        upstream = target.upstream
        share = f", {100 * target.weight / weights:g} % of the requests" if len(route.targets) > 1 else ""
        endpoints = [f"{one.url}" + (f" (weight {one.weight})" if one.weight != 1 else "") for one in upstream.endpoints]
        if upstream.tls is not None:
            endpoints.append("TLS: " + ("verified" if upstream.tls.verify else "NOT verified, anybody can stand in between"))
        name = upstream.name if upstream.name not in endpoints else "(a single endpoint)"
        found.add("upstream", f"{name}{share}", upstream.place if upstream.place.line else route.place, endpoints)
    compiled, _ = compile_headers(settings)
    forwarding = Forwarding(settings)
    prepared = forwarding.prepare(conn)
    identity = forwarding.request_id(head, prepared, _ID)
    fields = write_request_fields(head, compiled[match.index], forwarding.request_fields(head, prepared, identity))
    sent = [f"host: {route.upstream_host or _text(head.authority)}", *(f"{_text(name)}: {_text(value)}" for name, value in fields)]
    found.add("request", f"{_text(head.method)} {_text(upstream_target(match, path))}", more=sent)
    found.end("relay")


def _size(size: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


_ODD = re.compile(r"[^\x20-\x7e]")


def _text(value: bytes) -> str:
    """Bytes for people: what is not visible ASCII is escaped."""
    return _ODD.sub(lambda found: f"\\x{ord(found.group()):02x}", value.decode("latin-1"))
