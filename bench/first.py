"""One handshake, as soon as a target can do it."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time

__all__ = ["first_handshake", "get", "shown_certificate"]


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def first_handshake(port: int, seconds: float = 10.0) -> None:
    """Try until one TLS handshake with `port` of loopback is done. Raises OSError after `seconds`."""
    context, end = _context(), time.monotonic() + seconds
    while True:
        try:
            raw = socket.create_connection(("127.0.0.1", port), timeout=seconds)
            with raw, context.wrap_socket(raw, server_hostname="localhost"):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.002)


def shown_certificate(port: int) -> str:
    """The SHA-256 fingerprint of the certificate that a new connection is shown."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    with raw, _context().wrap_socket(raw, server_hostname="localhost") as sock:
        return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def get(port: int, path: str) -> bytes:
    """The raw answer to one HTTP/1.1 request with ``Connection: close``."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    with raw, _context().wrap_socket(raw, server_hostname="localhost") as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = bytearray()
        while part := sock.recv(65_536):
            answer += part
        return bytes(answer)
