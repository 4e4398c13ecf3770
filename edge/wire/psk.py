"""The extension pre_shared_key of a ClientHello (RFC 8446 section 4.2.11): identities, and a binder for each.

OpenSSL looks at the binders only of an identity that it can use. What cannot be parsed is refused here in any case.
Nearly all clients send one identity, so both lists are checked at a glance where they have one member each.
"""

from __future__ import annotations

from struct import Struct

from edge.errors import Alert
from edge.wire.extensions import malformed

__all__ = ["first_binder", "first_identity"]

_NAME = "pre_shared_key"
_SHORTEST_BINDER = 32
_AGE = 4  # bytes behind each identity

_pair = Struct(">HH").unpack_from
_short = Struct(">H").unpack_from


def first_identity(body: bytes) -> bytes:
    """The first identity of pre_shared_key (RFC 8446 section 4.2.11), both lists checked."""
    if len(body) < 9:
        raise malformed(_NAME)
    identities, first = _pair(body)
    at = identities + 4  # of the first binder
    if not first or first + 6 > identities or at >= len(body) or _short(body, at - 2)[0] != len(body) - at:
        raise malformed(_NAME)
    if first + 6 != identities or body[at] != len(body) - at - 1 or body[at] < _SHORTEST_BINDER:
        _check_many(body, identities + 2)
    return body[4 : 4 + first]


def _check_many(body: bytes, end: int) -> None:
    """Lists that are not of one each: `body[2:end]` the identities, and the binders of them all behind their length."""
    identities = binders = 0
    at = 2
    while at < end:
        size = _short(body, at)[0] if at + 2 <= end else 0
        at += 2 + size + _AGE
        identities += 1
        if not size or at > end:
            raise malformed(_NAME)
    at = end + 2
    while at < len(body):
        size = body[at]
        at += 1 + size
        binders += 1
        if size < _SHORTEST_BINDER or at > len(body):
            raise malformed(_NAME)
    if identities != binders:
        raise malformed(f"{_NAME}: {identities} identities, {binders} binders", Alert.ILLEGAL_PARAMETER)


def first_binder(body: bytes) -> bytes:
    """The binder of the first identity; `body` has passed `first_identity`."""
    at = _short(body)[0] + 4
    return body[at + 1 : at + 1 + body[at]]
