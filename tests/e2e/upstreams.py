"""Upstreams in threads, on raw sockets: what they read and write is exactly what the test says.

`ScriptedUpstream` hands each accepted connection to a function. `Conn` reads HTTP/1.1 requests as bytes (nothing is
normalised) and records them; `echo` answers each with a JSON account of what arrived.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Conn", "Request", "ScriptedUpstream", "by_path", "echo", "plain_answer"]


@dataclass(slots=True)
class Request:
    """One request as it arrived: names keep their case, values have only the optional white space taken off."""

    method: str
    target: str
    version: str
    fields: list[tuple[str, str]]
    head: bytes
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    connection: int = 0

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Conn:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, number: int, upstream: ScriptedUpstream) -> None:
        self.sock = sock
        self.number = number
        self.upstream = upstream
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        """One line without its CRLF. Raises EOFError at the end."""
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def some(self) -> bytes:
        """Whatever is there or comes next; b"" at the end."""
        if not self._buffer:
            with contextlib.suppress(EOFError):
                self._more()
        data, self._buffer = self._buffer, b""
        return data

    def read_head(self) -> Request:
        """The head of the next request; its body is not read. Raises EOFError when the client closed before it."""
        lines = [self.line()]
        while lines[-1]:
            lines.append(self.line())
        method, target, version = lines[0].decode("latin-1").split(" ")
        request = Request(method, target, version, _fields(lines[1:-1]), b"\r\n".join(lines) + b"\r\n", connection=self.number)
        self.upstream.requests.append(request)
        return request

    def read_body(self, request: Request) -> None:
        """Read the body of `request` into it."""
        if request.values("transfer-encoding"):
            while size := int(self.line().partition(b";")[0], 16):
                request.body += self.exactly(size)
                assert self.line() == b""
            lines = []
            while line := self.line():
                lines.append(line)
            request.trailers = _fields(lines)
        elif length := request.values("content-length"):
            request.body = self.exactly(int(length[0]))

    def read_request(self) -> Request:
        request = self.read_head()
        self.read_body(request)
        return request

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.sock.close()

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data


def _fields(lines: list[bytes]) -> list[tuple[str, str]]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return [(name, value.strip(" \t")) for name, _, value in pairs]


Script = Callable[[Conn], object]
Answer = Callable[[Conn, Request], object]


class ScriptedUpstream:
    """A TCP server on loopback (or on a unix socket); each connection is handed to `script` in a thread of its own.

    A script that returns ends its connection; EOFError and OSError in it mean that the gateway went away first.
    """

    def __init__(self, script: Script, *, unix_path: str = "", receive_buffer: int = 0) -> None:
        self._script = script
        self.requests: list[Request] = []
        self.connections = 0
        self.ended = threading.Semaphore(0)  # released once for each connection that is over
        self._open: set[socket.socket] = set()
        if unix_path:
            self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listening.bind(unix_path)
            self.port, self.url = 0, f"unix:{unix_path}"
        else:
            self._listening = socket.socket()
            if receive_buffer:
                self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._listening.bind(("127.0.0.1", 0))
            self.port = self._listening.getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}"
        self._listening.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and break every connection that is still open."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self.connections += 1
                self._open.add(sock)
                if sock.family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(EOFError, OSError), sock:
            self._script(Conn(sock, number, self))
        self._open.discard(sock)
        self.ended.release()


def plain_answer(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    """A whole response with a Content-Length."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def account(request: Request) -> dict[str, Any]:
    """What `echo` says about a request."""
    return {
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "fields": [[name.lower(), value] for name, value in request.fields],
        "body": request.body.decode("latin-1"),
        "trailers": [[name.lower(), value] for name, value in request.trailers],
        "connection": request.connection,
    }


def echo(conn: Conn) -> None:
    """Answer every request with `account` of it as JSON, and keep the connection."""
    while True:
        request = conn.read_request()
        body = b"" if request.method == "HEAD" else json.dumps(account(request)).encode()
        if request.method == "HEAD":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\nContent-Type: application/json\r\n\r\n")
        else:
            conn.send(plain_answer(body, "200 OK", "Content-Type: application/json"))


def by_path(answers: Mapping[str, Answer]) -> Script:
    """A script that reads whole requests and gives each to the answer of its path (without query); others are echoed.

    An answer that returns False ends the connection.
    """

    def script(conn: Conn) -> None:
        while True:
            request = conn.read_head()
            answer = answers.get(request.path)
            if answer is None:
                conn.read_body(request)
                conn.send(plain_answer(json.dumps(account(request)).encode(), "200 OK", "Content-Type: application/json"))
            elif answer(conn, request) is False:
                return

    return script
