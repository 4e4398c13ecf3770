"""Clients that come back: with the standard library's TLS and with openssl's own program."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .gateway import Gateway
from .pki import Leaf

__all__ = ["Returning", "s_client"]


@dataclass
class Returning:
    """One client with its newest session. Every visit is a new connection from a new port, so any worker may get it."""

    gateway: Gateway
    ca: Path
    version: ssl.TLSVersion
    sni: str = "localhost"
    leaf: Leaf | None = None
    groups: str = ""
    session: ssl.SSLSession | None = None
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cafile=str(self.ca))
        self.context.minimum_version = self.context.maximum_version = self.version
        if self.groups:
            self.context.set_ecdh_curve(self.groups)
        if self.leaf is not None:
            self.context.load_cert_chain(self.leaf.chain, self.leaf.key)

    def visit(self, port: int = 0) -> bool:
        """Come, ask, take the new session if there is one. Whether the old one was taken; OSError when turned away."""
        with (
            socket.create_connection(("127.0.0.1", port or self.gateway.port), timeout=60) as raw,
            self.context.wrap_socket(raw, server_hostname=self.sni, session=self.session) as tls,
        ):
            tls.sendall(f"GET /ping HTTP/1.1\r\nHost: {self.sni}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := tls.recv(4096):  # TLS 1.3 brings tickets with the first data
                answer += data
            assert answer.startswith(b"HTTP/1.1 200"), answer[:100]
            self.session = tls.session
            return bool(tls.session_reused)


def s_client(gateway: Gateway, *options: str, sni: str = "localhost", program: str = "openssl") -> tuple[bool, str]:
    """`openssl s_client`, with a request. Whether the session was reused, and all that it said."""
    done = subprocess.run(
        [program, "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", sni, "-ign_eof", *options],
        input=f"GET /ping HTTP/1.1\r\nHost: {sni}\r\nConnection: close\r\n\r\n".encode(),
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    return "Reused, TLSv1" in text, text
