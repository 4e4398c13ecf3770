"""TLS records as no library writes them: empty, padded, alerts. From the keys of a connection that a library has made.

The library's own counter does not know of what is written here, so it must not write anything afterwards.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

__all__ = ["ALERT", "SUITES", "RecordWriter", "keep_secrets"]

DATA, ALERT, HANDSHAKE = 23, 21, 22
SUITES = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", b"TLS_AES_128_GCM_SHA256"
"""What the connection has to use, with TLS 1.2 and with TLS 1.3."""


def keep_secrets(context: SSL.Context) -> list[bytes]:
    """Have a client's context use `SUITES`; the list gets the secrets of its connections, in the form of SSLKEYLOGFILE."""
    lines: list[bytes] = []
    context.set_keylog_callback(lambda _connection, line: lines.append(line))
    context.set_cipher_list(SUITES[0])
    context.set_tls13_ciphersuites(SUITES[1])
    return lines


class RecordWriter:
    """Writes a client's records, after the handshake and in place of the library."""

    def __init__(self, connection: SSL.Connection, secrets: list[bytes]) -> None:
        self.tls13 = connection.get_protocol_version() == SSL.TLS1_3_VERSION
        known = {line.split()[0]: bytes.fromhex(line.split()[2].decode()) for line in secrets}
        if self.tls13:
            secret = known[b"CLIENT_TRAFFIC_SECRET_0"]
            self._key, self._iv = _expand_label(secret, b"key", 16), _expand_label(secret, b"iv", 12)
            self._number = 0
        else:
            seed = b"key expansion" + (connection.server_random() or b"") + (connection.client_random() or b"")
            block = _prf(known[b"CLIENT_RANDOM"], seed, 40)
            self._key, self._iv = block[:16], block[32:36]
            self._number = 1  # Finished was the first

    def record(self, content: bytes = b"", kind: int = DATA, *, padding: int = 0) -> bytes:
        """One record. `padding` is possible with TLS 1.3 alone (RFC 8446 section 5.4)."""
        number = self._number.to_bytes(8, "big")
        self._number += 1
        if self.tls13:
            inner = content + bytes([kind]) + bytes(padding)
            header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
            nonce = bytes(a ^ b for a, b in zip(self._iv, bytes(4) + number, strict=True))
            return header + AESGCM(self._key).encrypt(nonce, inner, header)
        head = bytes([kind]) + b"\x03\x03"
        sealed = AESGCM(self._key).encrypt(self._iv + number, content, number + head + len(content).to_bytes(2, "big"))
        return head + (len(sealed) + 8).to_bytes(2, "big") + number + sealed


def _expand_label(secret: bytes, label: bytes, size: int) -> bytes:
    """RFC 8446 section 7.1, for one block of the hash and no context."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00"
    return hmac.digest(secret, info + b"\x01", hashlib.sha256)[:size]


def _prf(secret: bytes, seed: bytes, size: int) -> bytes:
    """RFC 5246 section 5."""
    block, out = seed, b""
    while len(out) < size:
        block = hmac.digest(secret, block, hashlib.sha256)
        out += hmac.digest(secret, block + seed, hashlib.sha256)
    return out[:size]
