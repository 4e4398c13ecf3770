"""The keys of the settings file: names, types, defaults and what each is for. The one source of all four.

Each table of the file is one frozen struct, in TOML's spelling. The JSON Schema, the messages about wrong keys, the page of
keys in the manual and `config/edge.toml` are made from these types; `resolve` turns them into `edge.settings.model`.
Tables that inherit (`tls`, `limits`, `hsts`, `client_auth`, header rules) are merged as plain tables first and converted
afterwards, so that a default never hides what a wider place says. UNSET means: not written, and no value stands for that.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from edge.settings.units import KINDS

__all__ = [
    "LATER", "Access", "CertificateSource", "ClientAuth", "EndpointTable", "File", "HeaderRules", "Health", "Host",
    "Hsts", "Limits", "Listener", "Log", "NamedCertificate", "Redirect", "Respond", "Retry", "Route", "Server", "TargetTable",
    "Tls", "Trust", "TrustedProxies", "Upstream", "UpstreamTls",
]  # fmt: skip


def _unit(kind: str, *, off: bool) -> Meta:
    return Meta(pattern=KINDS[kind].pattern(off=off), extra_json_schema={"x-unit": kind, "x-off": off})


def _example(value: object) -> Meta:
    """What `config/edge.toml` shows for a key that has no default."""
    return Meta(examples=[value])


Duration = Annotated[str, _unit("duration", off=False)]
DurationOrOff = Annotated[str, _unit("duration", off=True)]
Size = Annotated[str, _unit("size", off=False)]
SizeOrOff = Annotated[str, _unit("size", off=True)]
ByteRateOrOff = Annotated[str, _unit("byte-rate", off=True)]
ShareOrOff = Annotated[str, _unit("share", off=True)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
CountOrOff = Annotated[int, Meta(ge=1, le=1_000_000_000)] | Literal["off"]
Word = Annotated[str, Meta(min_length=1)]
Words: TypeAlias = Word | list[Word]
Switch = Literal["on", "off"]


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes and where they keep things."""

    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | UnsetType,
        Meta(description="Worker processes. Default: one for each CPU, because one worker keeps one CPU busy."),
        _example(2),
    ] = UNSET
    user: Annotated[
        str,
        Meta(
            description="The user that workers become when edge starts as root. Default: none, so workers stay who started them."
        ),
    ] = ""
    group: Annotated[str, Meta(description="The group that workers take. Default: the user's own.")] = ""
    state_dir: Annotated[
        Word | UnsetType,
        Meta(
            description="Where state is kept across restarts. Default: /var/lib/edge for root, else $XDG_STATE_HOME/edge "
            "(~/.local/state/edge)."
        ),
        _example("/var/lib/edge"),
    ] = UNSET
    runtime_dir: Annotated[
        Word | UnsetType,
        Meta(
            description="Where the control socket lies, short because socket paths are limited to 107 bytes. "
            "Default: /run/edge for root, else $XDG_RUNTIME_DIR/edge."
        ),
        _example("/run/edge"),
    ] = UNSET
    drain: Annotated[Duration, Meta(description="How long open requests may go on after a stop was asked for; a total.")] = "30s"
    region: Annotated[str, Meta(description="The region that this node is in, for logs. Default: none.")] = ""
    resolver: Annotated[
        Words | UnsetType,
        Meta(description="Addresses of the DNS servers to ask for upstream names. Default: those of the system."),
        _example(["127.0.0.53"]),
    ] = UNSET
    via: Annotated[
        Word,
        Meta(description="The name by which Via speaks of this gateway (RFC 9110 section 7.6.3), instead of the host's name."),
    ] = "edge"


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what one client may use. At the top or in a listener; in a host or route those of bodies and writing."""

    request_line: Annotated[Size, Meta(description="Method, target and version together; longer answers 414.")] = "8KiB"
    header_bytes: Annotated[
        Size, Meta(description="All fields of one message: names, values and four bytes for each field; more answers 431.")
    ] = "32KiB"
    header_count: Annotated[Count, Meta(description="Fields of one message; more answers 431.")] = 100
    request_body: Annotated[
        SizeOrOff,
        Meta(description="Bytes of one request's body; more answers 413. Services that take uploads raise it on their routes."),
    ] = "10MiB"
    streams: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)],
        Meta(description="Concurrent HTTP/2 streams of one connection (RFC 9113 section 5.1.2)."),
    ] = 100
    requests_per_connection: Annotated[
        CountOrOff,
        Meta(description="Requests after which a connection is closed in an orderly way, so that clients spread again."),
    ] = 10_000
    connections: Annotated[
        Count, Meta(description="Connections from clients to one worker, all listeners together. Only at the top.")
    ] = 10_000
    pipelined: Annotated[Size, Meta(description="Pipelined HTTP/1.1 requests that wait for their turn; then reading pauses.")] = (
        "64KiB"
    )
    handshake_timeout: Annotated[Duration, Meta(description="From accept to the end of the TLS handshake; a total.")] = "10s"
    header_timeout: Annotated[
        Duration, Meta(description="From a request's first byte to the end of its fields; a total, against slow senders.")
    ] = "10s"
    body_timeout: Annotated[Duration, Meta(description="The longest gap between two pieces of a request's body.")] = "30s"
    body_min_rate: Annotated[
        ByteRateOrOff, Meta(description="The least rate of a whole request body once body_timeout has passed; a dribble is cut.")
    ] = "500B/s"
    idle_timeout: Annotated[Duration, Meta(description="The longest gap between two requests of one connection.")] = "60s"
    write_timeout: Annotated[Duration, Meta(description="The longest gap without the client taking a byte of what we send.")] = (
        "30s"
    )
    tls_hello: Annotated[Size, Meta(description="Bytes of one ClientHello; hybrid key shares need about 2 KiB.")] = "32KiB"
    h2_resets: Annotated[
        Count,
        Meta(description="HTTP/2 streams that a client resets, or makes us reset, in a second; more ends the connection."),
    ] = 200
    h2_control: Annotated[
        Count,
        Meta(
            description="HTTP/2 frames without use to a request (SETTINGS, PING and such) in a second; more ends the connection."
        ),
    ] = 1000


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What handshakes offer. At the top for all hosts, or in a host."""

    profile: Annotated[
        Literal["intermediate", "modern"],
        Meta(
            description="Mozilla Server Side TLS 6.0. intermediate: TLS 1.2 and 1.3 for general use; modern: TLS 1.3 alone. "
            "It decides the five keys below; each overrides it."
        ),
    ] = "intermediate"
    min_version: Annotated[
        Literal["1.2", "1.3"] | UnsetType, Meta(description="The lowest TLS version. Default: the profile's."), _example("1.2")
    ] = UNSET
    max_version: Annotated[
        Literal["1.2", "1.3"] | UnsetType,
        Meta(description="The highest TLS version. Default: the profile's, 1.3."),
        _example("1.3"),
    ] = UNSET
    ciphers: Annotated[
        Words | UnsetType,
        Meta(description="Suites of TLS 1.2, by OpenSSL's names. Default: the profile's, all with forward secrecy and AEAD."),
        _example(
            [
                "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
            ]
        ),
    ] = UNSET  # fmt: skip
    ciphersuites: Annotated[
        Words | UnsetType,
        Meta(description="Suites of TLS 1.3. Default: the profile's."),
        _example(["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]),
    ] = UNSET
    groups: Annotated[
        Words | UnsetType,
        Meta(description="Groups for the key exchange, best first. Default: the profile's, with the post-quantum hybrid first."),
        _example(["X25519MLKEM768", "X25519", "prime256v1", "secp384r1"]),
    ] = UNSET
    no_sni: Annotated[
        Word | UnsetType,
        Meta(
            description='The host that clients without SNI get, or "refuse". Only at the top. '
            "Default: the only host when there is one, else refuse."
        ),
        _example("refuse"),
    ] = UNSET
    unknown_sni: Annotated[
        Literal["refuse"],
        Meta(description="What a client gets that names a host which is not here. Only at the top."),
    ] = "refuse"
    tickets: Annotated[Switch, Meta(description="Session tickets, so that clients that come back need no full handshake.")] = "on"
    alpn: Annotated[
        Words,
        Meta(
            description="Protocols to agree on with the client: h2, http/1.1 or both. A client that offers none speaks HTTP/1.1."
        ),
    ] = field(default_factory=lambda: ["h2", "http/1.1"])


class Hsts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strict-Transport-Security (RFC 6797), on by default on TLS hosts. `hsts = "none"` takes it away."""

    max_age: Annotated[
        DurationOrOff, Meta(description='How long browsers insist on https. "off" sends 0, which makes browsers forget.')
    ] = "365d"
    include_subdomains: Annotated[
        bool, Meta(description="Whether it covers all names below. Default: no, because other names may still need plain HTTP.")
    ] = False
    preload: Annotated[
        bool,
        Meta(description="Asks for the browsers' built-in list; needs include_subdomains. Default: no, it is hard to undo."),
    ] = False


class ClientAuth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Client certificates (mutual TLS). At the top or in a host; `client_auth = "none"` takes an inherited one away."""

    mode: Annotated[
        Literal["require", "request", "off"],
        Meta(description="require: no certificate, no connection. request: asked for, and verified when one comes."),
    ] = "require"
    trust: Annotated[
        Word | UnsetType,
        Meta(description='Whose certificates are accepted: a [trust.NAME], or "system". A wrong one lets strangers in.'),
        _example("mesh"),
    ] = UNSET
    depth: Annotated[
        Annotated[int, Meta(ge=1, le=16)], Meta(description="Intermediate certificates between the client's and a trusted one.")
    ] = 4


class HeaderRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to header fields. At the top, in a host or a route, merged name by name."""

    set: Annotated[
        dict[Word, str],
        Meta(description="Fields to write in place of any there are. Default: none."),
        _example({"X-Frame-Options": "DENY"}),
    ] = field(default_factory=dict)
    add: Annotated[
        dict[Word, str | list[str]],
        Meta(description="Fields to append to those there are. Default: none."),
        _example({"Vary": "Origin"}),
    ] = field(default_factory=dict)
    remove: Annotated[
        Words, Meta(description="Fields to take away, before set and add. Default: none."), _example(["Server"])
    ] = field(default_factory=list)


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a log goes and what it holds. A single word is its `to`."""

    to: Annotated[
        Word | UnsetType,
        Meta(
            description='"stdout", "stderr", "syslog", "syslog:/path/to/socket", a file, or "off". '
            "Default: access to stdout, events to stderr."
        ),
        _example("stdout"),
    ] = UNSET
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto: a readable line on a terminal, JSON otherwise.")
    ] = "auto"
    redact: Annotated[
        Words,
        Meta(description='What is left out: "query", "peer" or a header field. Default: nothing.'),
        _example(["query"]),
    ] = field(default_factory=list)
    sample: Annotated[
        Annotated[str, _unit("share", off=False)],
        Meta(description="The share of requests with a status below 400 that are logged; others always are."),
    ] = "100%"


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The access log, the event log and how much is said."""

    access: Annotated[Word | Access, Meta(description="One line for each request: a word or a table."), _example("stdout")] = (
        field(default_factory=lambda: Access())
    )
    events: Annotated[
        Word | Access, Meta(description="Failed handshakes, start, stop, upstream health: a word or a table."), _example("stderr")
    ] = field(default_factory=lambda: Access())
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severity of events that are logged.")
    ] = "info"


class TrustedProxies(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose X-Forwarded-For and Forwarded are believed."""

    from_: Annotated[
        Words,
        Meta(description="Networks of the proxies in front of edge. Default: none, so nobody can claim another address."),
        _example(["10.0.0.0/8"]),
    ] = field(default_factory=list, name="from")


class Trust(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named trust store, for hosts' client_auth and upstreams' tls alike. The name `system` is taken: the system's store."""

    ca: Annotated[
        Words,
        Meta(description="PEM files of certificate authorities; globs are allowed. Default: none."),
        _example(["/etc/edge/ca.pem"]),
    ] = field(default_factory=list)
    system: Annotated[
        bool, Meta(description="Whether the system's store counts too. Default: no, a named store means exactly its files.")
    ] = False


class CertificateSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One certificate with its chain and key: exactly one of chain and key, bundle, or dir."""

    chain: Annotated[
        Word | UnsetType,
        Meta(description="PEM file with the certificate first, then its intermediates."),
        _example("/etc/edge/api.pem"),
    ] = UNSET
    key: Annotated[
        Word | UnsetType,
        Meta(description="PEM file with the private key, readable by its owner alone."),
        _example("/etc/edge/api.key"),
    ] = UNSET
    bundle: Annotated[
        Word | UnsetType, Meta(description="One PEM file with key and chain."), _example("/etc/edge/api.bundle.pem")
    ] = UNSET
    dir: Annotated[
        Word | UnsetType,
        Meta(description="A directory with tls.crt and tls.key (Kubernetes) or fullchain.pem and privkey.pem (certbot)."),
        _example("/etc/letsencrypt/live/api.example.com"),
    ] = UNSET
    passphrase: Annotated[
        Word | UnsetType,
        Meta(description="Of an encrypted key. Best from elsewhere: ${credential:NAME}, ${file:/path}."),
        _example("${credential:api-key}"),
    ] = UNSET


class NamedCertificate(CertificateSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate that hosts name, or find by its names."""

    name: Annotated[Word, Meta(description="What hosts call it."), _example("wildcard")]


class Listener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where clients connect. A file without any gets :443 for TLS and :80 which redirects there."""

    name: Annotated[
        Word | UnsetType, Meta(description="What hosts and routes call it. Default: its address."), _example("https")
    ] = UNSET
    address: Annotated[
        Words,
        Meta(description='One address with its port, or several: ":443" (both families), "192.0.2.1:443", "[2001:db8::1]:443".'),
        _example(":443"),
    ]
    tls: Annotated[
        Switch, Meta(description="off: plain HTTP. Hosts that ask for client certificates are never served there.")
    ] = "on"
    redirect: Annotated[
        Word | UnsetType,
        Meta(description='"https" or "https:PORT": answer everything with a redirect there (308). Only with tls = "off".'),
        _example("https"),
    ] = UNSET
    no_sni: Annotated[Word | UnsetType, Meta(description="As tls.no_sni, for this listener alone."), _example("refuse")] = UNSET
    limits: Annotated[Limits | UnsetType, Meta(description="What differs from the top's limits here.")] = UNSET


class TargetTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One choice among several upstreams."""

    name: Annotated[Word, Meta(description="An [upstream.NAME], or a URL."), _example("app")]
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], Meta(description="Its share, relative to the others' weights.")
    ] = 1


Targets: TypeAlias = Word | TargetTable | list[Word | TargetTable]


class Redirect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A redirect as the answer. A single string is its `to`."""

    to: Annotated[
        Word,
        Meta(description="The new place; may hold {host}, {path}, {query} and {path_and_query}."),
        _example("https://example.com{path_and_query}"),
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
        _example(["api.example.com"]),
    ]
    listeners: Annotated[
        Words | UnsetType,
        Meta(description="The listeners that serve it. Default: all that do not redirect."),
        _example(["https"]),
    ] = UNSET
    certificates: Annotated[
        Word | CertificateSource | list[Word | CertificateSource] | UnsetType,
        Meta(
            description="Its certificates, at most one of each key type: { chain, key }, { bundle }, { dir } or the name of a "
            "[[certificate]]. Default: the first [[certificate]] of each key type that covers its names."
        ),
        _example([{"chain": "/etc/edge/api.pem", "key": "/etc/edge/api.key"}]),
    ] = UNSET
    upstream: Annotated[
        Targets | UnsetType, Meta(description='Short for a route with path = "/".'), _example("http://127.0.0.1:8000")
    ] = UNSET
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
    """What happens to some requests: exactly one of upstream, redirect and respond. Order never matters."""

    host: Annotated[
        Word | UnsetType, Meta(description="A host name or wildcard. Default: every host."), _example("api.example.com")
    ] = UNSET
    path: Annotated[Word, Meta(description='"/v1/" means everything below, "/v1" exactly this; {id} is one segment.')] = "/"
    listeners: Annotated[
        Words | UnsetType, Meta(description="The listeners on which it holds. Default: those of its host."), _example(["https"])
    ] = UNSET
    methods: Annotated[
        Words | UnsetType,
        Meta(description="The methods that it takes; others answer 405. Default: all."),
        _example(["GET", "HEAD"]),
    ] = UNSET
    headers: Annotated[
        dict[Word, str],
        Meta(description='Fields that a request must have, with their values; "*" is any value. Default: no condition.'),
        _example({"X-Canary": "1"}),
    ] = field(default_factory=dict)
    upstream: Annotated[
        Targets | UnsetType,
        Meta(description="An [upstream.NAME] or a URL, or several with weights."),
        _example("app"),
    ] = UNSET
    redirect: Annotated[
        Word | Redirect | UnsetType,
        Meta(description="A redirect as the answer."),
        _example("https://example.com{path_and_query}"),
    ] = UNSET
    respond: Annotated[Respond | UnsetType, Meta(description="A fixed answer.")] = UNSET
    strip_prefix: Annotated[
        str, Meta(description="What is cut off the front of the path for the upstream. Default: nothing."), _example("/v2")
    ] = ""
    rewrite: Annotated[
        str,
        Meta(description="The path for the upstream; may hold the path's {names}. Default: as it came."),
        _example("/orders/{id}"),
    ] = ""
    paths: Annotated[
        Literal["normalised", "raw"],
        Meta(description="What the upstream receives. raw: the path untouched, for services whose signatures cover it."),
    ] = "normalised"
    upstream_host: Annotated[
        str, Meta(description="The Host that the upstream receives. Default: the client's."), _example("internal.example.com")
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
        _example("60s"),
    ] = UNSET
    between_bytes_timeout: Annotated[
        DurationOrOff | UnsetType,
        Meta(description="The longest gap between two pieces of a response. Default: the upstream's."),
        _example("60s"),
    ] = UNSET
    tunnel_idle_timeout: Annotated[
        DurationOrOff, Meta(description="The longest gap without a byte in either direction of a WebSocket or other tunnel.")
    ] = "1h"
    limits: Annotated[Limits | UnsetType, Meta(description="What differs from the host's limits here.")] = UNSET
    hsts: Annotated[
        Literal["none"] | Hsts | UnsetType, Meta(description='Strict-Transport-Security. "none" takes it away. Only with a host.')
    ] = UNSET


class EndpointTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server of an upstream."""

    url: Annotated[Word, Meta(description="http://, https://, h2c:// or unix:/path."), _example("http://127.0.0.1:8000")]
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], Meta(description="Its share, relative to the others' weights.")
    ] = 1


class UpstreamTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How https endpoints are verified. Chain and name always are, unless verify is off."""

    trust: Annotated[Word, Meta(description='A [trust.NAME], or "system": the system\'s store.')] = "system"
    verify: Annotated[
        Switch, Meta(description="off: any certificate is believed. Anybody in between can then read and change everything.")
    ] = "on"
    server_name: Annotated[
        str,
        Meta(description="The name to ask for and to verify. Default: the host of the endpoint's URL."),
        _example("internal.example.com"),
    ] = ""
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="The lowest TLS version.")] = "1.2"
    alpn: Annotated[Words, Meta(description="Protocols to offer: h2, http/1.1 or both.")] = field(
        default_factory=lambda: ["h2", "http/1.1"]
    )


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tries after a failure, only when nothing was sent or the request is safe to repeat."""

    attempts: Annotated[
        Annotated[int, Meta(ge=1, le=10)], Meta(description="Tries in all, the first included; 1 means no retry.")
    ] = 2
    budget: Annotated[
        ShareOrOff,
        Meta(description="Retries as a share of recent requests, so that retries never multiply an outage. off: no bound."),
    ] = "20%"


class Health(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Active checks. Without this table an endpoint's health is judged by the requests that it serves."""

    path: Annotated[Word, Meta(description="GET this path; any 2xx or 3xx is well."), _example("/healthz")]
    interval: Annotated[Duration, Meta(description="Time between two checks of one endpoint.")] = "5s"
    timeout: Annotated[Duration, Meta(description="How long one check may take; a total.")] = "2s"
    rise: Annotated[Annotated[int, Meta(ge=1, le=100)], Meta(description="Good checks in a row that make an endpoint well.")] = 2
    fall: Annotated[Annotated[int, Meta(ge=1, le=100)], Meta(description="Bad checks in a row that make an endpoint ill.")] = 3


class Upstream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Servers that requests are relayed to."""

    endpoints: Annotated[
        Word | EndpointTable | list[Word | EndpointTable],
        Meta(description="URLs: http://, https://, h2c:// (HTTP/2 without TLS) or unix:/path; without a path."),
        _example(["http://127.0.0.1:8000"]),
    ]
    tls: Annotated[UpstreamTls | UnsetType, Meta(description="How https endpoints are verified.")] = UNSET
    balance: Annotated[
        Literal["least_conn", "round_robin", "random"],
        Meta(description="How an endpoint is chosen. least_conn copes best with uneven requests."),
    ] = "least_conn"
    connect_timeout: Annotated[Duration, Meta(description="Until a connection stands, TLS included; a total.")] = "5s"
    first_byte_timeout: Annotated[DurationOrOff, Meta(description="From the request's end to the response's head; a total.")] = (
        "60s"
    )
    between_bytes_timeout: Annotated[DurationOrOff, Meta(description="The longest gap between two pieces of a response.")] = "60s"
    keepalive: Annotated[CountOrOff, Meta(description="Idle connections kept for each endpoint by one worker.")] = 64
    keepalive_timeout: Annotated[
        Duration, Meta(description="Idle connections are closed after this, a little before most servers close them.")
    ] = "55s"
    max_connections: Annotated[CountOrOff, Meta(description="Connections to each endpoint from one worker.")] = "off"
    retry: Annotated[Retry, Meta(description="Tries after a failure.")] = field(default_factory=lambda: Retry())
    health: Annotated[Health | UnsetType, Meta(description="Active checks. Default: none, only what requests show.")] = UNSET


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of edge."""

    include: Annotated[
        Words,
        Meta(description="Other files, by globs relative to this file, sorted. A name defined twice is an error. Default: none."),
        _example(["conf.d/*.toml"]),
    ] = field(default_factory=list)
    server: Annotated[Server, Meta(description="The processes and where they keep things.")] = field(
        default_factory=lambda: Server()
    )
    log: Annotated[Log, Meta(description="The logs.")] = field(default_factory=lambda: Log())
    trusted_proxies: Annotated[TrustedProxies, Meta(description="Whose X-Forwarded-For and Forwarded are believed.")] = field(
        default_factory=lambda: TrustedProxies()
    )
    limits: Annotated[Limits, Meta(description="Bounds on what one client may use.")] = field(default_factory=lambda: Limits())
    tls: Annotated[Tls, Meta(description="What handshakes offer.")] = field(default_factory=lambda: Tls())
    hsts: Annotated[Literal["none"] | Hsts, Meta(description="Strict-Transport-Security for all TLS hosts.")] = field(
        default_factory=lambda: Hsts()
    )
    client_auth: Annotated[
        ClientAuth | UnsetType, Meta(description="Client certificates for all hosts. Default: none asked for.")
    ] = UNSET
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


# keys of later versions, by struct: known, so that nobody takes them for typing mistakes
LATER: Final[dict[str, frozenset[str]]] = {
    "File": frozenset({"acme", "store", "jwt", "rate_limit", "waf", "admin", "auth", "rate_limits", "regions", "scan", "ocsp"}),
    "Server": frozenset({"cluster"}),
    "Listener": frozenset({"proxy_protocol"}),
    "Tls": frozenset({"early_data", "ocsp", "ticket_lifetime", "ticket_secret"}),
    "ClientAuth": frozenset({"allow", "max_age"}),
    "Trust": frozenset({"crl", "crl_check", "crl_grace"}),
    "CertificateSource": frozenset({"acme", "k8s_csr", "ocsp"}),
    "NamedCertificate": frozenset({"acme", "k8s_csr", "ocsp"}),
    "Host": frozenset(
        {"auth", "scopes", "rate_limits", "waf", "regions", "residency", "passthrough", "protocol", "max_age", "ocsp"}
    ),
    "Route": frozenset({"auth", "scopes", "rate_limits", "waf", "regions", "residency", "client_auth", "early_data"}),
    "EndpointTable": frozenset({"tier", "region"}),
    "Upstream": frozenset({"send_proxy_protocol", "failover_below", "regions"}),
    "UpstreamTls": frozenset({"pins", "pin_mode", "client_certificate", "crl", "ocsp"}),
}  # fmt: skip
