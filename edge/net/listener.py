"""A listening socket: accept, admit, hand over.

At most `_BATCH` connections are accepted in one turn, so that those that are open are not starved by those that come; and
only as many as the turns before let expect, because asking in vain costs more than a connection. Beyond
`limits.connections` (`edge.net.capacity`) a connection is closed at once: no memory, no cryptography.

A listener is known by its name and by whether it speaks TLS. As long as both stay it is the same one through any number of
reloads: what a new connection gets is exchanged in one step (`renew`), and open connections are told afterwards
(`ClientTransport.renew`). One that has gone from the settings ends (`end`): what waits in its sockets is still accepted, because
closing a socket resets the connections in its queue; each gets the answer to its first request.

A socket may also belong to a sibling that is dead or stuck; it is accepted from for as long as the supervisor says, and what
waits in it then is left for others to accept.
"""

from __future__ import annotations

import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from edge.errors import Fault
from edge.net.admission import Admission, beyond_budget
from edge.net.capacity import Capacity
from edge.net.client import ClientTransport
from edge.net.descriptors import accept
from edge.net.hub import Hub
from edge.net.poller import READ
from edge.relay.context import Context
from edge.relay.early import EarlyFront
from edge.relay.front import Front
from edge.settings.identity import same_terms
from edge.settings.model import Host, Listener
from edge.tls.choice import Passage

if TYPE_CHECKING:
    from edge.http.message import ConnectionInfo
    from edge.settings.model import Endpoint, Upstream
    from edge.tls.choice import HostTable
    from edge.tls.engine import TlsInfo
    from edge.tls.replay import ReplayFilter
    from edge.wire.hello import ClientHello

__all__ = ["LONG_HELLO", "LONG_HELLOS", "Journal", "ListenerState"]

LONG_HELLO = 32 * 1024
"""Bytes of a hello that any connection may have under way; the largest in use have a few thousand."""

LONG_HELLOS = 64
"""Connections of a listener that may have more under way, up to `limits.tls_hello`."""

_BATCH = 16
_LAST_BATCH = 64  # in one turn, of what waits in a socket that is to be closed
_LACK = 1.0  # seconds without accepting when descriptors have run out


class Journal(Protocol):
    """Who writes down and counts what happens to connections."""

    def handshake_done(self, listener: Listener, info: TlsInfo, seconds: float) -> None: ...

    def ticket_came(self, listener: Listener, result: str) -> None: ...

    def early_data_came(self, listener: Listener, result: str) -> None: ...

    def handshake_failed(
        self, conn: ConnectionInfo, hello: ClientHello | None, fault: Fault, stage: str, seconds: float
    ) -> None: ...

    def refused(self, listener: Listener, reason: str) -> None: ...

    def dialled(self, upstream: Upstream, endpoint: Endpoint, fault: Fault | None, version: str, *, resumed: bool) -> None: ...

    def unpinned(self, upstream: Upstream, mode: str) -> None: ...

    def checked(self, upstream: Upstream, endpoint: Endpoint, ok: bool) -> None: ...

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
        "_capacity",
        "_closing",
        "_early_front",
        "_gates",
        "accepted",
        "admission",
        "context",
        "disturbances",
        "empty_records",
        "ending",
        "front",
        "hub",
        "journal",
        "listener",
        "long_hellos",
        "replays",
        "table",
        "transports",
        "wants_ja4",
        "wants_local",
    )

    def __init__(
        self,
        hub: Hub,
        listener: Listener,
        table: HostTable | None,
        front: Front,
        context: Context,
        journal: Journal,
        admission: Admission,
        capacity: Capacity,
        replays: ReplayFilter,
        *,
        wants_ja4: bool,
        wants_local: bool,
    ) -> None:
        self.hub = hub
        self.listener = listener
        self._gates: list[_Gate] = []
        self._closing = 0  # sockets that are accepted from until they are empty
        self.table = table
        self.front = front
        self._early_front: EarlyFront | None = None
        self.context = context
        self.admission = admission
        self.replays = replays
        self.transports: set[ClientTransport] = set()
        self.long_hellos: set[ClientTransport] = set()  # whose hello is longer than LONG_HELLO, and is not served yet
        self.wants_ja4 = wants_ja4
        self.wants_local = wants_local  # some upstream is told where connections went to
        self.journal = journal
        self._capacity = capacity
        self._accepting = False
        self.ending = False  # connections end with their first request, or with what is under way
        self.accepted = 0  # connections since the start
        self.disturbances = 0  # KeyUpdates and attempts to renegotiate, of connections that have ended
        self.empty_records = 0  # the same

    # --- sockets ---

    @property
    def sockets(self) -> list[socket.socket]:
        return [gate.sock for gate in self._gates]

    @property
    def is_closing(self) -> bool:
        """There are sockets that are still to be emptied."""
        return self._closing > 0

    @property
    def is_over(self) -> bool:
        """It ends, and nothing of it is left."""
        return self.ending and not (self.transports or self._gates or self._closing)

    def start(self) -> None:
        self._accepting = True
        for gate in self._gates:
            self._open(gate)

    def add(self, sock: socket.socket) -> None:
        """Accept from `sock` too, at once if this listener has been started. It is closed by `stop`, `end` or `close_sockets`."""
        gate = _Gate(self, sock)
        self._gates.append(gate)
        if self._accepting:
            self._open(gate)

    def _open(self, gate: _Gate) -> None:
        sock = gate.sock
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
        self.hub.poller.watch(sock.fileno(), gate, READ)

    def remove(self, sock: socket.socket) -> None:
        """Accept from `sock` no more, and leave it open. No effect on one that is not accepted from."""
        for gate in self._gates:
            if gate.sock is sock:
                self._gates.remove(gate)
                self.hub.poller.watch(sock.fileno(), gate, 0)
                return

    def stop(self) -> None:
        """Take no more connections, whatever waits."""
        self._accepting = False
        gates, self._gates = self._gates, []
        for gate in gates:
            self._close(gate)

    def _close(self, gate: _Gate) -> None:
        self.hub.poller.watch(gate.sock.fileno(), gate, 0)
        gate.sock.close()

    def close_sockets(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept from these sockets (None: all) until nothing waits in them, then close them."""
        leaving = [gate for gate in self._gates if sockets is None or gate.sock in sockets]
        self._gates = [gate for gate in self._gates if gate not in leaving]
        for gate in leaving:
            self._closing += 1
            self.hub.poller.watch(gate.sock.fileno(), gate, 0)
            self._empty(gate)

    def _empty(self, gate: _Gate) -> None:
        if self.accept(gate, _LAST_BATCH) == _LAST_BATCH:
            self.hub.loop.call_soon(self._empty, gate)
        else:
            self._closing -= 1
            gate.sock.close()

    def accept(self, gate: _Gate, most: int) -> int:
        """Take up to `most` connections. Returns how many came."""
        hub = self.hub
        hub.now = monotonic()
        came: list[tuple[int, object]] = []
        sock = gate.sock
        try:
            while len(came) < most:
                came.append(accept(sock))
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass
        except OSError as error:
            self._out_of_descriptors(gate, error)
        watched = self.listener.tls and self.listener.proxy is None
        for fd, address in came:
            peer, port = (address[0], address[1]) if isinstance(address, tuple) else ("unix", 0)
            peer = peer.removeprefix("::ffff:")
            if watched and not self.admission.may_connect(peer):
                os.close(fd)
                self.journal.refused(self.listener, beyond_budget("abandoned"))
                continue
            if not self._capacity.take(self.listener.name):
                os.close(fd)
                self.journal.refused(self.listener, "limit")
                continue
            self.accepted += 1
            transport = ClientTransport(self, fd, peer, port)
            if not transport.disposed:  # it may have ended with its beginning
                self.transports.add(transport)
        return len(came)

    def _out_of_descriptors(self, gate: _Gate, error: OSError) -> None:
        """EMFILE and its kin: the backlog waits in the kernel for a moment."""
        self.journal.refused(self.listener, "descriptors")
        self.journal.event("accept-failed", listener=self.listener.name, detail=error.strerror or "")
        if gate in self._gates:
            self.hub.poller.watch(gate.sock.fileno(), gate, 0)
            self.hub.loop.call_later(_LACK, self._again, gate)

    def _again(self, gate: _Gate) -> None:
        if self._accepting and gate in self._gates:
            self.hub.poller.watch(gate.sock.fileno(), gate, READ)

    # --- generations ---

    def renew(self, listener: Listener, table: HostTable | None, front: Front, *, wants_ja4: bool, wants_local: bool) -> None:
        """What new connections get from now on. The listener has the same name, and TLS if it had TLS."""
        self.listener = listener
        self.table = table
        self.front = front
        self._early_front = None
        self.wants_ja4 = wants_ja4
        self.wants_local = wants_local

    @property
    def early_front(self) -> EarlyFront:
        """`front` for connections whose handshake is not confirmed."""
        if self._early_front is None:
            self._early_front = EarlyFront(self.front)
        return self._early_front

    def heir(self, conn: ConnectionInfo) -> Host | None:
        """The host that serves, under the present settings, a client who was admitted as `conn` was; None: not this client."""
        if self.table is None or conn.host is None:
            return None
        try:
            host = self.table.choose(conn.sni).host
        except Fault:
            return None
        return host if host is not None and host.stream is None and same_terms(conn.host, host) else None

    def objection(self, conn: ConnectionInfo) -> Fault | None:
        """Why the client of a connection would not be let in any more: its certificate is revoked, or expired, or not allowed."""
        if self.table is None:
            return None
        try:
            entry = self.table.choose(conn.sni)
        except Fault:
            return None
        check = None if isinstance(entry, Passage) else entry.check
        return check.objection_later(conn.client) if check is not None else None

    def end(self) -> None:
        """This listener is no more: what waits is accepted, requests under way are finished, tunnels go on."""
        self.ending = True
        self.close_sockets()

    # --- connections ---

    def closed(self, transport: ClientTransport) -> None:
        self.transports.discard(transport)
        if self.long_hellos:
            self.long_hellos.discard(transport)
        self._capacity.give_back()
        engine = transport.engine
        if engine.disturbances or engine.empty_records:
            self.disturbances += engine.disturbances
            self.empty_records += engine.empty_records

    def may_go_on(self, transport: ClientTransport, held: int) -> bool:
        """Whether a hello of which `held` bytes are in memory may have more: few at a time get beyond `LONG_HELLO`."""
        if held <= LONG_HELLO:
            return True
        if len(self.long_hellos) < LONG_HELLOS:
            self.long_hellos.add(transport)
        return transport in self.long_hellos

    def refused(self, reason: str) -> None:
        """A connection was closed without an answer."""
        self.journal.refused(self.listener, reason)

    def log_handshake_failure(
        self, conn: ConnectionInfo, hello: ClientHello | None, fault: Fault, stage: str, seconds: float
    ) -> None:
        self.journal.handshake_failed(conn, hello, fault, stage, seconds)

    def drain(self) -> None:
        for transport in list(self.transports):
            transport.drain()
