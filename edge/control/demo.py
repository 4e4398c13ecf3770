"""The demo upstream: a small service to look at a gateway with, on loopback only, in a process of its own."""

from __future__ import annotations

import socket

import uvloop

__all__ = ["Demo", "start"]


class Demo:
    """A demo service whose port is bound. `run` serves, in the process that is to serve: a forked child."""

    name = "demo"

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.port: int = sock.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    def run(self, lifeline: int) -> None:
        """Serve until the descriptor `lifeline` becomes readable (data or end of file)."""
        from edge.control.demo_service import serve

        uvloop.run(serve(self._sock, lifeline))

    def close(self) -> None:
        """Give the port back. Idempotent."""
        self._sock.close()


def start(port: int = 0) -> Demo:
    """Bind 127.0.0.1:`port` (0: any free one) and listen, so that nothing is refused until `run` serves. Raises OSError."""
    sock = socket.create_server(("127.0.0.1", port), backlog=512)
    sock.setblocking(False)
    return Demo(sock)
