"""Opening one connection to an endpoint: address, TCP or unix socket, TLS, ALPN, SETTINGS; then it is an upstream connection.

The whole has one deadline, `connect_timeout`. The addresses of a name are tried one after the other, each for its
share of the time that is left. Whoever waits for the connection hears of it exactly once; a dial whose waiters have
all gone still finishes, and its connection goes to the pool.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.errors import Fault, Retry, Side
from edge.net.plain import PlainEngine
from edge.net.timers import Timed
from edge.net.transport import Transport
from edge.relay.pipe import StreamUpstream
from edge.relay.ports import Keeper, UpstreamConnection
from edge.relay.upstream_h1 import H1Upstream
from edge.relay.upstream_h2 import H2Upstream
from edge.settings.model import Limits, Scheme

if TYPE_CHECKING:
    from edge.net.hub import Hub
    from edge.net.resolver import Resolver
    from edge.settings.model import Endpoint, Upstream
    from edge.tls.client import ClientContext

__all__ = ["Dial"]

_WRITE_TIMEOUT = 60.0

Done = Callable[["Dial", UpstreamConnection | None, Fault | None], None]


class Dial(Timed):
    __slots__ = (
        "_addresses", "_connection", "_context", "_done", "_endpoint", "_greeting", "_hub", "_keepalive", "_keeper", "_limits",
        "_over", "_sock", "_transport", "_until", "_watching", "resumed", "unpinned", "version",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, resolver: Resolver, upstream: Upstream, endpoint: Endpoint, context: ClientContext | None, limits: Limits,
        keeper: Keeper, done: Done, greeting: bytes = b"",
    ) -> None:  # fmt: skip
        """`greeting` is sent before anything else, TLS included."""
        super().__init__(hub.wheel)
        self._hub = hub
        self._endpoint = endpoint
        self._context = context
        self._limits = limits
        self._keeper = keeper
        self._done = done
        self._greeting = greeting
        self._over = False
        self.version = ""  # of TLS, once it stands
        self.resumed = False
        self.unpinned = ""  # the pins that were seen, when none was one of ours and that is only reported
        self._sock: socket.socket | None = None
        self._transport: Transport | None = None
        self._connection: H2Upstream | None = None  # until SETTINGS have come
        self._watching = False
        self._until = hub.now + upstream.connect_timeout
        self._keepalive = upstream.keepalive_timeout
        self._addresses: list[tuple[int, str]] = []
        self.arm(self._until)
        if endpoint.address.path:
            self._addresses = [(socket.AF_UNIX, endpoint.address.path)]
            hub.loop.call_soon(self._next_turn)
            return
        found = resolver.addresses(endpoint.address.host, self._resolved)
        if found is not None:
            self._addresses = list(found)
            self._next(late=True)

    def _resolved(self, found: list[tuple[int, str]] | None) -> None:
        self._addresses = list(found or ())
        self._next()

    def _next_turn(self) -> None:
        self._hub.turn()
        self._next()

    def _next(self, detail: str = "", *, late: bool = False) -> None:
        """Try the next address. `detail` is why the last one failed: empty when there was none."""
        if self._over:
            return
        while self._addresses:
            family, address = self._addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError as error:
                detail = error.strerror or "socket"
                break
            self._sock = sock
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            result = sock.connect_ex(address if family == socket.AF_UNIX else (address, self._endpoint.address.port))
            if result in (0, errno.EINPROGRESS):
                self._watching = True
                self._hub.loop.add_writer(sock.fileno(), self._connected)
                share = (self._until - self._hub.now) / (len(self._addresses) + 1)
                self.arm(self._hub.now + share)
                return
            detail = os.strerror(result)
            self._drop()
        if late:
            self._hub.loop.call_soon(self._fail_turn, detail)
        else:
            self._no_address_left(detail)

    def _drop(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            if self._watching:
                self._watching = False
                self._hub.loop.remove_writer(sock.fileno())
            sock.close()

    def _connected(self) -> None:
        self._hub.turn()
        sock = self._sock
        if sock is not None and not self._over:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._drop()
                self._next(os.strerror(error))
            else:
                self._hub.loop.remove_writer(sock.fileno())
                self._watching = False
                self._sock = None
                self.arm(self._until)
                self._open(sock)

    def _open(self, sock: socket.socket) -> None:
        scheme = self._endpoint.scheme
        if scheme.over_tls:
            assert self._context is not None
            transport = _TlsTransport(self._hub, sock.detach(), self)
            self._transport = transport
            transport.start(self._context.engine(), _Handshake(self))
            if self._greeting:
                transport.write(self._greeting)
            transport.received(b"")
            return
        transport_plain = Transport(self._hub, sock.detach(), Side.UPSTREAM, tls=False, write_timeout=_WRITE_TIMEOUT)
        self._transport = transport_plain
        self.succeed(transport_plain, http2=scheme is Scheme.H2C)

    def succeed(self, transport: Transport, *, http2: bool) -> None:
        """Connected and, with TLS, verified."""
        connection: H1Upstream | H2Upstream | StreamUpstream
        scheme = self._endpoint.scheme
        if scheme is Scheme.TCP or scheme is Scheme.TLS:
            connection = StreamUpstream(transport, self._keeper)
        elif http2:
            connection = H2Upstream(
                transport, self._keeper, self._limits, self._hub, secure=scheme is Scheme.HTTPS, ready=self._settled
            )
            self._connection = connection
        else:
            connection = H1Upstream(transport, self._keeper)
        if transport.established and scheme.over_tls:
            transport.session = connection
        else:
            transport.start(PlainEngine(), connection)
            if self._greeting:
                transport.write(self._greeting)
        if self._connection is None:
            self._finish(connection, None)

    def _settled(self, fault: Fault | None) -> None:
        """The upstream's SETTINGS came: how many requests the connection carries is known. Or it ended before."""
        connection, self._connection = self._connection, None
        self._finish(connection if fault is None else None, fault)

    def _fail_turn(self, detail: str) -> None:
        self._hub.turn()
        self._no_address_left(detail)

    def _no_address_left(self, detail: str) -> None:
        if detail:
            self._fail("connect-failed", detail)
        else:
            self._fail("upstream-name-unresolved", "the name has no address")

    def _fail(self, kind: str, detail: str, status: int = 502) -> None:
        self.failed(Fault(Side.UPSTREAM, kind, detail=f"{self._endpoint.url}: {detail}", retry=Retry.YES, status=status))

    def failed(self, fault: Fault) -> None:
        if not fault.status:
            fault.status = 502
        if fault.retry is Retry.NO and self._transport is not None and not self._transport.established:
            fault.retry = Retry.YES  # nothing of a request was sent
        self._finish(None, fault)

    def hang_up(self) -> None:
        """Close a transport that never became a connection."""
        if self._transport is not None:
            self._transport.close()

    def _finish(self, connection: UpstreamConnection | None, fault: Fault | None) -> None:
        if not self._over:
            self._over = True
            self.deadline = float("inf")
            self._drop()
            self._done(self, connection, fault)

    def on_deadline(self, now: float) -> None:
        if self._over:
            return
        if self._sock is not None and self._addresses and now < self._until:
            self._drop()
            self._next("timed out")
            return
        transport = self._transport
        self._fail("connect-timeout", "not connected in time", status=504)
        if transport is not None:
            transport.abort()


class _TlsTransport(Transport):
    """A transport whose session begins when the upstream's certificate has been verified."""

    __slots__ = ("_dial",)

    def __init__(self, hub: Hub, fd: int, dial: Dial) -> None:
        super().__init__(hub, fd, Side.UPSTREAM, tls=True, write_timeout=_WRITE_TIMEOUT)
        self._dial = dial

    def on_established(self) -> None:
        dial, info = self._dial, self.engine.info()  # type: ignore[attr-defined]
        dial.unpinned = self.engine.unpinned  # type: ignore[attr-defined]
        dial.version, dial.resumed = info.version, info.resumed
        dial.succeed(self, http2=info.alpn == b"h2")


class _Handshake:
    """The session of an upstream connection during its TLS handshake."""

    __slots__ = ("_dial",)

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    def output(self) -> list[bytes]:
        return []

    def on_data(self, data: bytes) -> None:
        pass

    def on_writable(self) -> None:
        pass

    def on_eof(self, clean: bool) -> None:
        self._dial.failed(Fault(Side.UPSTREAM, "upstream-closed", detail="during the TLS handshake", retry=Retry.YES, status=502))
        self._dial.hang_up()

    def on_lost(self, fault: Fault) -> None:
        self._dial.failed(fault)

    def on_deadline(self, now: float) -> None:
        pass
