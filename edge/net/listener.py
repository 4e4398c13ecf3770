"""A listening socket: accept, admit, hand over.

At most `_BATCH` connections are accepted in one turn, so that those that are open are not starved by those that come. Beyond
`limits.connections` a connection is closed at once and counted: no memory, no cryptography.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from edge.net.client import ClientTransport
from edge.net.hub import Hub
from edge.relay.context import Context
from edge.relay.front import Front
from edge.settings.model import Listener

if TYPE_CHECKING:
    from edge.errors import Fault
    from edge.http.message import ConnectionInfo
    from edge.tls.choice import HostTable
    from edge.wire.hello import ClientHello

__all__ = ["Journal", "ListenerState"]

_BATCH = 16
_LACK = 1.0  # seconds without accepting when descriptors have run out


class Journal(Protocol):
    """Who writes down what happens to connections."""

    def handshake_failed(
        self, conn: ConnectionInfo, hello: ClientHello | None, fault: Fault, stage: str, seconds: float
    ) -> None: ...

    def event(self, name: str, **fields: object) -> None: ...


class ListenerState:
    """One listener of this worker, its sockets and its open connections."""

    __slots__ = (
        "_accepting",
        "_journal",
        "_most",
        "context",
        "front",
        "hub",
        "listener",
        "sockets",
        "table",
        "transports",
        "wants_ja4",
    )

    def __init__(
        self,
        hub: Hub,
        listener: Listener,
        sockets: list[socket.socket],
        table: HostTable | None,
        front: Front,
        context: Context,
        journal: Journal,
        *,
        most: int,
        wants_ja4: bool,
    ) -> None:
        self.hub = hub
        self.listener = listener
        self.sockets = sockets
        self.table = table
        self.front = front
        self.context = context
        self.transports: set[ClientTransport] = set()
        self.wants_ja4 = wants_ja4
        self._journal = journal
        self._most = most
        self._accepting = False

    def start(self) -> None:
        self._accepting = True
        for sock in self.sockets:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
            self.hub.loop.add_reader(sock.fileno(), self._accept, sock)

    def stop(self) -> None:
        """Take no more connections."""
        if self._accepting:
            self._accepting = False
            for sock in self.sockets:
                self.hub.loop.remove_reader(sock.fileno())
                sock.close()

    def _accept(self, listening: socket.socket) -> None:
        hub = self.hub
        hub.now = monotonic()
        for _ in range(_BATCH):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self._out_of_descriptors(listening, error)
                break
            if len(self.transports) >= self._most:
                sock.close()
                self._journal.event("connection-refused", listener=self.listener.name, reason="limits.connections")
                continue
            sock.setblocking(False)
            peer, port = (address[0], address[1]) if isinstance(address, tuple) else ("unix", 0)
            peer = peer.removeprefix("::ffff:")
            self.transports.add(ClientTransport(self, sock, peer, port))

    def _out_of_descriptors(self, listening: socket.socket, error: OSError) -> None:
        """EMFILE and its kin: the backlog waits in the kernel for a moment."""
        self._journal.event("accept-failed", listener=self.listener.name, detail=error.strerror or "")
        loop = self.hub.loop
        loop.remove_reader(listening.fileno())
        loop.call_later(_LACK, self._again, listening)

    def _again(self, listening: socket.socket) -> None:
        if self._accepting:
            self.hub.loop.add_reader(listening.fileno(), self._accept, listening)

    def closed(self, transport: ClientTransport) -> None:
        self.transports.discard(transport)

    def log_handshake_failure(
        self, conn: ConnectionInfo, hello: ClientHello | None, fault: Fault, stage: str, seconds: float
    ) -> None:
        self._journal.handshake_failed(conn, hello, fault, stage, seconds)

    def drain(self) -> None:
        for transport in list(self.transports):
            transport.drain()
