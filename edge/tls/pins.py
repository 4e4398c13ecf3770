"""Pins of upstreams' keys, matched on the chain that was verified (RFC 7469 section 2.6).

What the server sent does not count: it may put any certificate into its message, a pinned one too. What counts is the chain that
leads from its leaf to one of our anchors. It is known after a full handshake only; a session that was kept carries the verdict of
the handshake that made it, and contexts with other pins keep other sessions.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from edge.tls.binding import BUFFER, BUFFER_SIZE, buffer, lib, new_bio

__all__ = ["chain", "der", "pin_text", "verified_pins"]


def verified_pins(ssl: Any) -> list[bytes]:
    """The pin of each key in the verified chain, the leaf's first; empty on a resumed connection and without verification."""
    chain = lib.SSL_get0_verified_chain(ssl)
    if not chain:
        return []
    return [_pin(lib.sk_X509_value(chain, index)) for index in range(lib.sk_X509_num(chain))]


def chain(ssl: Any) -> list[bytes]:
    """The DER of each certificate in the verified chain, or, where nothing is verified, of what the server sent."""
    found = lib.SSL_get0_verified_chain(ssl) or lib.SSL_get_peer_cert_chain(ssl)
    return [der(lib.sk_X509_value(found, index), lib.i2d_X509_bio) for index in range(lib.sk_X509_num(found))] if found else []


def _pin(certificate: Any) -> bytes:
    key = lib.X509_get_pubkey(certificate)
    encoded = der(key, lib.i2d_PUBKEY_bio)
    lib.EVP_PKEY_free(key)
    return hashlib.sha256(encoded).digest()


def der(thing: Any, write: Any) -> bytes:
    """What `write`, one of the binding's ``i2d_…_bio``, makes of a thing."""
    bio = new_bio()
    write(bio, thing)
    encoded: bytes = buffer(BUFFER, max(0, lib.BIO_read(bio, BUFFER, BUFFER_SIZE)))[:]
    lib.BIO_free(bio)
    return encoded


def pin_text(pin: bytes) -> str:
    """As settings write it."""
    return f"sha256/{base64.b64encode(pin).decode()}"
