"""The two ways to open a WebSocket, and how one becomes the other.

HTTP/1.1 asks by Upgrade with a key that the server must answer (RFC 6455 section 4); HTTP/2 asks by extended CONNECT and has
neither key nor accept (RFC 8441 section 5). Between two sides of one kind both fields pass untouched; between two kinds the
gateway asks with a key of its own and checks the answer, or answers the client's key itself.
"""

from __future__ import annotations

import base64
import hashlib

from edge.http.message import Fields

__all__ = ["ACCEPT", "KEY", "accept_for", "find", "without"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"sec-websocket-key"
ACCEPT = b"sec-websocket-accept"


def accept_for(key: bytes) -> bytes:
    """What a server answers to `key` (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def find(fields: Fields, name: bytes) -> bytes:
    """The first value of a field, or b""."""
    for each, value in fields:
        if each == name:
            return value
    return b""


def without(fields: Fields, name: bytes) -> Fields:
    return [field for field in fields if field[0] != name]
