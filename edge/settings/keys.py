"""The keys of the settings file: names, types, defaults and what each is for. The one source of all four.

Each table of the file is one frozen struct, in TOML's spelling. The JSON Schema, the messages about wrong keys, the page of
keys in the manual and `config/edge.toml` are made from these types; `resolve` turns them into `edge.settings.model`.
Tables that inherit (`tls`, `limits`, `hsts`, `client_auth`, header rules) are merged as plain tables first and converted
afterwards, so that a default never hides what a wider place says. UNSET means: not written, and no value stands for that.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from edge.settings.key_policies import (
    ClientAuth,
    ClientRule,
    Handshakes,
    HeaderRules,
    Hsts,
    Limits,
    Ocsp,
    RouteClientAuth,
    Tls,
)
from edge.settings.key_server import Access, Admin, Log, Server, TrustedProxies
from edge.settings.key_types import (
    Duration,
    DurationOrOff,
    Switch,
    Word,
    Words,
    example,
)  # fmt: skip
from edge.settings.key_upstreams import EndpointTable, Health, Retry, Upstream, UpstreamTls

__all__ = [
    "Access", "Admin", "CertificateSource", "ClientAuth", "ClientRule", "EndpointTable", "File", "Handshakes", "HeaderRules",
    "Health", "Host", "Hsts", "Limits", "Listener", "Log", "NamedCertificate", "Ocsp", "ProxyProtocol", "Redirect",
    "Respond", "Retry", "Route", "RouteClientAuth", "Server", "TargetTable", "Tls", "Trust", "TrustedProxies", "Upstream",
    "UpstreamTls",
]  # fmt: skip


class ProxyProtocol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The PROXY protocol, versions 1 and 2, of a balancer in front that relays bytes."""

    from_: Annotated[
        Words,
        Meta(description="Networks of the balancers. Only their headers are read."),
        example(["10.0.0.0/8"]),
    ] = field(name="from")
    mode: Annotated[
        Literal["require", "optional"],
        Meta(
            description="require: a connection without a header, or from elsewhere, is refused. optional: balancers may leave it "
            "out, and others connect as usual; a header of theirs is not read."
        ),
    ] = "require"


class Trust(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named trust store, for hosts' client_auth and upstreams' tls alike. The name system is taken: the system's store."""

    ca: Annotated[
        Words,
        Meta(description="PEM files of certificate authorities; globs are allowed. Default: none."),
        example(["/etc/edge/ca.pem"]),
    ] = field(default_factory=list)
    system: Annotated[
        bool, Meta(description="Whether the system's store counts too. Default: no, a named store means exactly its files.")
    ] = False
    crl: Annotated[
        Words,
        Meta(description="Revocation lists of these authorities, PEM or DER; globs are allowed. Default: none."),
        example(["/etc/edge/crl/*.pem"]),
    ] = field(default_factory=list)
    crl_check: Annotated[
        Literal["leaf", "chain", "off"],
        Meta(
            description="What is looked up in the list of its issuer: the certificate itself, or the intermediates too. An "
            "issuer without a list revokes nothing."
        ),
    ] = "leaf"
    crl_grace: Annotated[
        Duration,
        Meta(
            description="How long a list is believed after it should have been replaced; then its issuer's certificates "
            "are refused."
        ),
    ] = "24h"


class CertificateSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One certificate with its chain and key: exactly one of chain and key, bundle, or dir."""

    chain: Annotated[
        Word | UnsetType,
        Meta(description="PEM file with the certificate first, then its intermediates."),
        example("/etc/edge/api.pem"),
    ] = UNSET
    key: Annotated[
        Word | UnsetType,
        Meta(description="PEM file with the private key, readable by its owner alone."),
        example("/etc/edge/api.key"),
    ] = UNSET
    bundle: Annotated[
        Word | UnsetType, Meta(description="One PEM file with key and chain."), example("/etc/edge/api.bundle.pem")
    ] = UNSET
    dir: Annotated[
        Word | UnsetType,
        Meta(description="A directory with tls.crt and tls.key (Kubernetes) or fullchain.pem and privkey.pem (certbot)."),
        example("/etc/letsencrypt/live/api.example.com"),
    ] = UNSET
    passphrase: Annotated[
        Word | UnsetType,
        Meta(description="Of an encrypted key. Best from elsewhere: ${credential:NAME}, ${file:/path}."),
        example("${credential:api-key}"),
    ] = UNSET


class NamedCertificate(CertificateSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate that hosts name, or find by its names."""

    name: Annotated[Word, Meta(description="What hosts call it."), example("wildcard")]


class TargetTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One choice among several upstreams."""

    name: Annotated[Word, Meta(description="An [upstream.NAME], or a URL."), example("app")]
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], Meta(description="Its share, relative to the others' weights.")
    ] = 1


Targets: TypeAlias = Word | TargetTable | list[Word | TargetTable]


class Listener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where clients connect. A file without any gets :443 for TLS and :80 which redirects there."""

    name: Annotated[
        Word | UnsetType, Meta(description="What hosts and routes call it. Default: its address."), example("https")
    ] = UNSET
    address: Annotated[
        Words,
        Meta(
            description='One address with its port, or several: ":443" (both families), "192.0.2.1:443", "[2001:db8::1]:443"; or '
            '"systemd" for the sockets that a socket unit passes under the listener\'s name, "systemd:NAME" under another one.'
        ),
        example(":443"),
    ]
    tls: Annotated[
        Switch, Meta(description="off: plain HTTP. Hosts that ask for client certificates are never served there.")
    ] = "on"
    redirect: Annotated[
        Word | UnsetType,
        Meta(description='"https" or "https:PORT": answer everything with a redirect there (308). Only with tls = "off".'),
        example("https"),
    ] = UNSET
    no_sni: Annotated[Word | UnsetType, Meta(description="As tls.no_sni, for this listener alone."), example("refuse")] = UNSET
    proxy_protocol: Annotated[
        ProxyProtocol | UnsetType, Meta(description="The PROXY protocol, of a balancer in front. Default: none is read.")
    ] = UNSET
    passthrough: Annotated[
        Targets | UnsetType,
        Meta(
            description="Where connections go, as they are, whose name no [[host]] has. With tls off: all of them, whatever they "
            "say. Default: they are refused."
        ),
        example("legacy"),
    ] = UNSET
    tunnel_idle_timeout: Annotated[
        DurationOrOff, Meta(description="With passthrough: the longest gap without a byte in either direction.")
    ] = "1h"
    limits: Annotated[Limits | UnsetType, Meta(description="What differs from the top's limits here.")] = UNSET


class Redirect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A redirect as the answer. A single string is its `to`."""

    to: Annotated[
        Word,
        Meta(description="The new place; may hold {host}, {path}, {query} and {path_and_query}."),
        example("https://example.com{path_and_query}"),
    ]
    status: Annotated[
        Literal[301, 302, 303, 307, 308], Meta(description="The status. 308 is permanent and keeps the method, unlike 301.")
    ] = 308


class Respond(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fixed answer."""

    status: Annotated[Annotated[int, Meta(ge=200, le=599)], Meta(description="The status.")] = 200
    body: Annotated[str, Meta(description="The body. Default: empty.")] = ""
    content_type: Annotated[Word, Meta(description="Its media type.")] = "text/plain; charset=utf-8"


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name, or several, for which TLS ends here."""

    names: Annotated[
        Words,
        Meta(description='Host names; "*.example.com" covers one label. A name stands in one host only.'),
        example(["api.example.com"]),
    ]
    listeners: Annotated[
        Words | UnsetType,
        Meta(description="The listeners that serve it. Default: all that do not redirect."),
        example(["https"]),
    ] = UNSET
    certificates: Annotated[
        Word | CertificateSource | list[Word | CertificateSource] | UnsetType,
        Meta(
            description="Its certificates, at most one of each key type: { chain, key }, { bundle }, { dir } or the name of a "
            "[[certificate]]. Default: the first [[certificate]] of each key type that covers its names."
        ),
        example([{"chain": "/etc/edge/api.pem", "key": "/etc/edge/api.key"}]),
    ] = UNSET
    upstream: Annotated[
        Targets | UnsetType, Meta(description='Short for a route with path = "/".'), example("http://127.0.0.1:8000")
    ] = UNSET
    protocol: Annotated[
        Literal["http", "tcp"],
        Meta(description="tcp: TLS ends here and the bytes go on to `upstream` as they are, for databases and brokers."),
    ] = "http"
    passthrough: Annotated[
        Targets | UnsetType,
        Meta(description="An upstream at which TLS ends: bytes are relayed by name and never decrypted. Needs no certificate."),
        example("vault"),
    ] = UNSET
    tunnel_idle_timeout: Annotated[
        DurationOrOff,
        Meta(description="With tcp or passthrough: the longest gap without a byte in either direction."),
    ] = "1h"
    tls: Annotated[Tls | UnsetType, Meta(description="What differs from the top's tls here.")] = UNSET
    client_auth: Annotated[
        Literal["none"] | ClientAuth | UnsetType,
        Meta(description='Client certificates. "none" takes an inherited requirement away.'),
    ] = UNSET
    hsts: Annotated[Literal["none"] | Hsts | UnsetType, Meta(description='Strict-Transport-Security. "none" takes it away.')] = (
        UNSET
    )
    limits: Annotated[Limits | UnsetType, Meta(description="What differs from the top's limits here.")] = UNSET
    request_headers: Annotated[
        Literal["none"] | HeaderRules | UnsetType, Meta(description='Changes to requests. "none" takes inherited ones away.')
    ] = UNSET
    response_headers: Annotated[
        Literal["none"] | HeaderRules | UnsetType, Meta(description='Changes to responses. "none" takes inherited ones away.')
    ] = UNSET


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to some requests: exactly one of upstream, redirect, respond and health. Order never matters."""

    host: Annotated[
        Word | UnsetType, Meta(description="A host name or wildcard. Default: every host."), example("api.example.com")
    ] = UNSET
    path: Annotated[Word, Meta(description='"/v1/" means everything below, "/v1" exactly this; {id} is one segment.')] = "/"
    listeners: Annotated[
        Words | UnsetType, Meta(description="The listeners on which it holds. Default: those of its host."), example(["https"])
    ] = UNSET
    methods: Annotated[
        Words | UnsetType,
        Meta(description="The methods that it takes; others answer 405. Default: all."),
        example(["GET", "HEAD"]),
    ] = UNSET
    headers: Annotated[
        dict[Word, str],
        Meta(description='Fields that a request must have, with their values; "*" is any value. Default: no condition.'),
        example({"X-Canary": "1"}),
    ] = field(default_factory=dict)
    upstream: Annotated[
        Targets | UnsetType,
        Meta(description="An [upstream.NAME] or a URL, or several with weights."),
        example("app"),
    ] = UNSET
    redirect: Annotated[
        Word | Redirect | UnsetType,
        Meta(description="A redirect as the answer."),
        example("https://example.com{path_and_query}"),
    ] = UNSET
    respond: Annotated[Respond | UnsetType, Meta(description="A fixed answer.")] = UNSET
    health: Annotated[
        Literal["live", "ready"] | UnsetType,
        Meta(
            description="The gateway's own health as the answer, 200 or 503, for DNS and balancers that choose a region. ready "
            "turns to 503 when a stop begins, while connections are still taken; live says that this process serves."
        ),
        example("ready"),
    ] = UNSET
    strip_prefix: Annotated[
        str, Meta(description="What is cut off the front of the path for the upstream. Default: nothing."), example("/v2")
    ] = ""
    rewrite: Annotated[
        str,
        Meta(description="The path for the upstream; may hold the path's {names}. Default: as it came."),
        example("/orders/{id}"),
    ] = ""
    paths: Annotated[
        Literal["normalised", "raw"],
        Meta(description="What the upstream receives. raw: the path untouched, for services whose signatures cover it."),
    ] = "normalised"
    upstream_host: Annotated[
        str, Meta(description="The Host that the upstream receives. Default: the client's."), example("internal.example.com")
    ] = ""
    request_headers: Annotated[
        Literal["none"] | HeaderRules | UnsetType, Meta(description='Changes to requests. "none" takes inherited ones away.')
    ] = UNSET
    response_headers: Annotated[
        Literal["none"] | HeaderRules | UnsetType, Meta(description='Changes to responses. "none" takes inherited ones away.')
    ] = UNSET
    timeout: Annotated[
        DurationOrOff,
        Meta(description="The whole request; a total that ends at the response's head for event streams, gRPC and tunnels."),
    ] = "off"
    first_byte_timeout: Annotated[
        DurationOrOff | UnsetType,
        Meta(description="From the request's end to the response's head; a total. Default: the upstream's."),
        example("60s"),
    ] = UNSET
    between_bytes_timeout: Annotated[
        DurationOrOff | UnsetType,
        Meta(description="The longest gap between two pieces of a response. Default: the upstream's."),
        example("60s"),
    ] = UNSET
    early_data: Annotated[
        bool,
        Meta(
            description="Whether GET, HEAD and OPTIONS that came as early data (tls.early_data) are answered before the "
            "handshake is over. All others wait for its end."
        ),
    ] = False
    tunnel_idle_timeout: Annotated[
        DurationOrOff, Meta(description="The longest gap without a byte in either direction of a WebSocket or other tunnel.")
    ] = "1h"
    limits: Annotated[Limits | UnsetType, Meta(description="What differs from the host's limits here.")] = UNSET
    client_certificate: Annotated[
        Word | UnsetType,
        Meta(description="The [[certificate]] that the upstream sees from this route. Default: the upstream's."),
        example("mesh-wildcard"),
    ] = UNSET
    hsts: Annotated[
        Literal["none"] | Hsts | UnsetType, Meta(description='Strict-Transport-Security. "none" takes it away. Only with a host.')
    ] = UNSET
    client_auth: Annotated[
        RouteClientAuth | UnsetType,
        Meta(description="Which of the host's clients may use this route. Only with a host. Default: all."),
    ] = UNSET


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of edge."""

    include: Annotated[
        Words,
        Meta(description="Other files, by globs relative to this file, sorted. A name defined twice is an error. Default: none."),
        example(["conf.d/*.toml"]),
    ] = field(default_factory=list)
    server: Annotated[Server, Meta(description="The processes and where they keep things.")] = field(
        default_factory=lambda: Server()
    )
    log: Annotated[Log, Meta(description="The logs.")] = field(default_factory=lambda: Log())
    admin: Annotated[Admin, Meta(description="The listener for operators and their tools. Plain HTTP.")] = field(
        default_factory=lambda: Admin()
    )
    trusted_proxies: Annotated[TrustedProxies, Meta(description="Whose X-Forwarded-For and Forwarded are believed.")] = field(
        default_factory=lambda: TrustedProxies()
    )
    limits: Annotated[Limits, Meta(description="Bounds on what one client may use.")] = field(default_factory=lambda: Limits())
    handshakes: Annotated[Handshakes, Meta(description="How many handshakes may begin.")] = field(
        default_factory=lambda: Handshakes()
    )
    tls: Annotated[Tls, Meta(description="What handshakes offer.")] = field(default_factory=lambda: Tls())
    ocsp: Annotated[Ocsp, Meta(description="OCSP stapling.")] = field(default_factory=lambda: Ocsp())
    hsts: Annotated[Literal["none"] | Hsts, Meta(description="Strict-Transport-Security for all TLS hosts.")] = field(
        default_factory=lambda: Hsts()
    )
    client_auth: Annotated[
        ClientAuth | UnsetType, Meta(description="Client certificates for all hosts. Default: none asked for.")
    ] = UNSET
    upstream_tls: Annotated[
        UpstreamTls, Meta(description="How the https endpoints of all upstreams are verified, unless an upstream says otherwise.")
    ] = field(default_factory=lambda: UpstreamTls())
    request_headers: Annotated[HeaderRules, Meta(description="Changes to all requests.")] = field(
        default_factory=lambda: HeaderRules()
    )
    response_headers: Annotated[HeaderRules, Meta(description="Changes to all responses.")] = field(
        default_factory=lambda: HeaderRules()
    )
    trust: Annotated[dict[Word, Trust], Meta(description="Named trust stores.")] = field(default_factory=dict)
    certificate: Annotated[list[NamedCertificate], Meta(description="Named certificates.")] = field(default_factory=list)
    listener: Annotated[list[Listener], Meta(description="Where clients connect.")] = field(default_factory=list)
    host: Annotated[list[Host], Meta(description="The names for which TLS ends here.")] = field(default_factory=list)
    route: Annotated[list[Route], Meta(description="What happens to which requests.")] = field(default_factory=list)
    upstream: Annotated[dict[Word, Upstream], Meta(description="Servers that requests are relayed to.")] = field(
        default_factory=dict
    )
