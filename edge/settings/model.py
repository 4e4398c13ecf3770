"""The settings as the gateway uses them: frozen, typed, resolved. Past this module an invalid value does not exist.

`load` makes these from TOML: inheritance is merged in, names are looked up and every key has its value. Times are
seconds and sizes are bytes; ``None`` means the word ``"off"``. Order of hosts, routes and listeners carries no meaning.

What is equal is the same to the gateway: a reload keeps the contexts of equal hosts and the connections of equal upstreams.
Where something was written therefore takes no part in comparing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from edge.settings.model_policies import (
    ClientAuth,
    ClientAuthMode,
    ClientRule,
    Crl,
    HeaderRules,
    Hsts,
    Limits,
    RouteClientAuth,
    TlsPolicy,
    Trust,
)  # fmt: skip

__all__ = [
    "AccessLog", "Address", "Admin", "Certificate", "ClientAuth", "ClientAuthMode", "ClientRule", "Crl", "Endpoint", "Handshakes",
    "HeaderRules", "Health", "Host", "Hsts", "Limits", "Listener", "Log", "Network", "Ocsp", "Place", "ProxyProtocol", "Redirect",
    "Respond", "Retry", "Route", "RouteClientAuth", "RoutePaths", "Scheme", "Server", "Settings", "Stream", "Target",
    "Tickets", "TlsPolicy", "Trust", "Upstream", "UpstreamTls",
]  # fmt: skip

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was written: for messages (`explain`, `routes`). `line` and `column` count from 1; 0: a default."""

    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One socket address to bind or to connect to: `path` for unix sockets, `passed` for one that the service manager has bound
    and passes under that name, else `host` (an address or a DNS name) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""
    passed: str = ""

    @property
    def text(self) -> str:
        """As people write it."""
        if self.path:
            return f"unix:{self.path}"
        if self.passed:
            return f"systemd:{self.passed}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A chain and its key, read and checked at load. `chain_pem` starts with the leaf. The key never leaves memory."""

    name: str  # of the [[certificate]], or the path of the chain
    chain_pem: bytes
    key_pem: bytes = field(repr=False)  # unencrypted PKCS#8 PEM
    key_type: str  # "ecdsa", "rsa" or "ed25519"
    names: tuple[str, ...]  # SAN DNS names and addresses, lower-case
    not_before: float  # POSIX seconds
    not_after: float
    fingerprint: str  # SHA-256 of the leaf's DER, hex
    purposes: frozenset[str] = frozenset({"server", "client"})  # what the leaf's extendedKeyUsage lets it be
    responders: tuple[str, ...] = ()  # URLs at which its authority answers by OCSP
    staple: str = ""  # with Must-Staple (RFC 7633): "alert" or "refuse", as `Ocsp.must_staple`
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProtocol:
    """Whose PROXY headers are believed. `required`: nobody else may connect, and nobody without one."""

    networks: tuple[Network, ...]
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Bytes that are relayed as they come. `passthrough`: TLS ends at the upstream and not here."""

    targets: tuple[Target, ...]
    passthrough: bool
    idle_timeout: float | None = 3600.0  # gap without a byte in either direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    name: str
    addresses: tuple[Address, ...]  # one for each family; host is an address, never a name
    tls: bool
    redirect_port: int | None = None  # tls = "off" only: answer 308 to https with this port
    no_sni: str | None = None  # the host that serves clients without SNI; None: refuse
    limits: Limits = Limits()
    proxy: ProxyProtocol | None = None  # what stands in front and says whom connections come from
    stream: Stream | None = None  # where everything goes that is no host's
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    names: tuple[str, ...]  # lower-case; a wildcard is "*.example.com"
    listeners: tuple[str, ...]  # names of the listeners that serve it, resolved
    certificates: tuple[Certificate, ...]  # at most one of each key type
    tls: TlsPolicy
    client_auth: ClientAuth = ClientAuth()
    hsts: Hsts | None = None
    stream: Stream | None = None  # no HTTP is spoken; with passthrough there is no certificate either
    place: Place = field(default=Place(), compare=False)


class Scheme(StrEnum):
    HTTP = "http"
    HTTPS = "https"
    H2C = "h2c"
    TCP = "tcp"  # bytes, for streams
    TLS = "tls"  # the same within TLS

    @property
    def over_tls(self) -> bool:
        return self is Scheme.HTTPS or self is Scheme.TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    url: str  # as written, for logs
    scheme: Scheme
    address: Address
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    trust: Trust
    server_name: str = ""  # name to send as SNI and to verify; "": the endpoint's host
    verify: bool = True
    min_version: str = "1.2"
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    pins: tuple[bytes, ...] = ()  # SHA-256 of SubjectPublicKeyInfos, sorted; one must be in the verified chain
    pin_report: bool = False  # a chain without one is written down and let through
    client_certificate: Certificate | None = None  # what we show when asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Active checks: `GET path` every `interval`; any 2xx or 3xx is well. `rise`/`fall`: how many in a row change the verdict."""

    path: str
    interval: float = 5.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    attempts: int = 2  # tries in all, the first included
    budget: float = 0.2  # retries as a share of the requests of the last ten seconds (ten are always allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    name: str  # for an inline URL: the URL
    endpoints: tuple[Endpoint, ...]
    tls: UpstreamTls | None = None
    balance: str = "least_conn"  # "round_robin", "least_conn", "random"
    connect_timeout: float = 5.0  # total, TLS included
    first_byte_timeout: float | None = 60.0  # from the end of the request to the response's head
    between_bytes_timeout: float | None = 60.0  # gap
    keepalive: int = 512  # idle connections kept for each endpoint, a worker
    keepalive_timeout: float = 55.0  # idle connections are closed after this
    max_connections: int | None = None  # for each endpoint, a worker
    retry: Retry = Retry()
    health: Health | None = None
    send_proxy: str = ""  # "v1", "v2": say whom a connection is for, which is then nobody else's
    place: Place = field(default=Place(), compare=False)


class RoutePaths(StrEnum):
    NORMALISED = "normalised"
    RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    to: str  # may hold {host} {path} {query} {path_and_query}
    status: int = 308


@dataclass(frozen=True, slots=True, kw_only=True)
class Respond:
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One weighted choice of a route's upstream."""

    upstream: Upstream
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Exactly one of `targets`, `redirect`, `respond`, `health` is set."""

    host: str | None  # exact name or wildcard, lower-case; None: every host
    path: str
    listeners: tuple[str, ...]  # resolved: the listeners on which it holds
    methods: frozenset[str] | None = None  # None: all
    match_headers: tuple[tuple[bytes, bytes], ...] = ()  # name → value; b"*" matches any value
    paths: RoutePaths = RoutePaths.NORMALISED
    targets: tuple[Target, ...] = ()
    redirect: Redirect | None = None
    respond: Respond | None = None
    health: str = ""  # "live" or "ready": the gateway's own
    strip_prefix: str = ""
    rewrite: str = ""  # may hold the path's {names}
    upstream_host: str = ""  # "": the client's; else this Host is sent
    request_headers: HeaderRules = HeaderRules()
    response_headers: HeaderRules = HeaderRules()
    timeout: float | None = None  # total until the response ends; until its head for event streams, gRPC, tunnels
    first_byte_timeout: float | None = None  # the upstream's, unless the route says otherwise (then already merged: see load)
    between_bytes_timeout: float | None = None
    tunnel_idle_timeout: float | None = 3600.0
    early_data: bool = False  # GET, HEAD and OPTIONS are answered before the handshake is confirmed
    limits: Limits = Limits()
    hsts: Hsts | None = None
    client_auth: RouteClientAuth | None = None
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    to: str | None = "stdout"  # "stdout", "stderr", "syslog", "syslog:/dev/log", a path, or None
    format: str = "auto"  # "auto", "json", "text"
    redact: frozenset[str] = frozenset()  # "query", "peer" or a field name
    sample: float = 1.0  # share of the fine requests (status < 400) that are logged


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    access: AccessLog = AccessLog()
    events: AccessLog = AccessLog(to="stderr")  # handshake failures, start, stop, upstream health
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    workers: int = 0  # resolved: never 0 after load
    user: str = ""
    group: str = ""
    state_dir: str = ""
    runtime_dir: str = ""
    pid_file: str = ""  # absolute; "": none
    pin: bool = False
    upgrade: str = "auto"  # "auto", "beside" or "in-place"
    upgrade_command: tuple[str, ...] = ()  # empty: the one that started us
    drain: float = 30.0
    drain_delay: float | None = None
    watch: str = "certificates"  # "certificates", "all" or "off"
    reload_weaker: str = "ask"  # or "allow"
    region: str = ""
    resolver: tuple[str, ...] = ()  # addresses of DNS servers; empty: the system's
    via: str = "edge"  # the pseudonym in Via


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The admin listener. Without addresses there is none. `written`: by somebody, so that a taken port is an error."""

    addresses: tuple[Address, ...] = (Address(host="127.0.0.1", port=9901),)
    written: bool = False
    token: str = field(default="", repr=False)  # "": none
    open: frozenset[str] = frozenset({"health"})  # of "health", "metrics", "status"
    names: frozenset[str] = frozenset()  # hosts that it may be asked by, besides localhost and addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Tickets:
    """The life of ticket keys, the same for all hosts."""

    rotation: float = 3600.0  # seconds between new keys
    lifetime: float = 7200.0  # the longest of all hosts: how long keys are good after the last ticket under them
    file: str = ""  # the path of the shared secret, which only the supervisor reads; "": secrets are random


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """How many handshakes may begin: events a second of one address (IPv6: of one /64) in one worker, and all together."""

    full: float | None = None
    resumed: float | None = None
    abandoned: float | None = None
    burst: float = 5.0  # seconds whose share may come at once
    exempt: tuple[Network, ...] = ()  # who has no budget
    at_once: int | None = 32  # full handshakes begun in one turn of a worker's loop; the others wait
    waiting: int = 8192  # so many at most
    wait: float = 5.0  # and so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Ocsp:
    """Stapling (RFC 6066 section 8), the same for all certificates."""

    stapling: bool = True
    responder: str = ""  # asked instead of those that certificates name
    proxy: str = field(default="", repr=False)  # may hold a password
    must_staple: str = "alert"  # or "refuse": what becomes of a Must-Staple certificate that has none
    timeout: float = 10.0  # seconds, of one question to one responder


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    server: Server
    log: Log
    limits: Limits
    listeners: tuple[Listener, ...]
    hosts: tuple[Host, ...]
    routes: tuple[Route, ...]
    upstreams: Mapping[str, Upstream]
    trusted_proxies: tuple[Network, ...] = ()
    admin: Admin = Admin()
    tickets: Tickets = Tickets()
    handshakes: Handshakes = Handshakes()
    ocsp: Ocsp = Ocsp()
    files: tuple[str, ...] = ()  # every file that was read, and directories in which others would be
    documents: tuple[str, ...] = ()  # those of them that hold settings
    digest: str = ""  # SHA-256 of what was read, hex
