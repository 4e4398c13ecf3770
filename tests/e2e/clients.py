"""Clients: curl, and TLS connections on which the test writes the bytes itself.

`Wire` is a TLS (or plain) connection with raw bytes both ways. `read_response` is a small strict HTTP/1.1 reader that
says whether the message was complete; it is only for looking, never lenient about what the gateway sends.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .gateway import PATIENCE, Gateway
from .pki import Leaf

__all__ = ["CurlResult", "Response", "Wire", "curl"]


@dataclass(slots=True)
class CurlResult:
    """What curl saw: `exit` is its exit status, `version` "1.1" or "2"."""

    exit: int
    status: int
    version: str
    head: str
    body: bytes
    stderr: str
    info: dict[str, Any]

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def field(self, name: str) -> str | None:
        """The last value of a response field, from the last head."""
        found = None
        for line in self.head.split("\r\n\r\n")[-2].splitlines():
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                found = value.strip()
        return found


def curl(
    gateway: Gateway,
    target: str,
    *args: str,
    ca: Path | None,
    host: str = "localhost",
    plain: bool = False,
    stdin: bytes | None = None,
    seconds: float = PATIENCE,
) -> CurlResult:
    """Run curl against `target` (path and query) of `host` on the gateway's port. Bodies go to memory."""
    port = gateway.plain_port if plain else gateway.port
    head = gateway.folder / f"curl-{port}.head"
    command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(seconds), "--resolve", f"{host}:{port}:127.0.0.1"]
    command += ["-D", str(head), "-w", "%{stderr}\n%{json}"]
    command += ["--cacert", str(ca)] if ca else []
    head.write_bytes(b"")
    done = subprocess.run(
        [*command, *args, f"{'http' if plain else 'https'}://{host}:{port}{target}"],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
    )
    stderr, _, info = done.stderr.decode(errors="replace").rpartition("\n")
    facts = json.loads(info)
    version = str(facts["http_version"])
    return CurlResult(
        done.returncode, facts["http_code"], version, head.read_bytes().decode("latin-1"), done.stdout, stderr, facts
    )


@dataclass(slots=True)
class Response:
    """One HTTP/1.1 response. `complete` is False when the connection ended before the message did."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = False
    trailers: list[tuple[str, str]] = field(default_factory=list)
    informational: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Wire:
    """A connection to the gateway. Reading past the end gives EOFError, or ConnectionError after a reset."""

    def __init__(
        self,
        port: int,
        ca: Path | None,
        *,
        sni: str | None = "localhost",
        alpn: Sequence[str] = ("http/1.1",),
        client: Leaf | None = None,
        receive_buffer: int = 0,
        timeout: float = PATIENCE,
        version: ssl.TLSVersion | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(timeout)
        try:
            raw.connect(("127.0.0.1", port))
        except OSError:
            raw.close()
            raise
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock: socket.socket = raw
        self._buffer = b""
        if ca is None:
            return
        if context is None:
            context = ssl.create_default_context(cafile=str(ca))
            context.check_hostname = sni is not None
            if alpn:
                context.set_alpn_protocols(list(alpn))
            if version is not None:
                context.minimum_version = context.maximum_version = version
            if client is not None:
                context.load_cert_chain(client.chain, client.key)
        try:
            self.sock = context.wrap_socket(raw, server_hostname=sni, suppress_ragged_eofs=False)
        except BaseException:
            raw.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tls(self) -> ssl.SSLSocket:
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.sock

    @property
    def raw_port(self) -> int:
        """Our own port, as the gateway's logs have it."""
        port: int = self.sock.getsockname()[1]
        return port

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a TCP reset and without close_notify."""
        raw = socket.socket(fileno=self.sock.detach())
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    def send(self, data: bytes) -> None:
        """Send all of it; ConnectionError when the gateway has closed the connection."""
        try:
            self.sock.sendall(data)
        except ssl.SSLEOFError as error:
            raise ConnectionError from error

    def more(self) -> None:
        """Read once into the buffer. EOFError at the end, a clean one or not."""
        try:
            data = self.sock.recv(65536)
        except ssl.SSLEOFError as error:
            raise EOFError("without close_notify") from error
        if not data:
            raise EOFError
        self._buffer += data

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self.more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self.more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def some(self) -> bytes:
        if not self._buffer:
            self.more()
        data, self._buffer = self._buffer, b""
        return data

    def rest(self) -> bytes:
        """Everything until the end of the connection, however it ends."""
        try:
            while True:
                self.more()
        except (EOFError, ConnectionError):
            pass
        data, self._buffer = self._buffer, b""
        return data

    def ended(self) -> bool:
        """Wait for the peer to end the connection: True when it did so without sending anything more."""
        return self.rest() == b""

    def ask(self, text: str, method: str = "GET") -> Response:
        """Send a request that is written with bare line ends, and read its response."""
        self.send(text.replace("\n", "\r\n").encode("latin-1"))
        return self.read_response(method)

    def get(self, target: str = "/", *fields: str, host: str = "localhost", method: str = "GET") -> Response:
        head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        self.send("\r\n".join(head).encode("latin-1"))
        return self.read_response(method)

    def read_response(self, method: str = "GET") -> Response:
        """Read one final response. An incomplete body is reported, an incomplete head raises."""
        informational = []
        while True:
            version, status, _ = self.line().decode("latin-1").split(" ", 2)
            assert version in ("HTTP/1.1", "HTTP/1.0"), version
            fields = self._fields()
            if status[0] != "1" or status == "101":
                break
            informational.append((int(status), fields))
        response = Response(int(status), fields, informational=informational)
        try:
            self._read_body(response, method)
            response.complete = True
        except (EOFError, ConnectionError):
            response.body, self._buffer = response.body + self._buffer, b""
        return response

    def _read_body(self, response: Response, method: str) -> None:
        encoding, length = response.get("transfer-encoding"), response.get("content-length")
        assert not (encoding and length), "both framings"
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        if encoding is not None:
            assert encoding == "chunked"
            while size := int(self.line(), 16):
                response.body += self.exactly(size)
                assert self.line() == b""
            response.trailers = self._fields()
        elif length is not None:
            response.body = self.exactly(int(length))
        else:
            while True:
                try:
                    self.more()
                except EOFError as end:
                    response.body, self._buffer = self._buffer, b""
                    if end.args:
                        raise
                    return

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name.lower(), value.strip(" \t")))
        return fields
