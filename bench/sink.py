"""The upstream that swallows uploads: reads a whole body, answers 200, keeps the connection. Run as ``-m …sink PORT``.

Who asks for an upgrade to WebSocket gets it, and from then on every byte back.

Plain threads and one large buffer: it has to cost little beside what is measured.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import sys
import threading

__all__ = ["main"]

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade:\s*websocket", re.IGNORECASE)
_KEY = re.compile(rb"\r\nsec-websocket-key:\s*(\S+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def _serve(sock: socket.socket) -> None:
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    with sock:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                part = sock.recv(65_536)
                if not part:
                    return
                head += part
            head, _, body = head.partition(b"\r\n\r\n")
            if _UPGRADE.search(head):
                _echo(sock, head, body)
                return
            length = _LENGTH.search(head)
            if length is not None:
                left = int(length[1]) - len(body)
                while left > 0:
                    count = sock.recv_into(view, min(left, len(buffer)))
                    if not count:
                        return
                    left -= count
            else:
                tail = body
                while not tail.endswith(b"0\r\n\r\n"):
                    count = sock.recv_into(view)
                    if not count:
                        return
                    tail = (tail + bytes(view[max(0, count - 5) : count]))[-5:]
            sock.sendall(_ANSWER)


def _echo(sock: socket.socket, head: bytes, data: bytes) -> None:
    key = _KEY.search(head)
    accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest()) if key is not None else b""
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n" + data)
    while data := sock.recv(65_536):
        sock.sendall(data)


def main(port: int) -> None:
    """Serve on `port` of loopback until the process is ended."""
    with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
        while True:
            sock, _ = listening.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
