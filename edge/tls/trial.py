"""Contexts and connections to throw away, in which is tried what OpenSSL does: both ends in memory, with one identity for both.

What is not in the binding's interface is looked for in their memory and proven with their handshakes (`edge.tls.layout`,
`edge.tls.verify_field`) before anything is written into a context that serves.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL import SSL

from edge.tls.binding import (
    BUFFER,
    BUFFER_SIZE,
    NULL,
    SSL_SENT_AND_RECEIVED_SHUTDOWN,
    buffer,
    context_pointer,
    ffi,
    lib,
    new_bio,
    reasons,
)
from edge.wire.hello import HelloReader

__all__ = ["VERSIONS", "WINDOW", "Memory", "TrialError", "TrialServer", "identity", "ticket_of"]

WINDOW = 2048
"""Bytes of a context that are looked at."""

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)

_SERVER_ID = b"edge layout"


class TrialError(Exception):
    """A handshake in memory failed."""


class Memory:
    """What of this process may be read and written, as the kernel tells it: good until memory is given back."""

    def __init__(self) -> None:
        self._areas: list[tuple[int, int]] = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, rights = line.split(maxsplit=2)[:2]
            first, _, end = span.partition("-")
            if rights.startswith("rw"):
                self._areas.append((int(first, 16), int(end, 16)))

    def holds(self, address: int, size: int) -> bool:
        return any(first <= address and address + size <= end for first, end in self._areas)

    def read(self, address: int, most: int) -> bytes:
        """What there is from an address on, up to `most` bytes."""
        size = max((min(most, end - address) for first, end in self._areas if first <= address < end), default=0)
        return bytes(buffer(ffi.cast("char *", address), size))


@cache
def identity() -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """What both ends show. Nobody trusts it."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([])
    moment = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    return builder.not_valid_before(moment).not_valid_after(moment.replace(year=2099)).sign(key, None), key


class TrialServer:
    """A server's context, and what its handshakes show."""

    def __init__(self) -> None:
        self._context = context = SSL.Context(SSL.TLS_SERVER_METHOD)
        certificate, key = identity()
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_session_id(_SERVER_ID)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self.pointer: Any = context_pointer(context)
        self.address = int(ffi.cast("uintptr_t", self.pointer))

    def image(self, memory: Memory) -> bytes:
        """The context's memory."""
        return memory.read(self.address, WINDOW)

    def session(self, version: int) -> Any:
        """A session of a full handshake."""
        with _Pair(self.pointer, version) as pair:
            return pair.session()

    def ticket(self, version: int) -> bytes:
        return ticket_of(self.session(version), version)

    def resumes(self, version: int, session: Any) -> bool:
        with _Pair(self.pointer, version, session) as pair:
            return bool(lib.SSL_session_reused(pair.server.ssl))

    def bytes_after_handshake(self) -> int:
        """What TLS 1.3 sends after the client's Finished: nothing but tickets."""
        with _Pair(self.pointer, SSL.TLS1_3_VERSION) as pair:
            return pair.last_flight

    def demand_certificates(self) -> None:
        """Let in only clients that prove who they are; there is no CA by which one could."""
        lib.SSL_CTX_set_verify(self.pointer, lib.SSL_VERIFY_PEER | lib.SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL)

    def admits(self, version: int) -> bool:
        """Whether a client with our identity comes in."""
        try:
            with _Pair(self.pointer, version):
                return True
        except TrialError:
            return False


class _End:
    def __init__(self, context: Any) -> None:
        self.ssl: Any = lib.SSL_new(context)
        self.rbio, self.wbio = new_bio(), new_bio()
        lib.SSL_set_bio(self.ssl, self.rbio, self.wbio)

    def step(self, data: bytes) -> bytes:
        lib.BIO_write(self.rbio, data, len(data))
        result = lib.SSL_do_handshake(self.ssl)
        if result != 1 and lib.SSL_get_error(self.ssl, result) != lib.SSL_ERROR_WANT_READ:
            raise TrialError(f"a handshake in memory failed: {reasons()[1]}")
        return self.flight()

    def flight(self) -> bytes:
        got = lib.BIO_read(self.wbio, BUFFER, BUFFER_SIZE)
        return bytes(buffer(BUFFER, got)) if got > 0 else b""

    def free(self) -> None:
        lib.SSL_set_shutdown(self.ssl, SSL_SENT_AND_RECEIVED_SHUTDOWN)
        lib.SSL_free(self.ssl)


@cache
def _client_context(version: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    certificate, key = identity()
    context.use_certificate(certificate)
    context.use_privatekey(key)
    return context


class _Pair:
    """A client and a server with the handshake done."""

    def __init__(self, server: Any, version: int, session: Any = None) -> None:
        self.server, self.client = _End(server), _End(context_pointer(_client_context(version)))
        lib.SSL_set_accept_state(self.server.ssl)
        lib.SSL_set_connect_state(self.client.ssl)
        if session is not None:
            lib.SSL_set_session(self.client.ssl, session)
        self.last_flight = 0
        try:
            self._shake()
        except TrialError:
            self._free()
            raise

    def _shake(self) -> None:
        data = self.client.step(b"")
        while data:
            answer = self.server.step(data)
            self.last_flight = len(answer)
            data = self.client.step(answer)

    def __enter__(self) -> _Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self._free()

    def _free(self) -> None:
        self.client.free()
        self.server.free()

    def session(self) -> Any:
        lib.SSL_write(self.server.ssl, b"x", 1)
        data = self.server.flight()
        lib.BIO_write(self.client.rbio, data, len(data))
        lib.SSL_read(self.client.ssl, BUFFER, 1)  # tickets of TLS 1.3 come before it
        return ffi.gc(lib.SSL_get1_session(self.client.ssl), lib.SSL_SESSION_free)


def ticket_of(session: Any, version: int) -> bytes:
    """The ticket that a client with this session shows."""
    end = _End(context_pointer(_client_context(version)))
    try:
        lib.SSL_set_connect_state(end.ssl)
        lib.SSL_set_session(end.ssl, session)
        hello = HelloReader(1 << 14).feed(end.step(b""))
        return hello.session_ticket if hello is not None else b""
    finally:
        end.free()
