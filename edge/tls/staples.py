"""Staples: the OCSP answers that this process gives to clients that ask for them (RFC 6066 section 8, RFC 8446 section 4.4.2.1).

`PROCESS` holds them by the fingerprint of the certificate that they are about, and nothing else leads to one: a renewed
certificate never carries the answer about the one before it. The supervisor fills its own before it forks, so a worker is born
with what there is; later ones come as orders. What comes in was verified (`edge.tls.ocsp`) where it was sent; here only the clock
is looked at, for an answer may go out of date between two orders.

One callback, made at import, serves all contexts; OpenSSL calls it only in full handshakes of clients that ask. It finds the
`Stapler` of its context by a handle, and by it the fingerprint of the certificate in use, which is computed once for each
certificate of the context: OpenSSL shares the object with all its connections, so the pointer is the same as long as the context
lives. OpenSSL frees the bytes that it is given, so each handshake gets a copy; what is about another certificate it drops.

A certificate with Must-Staple (RFC 7633) under ``must_staple = "refuse"`` is not served without a staple: a host all of whose
certificates lack theirs refuses before any crypto. Otherwise a client that asks and meets such a certificate gets an alert, and
one that does not ask is turned away when the handshake is over (`edge.tls.guarded_engine`).
"""

from __future__ import annotations

import base64
import json
from time import time
from typing import Any, NamedTuple

from edge.errors import Alert, Fault, Side
from edge.settings.model import Certificate
from edge.tls.binding import NULL, buffer, ffi, lib

__all__ = ["PROCESS", "Staple", "Stapler", "Staples", "pack", "unpack"]


class Staple(NamedTuple):
    response: bytes  # DER
    until: float  # POSIX seconds: not to be stapled after


class Staples:
    """The staples of a process, by the fingerprint (hex) of the certificate."""

    __slots__ = ("_held", "sent")

    def __init__(self) -> None:
        self._held: dict[str, Staple] = {}
        self.sent = 0  # handshakes that got one

    def replace(self, staples: dict[str, Staple]) -> None:
        """Have these from now on, and no others."""
        self._held = dict(staples)

    def find(self, fingerprint: str) -> bytes | None:
        """The answer for a certificate, if it is good now."""
        staple = self._held.get(fingerprint)
        return staple.response if staple is not None and staple.until > time() else None

    def names(self) -> list[str]:
        """The fingerprints."""
        return list(self._held)

    def __len__(self) -> int:
        return len(self._held)


PROCESS = Staples()


def pack(staples: dict[str, Staple]) -> bytes:
    """For another process."""
    return json.dumps(
        [[name, base64.b64encode(one.response).decode(), one.until] for name, one in staples.items()], separators=(",", ":")
    ).encode()


def unpack(data: bytes) -> dict[str, Staple]:
    """What `pack` was given. Raises ValueError."""
    try:
        return {str(name): Staple(base64.b64decode(text), float(until)) for name, text, until in json.loads(data)}
    except (TypeError, ValueError) as error:
        raise ValueError("no staples") from error


_SIZE: Any = ffi.new("unsigned int *")
_SHA256: Any = lib.EVP_get_digestbyname(b"SHA256")
_DIGEST: Any = ffi.new("unsigned char[64]")


class Stapler:
    """What a context knows of its certificates. Must outlive the context's connections."""

    __slots__ = ("_fingerprints", "_handle", "_required", "_staples", "guards", "strict")

    def __init__(self, certificates: tuple[Certificate, ...], staples: Staples = PROCESS) -> None:
        self._staples = staples
        self._required = frozenset(one.fingerprint for one in certificates if one.staple == "refuse")
        self.strict = bool(certificates) and len(self._required) == len(certificates)  # without staples, nobody is admitted
        self.guards = bool(self._required) and not self.strict  # it depends on the certificate that a client can use
        self._fingerprints: dict[int, str] = {}  # by the address of the X509 in use
        self._handle: Any = None

    def attach(self, context: Any) -> None:
        """Answer for an `SSL_CTX *`."""
        self._handle = ffi.new_handle(self)
        lib.SSL_CTX_set_tlsext_status_cb(context, _on_status)
        lib.SSL_CTX_set_tlsext_status_arg(context, self._handle)

    def admit(self) -> None:
        """Of a `strict` one. Raises Fault ``staple-missing`` when no certificate of the context may be served now."""
        if all(self._staples.find(one) is None for one in self._required):
            raise Fault(Side.EDGE, "staple-missing", alert=Alert.HANDSHAKE_FAILURE)

    def refuses(self, ssl: Any) -> bool:
        """Whether the connection shows a certificate that may not be shown now."""
        fingerprint = self._fingerprint(lib.SSL_get_certificate(ssl))
        return fingerprint in self._required and self._staples.find(fingerprint) is None

    def answer(self, ssl: Any) -> int:
        """Give the connection its staple. Returns what the callback has to return."""
        staples = self._staples
        if not len(staples) and not self._required:
            return _NOTHING
        fingerprint = self._fingerprint(lib.SSL_get_certificate(ssl))
        response = staples.find(fingerprint)
        if response is None:
            return _REFUSED if fingerprint in self._required else _NOTHING
        copy = lib.OPENSSL_malloc(len(response))
        if copy == NULL:
            return _NOTHING
        ffi.memmove(copy, response, len(response))
        lib.SSL_set_tlsext_status_ocsp_resp(ssl, copy, len(response))
        staples.sent += 1
        return _GIVEN

    def _fingerprint(self, certificate: Any) -> str:
        address = int(ffi.cast("uintptr_t", certificate))
        known = self._fingerprints.get(address)
        if known is None:
            lib.X509_digest(certificate, _SHA256, _DIGEST, _SIZE)
            known = self._fingerprints[address] = buffer(_DIGEST, _SIZE[0])[:].hex()
        return known


_GIVEN: int = lib.SSL_TLSEXT_ERR_OK
_NOTHING: int = lib.SSL_TLSEXT_ERR_NOACK
_REFUSED: int = lib.SSL_TLSEXT_ERR_ALERT_FATAL


@ffi.callback("int(SSL *, void *)", error=lib.SSL_TLSEXT_ERR_NOACK)  # type: ignore[untyped-decorator]
def _on_status(ssl: Any, argument: Any) -> int:
    stapler: Stapler = ffi.from_handle(argument)
    return stapler.answer(ssl)
