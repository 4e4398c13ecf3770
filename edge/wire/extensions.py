"""The extensions of a ClientHello that a choice hangs on, each read from its body alone (RFC 6066, 7301, 8422; 8446 section 4.2).

Each reader takes the whole body and refuses one that has not exactly the form of its RFC: lengths that do not add up, lists
that are empty, a name that is no name. OpenSSL reads the same bytes later, and what is refused here never gets there.
pre_shared_key has a module of its own (`psk`).

What clients repeat is remembered, in memos of a constant size: names, and by their bytes the lists that are the same in all
hellos of one kind of client.
"""

from __future__ import annotations

import re
from functools import lru_cache
from struct import Struct, unpack_from

from edge.errors import Alert, Fault, Side

__all__ = ["host_name", "malformed", "read_lists", "remembered_lists", "server_name"]

_TLS13 = 0x0304

_short = Struct(">H").unpack_from

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_ADDRESS = re.compile(r"(?:\d+(?:\.\d+){3}|\[?[0-9a-f.]*:[0-9a-f:.]*\]?)\Z")
_LONGEST = 253  # letters of a name; addresses are shorter. What is refused is not remembered, so this bounds the memos


def malformed(detail: str, alert: Alert = Alert.DECODE_ERROR) -> Fault:
    """The Fault of a hello that is not as its RFC has it."""
    return Fault(Side.CLIENT, "hello-malformed", detail=detail, alert=alert)


@lru_cache(maxsize=4096)
def host_name(name: bytes) -> str | None:
    """The canonical form of a server_name: lower-case and without the root's dot; None when it is an address.

    Letters, digits, hyphen and underscore in labels of 1 to 63, 253 in all (RFC 1123 section 2.1, and the underscore
    that people use). Raises Fault for anything else, NUL first of all.
    """
    try:
        text = name.decode("ascii").lower().removesuffix(".")
    except UnicodeDecodeError:
        raise malformed("server_name is not ASCII", Alert.ILLEGAL_PARAMETER) from None
    if len(text) <= _LONGEST:
        if _ADDRESS.match(text):
            return None
        if _NAME.match(text):
            return text
    raise malformed("server_name is no host name", Alert.ILLEGAL_PARAMETER)


@lru_cache(maxsize=4096)
def server_name(body: bytes) -> str | None:
    """Exactly one host_name (RFC 6066 section 3)."""
    size = len(body)
    if size < 6 or body[2] or _short(body)[0] != size - 2 or _short(body, 3)[0] != size - 5:
        raise malformed("server_name", Alert.ILLEGAL_PARAMETER if _several_names(body) else Alert.DECODE_ERROR)
    return host_name(body[5:])


def _several_names(body: bytes) -> bool:
    """Whether this is a proper list of more than one host_name."""
    at, names = 2, 0
    while at + 3 <= len(body) and not body[at]:
        at += 3 + _short(body, at + 1)[0]
        names += 1
    return at == len(body) == _short(body)[0] + 2 and names > 1


def read_lists(
    alpn: bytes | None, versions: bytes | None, groups: bytes | None, signatures: bytes | None, points: bytes | None
) -> tuple[tuple[bytes, ...], tuple[int, ...], bytes, bytes]:
    """The extensions that are the same in all hellos of one kind of client: protocols, versions, groups, signatures."""
    offered = _versions(versions) if versions is not None else ()
    if points is not None and groups is not None and _TLS13 not in offered:
        _check_points(points)
    return (
        _protocols(alpn) if alpn is not None else (),
        offered,
        _list16(groups, "supported_groups") if groups is not None else b"",
        _list16(signatures, "signature_algorithms") if signatures is not None else b"",
    )


remembered_lists = lru_cache(maxsize=1024)(read_lists)


def _protocols(body: bytes) -> tuple[bytes, ...]:
    """RFC 7301 section 3.1: a list that is not empty, of names that are not empty."""
    end = len(body)
    if end < 4 or _short(body)[0] != end - 2:
        raise malformed("application_layer_protocol_negotiation")
    at = 2
    names = []
    while at < end:
        size = body[at]
        at += 1
        if not size or at + size > end:
            raise malformed("application_layer_protocol_negotiation")
        names.append(body[at : at + size])
        at += size
    return tuple(names)


def _versions(body: bytes) -> tuple[int, ...]:
    """RFC 8446 section 4.2.1."""
    size = len(body) - 1
    if size < 2 or size & 1 or body[0] != size:
        raise malformed("supported_versions")
    return unpack_from(f">{size // 2}H", body, 1)


def _check_points(body: bytes) -> None:
    """Uncompressed points have to be among those of a client of TLS 1.2 that names groups (RFC 8422 section 5.1.2).

    OpenSSL does not ask. An extension that is malformed it refuses.
    """
    if len(body) > 1 and body[0] == len(body) - 1 and 0 not in body[1:]:
        raise malformed("no uncompressed points", Alert.ILLEGAL_PARAMETER)


def _list16(body: bytes, name: str) -> bytes:
    """A list of two-byte values that is not empty."""
    size = len(body) - 2
    if size < 2 or size & 1 or _short(body)[0] != size:
        raise malformed(name)
    return body[2:]
