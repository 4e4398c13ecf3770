"""Messages between the supervisor and its children: one socket pair each.

A message is a JSON object after its length (4 bytes, big-endian); descriptors travel beside the bytes (``SCM_RIGHTS``) and
the key ``descriptors`` says how many belong to a message. What is large or secret travels as a parcel (`edge.process.parcel`),
which is a descriptor. The end of the stream is itself a message: whichever side dies, the other one sees it at once, so no
child outlives its supervisor.

Neither side ever waits for the other. What the socket does not take waits in a bounded queue, in order, with copies of its
descriptors; a reader that lets the queue fill is as good as dead, and the sender is told so.

The kernel drops descriptors for which a process has no room. A message then comes without any, and never with those of another
one; who may run out (a worker in a flood of connections) keeps some in reserve for its orders.

Orders (``do``) of the supervisor, and the reports (``is``) of a worker:

* ``drain`` ``stop`` ``logs``; ``state``: ready, generation, digest. ``ready``; ``beat``: connections, accepted, lag_ms.
* ``prepare``: generation; ``sockets`` names a listener for each socket that comes along. For a listener that is named, these
  are all its sockets from the commit on, whatever it had before (one may be a socket that it has already); listeners that are
  not named keep theirs. ``logs`` names a destination for each descriptor that follows. The parcel with the settings comes
  first. Answered by ``prepared`` or ``refused`` (with ``why``), then comes ``commit`` (``committed``) or ``abandon``.
* ``adopt``: accept also from the sockets of another ``worker``; they come along, and ``sockets`` names their listeners. This
  replaces what was adopted from the same worker before. ``release`` ends it. ``take-away``: accept until the own sockets are
  empty, then close them (``taken-away``).
* ``tickets``: the parcel with the generations of ticket keys (`edge.tls.ticket_keys`) comes along.
* ``staples``: the parcel with all staples that are good comes along (`edge.tls.staples`).
* ``tell``: ``what``, ``id``; answered by ``told``: ``id``, ``value``.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson

__all__ = ["MOST_DESCRIPTORS", "Channel", "Message", "pair"]

Message = dict[str, Any]

_MOST = 64 * 1024  # bytes of one message
MOST_DESCRIPTORS = 250  # of one message; the kernel takes 253
_MOST_WAITING = 4 * 1024 * 1024  # bytes in the queue
_MOST_COPIES = 2_000  # descriptors in the queue
_SETTLES = 20  # attempts
_SETTLE = 0.01  # seconds


class Channel:
    """One end. Non-blocking.

    `on_waiting` is called with True when something has to wait until the socket is writable (then call `flush`), and with
    False when all is out.
    """

    __slots__ = ("_buffer", "_copies", "_descriptors", "_queue", "_queued", "_spare", "ended", "on_waiting", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.ended = False  # the other side is gone
        self.on_waiting: Callable[[bool], None] | None = None
        self._buffer = bytearray()
        self._descriptors: deque[list[int]] = deque()  # of each message that has some, in order
        self._spare: list[int] = []
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._queued = 0
        self._copies = 0

    @property
    def waiting(self) -> bool:
        """Whether something waits for the socket to be writable."""
        return bool(self._queue)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send, or keep until `flush`. `descriptors` stay the caller's.

        Raises OSError: the other side is gone (BrokenPipeError) or has not read for long (BlockingIOError). ValueError: larger
        than a message may be.
        """
        if descriptors:
            message = {**message, "descriptors": len(descriptors)}
        body = orjson.dumps(message)
        if len(body) > _MOST or len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError("the message is too large")
        data = len(body).to_bytes(4, "big") + body
        sent = 0 if self._queue else self._write(data, descriptors)
        if sent == len(data):
            return
        if self._queued + len(data) > _MOST_WAITING or self._copies + len(descriptors) > _MOST_COPIES:
            raise BlockingIOError("the other side does not read")
        copies = [os.dup(descriptor) for descriptor in descriptors] if not sent else []
        self._queue.append((data[sent:], copies))
        self._queued += len(data) - sent
        self._copies += len(copies)
        if len(self._queue) == 1 and self.on_waiting is not None:
            self.on_waiting(True)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it. Raises OSError: the other side is gone."""
        while self._queue:
            data, copies = self._queue[0]
            sent = self._write(data, copies)
            if not sent:
                return
            self._queued -= sent
            self._copies -= len(copies)
            for descriptor in copies:
                os.close(descriptor)
            if sent < len(data):
                self._queue[0] = data[sent:], []
                return
            self._queue.popleft()
        if self.on_waiting is not None:
            self.on_waiting(False)

    def _write(self, data: bytes, descriptors: Sequence[int]) -> int:
        try:
            return socket.send_fds(self.sock, [data], descriptors) if descriptors else self.sock.send(data)
        except BlockingIOError:
            return 0

    def receive(self) -> list[tuple[Message, list[int]]]:
        """All messages that have come, each with its descriptors, which are the caller's now. Sets `ended` at the end."""
        while not self.ended:
            try:
                data, descriptors = self._read()
            except BlockingIOError:
                break
            except ConnectionResetError:
                data, descriptors = b"", None
            if descriptors is not None:
                self._descriptors.append(descriptors)
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
            messages.append((message, self._own(message.pop("descriptors", 0))))
        return messages

    def _own(self, count: int) -> list[int]:
        """The descriptors of the next message that has `count`; none when some were dropped."""
        own = self._descriptors.popleft() if count else []
        if len(own) == count:
            return own
        for descriptor in own:
            os.close(descriptor)
        return []

    def reserve(self, count: int) -> None:
        """Have up to `count` descriptors that the next `receive` gives back, so that there is room for what it gets."""
        with contextlib.suppress(OSError):
            while len(self._spare) < count:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _read(self) -> tuple[bytes, list[int] | None]:
        """Bytes, and the descriptors of the message that begins in them; the kernel never joins those of two."""
        while self._spare:
            os.close(self._spare.pop())
        item = array.array("i").itemsize
        data, ancillary, flags, _ = self.sock.recvmsg(_MOST, socket.CMSG_SPACE(MOST_DESCRIPTORS * item))
        received = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(payload[: len(payload) // item * item])
        for descriptor in received:
            os.set_inheritable(descriptor, False)
        return data, list(received) if received or flags & socket.MSG_CTRUNC else None

    def settle(self) -> bool:
        """Before another program goes on with this end: send what waits, drop what has come. False: it cannot go on here, for a
        message is cut in two or the other side is gone."""
        for _ in range(_SETTLES):
            for _, descriptors in self.receive():
                for descriptor in descriptors:
                    os.close(descriptor)
            try:
                self.flush()
            except OSError:
                return False
            if self.ended or not (self._buffer or self._queue):
                break
            select.select([self.sock], [self.sock] if self._queue else [], [], _SETTLE)
        return not (self.ended or self._buffer or self._queue or self._descriptors)

    def close(self) -> None:
        """Close this end; what waits is lost. Idempotent."""
        self.sock.close()
        for descriptor in (*self._spare, *(each for own in self._descriptors for each in own)):
            os.close(descriptor)
        self._spare.clear()
        self._descriptors.clear()
        while self._queue:
            for descriptor in self._queue.popleft()[1]:
                os.close(descriptor)


def pair() -> tuple[Channel, Channel]:
    """Two ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(one), Channel(other)
