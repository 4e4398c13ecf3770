"""A TLS server of threads for the bench's clients: accepting and ending; what is served is for each kind to say."""

from __future__ import annotations

import socket
import ssl
import threading

__all__ = ["ANSWER", "Threaded", "answer_once"]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Threaded:
    """Accepts on a free `port` of loopback until `end`. It begins with `__init__`, which subclasses therefore call last."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            self.came()
            threading.Thread(target=self.serve, args=(raw,), daemon=True).start()

    def came(self) -> None:
        """A connection was accepted."""

    def serve(self, raw: socket.socket) -> None:
        """In a thread of its own: talk on the socket, and close it."""
        raw.close()

    def end(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


def answer_once(context: ssl.SSLContext, raw: socket.socket) -> None:
    """A handshake, one request answered, and the end waited for."""
    raw.settimeout(60)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with context.wrap_socket(raw, server_side=True) as sock:
            if sock.recv(4096):
                sock.sendall(ANSWER)
            sock.recv(1)
    except OSError:
        raw.close()
