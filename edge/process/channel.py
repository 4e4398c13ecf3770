"""Messages between the supervisor and its children: one socket pair each.

A message is a JSON object after its length (4 bytes, big-endian); descriptors travel beside the bytes (``SCM_RIGHTS``) and
the key ``descriptors`` says how many belong to a message. The end of the stream is itself a message: whichever side dies,
the other one sees it at once, so no child outlives its supervisor.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from typing import Any

import orjson

__all__ = ["Channel", "Message", "pair"]

Message = dict[str, Any]

_MOST = 64 * 1024  # bytes of one message
_MOST_DESCRIPTORS = 16


class Channel:
    """One end. Non-blocking; a message that does not fit into the socket's buffer raises BlockingIOError."""

    __slots__ = ("_buffer", "_descriptors", "ended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.ended = False  # the other side is gone
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Raises OSError: the other side is gone (BrokenPipeError) or does not read (BlockingIOError)."""
        if descriptors:
            message = {**message, "descriptors": len(descriptors)}
        body = orjson.dumps(message)
        data = len(body).to_bytes(4, "big") + body
        sent = socket.send_fds(self.sock, [data], descriptors) if descriptors else self.sock.send(data)
        if sent != len(data):
            raise BlockingIOError

    def receive(self) -> list[tuple[Message, list[int]]]:
        """All messages that have come, each with its descriptors, which are the caller's now. Sets `ended` at the end."""
        while not self.ended:
            try:
                data, descriptors = self._read()
            except BlockingIOError:
                break
            except ConnectionResetError:
                data, descriptors = b"", []
            self._descriptors.extend(descriptors)
            self._buffer += data
            self.ended = not data
        messages = []
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > _MOST:
                self.ended = True
                break
            if len(self._buffer) < 4 + size:
                break
            message: Message = orjson.loads(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            own = [self._descriptors.popleft() for _ in range(message.pop("descriptors", 0))]
            messages.append((message, own))
        return messages

    def _read(self) -> tuple[bytes, list[int]]:
        item = array.array("i").itemsize
        data, ancillary, _, _ = self.sock.recvmsg(_MOST, socket.CMSG_SPACE(_MOST_DESCRIPTORS * item))
        received = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(payload[: len(payload) // item * item])
        for descriptor in received:
            os.set_inheritable(descriptor, False)
        return data, list(received)

    def close(self) -> None:
        """Close this end. Idempotent."""
        self.sock.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())


def pair() -> tuple[Channel, Channel]:
    """Two ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(one), Channel(other)
