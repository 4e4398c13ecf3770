"""Choosing: from the name in a ClientHello to the context that serves the connection.

The choice is made once, before there is a connection, and is final: a request that names a host of another policy is
answered 421 by the policy room. Hosts are found by exact name, then by the wildcard of one label.
Tables of several listeners share their contexts, and so do those of two generations of settings for the
hosts that did not change; tickets issued before a reload then go on working.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.errors import Alert, Fault, Side
from edge.settings.identity import coalesce_id, policy_id
from edge.settings.model import ClientAuthMode, Host, Listener, Settings, Stream
from edge.settings.names import NameIndex, canonical
from edge.tls.binding import context_pointer
from edge.tls.clients import ClientCheck
from edge.tls.context import server_context, takes_early_data
from edge.tls.early import EarlyEngine
from edge.tls.guarded_engine import GuardedEngine
from edge.tls.older_key import OlderKeyEngine
from edge.tls.server_engine import ServerEngine
from edge.tls.staples import Stapler
from edge.tls.ticket_keys import PROCESS, KeyRing

if TYPE_CHECKING:
    from edge.tls.replay import ReplayFilter
    from edge.wire.hello import ClientHello

__all__ = ["HostTable", "Passage", "ServerContext", "build_table"]


class ServerContext:
    """A host's TLS context, ready to make connections."""

    __slots__ = (
        "_alive", "_context", "_pointer", "_ring", "_stapler", "check", "coalesce_id", "host", "policy_id", "strict",
        "takes_early_data", "tickets",
    )  # fmt: skip

    def __init__(self, host: Host, ring: KeyRing = PROCESS) -> None:
        """Its ticket keys come from `ring`.

        Raises `edge.tls.trust.TrustError` for a chain, key, store or name that OpenSSL does not take.
        """
        self.host = host
        self.policy_id = policy_id(host)
        self.coalesce_id = coalesce_id(host)
        self._context, self._alive = server_context(host)
        self.check = ClientCheck(host.client_auth) if host.client_auth.mode is not ClientAuthMode.OFF else None
        self.takes_early_data = takes_early_data(host)
        self._pointer: Any = context_pointer(self._context)
        self._stapler = Stapler(host.certificates)
        self._stapler.attach(self._pointer)
        self.strict = self._stapler.strict
        self._ring = ring
        self.tickets = ring.enrol(self._pointer, self.policy_id, host.tls.ticket_lifetime)

    def admit(self) -> None:
        """Where `strict`: before an engine is made. Raises Fault ``staple-missing``."""
        self._stapler.admit()

    def engine(self, sni: str | None, ticket: bytes = b"") -> ServerEngine:
        """A new connection, from what its hello says: the name by which this context was chosen, and the ticket."""
        if ticket:
            tickets = self.tickets
            key = tickets.named(ticket)
            if key is not None and key is not tickets.newest:
                stapler = self._stapler if self._stapler.guards else None
                return OlderKeyEngine(self._pointer, self, sni, tickets, key, stapler, check=self.check)
        if self._stapler.guards:
            return GuardedEngine(self._pointer, self, sni, self._stapler, check=self.check)
        return ServerEngine(self._pointer, self, sni, check=self.check)

    def early_refusal(self, hello: ClientHello, filter: ReplayFilter, now: float) -> str:
        """Whether early data may come with a hello: ``""``, and it may not again. Otherwise why not, in a word of the metric
        ``edge_early_data_total``. `now` in POSIX seconds.

        Only under the newest key: early data has no forward secrecy but the life of the key that its ticket is under.
        """
        if not self.takes_early_data:
            return "off"
        key = self.tickets.named(hello.session_ticket)
        if key is None or not hello.binder or not key.proves(hello.session_ticket):
            return "ticket"
        if key is not self.tickets.newest:
            return "older"
        return filter.claim(hello.binder, now)

    def early_engine(self, sni: str | None, on_confirmed: Callable[[], None]) -> EarlyEngine:
        """A new connection for a hello that `early_refusal` let in."""
        return EarlyEngine(self._pointer, self, sni, on_confirmed)

    def ticket_result(self, ticket: bytes, *, resumed: bool) -> str:
        """What became of a client's ticket, in a word; the words are those of the metric ``edge_tickets_total``."""
        if resumed:
            return "resumed"
        if self.tickets.named(ticket) is not None:
            return "expired" if self.tickets.is_ours(ticket) else "forged"
        if self.tickets.is_over(ticket):
            return "expired"
        return "foreign" if self._ring.knows(ticket) else "unknown"

    def __repr__(self) -> str:
        return f"<ServerContext {', '.join(self.host.names)}>"


class Passage:
    """Where TLS goes on to, unopened: a host's stream, or a listener's for names that no host has."""

    __slots__ = ("host", "stream")

    def __init__(self, stream: Stream, host: Host | None) -> None:
        self.stream = stream
        self.host = host


class HostTable:
    """The contexts of one listener, by name."""

    __slots__ = ("_contexts", "_index", "_no_sni", "_otherwise")

    def __init__(self, entries: list[ServerContext | Passage], no_sni: str | None, otherwise: Passage | None = None) -> None:
        self._contexts = [entry for entry in entries if isinstance(entry, ServerContext)]
        self._index: NameIndex[ServerContext | Passage] = NameIndex(
            (canonical(name), entry) for entry in entries if entry.host is not None for name in entry.host.names
        )
        self._no_sni = self._index.find(canonical(no_sni)) if no_sni else None
        self._otherwise = otherwise

    def choose(self, sni: str | None) -> ServerContext | Passage:
        """What serves the hello's name.

        Raises Fault ``unknown-sni`` or ``no-sni``, with the alert unrecognized_name. For ``no-sni`` the hello may know a better
        one: `ClientHello.alert_without_name`.
        """
        context = self._no_sni if sni is None else self._index.find(sni)
        if context is not None:
            return context
        if self._otherwise is not None:
            return self._otherwise
        if sni is None:
            raise Fault(Side.CLIENT, "no-sni", alert=Alert.UNRECOGNIZED_NAME)
        raise Fault(Side.CLIENT, "unknown-sni", detail=sni, alert=Alert.UNRECOGNIZED_NAME)

    @property
    def contexts(self) -> list[ServerContext]:
        return self._contexts


def build_table(settings: Settings, listener: Listener, cache: dict[Host, ServerContext] | None = None) -> HostTable:
    """The table of a TLS listener. `cache` holds contexts made before, and gets those made now.

    Raises `edge.tls.trust.TrustError`.
    """
    entries: list[ServerContext | Passage] = []
    made = cache if cache is not None else {}
    for host in settings.hosts:
        if listener.name in host.listeners:
            if host.stream is not None and host.stream.passthrough:
                entries.append(Passage(host.stream, host))
                continue
            context = made.get(host)
            if context is None:
                context = made[host] = ServerContext(host)
            entries.append(context)
    otherwise = Passage(listener.stream, None) if listener.stream is not None else None
    return HostTable(entries, listener.no_sni, otherwise)
