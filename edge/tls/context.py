"""The `SSL_CTX` of a host: everything about its handshakes that is decided before a client comes.

There is one per host and policy, made at load and never per connection, and it is chosen before the connection
exists: OpenSSL can exchange certificates in its SNI callback, but neither the verify mode nor the protocol's bounds.

Decisions
* TLS 1.2 and 1.3 only; no compression, no renegotiation (from either side).
* Server preference among the suites, with ChaCha20 first for clients that put it first (they lack AES instructions). All
  suites on offer are equally strong, so nothing is lost by choosing: Mozilla's "server preference: no" exists to let such
  clients have ChaCha20, which they get, and TLS_AES_128_GCM_SHA256 saves an eighth of a handshake's crypto against
  the SHA-384 suite that OpenSSL's clients name first.
* The session-id context is the policy identity and ticket keys derive from it (`edge.tls.ticket_keys`), so a ticket means
  nothing under another policy. OpenSSL's session cache is off (a KiB a session, and no other worker sees it); tickets resume.
* TLS 1.3 sends one ticket for each handshake, full or resumed, so a client that uses each once has as many as it had connections.
  OpenSSL's default is two after a full one, and the second costs a twentieth of the handshake. With tickets off it would
  still send them, naming entries of that cache, in which there is nothing; then none are sent. Both only where the layout of
  contexts is proven (`edge.tls.layout`); elsewhere its default holds.
* ALPN is answered by one callback for all contexts, made at import (a callback per context would leak, and needs
  writable and executable memory each). No common protocol is the alert no_application_protocol (RFC 7301 section 3.2); a
  client that offers none speaks HTTP/1.1. The answer to a client's list is remembered: there are few different lists.
* The chain that is sent is the one in the file. OpenSSL would look for the issuer of a lone leaf in each handshake, among the
  CAs that clients' certificates are verified with.
* TLS_FALLBACK_SCSV is OpenSSL's own doing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from OpenSSL import SSL

from edge.settings.identity import policy_id
from edge.settings.model import ClientAuthMode, Host, TlsPolicy
from edge.tls.binding import (
    NULL,
    SSL_MODE_NO_AUTO_CHAIN,
    SSL_OP_NO_ANTI_REPLAY,
    SSL_OP_PRIORITIZE_CHACHA,
    buffer,
    context_pointer,
    ffi,
    lib,
    reasons,
)
from edge.tls.clients import ClientCheck, verify_callback, verify_chain
from edge.tls.early import MAX_EARLY_DATA
from edge.tls.layout import LayoutError, layout
from edge.tls.trust import TrustError, store_of, use_certificate
from edge.tls.verify_field import set_verification

__all__ = ["MODES", "VERSIONS", "ProtocolChooser", "protocol_list", "server_context", "set_bounds", "takes_early_data"]

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_OPTIONS = (
    lib.SSL_OP_NO_COMPRESSION | lib.SSL_OP_NO_RENEGOTIATION | lib.SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA
)
MODES = (
    lib.SSL_MODE_RELEASE_BUFFERS
    | lib.SSL_MODE_ENABLE_PARTIAL_WRITE
    | lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    | SSL_MODE_NO_AUTO_CHAIN
)
_REMEMBERED = 256
_LONGEST_REMEMBERED = 128


def protocol_list(names: tuple[str, ...]) -> bytes:
    """ALPN names in their wire form (RFC 7301 section 3.1, without the outer length)."""
    return b"".join(len(name).to_bytes(1, "big") + name.encode() for name in names)


class ProtocolChooser:
    """Which of a client's protocols a host takes: the first of the host's that the client offers.

    Where a host takes HTTP/1.1 it takes HTTP/1.0 last, for clients that offer nothing else.
    """

    __slots__ = ("_memo", "_names")

    def __init__(self, names: tuple[str, ...]) -> None:
        if "http/1.1" in names:
            names += ("http/1.0",)
        self._names = [(name.encode(), ffi.new("unsigned char[]", name.encode())) for name in names]
        self._memo: dict[bytes, tuple[Any, int] | None] = {}

    def choose(self, offered: bytes) -> tuple[Any, int] | None:
        """A C string that lives as long as this object, and its length; None without overlap. `offered` in wire form."""
        try:
            return self._memo[offered]
        except KeyError:
            pass
        names = set()
        at = 0
        while at < len(offered):
            names.add(offered[at + 1 : at + 1 + offered[at]])
            at += 1 + offered[at]
        found = next(((pointer, len(name)) for name, pointer in self._names if name in names), None)
        if len(self._memo) < _REMEMBERED and len(offered) <= _LONGEST_REMEMBERED:
            self._memo[offered] = found
        return found


@ffi.callback(  # type: ignore[untyped-decorator]
    "int(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *)", error=lib.SSL_TLSEXT_ERR_ALERT_FATAL
)
def _select_protocol(ssl: Any, out: Any, outlen: Any, offered: Any, length: int, argument: Any) -> int:
    found = ffi.from_handle(argument).choose(buffer(offered, length)[:])
    if found is None:
        return lib.SSL_TLSEXT_ERR_ALERT_FATAL  # type: ignore[no-any-return]
    out[0], outlen[0] = found
    return lib.SSL_TLSEXT_ERR_OK  # type: ignore[no-any-return]


def set_bounds(context: SSL.Context, policy: TlsPolicy) -> None:
    """Versions, suites and groups; an empty list leaves OpenSSL's own. Raises TrustError for names that it does not know."""
    pointer = context_pointer(context)
    context.set_min_proto_version(VERSIONS[policy.min_version])
    context.set_max_proto_version(VERSIONS[policy.max_version])
    # not `Context.set_cipher_list`: that makes a connection each time, to see what has become of the list
    if policy.ciphers and lib.SSL_CTX_set_cipher_list(pointer, ":".join(policy.ciphers).encode()) != 1:
        raise TrustError(f"cipher suites {', '.join(policy.ciphers)}: {reasons()[1]}")
    try:
        if policy.ciphersuites:
            context.set_tls13_ciphersuites(":".join(policy.ciphersuites).encode())
    except SSL.Error as error:
        reasons()
        raise TrustError(f"cipher suites {', '.join(policy.ciphersuites)}: {error}") from None
    if policy.groups and lib.SSL_CTX_set1_curves_list(pointer, ":".join(policy.groups).encode()) != 1:
        raise TrustError(f"groups {', '.join(policy.groups)}: {reasons()[1]}")


def takes_early_data(host: Host) -> bool:
    """Whether the host's tickets allow early data: never where clients show certificates, nor where bytes are relayed unseen."""
    return host.tls.early_data and host.tls.tickets and host.client_auth.mode is ClientAuthMode.OFF and host.stream is None


def server_context(host: Host) -> tuple[SSL.Context, Any]:
    """The context of a host, and the handle by which its ALPN callback finds its chooser (with ``ffi.from_handle``).

    Both must outlive the connections. Raises TrustError.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    pointer = context_pointer(context)
    set_bounds(context, host.tls)
    context.set_options(_OPTIONS | (0 if host.tls.tickets else lib.SSL_OP_NO_TICKET))
    context.set_mode(MODES)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_timeout(int(host.tls.ticket_lifetime))
    context.set_session_id(policy_id(host))
    with suppress(LayoutError):
        layout().set_tickets(pointer, 1 if host.tls.tickets else 0)
    if takes_early_data(host):
        context.set_options(SSL_OP_NO_ANTI_REPLAY)
        lib.SSL_CTX_set_max_early_data(pointer, MAX_EARLY_DATA)
    for certificate in host.certificates:
        use_certificate(context, certificate)
    handle = ffi.new_handle(ProtocolChooser(host.tls.alpn))
    if host.tls.alpn:
        lib.SSL_CTX_set_alpn_select_cb(pointer, _select_protocol, handle)
    _set_client_auth(context, pointer, host)
    return context, handle


def _set_client_auth(context: SSL.Context, pointer: Any, host: Host) -> None:
    """`request` verifies a certificate that comes and does without one; a bad one, or one of a client that is not let in, fails
    in both modes."""
    auth = host.client_auth
    if auth.mode is ClientAuthMode.OFF:
        return
    if auth.trust is None:
        raise TrustError(f"host {host.names[0]} asks for client certificates and trusts no CA")
    store = store_of(auth.trust)
    store.attach(pointer)
    if auth.announce and not auth.trust.system:
        store.announce(pointer)
    check = ClientCheck(auth)
    must = lib.SSL_VERIFY_FAIL_IF_NO_PEER_CERT if auth.mode is ClientAuthMode.REQUIRE else 0
    lib.SSL_CTX_set_verify(pointer, lib.SSL_VERIFY_PEER | must, verify_callback if check.asks else NULL)
    context.set_verify_depth(auth.depth)
    if check.verified is not None:
        set_verification(pointer, verify_chain)
