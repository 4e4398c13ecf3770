"""A client's connection from accept to its HTTP session: hello, choice, handshake, ALPN.

Order: a PROXY header, where a balancer in front is trusted to send one; then the ClientHello is gathered and
parsed by us; what serves it is chosen from it. That is an upstream to which the bytes go on unopened, or a host's context; only
then is there a TLS engine, and it gets the very bytes that were parsed. A hello that is refused costs no cryptography and is
answered with its alert. Everything up to the end of the handshake has one deadline, `handshake_timeout`, and every failure is
one line in the log.

What a reload, or its age, does to it stands in `edge.net.renewal`.
"""

from __future__ import annotations

from ipaddress import ip_address
from time import monotonic, time
from typing import TYPE_CHECKING

from edge.errors import Alert, Fault, Side
from edge.http.message import ConnectionInfo
from edge.net.admission import beyond_budget
from edge.net.descriptors import local_address
from edge.net.early import Unconfirmed
from edge.net.opening import Opening
from edge.net.plain import PlainEngine
from edge.net.poller import READ
from edge.net.renewal import Renewable
from edge.net.transport import Transport
from edge.relay.client_h1 import H1Client
from edge.relay.client_h2 import H2Client
from edge.relay.pipe import Pipe
from edge.tls.choice import Passage, ServerContext
from edge.tls.early import EarlyEngine
from edge.wire.hello import HelloReader, alert_record
from edge.wire.proxy import ProxyReader
from edge.wire.whole_hello import whole_hello

if TYPE_CHECKING:
    from edge.net.listener import ListenerState
    from edge.settings.model import ProxyProtocol, Stream
    from edge.tls.engine import TlsInfo
    from edge.tls.server_engine import ServerEngine
    from edge.wire.hello import ClientHello

__all__ = ["ClientTransport"]

_H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PLAIN_REPLY = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 46\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS. Use https:// to reach it"
)


_NOTHING_YET = PlainEngine()
"""The engine of all connections whose hello is still to come: nothing is written through it."""


class ClientTransport(Renewable):
    __slots__ = (
        "_chosen", "_context", "_early", "_hello", "_info", "_proxy", "_raw", "_reader", "_stage", "_table", "conn",
        "owner", "since",
    )  # fmt: skip

    def __init__(self, owner: ListenerState, fd: int, peer: str, peer_port: int) -> None:
        listener = owner.listener
        limits, hub = listener.limits, owner.hub
        Transport.__init__(self, hub, fd, Side.CLIENT, tls=listener.tls, write_timeout=limits.write_timeout)
        self.owner = owner
        self.since = hub.now
        self.conn = ConnectionInfo(peer, peer_port, listener, secure=listener.tls)
        self._reader: HelloReader | None = None  # of a hello that comes in pieces, or is none
        self._raw = b""  # the hello as it came, until the handshake is admitted
        self._hello: ClientHello | None = None
        self._context: ServerContext | None = None
        self._chosen: ServerContext | Passage | None = None  # until the handshake is admitted
        self._table = owner.table
        self._early: Unconfirmed | None = None  # while early data is served and the handshake not over
        self._info: TlsInfo | None = None  # between the handshake and the session
        self._stage = "hello"
        self._proxy: ProxyReader | None = None
        self._aging = None
        self.engine = _NOTHING_YET if listener.tls else PlainEngine()
        self.session = Opening(self)
        self.watched = READ
        hub.poller.watch(fd, self, READ)
        self.session_deadline = deadline = self.since + limits.handshake_timeout
        self.arm(deadline)
        if listener.proxy is not None:
            self._expect_proxy(listener.proxy)
        elif listener.stream is not None and not listener.tls:
            self._begin_stream(listener.stream, b"")

    # --- who it is ---

    def _expect_proxy(self, proxy: ProxyProtocol) -> None:
        """Balancers say whom they speak for. From anybody else a header is no header."""
        try:
            address = ip_address(self.conn.peer.partition("%")[0])
            trusted = any(address in network for network in proxy.networks)
        except ValueError:
            trusted = True  # a unix socket: whoever may open it
        if trusted:
            self._proxy = ProxyReader(optional=not proxy.required)
        elif proxy.required:
            self._log_failure(Fault(Side.CLIENT, "proxy-not-trusted", detail="the listener is for balancers alone"))
            self.abort()
        elif self.owner.listener.stream is not None and not self.owner.listener.tls:
            self._begin_stream(self.owner.listener.stream, b"")

    def _read_proxy(self, reader: ProxyReader, data: bytes) -> bytes | None:
        """The PROXY header: what follows it, or None as long as it is not whole. Raises Fault."""
        if not reader.feed(data):
            return None
        self._proxy = None
        origin, conn = reader.origin, self.conn
        if origin is not None:
            conn.peer, conn.peer_port = origin.address, origin.port
            conn.local, conn.local_port = origin.destination, origin.destination_port
            if not self.owner.admission.may_connect(conn.peer):
                self.refused("abandoned")
                return None
        return reader.rest

    def received(self, data: bytes) -> None:
        if self._context is not None:
            self.hub.shake(self, data)
            return
        if self._proxy is not None:
            rest = self._read_proxy(self._proxy, data)
            if not rest:
                return
            data = rest
        if self._chosen is not None:
            self._raw += data
            return
        try:
            hello = self._read_hello(data)
            if hello is None:
                return
            self._hello = hello
            self._table = table = self.owner.table
            assert table is not None
            context = table.choose(hello.sni)
            if isinstance(context, ServerContext) and context.strict:
                context.admit()
        except Fault as fault:
            self._refuse(fault)
            return
        self._chosen = context
        self.owner.admission.apply(self, self.conn.peer, self._comes_back)

    def _read_hello(self, data: bytes) -> ClientHello | None:
        """The hello, when it is there. Raises Fault."""
        reader = self._reader
        if reader is None:
            most = self.owner.listener.limits.tls_hello
            hello = whole_hello(data, most)
            if hello is not None:
                self._raw = data
                return hello
            reader = self._reader = HelloReader(most)
        hello = reader.feed(data)
        if hello is not None:
            self._raw = reader.raw
        elif not self.owner.may_go_on(self, reader.held):
            raise Fault(Side.CLIENT, "hello-too-long", detail="too many at a time", alert=Alert.ILLEGAL_PARAMETER)
        return hello

    def _comes_back(self) -> bool:
        """Whether the hello has a ticket that is ours by proof."""
        hello, context = self._hello, self._chosen
        ticket = hello.session_ticket if hello is not None else b""
        return bool(ticket) and isinstance(context, ServerContext) and context.tickets.is_ours(ticket)

    # --- admission ---

    def admitted(self) -> None:
        """Begin the handshake, or pass it on. Asked for when the hello has come; another turn's when it had to wait."""
        raw, context, hello = self._raw, self._chosen, self._hello
        assert hello is not None
        self._raw = b""
        if self._reader is not None:
            self.owner.long_hellos.discard(self)
        self._reader = self._chosen = None
        if self._paused:
            self.resume()
        try:
            if isinstance(context, Passage):
                self.conn.host = context.host
                self.established = self._steady = True
                self._tls = False  # of ours
                self.engine = PlainEngine()
                self._begin_stream(context.stream, raw)
            elif context is not None:
                self._context = context
                self._stage = "handshake"
                self.engine = self._engine(context, hello)
                self.hub.shake(self, raw)
        except Fault as fault:
            self.fail(fault)
        except Exception as error:
            self._bug(error)

    def _engine(self, context: ServerContext, hello: ClientHello) -> ServerEngine:
        if hello.early_data:
            why = context.early_refusal(hello, self.owner.replays, time())
            if not why:
                return context.early_engine(hello.sni, self._confirmed)
            self.owner.journal.early_data_came(self.owner.listener, why)
        return context.engine(hello.sni, hello.session_ticket)

    def waits(self) -> None:
        """Hear nothing more of it until then."""
        self.pause()

    def refused(self, reason: str) -> None:
        """Close without a word."""
        self.owner.refused(beyond_budget(reason))
        self.abort()

    def _refuse(self, fault: Fault) -> None:
        """No engine yet: the alert is ours to write."""
        reader, self._reader = self._reader, None
        if self._hello is None and reader is not None:
            self._hello = reader.hello
        if fault.kind == "no-sni" and self._hello is not None:
            fault.alert = self._hello.alert_without_name
        self._log_failure(fault)
        self._closing = True
        self._wrote_at = self.hub.now
        if reader is not None and reader.plain_http:
            self.write(_PLAIN_REPLY)
        elif fault.alert is not Alert.NONE:
            self.write(alert_record(fault.alert))
        else:
            self._goodbye()

    def on_established(self) -> None:
        """HTTP/2 says the first word. With HTTP/1.1 the client does, and many never do: all else waits for it."""
        now = monotonic()
        self._stage = "http"
        self._info = info = self.engine.info()  # type: ignore[attr-defined]
        owner = self.owner
        owner.journal.handshake_done(owner.listener, info, now - self.since)
        hello, context, engine = self._hello, self._context, self.engine
        if type(engine) is EarlyEngine:
            owner.journal.early_data_came(owner.listener, "accepted" if engine.accepted else "stale")
            if not engine.confirmed:
                self._early = Unconfirmed(self, self.since + owner.listener.limits.handshake_timeout)
        if hello is not None and hello.session_ticket and context is not None:
            result = "resumed" if info.resumed else context.ticket_result(hello.session_ticket, resumed=False)
            owner.journal.ticket_came(owner.listener, result)
            if result == "expired":
                owner.admission.did_not_resume(self.conn.peer)
        stream = context.host.stream if context is not None else None
        if stream is not None:
            self._begin_stream(stream, b"")
        elif info.alpn == b"h2":
            self._begin(True)
        else:
            self.arm_session(now + owner.listener.limits.idle_timeout)

    def _begin(self, http2: bool) -> H1Client | H2Client:
        """From here on there is an HTTP session."""
        owner, conn = self.owner, self.conn
        self._describe()
        self._age()
        front, early = owner.front, self._early
        if early is not None:
            front, conn = owner.early_front, early.conn(front)
        self.session = session = (H2Client if http2 else H1Client)(self, front, conn, owner.context)
        if owner.ending or self._table is not owner.table:
            self.renew()
        return session

    def _begin_stream(self, stream: Stream, first: bytes) -> None:
        """From here on there are bytes, the client's `first` ones already here."""
        self._describe()
        self._age()
        self._stage = "stream"
        self.session = pipe = Pipe(self, self.conn, stream, self.owner.context)
        pipe.begin(first)

    def _describe(self) -> None:
        """What the session and the log are told of the connection."""
        owner, conn = self.owner, self.conn
        conn.listener = owner.listener
        context, hello = self._context, self._hello
        if context is not None:
            info, self._info = self._info, None
            assert info is not None
            conn.host = context.host
            conn.tls_version = info.version
            conn.suite = info.suite
            conn.group = info.group
            conn.resumed = info.resumed
            conn.alpn = info.alpn
            conn.client = info.peer
        if hello is not None:
            self._hello = None
            conn.sni = hello.sni
            if owner.wants_ja4:
                conn.ja4 = hello.ja4()
        if owner.wants_local and not conn.local:
            conn.local, conn.local_port = local_address(self.fd)

    def first_data(self, data: bytes) -> None:
        """The client's first bytes; on a plain listener those of HTTP may be HTTP/2's, by prior knowledge."""
        if self._proxy is not None:
            rest = self._read_proxy(self._proxy, data)
            if rest is None:
                return
            stream = self.owner.listener.stream
            if stream is not None:
                self._begin_stream(stream, rest)
                return
            if not rest:
                return
            data = rest
        http2 = self._context is None and data.startswith(_H2_PREFACE[: len(data)]) and len(data) >= 3
        session = self._begin(http2)
        if not self.disposed:
            session.on_data(data)

    @property
    def in_handshake(self) -> bool:
        return self._stage in ("hello", "handshake")

    def handshake_lost(self, fault: Fault) -> None:
        """The connection ended before there was an HTTP session."""
        if self.in_handshake:
            self._log_failure(fault)

    def _log_failure(self, fault: Fault) -> None:
        if fault.side is Side.CLIENT and self.bytes_in:
            admission, hello, context = self.owner.admission, self._hello, self._context
            admission.abandoned(self.conn.peer)
            if hello is not None and context is not None and context.tickets.is_ours(hello.session_ticket):
                admission.did_not_resume(self.conn.peer)
        self.owner.log_handshake_failure(self.conn, self._hello, fault, self._stage, self.hub.now - self.since)

    def fail(self, fault: Fault) -> None:
        """TLS broke. In the handshake the opening session tells; later there may be no request whose line could."""
        if not self.in_handshake and not self._closing:
            self.owner.context.log_refused(self.conn, fault)
        super().fail(fault)

    def noise_budgets(self) -> tuple[int, int]:
        limits = self.owner.listener.limits
        return limits.key_updates, limits.empty_records

    # --- early data ---

    def _confirmed(self) -> None:
        """The handshake is over, told by the engine: what comes from now on, and in this very read, is no early data."""
        early = self._early
        if early is None:
            return
        self._early = None
        early.disarm()
        self.mark()
        session, front = self.session, early.whole
        if front is not None and isinstance(session, H1Client | H2Client):
            session.renew(front, self.conn)
            if early.waited_for:
                self.owner.context.later(early.release)
        if early.closing:
            super().close()

    def unconfirmed(self) -> None:
        """Early data came, and the end of the handshake did not in its time."""
        fault = Fault(Side.CLIENT, "handshake-timeout", detail="early data came, and the end of the handshake did not")
        self.owner.admission.abandoned(self.conn.peer)
        self.owner.context.log_refused(self.conn, fault)
        self._lose(fault)

    def pause(self) -> None:
        if self._early is None:
            super().pause()

    def close(self) -> None:
        early, engine = self._early, self.engine
        if early is None or self._eof or type(engine) is not EarlyEngine:
            super().close()
        else:
            early.closing = engine.muted = True

    def on_disposed(self) -> None:
        if self._aging is not None:
            self._aging.cancel()
        if self._early is not None:
            self._early.disarm()
            self._early = None
        self.owner.closed(self)
