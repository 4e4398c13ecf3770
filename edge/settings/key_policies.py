"""The keys of what inherits: limits, TLS, HSTS, client certificates and header rules. See `keys` for how they are used."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from edge.settings.key_types import (
    ByteRateOrOff,
    Count,
    CountOrOff,
    Duration,
    DurationOrOff,
    RateOrOff,
    Size,
    SizeOrOff,
    Switch,
    Word,
    Words,
    example,
)  # fmt: skip

__all__ = ["ClientAuth", "ClientRule", "Handshakes", "HeaderRules", "Hsts", "Limits", "Ocsp", "RouteClientAuth", "Tls"]


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
    tls_hello: Annotated[
        Size, Meta(description="Bytes of one ClientHello; usual ones have 0.2 to 2 KiB, and the largest that can be written 129.")
    ] = "132KiB"
    key_updates: Annotated[
        Count,
        Meta(
            description="KeyUpdates (TLS 1.3) and attempts to renegotiate (TLS 1.2, always refused) in a second of a connection; "
            "more ends it."
        ),
    ] = 64
    empty_records: Annotated[
        Count,
        Meta(
            description="TLS records without data (empty ones, mere padding, warning alerts) in a second of a connection; more "
            "ends it. 33 in a row end it in any case."
        ),
    ] = 256
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


class Handshakes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many handshakes may begin, decided before any cryptography. Budgets are those of one address (IPv6: of a /64)."""

    full: Annotated[
        RateOrOff, Meta(description="Full handshakes of one address in one worker. Behind a balancer all clients may be one.")
    ] = "off"
    resumed: Annotated[RateOrOff, Meta(description="Resumed handshakes of one address in one worker.")] = "off"
    abandoned: Annotated[
        RateOrOff,
        Meta(description="Handshakes of one address that were begun and not finished; beyond, it may not connect."),
    ] = "off"
    burst: Annotated[Duration, Meta(description="How much may come at once: the budgets' share of this time.")] = "5s"
    exempt: Annotated[
        Words, Meta(description="Networks without budgets: monitors, balancers. Default: none."), example(["10.0.0.0/8"])
    ] = field(default_factory=list)
    at_once: Annotated[
        CountOrOff,
        Meta(
            description="Full handshakes that a worker begins in one turn of its loop. Others wait, and resumed ones go "
            "first: so those who are connected are served while many connect."
        ),
    ] = 32
    waiting: Annotated[Count, Meta(description="Handshakes that wait in one worker at most; more are refused.")] = 8192
    wait: Annotated[Duration, Meta(description="How long one waits at most; then it is refused.")] = "5s"


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
        Literal["1.2", "1.3"] | UnsetType, Meta(description="The lowest TLS version. Default: the profile's."), example("1.2")
    ] = UNSET
    max_version: Annotated[
        Literal["1.2", "1.3"] | UnsetType,
        Meta(description="The highest TLS version. Default: the profile's, 1.3."),
        example("1.3"),
    ] = UNSET
    ciphers: Annotated[
        Words | UnsetType,
        Meta(description="Suites of TLS 1.2, by OpenSSL's names. Default: the profile's, all with forward secrecy and AEAD."),
        example(
            [
                "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
            ]
        ),
    ] = UNSET  # fmt: skip
    ciphersuites: Annotated[
        Words | UnsetType,
        Meta(description="Suites of TLS 1.3. Default: the profile's."),
        example(["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]),
    ] = UNSET
    groups: Annotated[
        Words | UnsetType,
        Meta(description="Groups for the key exchange, best first. Default: the profile's, with the post-quantum hybrid first."),
        example(["X25519MLKEM768", "X25519", "prime256v1", "secp384r1"]),
    ] = UNSET
    no_sni: Annotated[
        Word | UnsetType,
        Meta(
            description='The host that clients without SNI get, or "refuse". Only at the top. '
            "Default: the only host when there is one, else refuse."
        ),
        example("refuse"),
    ] = UNSET
    unknown_sni: Annotated[
        Literal["refuse"],
        Meta(description="What a client gets that names a host which is not here. Only at the top."),
    ] = "refuse"
    tickets: Annotated[Switch, Meta(description="Session tickets, so that clients that come back need no full handshake.")] = "on"
    ticket_lifetime: Annotated[
        Duration,
        Meta(description="How long a ticket is good. At most 7d. With client certificates it ends with theirs, if sooner."),
    ] = "2h"
    ticket_rotation: Annotated[
        Duration,
        Meta(description="How often the keys of tickets change. Only at the top. An old key opens tickets for a lifetime more."),
    ] = "1h"
    ticket_secret: Annotated[
        Word | UnsetType,
        Meta(
            description="A file of at least 32 random bytes, mode 0600, the same on all machines that take each other's tickets. "
            "Only at the top. Default: secrets are random and never leave this gateway's memory."
        ),
        example("/etc/edge/ticket.secret"),
    ] = UNSET
    early_data: Annotated[
        Switch,
        Meta(
            description="Early data (0-RTT): clients that come back may send their request with the first packet. Only routes "
            "with early_data answer it at once. Such a request can be replayed: `edge help resumption` says what that means."
        ),
    ] = "off"
    alpn: Annotated[
        Words,
        Meta(
            description="Protocols to agree on with the client: h2, http/1.1 or both. A client that offers none speaks HTTP/1.1; "
            "one that offers http/1.0 alone is taken where http/1.1 is."
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


class ClientRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of client: all that is written here must hold for its certificate. Common names are never looked at."""

    dns: Annotated[
        Word | UnsetType,
        Meta(description='A DNS name of the subjectAltName; "*." in front stands for exactly one label.'),
        example("*.pay.mesh.internal"),
    ] = UNSET
    spiffe: Annotated[
        Word | UnsetType,
        Meta(
            description='Its SPIFFE ID, which must be its only URI. "*" stands for one segment of the path; at the end, "/*" '
            "stands for everything below."
        ),
        example("spiffe://prod.example/ns/pay/*"),
    ] = UNSET
    uri: Annotated[
        Word | UnsetType,
        Meta(description='A URI of the subjectAltName, with "*" as in `spiffe`.'),
        example("https://id.example.com/agents/*"),
    ] = UNSET
    subject: Annotated[
        Word | UnsetType,
        Meta(description="The whole subject (RFC 4514), as `client_subject` in the access log has it."),
        example("CN=billing,O=Example"),
    ] = UNSET
    spki: Annotated[
        Words | UnsetType,
        Meta(description="Pins of its key, as `edge pin --cert FILE` prints them; any of them."),
        example(["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]),
    ] = UNSET


class ClientAuth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Client certificates (mutual TLS). At the top or in a host; `client_auth = "none"` takes an inherited one away."""

    mode: Annotated[
        Literal["require", "request", "off"],
        Meta(description="require: no certificate, no connection. request: asked for, and verified when one comes."),
    ] = "require"
    trust: Annotated[
        Word | UnsetType,
        Meta(description='Whose certificates are accepted: a [trust.NAME], or "system". A wrong one lets strangers in.'),
        example("mesh"),
    ] = UNSET
    depth: Annotated[
        Annotated[int, Meta(ge=1, le=16)], Meta(description="Intermediate certificates between the client's and a trusted one.")
    ] = 4
    allow: Annotated[
        ClientRule | list[ClientRule] | UnsetType,
        Meta(description="Who is let in: clients whose certificate fits any of these. Default: all of the trusted authorities."),
        example([{"spiffe": "spiffe://prod.example/ns/pay/*"}]),
    ] = UNSET
    announce: Annotated[
        bool,
        Meta(
            description="Whether clients are told whose certificates are accepted, so that programs with several show the right "
            "one. Strangers are told too."
        ),
    ] = True
    forward: Annotated[
        Literal["off", "leaf", "chain"],
        Meta(
            description="What upstreams are told of the client's certificate (RFC 9440). leaf: Client-Cert; chain: "
            "Client-Cert-Chain too, and no tickets, which hold no chain. What clients send in these fields never gets there."
        ),
    ] = "off"
    max_age: Annotated[
        DurationOrOff,
        Meta(
            description="How old a connection gets before it ends in an orderly way, so that its client proves itself again; "
            "what is then still under way is cut off at twice that age, streams of bytes at once. Tickets live no longer."
        ),
    ] = "off"


class RouteClientAuth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a route demands beyond its host: it narrows and never widens. Others get 403. The host asks for certificates."""

    mode: Annotated[
        Literal["require", "request"],
        Meta(description="require: no certificate, no answer. request: one that was shown must fit `allow`."),
    ] = "require"
    trust: Annotated[
        Word | UnsetType,
        Meta(description="Whose certificates the host accepts, where its own client_auth does not say it: a [trust.NAME]."),
        example("mesh"),
    ] = UNSET
    allow: Annotated[
        ClientRule | list[ClientRule] | UnsetType,
        Meta(description="Who of the host's clients may use this route, as in client_auth of a host. Default: all of them."),
        example([{"spiffe": "spiffe://prod.example/ns/ops/admin"}]),
    ] = UNSET
    forward: Annotated[
        Literal["off", "leaf", "chain"] | UnsetType,
        Meta(description="What the upstream is told of the certificate. Default: as the host says."),
        example("leaf"),
    ] = UNSET


class HeaderRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to header fields. At the top, in a host or a route, merged name by name."""

    set: Annotated[
        dict[Word, str],
        Meta(description="Fields to write in place of any there are. Default: none."),
        example({"X-Frame-Options": "DENY"}),
    ] = field(default_factory=dict)
    add: Annotated[
        dict[Word, str | list[str]],
        Meta(description="Fields to append to those there are. Default: none."),
        example({"Vary": "Origin"}),
    ] = field(default_factory=dict)
    remove: Annotated[Words, Meta(description="Fields to take away, before set and add. Default: none."), example(["Server"])] = (
        field(default_factory=list)
    )


class Ocsp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OCSP stapling: the authority's word that a certificate is not revoked, fetched ahead and shown in handshakes."""

    stapling: Annotated[
        Literal["auto", "off"],
        Meta(description="auto: for every certificate whose authority has a responder. off: nothing is fetched or shown."),
    ] = "auto"
    responder: Annotated[
        Word | UnsetType,
        Meta(description="The responder's URL, for all certificates. Default: those that each certificate names, in turn."),
        example("http://ocsp.internal.example/"),
    ] = UNSET
    proxy: Annotated[
        Word | UnsetType,
        Meta(description="The HTTP proxy through which responders are asked. Default: none."),
        example("http://proxy.internal:3128"),
    ] = UNSET
    must_staple: Annotated[
        Literal["alert", "refuse"],
        Meta(
            description="What becomes of a certificate with Must-Staple (RFC 7633) that has no good answer. alert: it is shown "
            "all the same, and that is told. refuse: it is not shown, and the gateway is not ready."
        ),
    ] = "alert"
    timeout: Annotated[Duration, Meta(description="How long one responder may take for one answer; a total.")] = "10s"
