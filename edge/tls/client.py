"""TLS towards upstreams: verified by default, chain and name.

A `ClientContext` belongs to one server name and one set of upstream settings, and so do the sessions that it keeps: a
session carries the verdict on the certificate that was shown when it began, so it may only be resumed under the
identical demands. Sessions are kept by endpoint, the newest of each, at most `SESSIONS` in all: endpoints of one upstream
rarely share ticket keys.

An empty name to verify would match any certificate, so it is an error unless verification is off. Addresses are
verified against address SANs and never sent as server_name (RFC 6066 section 3). OpenSSL's option to take the end of the
stream for a close_notify is never set here: it would let a body be cut short unnoticed.

Pins are held against the verified chain when the handshake is done, before a byte of a request leaves. Sessions are kept
only from connections that passed. Renegotiation is refused, and our own certificate leaves only when the server asks for it.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from typing import Any

from OpenSSL import SSL

from edge.errors import Fault, Side
from edge.settings.client_rules import ClientLeaf
from edge.settings.model import TlsPolicy, UpstreamTls
from edge.settings.names import canonical
from edge.tls.binding import NULL, SSL_SENT_AND_RECEIVED_SHUTDOWN, context_pointer, ffi, lib
from edge.tls.clients import leaf_of
from edge.tls.context import MODES, protocol_list, set_bounds
from edge.tls.engine import Engine
from edge.tls.pins import chain, pin_text, verified_pins
from edge.tls.revocation import Revocation, revocation_of
from edge.tls.trust import TrustError, store_of, use_certificate

__all__ = ["PIN_MISMATCH", "SESSIONS", "ClientContext", "ClientEngine"]

SESSIONS = 64
PIN_MISMATCH = "upstream-pin-mismatch"
"""The kind of the fault, and the event's name."""

_OPTIONS = lib.SSL_OP_NO_COMPRESSION | lib.SSL_OP_NO_RENEGOTIATION
_GROUPS = ("X25519MLKEM768", "X25519", "prime256v1", "secp384r1")


class ClientContext:
    """How to connect to the servers of one name. `server_name` is what is verified; a name in the settings overrides it."""

    __slots__ = ("_address", "_context", "_name", "_pointer", "_sessions", "pin_report", "pins", "revocation", "sni", "verify")

    def __init__(self, upstream_tls: UpstreamTls, server_name: str) -> None:
        """Raises `edge.tls.trust.TrustError` for an empty name, an unusable store or certificate, or no system store."""
        name = (upstream_tls.server_name or server_name).removesuffix(".")
        self.verify = upstream_tls.verify
        if self.verify and (not name or name.startswith(".")):
            raise TrustError(f"an upstream called {name!r} cannot be verified")
        if not name.isascii():
            raise TrustError(f"the upstream's name {name!r} must be written in its ASCII form (xn--…)")
        self._address = _address_bytes(name)
        self._name = name.encode()
        self.sni = canonical(name) if name and self._address is None else None
        self.pins = frozenset(upstream_tls.pins)
        self.pin_report = upstream_tls.pin_report
        self.revocation = revocation_of(upstream_tls.trust) if self.verify else None
        self._sessions: OrderedDict[str, Any] = OrderedDict()
        self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._pointer: Any = context_pointer(context)
        set_bounds(context, TlsPolicy(min_version=upstream_tls.min_version, groups=_GROUPS))
        context.set_options(_OPTIONS)
        context.set_mode(MODES)
        if upstream_tls.alpn:
            wire = protocol_list(upstream_tls.alpn)
            lib.SSL_CTX_set_alpn_protos(self._pointer, wire, len(wire))
        if upstream_tls.client_certificate is not None:
            use_certificate(context, upstream_tls.client_certificate)
        if self.verify:
            store_of(upstream_tls.trust).attach(self._pointer)
            lib.SSL_CTX_set_verify(self._pointer, lib.SSL_VERIFY_PEER, NULL)

    def engine(self, endpoint: str = "") -> ClientEngine:
        """A new connection, whose ClientHello waits in `drain`. `endpoint` tells apart the servers that this name stands for."""
        engine = ClientEngine(self._pointer, self, endpoint)
        ssl = engine._ssl
        if self.sni is not None:
            lib.SSL_set_tlsext_host_name(ssl, self._name)
        if self.verify:
            self._demand_name(lib.SSL_get0_param(ssl))
        session = self._sessions.get(endpoint)
        if session is not None:
            lib.SSL_set_session(ssl, session)
        engine.begin()
        return engine

    def _demand_name(self, parameters: Any) -> None:
        if self._address is not None:
            done = lib.X509_VERIFY_PARAM_set1_ip(parameters, self._address, len(self._address))
        else:
            lib.X509_VERIFY_PARAM_set_hostflags(parameters, lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
            done = lib.X509_VERIFY_PARAM_set1_host(parameters, self._name, len(self._name))
        if done != 1:
            raise Fault(Side.EDGE, "upstream-name-not-verifiable", detail=self._name.decode(), status=502)

    def keep(self, endpoint: str, session: Any) -> None:
        """Remember a session (a reference that becomes ours) as the newest of its endpoint."""
        sessions = self._sessions
        sessions[endpoint] = ffi.gc(session, lib.SSL_SESSION_free)
        sessions.move_to_end(endpoint)
        if len(sessions) > SESSIONS:
            sessions.popitem(last=False)


def _address_bytes(name: str) -> bytes | None:
    try:
        return ip_address(name.strip("[]")).packed
    except ValueError:
        return None


class ClientEngine(Engine):
    """The connection to an upstream."""

    __slots__ = ("_context", "_endpoint", "_kept", "unpinned")

    side = Side.UPSTREAM

    def __init__(self, pointer: Any, context: ClientContext, endpoint: str) -> None:
        super().__init__(pointer, context, context.sni)
        lib.SSL_set_connect_state(self._ssl)
        self._context = context
        self._endpoint = endpoint
        self._kept = False
        self.unpinned = ""  # the pins that were seen, when none of them is ours and that is only to be reported

    def begin(self) -> None:
        """Write the ClientHello."""
        self._handshake()

    def _complete(self) -> None:
        if self._context.revocation is not None:
            self._check_revocation(self._context.revocation)
        pins = self._context.pins
        if pins and not lib.SSL_session_reused(self._ssl):
            seen = verified_pins(self._ssl)
            if pins.isdisjoint(seen):
                shown = f"seen {', '.join(map(pin_text, seen))}"
                if not self._context.pin_report:
                    raise Fault(Side.UPSTREAM, PIN_MISMATCH, detail=shown, status=502)
                self.unpinned = shown

    def _check_revocation(self, revocation: Revocation) -> None:
        """Of the whole chain only its leaf is known when a session is resumed."""
        leaf = leaf_of(self._ssl)
        above = chain(self._ssl)[1:] if revocation.whole_chain and not lib.SSL_session_reused(self._ssl) else []
        for certificate in [*([] if leaf is None else [leaf]), *map(ClientLeaf, above)]:
            try:
                found = revocation.objection(certificate)
            except ValueError:
                found = "revocation-unknown", "a certificate cannot be read"
            if found is not None:
                raise Fault(Side.UPSTREAM, f"upstream-certificate-{found[0]}", detail=found[1], status=502)

    def chain(self) -> list[bytes]:
        """DER of the verified chain, the leaf first; of what the server sent where nothing is verified."""
        return chain(self._ssl)

    def receive(self, data: bytes | memoryview) -> bytes:
        plain = super().receive(data)
        if plain and not self._kept:
            self._keep_session()  # TLS 1.3 sends tickets after the handshake: with the first data they have come
        return plain

    def close(self) -> None:
        if self._ssl and self.established and not self._kept:
            self._keep_session()
        if self._ssl:
            lib.SSL_set_shutdown(self._ssl, SSL_SENT_AND_RECEIVED_SHUTDOWN)  # else the session would be one that broke
        super().close()

    def _keep_session(self) -> None:
        self._kept = True
        session = lib.SSL_get1_session(self._ssl)
        if session:
            self._context.keep(self._endpoint, session)
