"""Field rules that HTTP/1.1 and HTTP/2 share: names, values, authority, lengths, and what never travels on.

Invariants that hold for everything that passed here: a name is a token; a value holds no control character but HTAB and no
white space at its edges (RFC 9110 section 5.5 requires it for CR, LF and NUL and calls the other control characters invalid:
all are refused); an authority is lower-cased, has no userinfo and a port that is decimal or absent.

Choices where the RFCs leave room, all for the reading that no second parser can understand in another way:

* A registered name in an authority consists of unreserved characters. Percent-encoding and sub-delims are legal in RFC 3986
  but no DNS name has them, and what decodes them would see another host than what does not.
* A request field whose name has an underscore is dropped: CGI and its heirs (WSGI, PHP, Rack) read `x_forwarded_for` and
  `x-forwarded-for` as one, so it could forge what the gateway writes.
* `Connection` cannot name a field that is meant for all recipients (RFC 9110 section 7.6.1 forbids senders to do so):
  such an option is ignored, so that it cannot be used to take away what protects the upstream. `Early-Data` says so for
  itself (RFC 8470 section 5.1).

Errors are `Fault(Side.CLIENT, …, status=400)`; who parses an upstream's bytes turns the blame with `blame_upstream`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address

from edge.errors import Fault, Retry, Side
from edge.http.message import Fields

__all__ = [
    "FORBIDDEN_TRAILERS", "HOP_BY_HOP", "LOWER_TOKEN", "NEVER_IN_FIELDS", "TOKEN", "authority_agrees", "bad_request",
    "blame_upstream", "clean_trailers", "connection_options", "content_length", "list_tokens", "parse_authority",
    "split_authority", "strip_hop_by_hop", "underscored", "valid_value",
]  # fmt: skip

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2; use fullmatch
LOWER_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a field name of HTTP/2 (RFC 9113 section 8.2.1); use fullmatch

_CONTROLS = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"  # all but HTAB

# Fields that speak of one connection only (RFC 9110 section 7.6.1), the credentials of the next proxy alone (11.7), and
# two that only ever do harm behind a gateway: `proxy` (becomes HTTP_PROXY in CGI) and `http2-settings` (h2c upgrades).
HOP_BY_HOP = frozenset(
    {
        b"connection", b"http2-settings", b"keep-alive", b"proxy", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip

# What `message.Fields` never contains because an attribute of the head says it.
NEVER_IN_FIELDS = HOP_BY_HOP | {b"content-length", b"expect", b"host"}

# Options of `Connection` that are ignored: the fields are meant for every recipient.
_END_TO_END = frozenset(
    {
        b"accept", b"authorization", b"cache-control", b"client-cert", b"client-cert-chain", b"content-encoding",
        b"content-length", b"content-range", b"content-security-policy", b"content-type", b"cookie", b"date", b"early-data",
        b"expect", b"forwarded", b"host", b"location", b"origin", b"pragma", b"range", b"referer", b"set-cookie",
        b"strict-transport-security", b"trailer", b"user-agent", b"vary", b"via", b"www-authenticate",
        b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip", b"x-request-id",
    }
)  # fmt: skip

# RFC 9110 section 6.5.1: framing, routing, request modifiers, authentication, response control, how to read the content.
FORBIDDEN_TRAILERS = (
    NEVER_IN_FIELDS
    | (_END_TO_END - {b"x-request-id"})
    | {
        b"age", b"authentication-info", b"expires", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
        b"if-unmodified-since", b"max-forwards", b"proxy-authentication-info", b"retry-after", b"warning",
    }
)  # fmt: skip

# In a trailer section these say that the sender and we do not agree where the message ends or for whom it is.
_FATAL_TRAILERS = frozenset({b"content-length", b"host", b"transfer-encoding"})

_CONTENT_LENGTH = re.compile(rb"[0-9]{1,19}")
_HOST = re.compile(rb"(?:([a-z0-9\-._~]{1,255})|(\[[0-9a-f:.]{2,45}\]))(?::([0-9]{0,5}))?")

_MEMO_SIZE = 1024
_authorities: dict[bytes, bytes] = {}
_splits: dict[bytes, tuple[str, int | None]] = {}


def bad_request(kind: str, detail: str = "", status: int = 400) -> Fault:
    """The fault for what a client sent; `status` is the answer."""
    return Fault(Side.CLIENT, kind, detail=detail, status=status)


def blame_upstream(fault: Fault) -> Fault:
    """The same fault when the bytes came from an upstream: a 502 for the client, and no second try (an answer had begun)."""
    kind = fault.kind if fault.kind.startswith("upstream-") else "upstream-" + fault.kind
    return Fault(Side.UPSTREAM, kind, detail=fault.detail, retry=Retry.NO, status=502)


def valid_value(value: bytes) -> bool:
    """Whether `value` is a field value (RFC 9110 section 5.5), without white space at its edges."""
    # no control to take away and no edge to strip: fifteen times as fast as a pattern on a long value
    return value.translate(None, _CONTROLS) == value.strip(b" \t")


def underscored(name: bytes) -> bool:
    """Whether a request field must be dropped because CGI-like upstreams would read its name as another one."""
    return b"_" in name


def list_tokens(values: Iterable[bytes]) -> list[bytes]:
    """Elements of a comma-separated list over several field lines, lower-cased, empty ones skipped (RFC 9110 section 5.6.1)."""
    return [item for value in values for part in value.lower().split(b",") if (item := part.strip(b" \t"))]


def connection_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """The options of all `Connection` lines, lower-cased; those naming end-to-end fields are left out."""
    return frozenset(list_tokens(values)) - _END_TO_END


def strip_hop_by_hop(fields: Fields, connection_values: Iterable[bytes] = ()) -> Fields:
    """`fields` without hop-by-hop fields, those that the `Connection` values name, and those that attributes carry.

    RFC 9110 section 7.6.1: an intermediary MUST remove them before it forwards a message.
    """
    gone = NEVER_IN_FIELDS | connection_options(connection_values)
    return [field for field in fields if field[0] not in gone]


def clean_trailers(fields: Fields) -> Fields:
    """Trailers that may travel on (RFC 9110 section 6.5.1); the rest is dropped.

    Raises `Fault` ``bad-trailer`` for Content-Length, Transfer-Encoding and Host, which are framing and routing.
    """
    for name, _ in fields:
        if name in _FATAL_TRAILERS:
            raise bad_request("bad-trailer", name.decode("ascii"))
    return [field for field in fields if field[0] not in FORBIDDEN_TRAILERS]


def content_length(values: list[bytes]) -> int:
    """The value of Content-Length in bytes, from all its lines.

    RFC 9110 section 8.6 and RFC 9112 section 6.3: anything but one decimal number is unrecoverable. Equal repetitions may be
    refused, and are. Nineteen digits at most, and below 2^63, so that no reader overflows. Raises ``bad-content-length``.
    """
    if len(values) != 1:
        raise bad_request("bad-content-length", "repeated")
    if _CONTENT_LENGTH.fullmatch(values[0]) is None:
        raise bad_request("bad-content-length", "not a decimal number")
    length = int(values[0])
    if length >= 1 << 63:
        raise bad_request("bad-content-length", "too large")
    return length


def parse_authority(value: bytes) -> bytes:
    """`host[:port]` lower-cased, an empty port removed and leading zeros of the port too (RFC 3986 section 6.2.3).

    Used for Host, `:authority` and the authority of an absolute-form target. Raises ``bad-authority`` for userinfo, an empty
    host (RFC 9110 section 4.2.1), a port beyond 65535, a malformed IPv6 literal, zone identifiers, and every other character.
    """
    known = _authorities.get(value)
    if known is not None:
        return known
    match = _HOST.fullmatch(value.lower())
    if match is None:
        raise bad_request("bad-authority", "userinfo" if b"@" in value else "syntax")
    name, literal, port = match.groups()
    if name is not None:
        if name[:1] == b"." or b".." in name:
            raise bad_request("bad-authority", "empty label")
        host = name
    else:
        try:
            IPv6Address(literal[1:-1].decode("ascii"))
        except AddressValueError:
            raise bad_request("bad-authority", "IPv6 literal") from None
        host = literal
    if port:
        number = int(port)
        if number > 65535:
            raise bad_request("bad-authority", "port")
        host = b"%b:%d" % (host, number)
    if len(_authorities) >= _MEMO_SIZE:
        _authorities.clear()
    _authorities[value] = host
    return host


def split_authority(authority: bytes) -> tuple[str, int | None]:
    """Host and port of an authority that `parse_authority` returned; an IPv6 literal comes without its brackets.

    The port is None when there is none. ``b""`` (HTTP/1.0 without Host) gives ``("", None)``.
    """
    known = _splits.get(authority)
    if known is not None:
        return known
    host, port = authority, None
    head, colon, tail = authority.rpartition(b":")
    if colon and tail.isdigit():
        host, port = head, int(tail)
    result = (host.strip(b"[]").decode("ascii"), port)
    if len(_splits) >= _MEMO_SIZE:
        _splits.clear()
    _splits[authority] = result
    return result


def authority_agrees(one: bytes, other: bytes, scheme: bytes) -> bool:
    """Whether two parsed authorities are one origin under `scheme` (bytes, http or https), whose default port may be left out."""
    if one == other:
        return True
    default = 443 if scheme == b"https" else 80
    host, port = split_authority(one)
    host2, port2 = split_authority(other)
    return host == host2 and (default if port is None else port) == (default if port2 is None else port2)
