"""The settings of what inherits: limits, TLS, HSTS, client certificates and header rules. See `model` for how they are used."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "ClientAuth", "ClientAuthMode", "ClientRule", "Crl", "HeaderRules", "Hsts", "Limits", "RouteClientAuth", "TlsPolicy", "Trust",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one client may use. Which times are gaps and which are totals stands beside them."""

    request_line: int = 8 * 1024  # bytes of method, target and version
    header_bytes: int = 32 * 1024  # bytes of all fields of one message (names, values and 4 a field)
    header_count: int = 100  # fields of one message
    request_body: int | None = 10 * 1024 * 1024
    streams: int = 100  # concurrent h2 streams of one connection
    requests_per_connection: int | None = 10_000
    connections: int = 10_000  # a worker's connections from clients, all listeners together (only at the top)
    pipelined: int = 64 * 1024  # bytes of pipelined requests kept before reading stops
    handshake_timeout: float = 10.0  # total
    header_timeout: float = 10.0  # total, from the first byte of a request to the end of its fields
    body_timeout: float = 30.0  # gap
    body_min_rate: float | None = 500.0  # bytes a second over the whole body, after `body_timeout` of grace
    idle_timeout: float = 60.0  # gap between requests
    write_timeout: float = 30.0  # gap: no progress in writing to the client
    tls_hello: int = 132 * 1024  # bytes of one ClientHello
    # frames of each kind in one second of a connection, beyond which an h2 connection is ended (ENHANCE_YOUR_CALM)
    h2_resets: int = 200  # streams that the client resets, or makes us reset
    key_updates: int = 64  # KeyUpdates and attempts to renegotiate, in one second of a connection
    empty_records: int = 256  # TLS records without data, the same
    h2_control: int = 1000  # SETTINGS, PING, PRIORITY, WINDOW_UPDATE beyond data, unknown frames, empty DATA


class ClientAuthMode(StrEnum):
    OFF = "off"
    REQUEST = "request"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """A revocation list, verified at load."""

    issuer: str  # in the form of `client_rules.normal_name`
    name: str  # the same for people
    serials: bytes = field(repr=False)  # sorted, each `width` octets, big-endian
    width: int
    this_update: float  # POSIX seconds
    next_update: float | None  # None: it does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """A named trust store: PEM certificates of the CAs, read at load. `system`: the system's store as well."""

    name: str
    ca_pem: bytes = b""
    system: bool = False
    crls: tuple[Crl, ...] = ()
    crl_check: str = "off"  # "off", "leaf" or "chain"
    crl_grace: float = 86_400.0  # seconds after `next_update` during which a list is still believed


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRule:
    """Conditions on a client's certificate, which must all hold; an empty one is no condition. See `client_rules`."""

    dns: str = ""  # a subjectAltName's DNS name, or a wildcard of one label
    uri: str = ""  # a subjectAltName's URI, with "*" for a segment of the path
    spiffe: str = ""  # the same for a SPIFFE ID, beside which there may be no other URI
    subject: str = ""  # RFC 4514, as cryptography writes it
    pins: tuple[bytes, ...] = ()  # SHA-256 of SubjectPublicKeyInfos, sorted; any of them


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAuth:
    mode: ClientAuthMode = ClientAuthMode.OFF
    trust: Trust | None = None
    depth: int = 4
    allow: tuple[ClientRule, ...] = ()  # who of those with a certificate is let in: whoever satisfies any; empty: all of them
    announce: bool = True  # the trusted CAs' names are sent to the client
    forward: str = "off"  # what upstreams are told of the certificate (RFC 9440): "off", "leaf" or "chain"
    chain: bool = False  # the host or one of its routes forwards the chain, so it is kept
    max_age: float | None = None  # a connection's, from its beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteClientAuth:
    """What a route demands of its clients, beyond what their host does."""

    required: bool = True  # a certificate
    allow: tuple[ClientRule, ...] = ()
    forward: str = ""  # "": as the host


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPolicy:
    """What a host's handshake offers. OpenSSL names."""

    min_version: str = "1.2"  # "1.2" or "1.3"
    max_version: str = "1.3"
    ciphers: tuple[str, ...] = ()  # TLS 1.2
    ciphersuites: tuple[str, ...] = ()  # TLS 1.3
    groups: tuple[str, ...] = ()
    tickets: bool = True
    ticket_lifetime: float = 7200.0  # whole seconds, at most seven days (RFC 8446 section 4.6.1)
    early_data: bool = False  # tickets allow 0-RTT; never with client authentication, streams or a shared ticket secret
    alpn: tuple[str, ...] = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hsts:
    max_age: int = 365 * 86_400
    include_subdomains: bool = False
    preload: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """Changes to a head's fields; names are lower-case. `set` replaces, `add` appends, `remove` comes first."""

    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    remove: frozenset[bytes] = frozenset()
