"""A stream: a client's connection joined to one to an upstream, byte for byte, without HTTP.

TLS has ended here (``protocol = "tcp"``), or it has not and never will (passthrough); either way these are bytes. The client is
not read while its upstream is being dialled. What one side sends goes to the other as long as that one takes it: beyond
`HIGH` bytes that wait, the sender is not read. The end of one direction is passed on as the end of that direction alone, for
protocols that say "that was all" and then listen; when both have ended, so has the stream. A connection that breaks breaks the
other one: nothing that was cut short looks complete.

A client that goes without close_notify is taken at its word, as other relays do: most databases' clients end like that, and a
reset would take from the upstream what is still on its way.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from edge.errors import Fault, Retry, Side
from edge.relay.context import Ticket
from edge.relay.ports import HIGH, Keeper, Receiver, Transport, UpstreamConnection
from edge.route.target import pick_target

if TYPE_CHECKING:
    from edge.http.message import ConnectionInfo, RequestHead
    from edge.relay.context import Context, Source
    from edge.relay.ports import UpstreamPort
    from edge.settings.model import Stream, Upstream
    from edge.upstream.balance import EndpointState

__all__ = ["Pipe", "StreamUpstream"]


class _End:
    """One of the two connections: the session of its transport."""

    __slots__ = ("_out", "finished", "held", "received", "transport")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._out: list[bytes] = []
        self.finished = False  # it sends no more
        self.held = False  # it is not read, because the other one does not take it
        self.received = 0

    def push(self, data: bytes) -> None:
        self._out.append(data)
        self.transport.mark()

    @property
    def blocked(self) -> bool:
        """Enough waits for the socket: `on_writable` follows. What this turn adds is not counted, a turn's reading is bounded."""
        return self.transport.pending >= HIGH

    def output(self) -> list[bytes]:
        out, self._out = self._out, []
        return out

    def hold(self) -> None:
        self.held = True
        self.transport.pause()

    def let_go(self) -> None:
        if self.held:
            self.held = False
            self.transport.resume()


class StreamUpstream(_End):
    """A connection to an upstream that takes bytes. It serves one client, so it is never kept."""

    __slots__ = ("_closed", "_keeper", "pipe")

    multiplexed = False
    room = 1

    def __init__(self, transport: Transport, keeper: Keeper) -> None:
        super().__init__(transport)
        self._keeper = keeper
        self._closed = False
        self.pipe: Pipe | None = None

    # --- as a connection ---

    def has_room(self) -> bool:
        return self.pipe is None and not self._closed

    def open(self, receiver: Receiver, request: RequestHead, request_id: bytes = b"") -> UpstreamPort:
        """Settings send no requests here."""
        raise Fault(Side.EDGE, "internal-error", detail="requests do not go to streams", status=502)

    def close(self) -> None:
        if self.over():
            self.transport.close()

    def abort(self) -> None:
        if self.over():
            self.transport.abort()

    def over(self) -> bool:
        """Let the keeper know, once; whether this was the time."""
        if self._closed:
            return False
        self._closed = True
        self._keeper.gone(self)
        return True

    # --- as a session ---

    def on_data(self, data: bytes) -> None:
        if self.pipe is None:  # it speaks before anybody has taken it
            self.abort()
        else:
            self.pipe.from_upstream(data)

    def on_eof(self, clean: bool) -> None:
        if self.pipe is None:
            self.close()
        else:
            self.pipe.ended(self)

    def on_lost(self, fault: Fault) -> None:
        self.over()
        if self.pipe is not None:
            self.pipe.broken(fault)

    def on_writable(self) -> None:
        if self.pipe is not None:
            self.pipe.writable(self)

    def on_deadline(self, now: float) -> None:
        """Never: the client's side keeps the time."""


class Pipe(_End):
    """A whole stream, and its client's side. It waits for its upstream as an exchange does."""

    __slots__ = (
        "_context", "_early", "_over", "_retries", "_source", "_stream", "_ticket", "_touched", "_tried", "_upstream", "conn",
        "connected_at", "ended_at", "endpoint", "fault", "peer", "started", "tries",
    )  # fmt: skip

    def __init__(self, transport: Transport, conn: ConnectionInfo, stream: Stream, context: Context) -> None:
        super().__init__(transport)
        self.conn = conn
        self.started = self._touched = context.clock.now
        self.connected_at = self.ended_at = 0.0
        self.endpoint: EndpointState | None = None
        self.fault: Fault | None = None
        self.tries = 0
        self.peer: StreamUpstream | None = None
        self._stream = stream
        self._context = context
        self._early: list[bytes] = []  # came before the upstream was there
        self._tried: set[EndpointState] = set()
        self._ticket: Ticket | None = None
        self._source: Source | None = None
        self._upstream: Upstream | None = None
        self._over = False

    @property
    def passthrough(self) -> bool:
        return self._stream.passthrough

    @property
    def sent(self) -> int:
        """Bytes that came from the upstream."""
        return self.peer.received if self.peer is not None else 0

    def begin(self, first: bytes) -> None:
        """Find an upstream. `first` is what the client has said already."""
        self.transport.arm_session(inf)
        if first:
            self.on_data(first)
        else:
            self.hold()
        try:
            self._upstream = pick_target(self._stream.targets, self._context.random())
        except Fault as fault:
            self.broken(fault)
            return
        self._source = self._context.source(self._upstream)
        self._dial(first=True)

    def _dial(self, *, first: bool) -> None:
        assert self._source is not None
        endpoint = self._source.pick(frozenset(self._tried), first)
        if endpoint is None:
            self.broken(self.fault or Fault(Side.UPSTREAM, "no-endpoint", status=503))
            return
        if self.endpoint is not None:
            self.endpoint.active -= 1
        self.endpoint = endpoint
        endpoint.active += 1
        self.tries += 1
        self._ticket = self._source.queue(endpoint, self)

    # --- as one who waits for a connection ---

    def connection_ready(self, connection: UpstreamConnection) -> None:
        self._ticket = None
        assert isinstance(connection, StreamUpstream)
        self.peer = connection
        connection.pipe = self
        self.connected_at = self._touched = self._context.clock.now
        early, self._early = self._early, []
        for data in early:
            connection.push(data)
        if self.finished:
            connection.transport.half_close()
        self.let_go()
        self._arm()

    def connection_failed(self, fault: Fault) -> None:
        self._ticket = None
        assert self._upstream is not None
        if fault.retry is not Retry.NO and self.tries < self._upstream.retry.attempts and self.endpoint is not None:
            self._tried.add(self.endpoint)
            self.fault = fault.kept()
            self._dial(first=False)
        else:
            self.broken(fault)

    # --- as the client's session ---

    def on_data(self, data: bytes) -> None:
        self.received += len(data)
        peer = self.peer
        if peer is None:
            self._early.append(data)
            self.hold()
            return
        self._touched = self._context.clock.now
        peer.push(data)
        if peer.blocked:
            self.hold()

    def from_upstream(self, data: bytes) -> None:
        peer = self.peer
        assert peer is not None
        peer.received += len(data)
        self._touched = self._context.clock.now
        self.push(data)
        if self.blocked:
            peer.hold()

    def on_writable(self) -> None:
        self.writable(self)

    def writable(self, end: _End) -> None:
        """`end` takes more."""
        other = self.peer if end is self else self
        if other is not None and not end.blocked:
            other.let_go()

    def on_eof(self, clean: bool) -> None:
        self.ended(self)

    def ended(self, end: _End) -> None:
        """`end` sends no more. When both do, all that came has been handed on."""
        end.finished = True
        peer = self.peer
        if peer is None:
            return  # told when there is one
        if self.finished and peer.finished:
            self._finish(None)
            peer.close()
            self.transport.close()
        else:
            (peer if end is self else self).transport.half_close()

    def on_lost(self, fault: Fault) -> None:
        self.broken(fault)

    def broken(self, fault: Fault) -> None:
        """One side is lost, or there never was an upstream: so is the other."""
        if self._over:
            return
        self._finish(fault)
        if self.peer is not None:
            self.peer.abort()
        self.transport.abort()

    def _finish(self, fault: Fault | None) -> None:
        self._over = True
        self.fault = fault.kept() if fault is not None else None
        self.ended_at = self._context.clock.now
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
        if self.endpoint is not None:
            self.endpoint.active -= 1
        self._context.log_stream(self)

    def on_deadline(self, now: float) -> None:
        if self._over:
            return
        limit = self._stream.idle_timeout
        if limit is not None and now - self._touched >= limit and self.peer is not None:
            self.broken(Fault(Side.EDGE, "tunnel-idle", detail=f"no byte for {limit:g} s"))
        else:
            self._arm()

    def _arm(self) -> None:
        if self._stream.idle_timeout is not None:
            self.transport.arm_session(self._touched + self._stream.idle_timeout)
