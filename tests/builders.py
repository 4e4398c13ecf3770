"""Small builders of settings for tests: only what a test is about has to be said."""

from __future__ import annotations

from typing import Any

from edge.errors import Fault
from edge.http.message import ConnectionInfo, Fields, RequestHead
from edge.settings.model import (
    Address,
    Certificate,
    ClientAuth,
    ClientAuthMode,
    Endpoint,
    Host,
    Limits,
    Listener,
    Log,
    Network,
    Route,
    Scheme,
    Server,
    Settings,
    Target,
    TlsPolicy,
    Trust,
    Upstream,
)

TRUST = Trust(name="mesh", ca_pem=b"-----BEGIN CERTIFICATE-----\nmesh\n-----END CERTIFICATE-----\n")
MTLS = ClientAuth(mode=ClientAuthMode.REQUIRE, trust=TRUST)


def certificate(name: str = "cert", **changes: Any) -> Certificate:
    """A certificate whose fingerprint is its name."""
    values: dict[str, Any] = {
        "name": name, "chain_pem": b"", "key_pem": b"", "key_type": "ecdsa", "names": (),
        "not_before": 0.0, "not_after": 4e9, "fingerprint": name,
    }  # fmt: skip
    return Certificate(**{**values, **changes})


def listener(name: str = "tls", *, tls: bool = True, port: int = 443, **changes: Any) -> Listener:
    return Listener(name=name, addresses=(Address(host="0.0.0.0", port=port),), tls=tls, **changes)


def host(*names: str, listeners: tuple[str, ...] = ("tls",), cert: str = "cert", **changes: Any) -> Host:
    return Host(names=names, listeners=listeners, certificates=(certificate(cert),), tls=TlsPolicy(), **changes)


def endpoint(url: str = "http://127.0.0.1:8000", weight: int = 1) -> Endpoint:
    """An endpoint from `scheme://host:port` or `unix:/path`."""
    if url.startswith("unix:"):
        return Endpoint(url=url, scheme=Scheme.HTTP, address=Address(path=url[5:]), weight=weight)
    scheme, _, rest = url.partition("://")
    name, _, port = rest.rpartition(":")
    return Endpoint(url=url, scheme=Scheme(scheme), address=Address(host=name, port=int(port)), weight=weight)


def upstream(name: str = "app", *endpoints: Endpoint, **changes: Any) -> Upstream:
    return Upstream(name=name, endpoints=endpoints or (endpoint(),), **changes)


def route(path: str = "/", host: str | None = None, *, methods: str = "", name: str = "app", **changes: Any) -> Route:
    """A route to the upstream `name`; `methods` are separated by blanks."""
    values: dict[str, Any] = {
        "host": host, "path": path, "listeners": ("tls", "plain"), "methods": frozenset(methods.split()) or None,
        "targets": () if {"redirect", "respond", "health"} & changes.keys() else (Target(upstream=upstream(name)),),
    }  # fmt: skip
    return Route(**{**values, **changes})


def settings(*routes: Route, hosts: tuple[Host, ...] = (), trusted_proxies: tuple[Network, ...] = (), **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "server": Server(workers=1), "log": Log(), "limits": Limits(),
        "listeners": (listener(), listener("plain", tls=False, port=80)),
        "hosts": hosts, "routes": routes, "upstreams": {}, "trusted_proxies": trusted_proxies,
    }  # fmt: skip
    return Settings(**{**values, **changes})


def connection(
    peer: str = "192.0.2.7", *, secure: bool = True, host: Host | None = None, sni: str | None = None
) -> ConnectionInfo:
    made = ConnectionInfo(peer, 50_000, listener("tls") if secure else listener("plain", tls=False, port=80), secure=secure)
    made.host = host
    made.sni = sni
    return made


def request(
    authority: bytes = b"example.com", target: bytes = b"/", fields: Fields | None = None, *, method: bytes = b"GET",
    scheme: bytes = b"https", **changes: Any,
) -> RequestHead:  # fmt: skip
    return RequestHead(method, scheme, authority, target, fields if fields is not None else [], **changes)


def fault_of(call: Any, *arguments: Any, **keywords: Any) -> Fault:
    """The fault that a call raises."""
    try:
        call(*arguments, **keywords)
    except Fault as fault:
        return fault
    raise AssertionError("no fault was raised")
