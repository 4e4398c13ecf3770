"""A client that sends early data (0-RTT), and lets the test hold, keep and repeat the bytes of its flights."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from .gateway import PATIENCE, Gateway, deadline

__all__ = ["EarlyClient", "get", "new_session", "send_raw"]


def get(path: str, *fields: str, method: str = "GET", host: str = "localhost", body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def send_raw(gateway: Gateway, flight: bytes) -> socket.socket:
    """A new connection to whichever worker, with these bytes."""
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
    raw.sendall(flight)
    return raw


class EarlyClient:
    """One connection. With `session` its first flight may hold early data."""

    def __init__(self, gateway: Gateway, session: Any = None, *, alpn: bytes = b"http/1.1", sni: str = "localhost") -> None:
        self._gateway = gateway
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_alpn_protos([alpn])
        self._tls = SSL.Connection(context, None)
        self._tls.set_tlsext_host_name(sni.encode())
        self._tls.set_connect_state()
        if session is not None:
            assert lib.SSL_set_session(self._tls._ssl, session._session) == 1
        self.raw: socket.socket | None = None
        self.plain = b""
        self.eof = False
        self.clean = False
        self.done = False  # the handshake is
        self.held = b""  # what the client has to say and has not said

    def early(self, data: bytes) -> bytes:
        """The first flight, with early data; it is not sent."""
        count = ffi.new("size_t *")
        assert lib.SSL_write_early_data(self._tls._ssl, data, len(data), count) == 1, "the session allows early data"
        return self._output()

    def connect(self, flight: bytes = b"") -> None:
        if not flight:
            with contextlib.suppress(SSL.WantReadError):
                self._tls.do_handshake()
            flight = self._output()
        self.raw = send_raw(self._gateway, flight)

    def _output(self) -> bytes:
        out = b""
        with contextlib.suppress(SSL.WantReadError):
            while True:
                out += self._tls.bio_read(65536)
        return out

    def read(self, until: bytes = b"", *, hold: bool = False, seconds: float = PATIENCE) -> bytes:
        """Read until `until` has come (b"": the end of file), or the time is over. `hold`: do not answer with our Finished."""
        assert self.raw is not None
        within = deadline(seconds)
        while within() and not self.eof and not (until and until in self.plain):
            if not select.select([self.raw], [], [], 0.05)[0]:
                continue
            try:
                data = self.raw.recv(65536)
            except ConnectionResetError:
                data = b""
            if data:
                self._tls.bio_write(data)
            else:
                self.eof = True
            self._step()
            if not hold:
                self.flush()
        return self.plain

    def handshake(self) -> None:
        """Connect, without early data, and confirm."""
        self.connect()
        within = deadline(PATIENCE)
        while within() and not self.done:
            self.read(seconds=0.1)
        assert self.done

    def _step(self) -> None:
        try:
            self._tls.do_handshake()
            self.done = True
            while True:
                self.plain += self._tls.recv(65536)
        except SSL.ZeroReturnError:
            self.clean = self.eof = True
        except SSL.WantReadError:
            pass
        self.held += self._output()

    def flush(self) -> None:
        """Say what was held."""
        assert self.raw is not None
        data, self.held = self.held, b""
        if data:
            with contextlib.suppress(OSError):
                self.raw.sendall(data)

    def send(self, data: bytes) -> None:
        self._tls.send(data)
        self.held += self._output()
        self.flush()

    @property
    def resumed(self) -> bool:
        return bool(lib.SSL_session_reused(self._tls._ssl))

    def session(self) -> Any:
        """The newest session. The client ends with it."""
        found = self._tls.get_session()
        self._tls.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        self.close()
        return found

    def close(self) -> None:
        if self.raw is not None:
            self.raw.close()


def new_session(gateway: Gateway, path: str = "/ping", **options: Any) -> Any:
    """A session from a full handshake, less than a second old."""
    client = EarlyClient(gateway, **options)
    client.handshake()
    client.send(get(path))
    client.read(b"\r\n\r\n")
    assert client.plain.startswith(b"HTTP/1.1 "), client.plain
    return client.session()
