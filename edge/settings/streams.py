"""Streams: hosts and listeners whose bytes are relayed without HTTP, and balancers that say whom a connection comes from."""

from __future__ import annotations

import ipaddress
from typing import Any

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.layers import listed
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.units import seconds
from edge.settings.upstreams import Upstreams

__all__ = ["host_stream", "listener_stream", "networks", "proxy_protocol"]

_STREAM_SCHEMES = frozenset({model.Scheme.TCP, model.Scheme.TLS})
_TERMINATING = ("certificates", "tls", "client_auth", "upstream", "protocol")
_HTTP_ONLY = ("hsts", "request_headers", "response_headers")


def host_stream(source: Source, upstreams: Upstreams, path: Path, raw: keys.Host, table: dict[str, Any]) -> model.Stream | None:
    """Where the bytes of a host go that speaks no HTTP; None for all others."""
    passthrough = not isinstance(raw.passthrough, UnsetType)
    if not passthrough and raw.protocol == "http":
        return None
    what = "passthrough" if passthrough else 'protocol = "tcp"'
    for key in _HTTP_ONLY:
        if key in table:
            source.error((*path, key), f"'{key}' means nothing with {what}: no HTTP is spoken here", "take it out", at_key=True)
    if passthrough:
        for key in _TERMINATING:
            if key in table:
                source.error(
                    (*path, key), f"'{key}' means nothing with passthrough: TLS ends at the upstream", "take it out", at_key=True
                )
    elif isinstance(raw.upstream, UnsetType):
        source.error(path, 'protocol = "tcp" needs an upstream', 'write upstream = "tcp://127.0.0.1:5432"', at_key=True)
        return model.Stream(targets=(), passthrough=False)
    key = "passthrough" if passthrough else "upstream"
    return _stream(source, upstreams, (*path, key), table[key], raw.tunnel_idle_timeout, passthrough=passthrough)


def listener_stream(
    source: Source, upstreams: Upstreams, path: Path, raw: keys.Listener, table: dict[str, Any]
) -> model.Stream | None:
    """Where a listener sends what is no host's."""
    if isinstance(raw.passthrough, UnsetType):
        return None
    at = (*path, "passthrough")
    if not isinstance(raw.redirect, UnsetType):
        source.error(at, "a listener that redirects passes nothing through", "take redirect out", at_key=True)
    return _stream(source, upstreams, at, table["passthrough"], raw.tunnel_idle_timeout, passthrough=raw.tls == "on")


def _stream(source: Source, upstreams: Upstreams, at: Path, value: object, idle: str, *, passthrough: bool) -> model.Stream:
    targets = upstreams.targets(value, at, stream=True)
    for target in targets:
        for endpoint in target.upstream.endpoints:
            if endpoint.scheme not in _STREAM_SCHEMES:
                source.error(
                    at,
                    f"'{target.upstream.name}' has the endpoint {endpoint.url}, and this is a stream of bytes",
                    f'write "tcp://{endpoint.address.host or "127.0.0.1"}:{endpoint.address.port or 5432}"',
                )
                break
            if passthrough and endpoint.scheme is model.Scheme.TLS:
                source.error(at, f"{endpoint.url} would put TLS into TLS", f'write "tcp://{endpoint.url.removeprefix("tls://")}"')
                break
    return model.Stream(targets=targets, passthrough=passthrough, idle_timeout=seconds(idle))


def proxy_protocol(source: Source, raw: keys.ProxyProtocol | UnsetType, at: Path) -> model.ProxyProtocol | None:
    """Whose PROXY headers a listener reads."""
    if isinstance(raw, UnsetType):
        return None
    found = networks(source, raw.from_, (*at, "from"))
    if not listed(raw.from_):
        source.error((*at, "from"), "a list without a network: nobody's header would be read", 'write from = ["10.0.0.0/8"]')
    return model.ProxyProtocol(networks=found, required=raw.mode == "require")


def networks(source: Source, written: object, path: Path) -> tuple[model.Network, ...]:
    """The networks that a key lists."""
    found: list[model.Network] = []
    for index, text in enumerate(listed(written)):
        at: Path = (*path, index) if isinstance(written, list) else path
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            mend = 'write for example "10.0.0.0/8"'
            try:
                mend = f'write "{ipaddress.ip_network(text, strict=False)}"'
            except ValueError:
                pass
            source.error(at, f"'{source.shown(at, text)}' is not a network", "" if source.secret(at) else mend)
    return tuple(found)
