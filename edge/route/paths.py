"""One form of a path, made once, before anything decides by it.

A path that the gateway and the upstream read differently is a way around a route's policy, so there is one reading: the
`normal` form, which the upstream receives too, and `match`, which is derived from it and is used for matching alone.

`normal` is RFC 3986 section 6.2.2: escapes of unreserved characters decoded, all other escapes in upper case, dot segments
removed (those that decoding brought to light as well), and the few printable characters that no URI may hold escaped.
Doubled slashes stay.
`match` is `normal` with runs of slashes as one and the escapes of `!$&'()*+,;=:@` decoded: an upstream decodes them, so a
route for `/v1/users:delete` must hold for `/v1/users%3Adelete` too.

Refused with 400, because there is no one reading:

* `%2f`, `%5c`, a backslash, `%00`, an invalid escape, control characters, spaces, bytes beyond ASCII, a fragment.
* `%25HH`, where HH is a byte that `normal` or `match` would not leave escaped, or `%`, `?`, `#`: a second decoding would
  change what the path means. The others (`%2520`, `%25C3`) are data about which nothing here decides, and pass.
* a path that climbs above its root: RFC 3986 section 5.2.4 clamps it, a server that joins file names does not.
* a dot segment with parameters (`..;x`): servlet containers remove the parameters first and climb. Other `;x` are kept.

Invariants: `normalise(p.normal)` has `normal` equal to `p.normal` and the same `match`; neither contains ``.`` or ``..`` as
a segment; `match` starts with one slash; the parts of `normal` and of `match` that are not empty correspond one to one.
"""

from __future__ import annotations

import re

from edge.errors import Fault, Side

__all__ = ["Path", "escape_text", "normalise"]

_MEMO_SIZE = 1024
_MEMO_LENGTH = 512  # bytes; longer paths do not repeat and would make the memo large

# A path that is its own normal form, slashes single, no segment beginning with a dot.
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)*/?")
_REFUSED = re.compile(rb"[^\x21-\x7e]|[#\\]|%(?![0-9A-Fa-f]{2})|%2[Ff]|%5[Cc]|%00")
_REFUSED_QUERY = re.compile(rb"[\x00-\x20\x7f#]")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_NOT_IN_URI = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/%-]")
_NOT_IN_REFERENCE = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/%?#\[\]-]")
_SLASHES = re.compile(rb"//+")

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SUB_DELIMS = frozenset(b"!$&'()*+,;=:@")  # and the two that pchar has besides
_SECOND = _UNRESERVED | _SUB_DELIMS | frozenset(b"/\\\x00%?#")  # what %25HH must not hide
_DOUBLE = re.compile(rb"%25([0-9A-Fa-f]{2})")

_normal_escapes = {b"%%%02X" % byte: bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte for byte in range(256)}
_match_escapes = {b"%%%02X" % byte: bytes([byte]) if byte in _SUB_DELIMS else b"%%%02X" % byte for byte in range(256)}


class Path:
    """A request target's path in its forms. `raw` and `query` are as received; without a query `has_query` is False."""

    __slots__ = ("has_query", "match", "normal", "query", "raw")

    def __init__(self, raw: bytes, normal: bytes, match: str, query: bytes = b"", *, has_query: bool = False) -> None:
        self.raw = raw
        self.normal = normal  # b"*" for an OPTIONS request about the whole server
        self.match = match
        self.query = query
        self.has_query = has_query

    def __repr__(self) -> str:
        return f"<Path {self.normal!r}{'?' if self.has_query else ''}>"


_memo: dict[bytes, Path] = {}


def _bad(detail: str) -> Fault:
    return Fault(Side.CLIENT, "bad-path", detail=detail, status=400)


def normalise(target: bytes) -> Path:
    """The forms of an origin-form target, or of ``*`` (RFC 9112 section 3.2), which is matched as ``/``.

    Raises `Fault` ``bad-path`` with status 400 for what the module's docstring lists. The result may be shared: do not change it.
    """
    found = _memo.get(target)
    if found is not None:
        return found
    raw, mark, query = target.partition(b"?")
    if mark:
        if _REFUSED_QUERY.search(query) is not None:
            raise _bad("query")
        plain = _memo.get(raw)
        if plain is None:
            plain = _remember(raw)
        return Path(raw, plain.normal, plain.match, query, has_query=True)
    return _remember(target)


def _remember(raw: bytes) -> Path:
    path = _parse(raw)
    if len(raw) <= _MEMO_LENGTH:
        if len(_memo) >= _MEMO_SIZE:
            _memo.clear()
        _memo[raw] = path
    return path


def _parse(raw: bytes) -> Path:
    if _PLAIN.fullmatch(raw) is not None and raw:
        if b";" in raw:
            _refuse_dot_parameters(raw)
        return Path(raw, raw, raw.decode("ascii"))
    if raw[:1] != b"/":
        if raw == b"*":
            return Path(raw, raw, "/")
        raise _bad("does not begin with /")
    refused = _REFUSED.search(raw)
    if refused is not None:
        raise _bad(repr(refused[0])[2:-1])
    decoded = _ESCAPE.sub(lambda found: _normal_escapes[found[0].upper()], raw)
    for double in _DOUBLE.finditer(decoded):
        if int(double[1], 16) in _SECOND:
            raise _bad(double[0].decode("ascii"))
    decoded = _NOT_IN_URI.sub(lambda found: b"%%%02X" % ord(found[0]), decoded)
    normal = _remove_dot_segments(decoded) if b"/." in decoded else decoded
    match = _ESCAPE.sub(lambda found: _match_escapes[found[0]], _SLASHES.sub(b"/", normal))
    if b";" in match:
        _refuse_dot_parameters(match)
    return Path(raw, normal, match.decode("ascii"))


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4, except that climbing above the root is refused instead of clamped."""
    kept: list[bytes] = []
    parts = path.split(b"/")[1:]
    for part in parts:
        if part == b"..":
            if not kept:
                raise _bad("climbs above the root")
            kept.pop()
        elif part != b".":
            kept.append(part)
    if parts[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _refuse_dot_parameters(match: bytes) -> None:
    if b"/.;" in match or b"/..;" in match:
        raise _bad("a dot segment with parameters")


def escape_text(text: str) -> bytes:
    """`text` from the settings as bytes that a URI may hold: UTF-8, and what no URI may hold percent-escaped; escapes stay."""
    return _NOT_IN_REFERENCE.sub(lambda found: b"%%%02X" % ord(found[0]), text.encode())
