"""A listening socket: accept, admit, hand over.

At most `_BATCH` connections are accepted in one turn, so that those that are open are not starved by those that come; and
only as many as the turns before let expect, because asking in vain costs more than a connection. Beyond
`limits.connections` a connection is closed at once and counted: no memory, no cryptography.
"""

from __future__ import annotations

import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from edge.net.client import ClientTransport
from edge.net.descriptors import accept
from edge.net.hub import Hub
from edge.net.poller import READ
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


class _Gate:
    """One listening socket."""

    __slots__ = ("_expected", "_owner", "sock")

    def __init__(self, owner: ListenerState, sock: socket.socket) -> None:
        self._owner = owner
        self.sock = sock
        self._expected = 1  # connections, in the next turn

    def readable(self) -> None:
        came = self._owner.accept(self, self._expected)
        self._expected = min(_BATCH, came + 1) if came == self._expected else max(1, came)

    def writable(self) -> None:
        """Never: only `READ` is watched for."""


class ListenerState:
    """One listener of this worker, its sockets and its open connections."""

    __slots__ = (
        "_accepting",
        "_gates",
        "_journal",
        "_most",
        "accepted",
        "context",
        "front",
        "hub",
        "listener",
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
        self._gates = [_Gate(self, sock) for sock in sockets]
        self.table = table
        self.front = front
        self.context = context
        self.transports: set[ClientTransport] = set()
        self.wants_ja4 = wants_ja4
        self._journal = journal
        self._most = most
        self._accepting = False
        self.accepted = 0  # connections since the start

    def start(self) -> None:
        self._accepting = True
        for gate in self._gates:
            sock = gate.sock
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
            self.hub.poller.watch(sock.fileno(), gate, READ)

    def stop(self) -> None:
        """Take no more connections."""
        if self._accepting:
            self._accepting = False
            for gate in self._gates:
                self.hub.poller.watch(gate.sock.fileno(), gate, 0)
                gate.sock.close()

    def accept(self, gate: _Gate, most: int) -> int:
        """Take up to `most` connections. Returns how many came."""
        hub = self.hub
        hub.now = monotonic()
        for count in range(most):
            try:
                fd, address = accept(gate.sock)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return count
            except OSError as error:
                self._out_of_descriptors(gate, error)
                return count
            if len(self.transports) >= self._most:
                os.close(fd)
                self._journal.event("connection-refused", listener=self.listener.name, reason="limits.connections")
                continue
            peer, port = (address[0], address[1]) if isinstance(address, tuple) else ("unix", 0)
            peer = peer.removeprefix("::ffff:")
            self.accepted += 1
            self.transports.add(ClientTransport(self, fd, peer, port))
        return most

    def _out_of_descriptors(self, gate: _Gate, error: OSError) -> None:
        """EMFILE and its kin: the backlog waits in the kernel for a moment."""
        self._journal.event("accept-failed", listener=self.listener.name, detail=error.strerror or "")
        self.hub.poller.watch(gate.sock.fileno(), gate, 0)
        self.hub.loop.call_later(_LACK, self._again, gate)

    def _again(self, gate: _Gate) -> None:
        if self._accepting:
            self.hub.poller.watch(gate.sock.fileno(), gate, READ)

    def closed(self, transport: ClientTransport) -> None:
        self.transports.discard(transport)

    def log_handshake_failure(
        self, conn: ConnectionInfo, hello: ClientHello | None, fault: Fault, stage: str, seconds: float
    ) -> None:
        self._journal.handshake_failed(conn, hello, fault, stage, seconds)

    def drain(self) -> None:
        for transport in list(self.transports):
            transport.drain()
