"""Field sections of HTTP/2 made into heads: what RFC 9113 section 8 asks of requests, responses and trailers.

The functions take the fields that HPACK gave and return heads whose invariants `message` states, or raise `Fault`:
with `status` 0 for a malformed message, which resets its stream and no other (RFC 9113 section 8.1.1), with a status
where the message is well-formed and an answer is due.

Choices: `:scheme` must be http or https and agree with the transport, so that no upstream is told of a security that is
not there. Plain CONNECT is answered 501, for a gateway is nobody's tunnel. Several fields of one name keep their order;
`cookie` crumbs become one line again (section 8.2.3).
"""

from __future__ import annotations

import re

from edge.errors import Fault, H2Code, Retry, Side
from edge.http.fields import (
    HOP_BY_HOP,
    LOWER_TOKEN,
    TOKEN,
    authority_agrees,
    clean_trailers,
    content_length,
    parse_authority,
    underscored,
    valid_value,
)
from edge.http.message import Field, Fields, RequestHead, ResponseHead

__all__ = ["malformed", "request_head", "response_head", "too_large", "trailers"]

# RFC 9113 section 8.2.2: their presence makes the message malformed
_CONNECTION_FIELDS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

# Names whose fields need a look of their own. The rest of the hop-by-hop fields is dropped without one.
_SPECIAL = _CONNECTION_FIELDS | HOP_BY_HOP | {b"content-length", b"cookie", b"expect", b"host", b"te"}

_PATH = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # no white space, control, fragment or non-ASCII octet
_STATUS = re.compile(rb"[1-5][0-9][0-9]")  # RFC 9110 section 15
_NAMES_KEPT = 2048
_names: dict[bytes, bool] = {}

_TOO_LARGE = "header-too-large"


def malformed(kind: str, detail: str = "", side: Side = Side.CLIENT) -> Fault:
    """The fault of a malformed message; for an upstream's answer it becomes a 502."""
    if side is Side.UPSTREAM:
        return Fault(side, "upstream-" + kind, detail=detail, status=502, retry=Retry.NO)
    return Fault(side, kind, detail=detail)


def _check(field: Field, side: Side) -> bool:
    """Whether the field is a special one; raises when its name or value is not legal (RFC 9113 section 8.2.1)."""
    name, value = field
    special = _names.get(name)
    if special is None:
        if LOWER_TOKEN.fullmatch(name) is None:
            raise malformed("bad-field-name", repr(name[:64]), side)
        special = name in _SPECIAL or underscored(name)
        if len(_names) >= _NAMES_KEPT:
            _names.clear()
        _names[name] = special
    if not valid_value(value):
        raise malformed("bad-field-value", name.decode("ascii"), side)
    return special


def _pseudo(fields: list[Field], allowed: frozenset[bytes], side: Side) -> tuple[dict[bytes, bytes], int]:
    """The pseudo-fields and the index of the first field after them (RFC 9113 section 8.3)."""
    found: dict[bytes, bytes] = {}
    at = 0
    for name, value in fields:
        if name[:1] != b":":
            break
        if name not in allowed:
            raise malformed("bad-pseudo-field", f"unknown {name[:64]!r}", side)
        if name in found:
            raise malformed("bad-pseudo-field", f"repeated {name!r}", side)
        found[name] = value
        at += 1
    return found, at


def _length(values: list[bytes], side: Side) -> int | None:
    """Content-Length of the message, None when it has none (RFC 9113 section 8.1.1)."""
    if not values:
        return None
    try:
        return content_length(values)
    except Fault as fault:
        raise malformed(fault.kind, fault.detail, side) from None


_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_CONNECT_WITH = frozenset({b"websocket"})


def request_head(fields: list[Field], *, end: bool, secure: bool) -> RequestHead:
    """The request that `fields` describe (RFC 9113 section 8.3.1, RFC 8441 section 4).

    Raises `Fault` with status 0 when it is malformed, with 501 for a CONNECT, or an extended one to a protocol that is not known.
    """
    pseudo, at = _pseudo(fields, _REQUEST_PSEUDO, Side.CLIENT)
    method = pseudo.get(b":method")
    if method is None or TOKEN.fullmatch(method) is None:
        raise malformed("bad-method", "missing" if method is None else "not a token")
    protocol = pseudo.get(b":protocol")
    if method == b"CONNECT" and protocol is None:
        raise _connect_refused(pseudo, fields[at:])
    if protocol is not None and method != b"CONNECT":
        raise malformed("bad-pseudo-field", ":protocol without CONNECT")
    scheme = pseudo.get(b":scheme")
    if scheme != (b"https" if secure else b"http"):
        raise malformed("bad-scheme", "missing" if scheme is None else "not the transport's")
    target = pseudo.get(b":path")
    if target is None or (_PATH.fullmatch(target) is None and (target != b"*" or method != b"OPTIONS")):
        raise malformed("bad-path", "missing" if target is None else "syntax")

    kept: Fields = []
    lengths: list[bytes] = []
    hosts: list[bytes] = []
    crumbs: list[bytes] = []
    cookie_at = 0
    te_trailers = expect_continue = False
    for field in fields[at:] if at else fields:
        if not _check(field, Side.CLIENT):
            kept.append(field)
            continue
        name, value = field
        if name == b"cookie":
            if not crumbs:
                cookie_at = len(kept)
                kept.append(field)
            crumbs.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"host":
            hosts.append(value)
        elif name == b"te":
            if value.lower() != b"trailers":  # RFC 9113 section 8.2.2
                raise malformed("connection-field", "te")
            te_trailers = True
        elif name == b"expect":
            expect_continue = value.lower() == b"100-continue"
        elif name in _CONNECTION_FIELDS:
            raise malformed("connection-field", name.decode("ascii"))
    if len(crumbs) > 1:
        kept[cookie_at] = (b"cookie", b"; ".join(crumbs))

    length = _length(lengths, Side.CLIENT)
    if end and length:  # RFC 9113 section 8.1.1: the sum of the DATA frames is 0
        raise malformed("bad-content-length", "END_STREAM on HEADERS")
    authority = _authority(pseudo.get(b":authority"), hosts, scheme)
    if protocol is not None:
        if protocol.lower() not in _CONNECT_WITH:
            raise Fault(Side.CLIENT, "unknown-protocol", status=501)
        if end or length is not None:
            raise malformed("bad-connect", "an extended CONNECT that has a body or ends at once")
        return RequestHead(b"GET", scheme, authority, target, kept, version=20, end=False, protocol=protocol.lower())
    return RequestHead(
        method,
        scheme,
        authority,
        target,
        kept,
        version=20,
        content_length=length,
        end=end,
        expect_continue=expect_continue and not end,
        te_trailers=te_trailers,
    )


def _authority(authority: bytes | None, hosts: list[bytes], scheme: bytes) -> bytes:
    """The authority that `:authority` and Host agree on (RFC 9113 section 8.3.1, RFC 9110 section 7.2)."""
    if len(hosts) > 1 or (authority is None and not hosts):
        raise malformed("bad-authority", "several Host fields" if hosts else "none")
    try:
        host = parse_authority(hosts[0]) if hosts else b""
        if authority is None:
            return host
        known = parse_authority(authority)
    except Fault as fault:
        raise malformed(fault.kind, fault.detail) from None
    if hosts and not authority_agrees(known, host, scheme):
        raise malformed("bad-authority", "Host disagrees")
    return known


def _connect_refused(pseudo: dict[bytes, bytes], fields: Fields) -> Fault:
    """The answer to a CONNECT (RFC 9113 section 8.5, RFC 9110 section 9.3.6), or what is malformed in it."""
    if b":scheme" in pseudo or b":path" in pseudo or b":authority" not in pseudo:
        return malformed("bad-pseudo-field", "CONNECT names an authority and nothing else")
    for field in fields:
        if _check(field, Side.CLIENT) and field[0] in _CONNECTION_FIELDS:
            return malformed("connection-field", field[0].decode("ascii"))
    _authority(pseudo[b":authority"], [], b"https")
    return Fault(Side.CLIENT, "connect-refused", status=501)


_RESPONSE_PSEUDO = frozenset({b":status"})


def response_head(fields: list[Field], *, end: bool, bodiless: bool) -> ResponseHead:
    """The response that `fields` describe (RFC 9113 section 8.3.2); `bodiless`: the request was a HEAD.

    Raises `Fault` (upstream, 502) when it is malformed.
    """
    side = Side.UPSTREAM
    pseudo, at = _pseudo(fields, _RESPONSE_PSEUDO, side)
    text = pseudo.get(b":status")
    if text is None or _STATUS.fullmatch(text) is None or text == b"101":  # 101: RFC 9113 section 8.6
        raise malformed("bad-status", "missing" if text is None else repr(text[:8]), side)
    status = int(text)
    kept: Fields = []
    lengths: list[bytes] = []
    for field in fields[at:]:
        name = field[0]
        if not _check(field, side) or name == b"cookie" or (b"_" in name and name not in _SPECIAL):
            kept.append(field)
        elif name == b"content-length":
            lengths.append(field[1])
        elif name in _CONNECTION_FIELDS:
            raise malformed("connection-field", name.decode("ascii"), side)
    length = _length(lengths, side)
    if status < 200 and end:  # RFC 9113 section 8.1
        raise malformed("bad-status", "an interim response that ends the stream", side)
    if status < 200 or status == 204:
        length = None  # RFC 9110 section 8.6: not allowed there, says nothing
    elif end and length and not bodiless and status != 304:
        raise malformed("bad-content-length", "END_STREAM on HEADERS", side)
    return ResponseHead(status, kept, version=20, content_length=length, end=end)


def trailers(fields: list[Field], side: Side) -> Fields:
    """Trailer fields that may travel on (RFC 9113 section 8.1, RFC 9110 section 6.5.1).

    Raises `Fault` for pseudo-fields, connection-specific fields and Content-Length among them.
    """
    for field in fields:
        name = field[0]
        if name[:1] == b":":
            raise malformed("bad-trailer", "pseudo-field", side)
        if _check(field, side) and name in _CONNECTION_FIELDS:
            raise malformed("bad-trailer", name.decode("ascii"), side)
    try:
        return clean_trailers(fields)
    except Fault as fault:
        raise malformed(fault.kind, fault.detail, side) from None


def too_large(side: Side) -> Fault:
    """The fault of a field section over the limits; the stream waits for its 431."""
    if side is Side.UPSTREAM:
        return Fault(side, "upstream-" + _TOO_LARGE, status=502, h2_code=H2Code.ENHANCE_YOUR_CALM)
    return Fault(side, _TOO_LARGE, status=431)
