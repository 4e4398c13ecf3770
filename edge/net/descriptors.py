"""Connected sockets as bare descriptors: reading and writing are `os.readv` and `os.write`, and the rest, which is rare, is here.

A `socket.socket` for each connection costs more than the system calls that it makes. Descriptors are non-blocking and
closed on exec.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["accept", "end_output", "local_address", "reset_on_close", "unread"]

_RESET = struct.pack("ii", 1, 0)


def accept(listening: socket.socket) -> tuple[int, object]:
    """A new connection's descriptor and its peer's address. Raises OSError (BlockingIOError: there is none)."""
    fd, address = listening._accept()  # type: ignore[attr-defined]
    os.set_blocking(fd, False)
    return fd, address


@contextmanager
def _socket(fd: int) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)  # the family is not looked at by what is called here
    try:
        yield sock
    finally:
        sock.detach()


def end_output(fd: int) -> None:
    """Send FIN. Raises OSError."""
    with _socket(fd) as sock:
        sock.shutdown(socket.SHUT_WR)


def reset_on_close(fd: int) -> None:
    """Closing will send RST instead of FIN."""
    with _socket(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def local_address(fd: int) -> tuple[str, int]:
    """The address and port that a connection came to; ``("", 0)`` for a unix socket."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        name = sock.getsockname()
        return (str(name[0]).removeprefix("::ffff:"), name[1]) if isinstance(name, tuple) else ("", 0)


def unread(fd: int) -> bool:
    """Whether the peer has sent what was not read."""
    with _socket(fd) as sock:
        try:
            return bool(sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False
