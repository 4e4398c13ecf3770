"""The upstream that swallows uploads: reads a whole body, answers 200, keeps the connection. Run as ``-m …sink PORT``.

Plain threads and one large buffer: it has to cost little beside what is measured.
"""

from __future__ import annotations

import re
import socket
import sys
import threading

__all__ = ["main"]

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
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


def main(port: int) -> None:
    """Serve on `port` of loopback until the process is ended."""
    with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
        while True:
            sock, _ = listening.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
