"""Asking a TLS server for its certificates, as a gateway would see them: with the data path's own client."""

from __future__ import annotations

import socket
import time

from edge.settings.model import UpstreamTls
from edge.tls.client import ClientContext

__all__ = ["certificates_of"]

_MOST = 1 << 20  # bytes that a handshake may take


def certificates_of(host: str, port: int, tls: UpstreamTls, seconds: float) -> list[bytes]:
    """DER of the verified chain, the leaf first; with `tls.verify` off, of what the server sends.

    Raises OSError (not reached, or not in `seconds`), `edge.errors.Fault` (no TLS, or not verified), `TrustError`.
    """
    until = time.monotonic() + seconds
    engine = ClientContext(tls, host).engine()
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=seconds) as sock:
            taken = 0
            while not engine.established:
                sock.sendall(engine.drain())
                left = until - time.monotonic()
                if left <= 0 or taken > _MOST:
                    raise TimeoutError("the handshake took too long")
                sock.settimeout(left)
                data = sock.recv(65_536)
                if not data:
                    raise ConnectionError("the server closed the connection during the handshake")
                taken += len(data)
                engine.receive(data)
            found = engine.chain()
            engine.shutdown()
            sock.sendall(engine.drain())
            return found
    finally:
        engine.close()
