"""The keys of upstreams: endpoints, TLS towards them, retries, health checks. See `keys` for how they are used."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from edge.settings.key_types import CountOrOff, Duration, DurationOrOff, ShareOrOff, Switch, Word, Words, example

__all__ = ["EndpointTable", "Health", "Retry", "Upstream", "UpstreamTls"]


class EndpointTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server of an upstream."""

    url: Annotated[
        Word, Meta(description="http://, https://, h2c://, unix:/path; tcp:// or tls://."), example("http://127.0.0.1:8000")
    ]
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
        example("internal.example.com"),
    ] = ""
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="The lowest TLS version.")] = "1.2"
    alpn: Annotated[Words, Meta(description="Protocols to offer: h2, http/1.1 or both.")] = field(
        default_factory=lambda: ["h2", "http/1.1"]
    )
    pins: Annotated[
        Words | UnsetType,
        Meta(
            description="SHA-256 of public keys, one of which must stand in the verified chain, in addition to verification. At "
            "least two, one of them a backup; `edge pin` prints them. Default: no pins."
        ),
        example(["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "sha256/LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="]),
    ] = UNSET
    pin_mode: Annotated[
        Literal["enforce", "report"], Meta(description="report: a chain without a pinned key is written down and let through.")
    ] = "enforce"
    allow_single_pin: Annotated[
        bool, Meta(description="Take one pin without a backup. The next change of keys is then an outage.")
    ] = False
    client_certificate: Annotated[
        Word | UnsetType,
        Meta(description="The [[certificate]] that we show to servers that ask for one. Default: none."),
        example("mesh-wildcard"),
    ] = UNSET


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

    path: Annotated[Word, Meta(description="GET this path; any 2xx or 3xx is well."), example("/healthz")]
    interval: Annotated[Duration, Meta(description="Time between two checks of one endpoint.")] = "5s"
    timeout: Annotated[Duration, Meta(description="How long one check may take; a total.")] = "2s"
    rise: Annotated[Annotated[int, Meta(ge=1, le=100)], Meta(description="Good checks in a row that make an endpoint well.")] = 2
    fall: Annotated[Annotated[int, Meta(ge=1, le=100)], Meta(description="Bad checks in a row that make an endpoint ill.")] = 3


class Upstream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Servers that requests are relayed to."""

    endpoints: Annotated[
        Word | EndpointTable | list[Word | EndpointTable],
        Meta(
            description="URLs: http://, https://, h2c:// (HTTP/2 without TLS) or unix:/path; without a path. For streams of "
            "bytes tcp:// or tls://, with a port."
        ),
        example(["http://127.0.0.1:8000"]),
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
    keepalive: Annotated[CountOrOff, Meta(description="Idle connections kept for each endpoint by one worker.")] = 512
    keepalive_timeout: Annotated[
        Duration, Meta(description="Idle connections are closed after this, a little before most servers close them.")
    ] = "55s"
    max_connections: Annotated[CountOrOff, Meta(description="Connections to each endpoint from one worker.")] = "off"
    retry: Annotated[Retry, Meta(description="Tries after a failure.")] = field(default_factory=lambda: Retry())
    health: Annotated[Health | UnsetType, Meta(description="Active checks. Default: none, only what requests show.")] = UNSET
    send_proxy_protocol: Annotated[
        Literal["off", "v1", "v2"],
        Meta(
            description="Begin each connection with a PROXY header that names the client. Connections then serve one client each "
            "and are not kept."
        ),
    ] = "off"
