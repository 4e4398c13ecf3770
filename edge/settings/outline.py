"""Settings as an outline: everything that decides what the gateway does, and nothing that gives it away.

The outline is one JSON object, made to be compared (`edge.settings.difference`): of running settings with a file, or of two
files. What has no order in the settings has none here: hosts stand by name, routes by what they match, endpoints by URL, so a
moved line or a renamed file makes no difference. Hosts stand under each of their names, for a name may move between blocks.

Invariants: no key and no PEM is in it (certificates are fingerprints, names and dates; keys are SPKI pins, RFC 7469 section
2.4), and no value that a file may have from a secret: header values, bodies and every field that the model declares with
``repr=False`` are SHA-256 prefixes, which say that something changed and not what it is. Bytes are never copied as they are.
An outline equals itself after a journey through JSON.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.settings.client_rules import rule_text
from edge.settings.model import Address, Certificate, Crl, Route, Settings, Stream, Target, Trust, Upstream

__all__ = ["LEFT_OUT", "TOLD_AS", "Outline", "outline"]

Outline = dict[str, Any]
_AS_THEY_ARE: Final = frozenset({bool, int, float, str, type(None)})

# Fields of the model that are in no outline: where something was written, and what the rest follows from.
LEFT_OUT: Final = frozenset(
    {
        "Place.file", "Place.line", "Place.column",
        "Host.place", "Listener.place", "Route.place", "Upstream.place", "Certificate.place",
        "Certificate.key_pem",  # its pin stands there
        "Settings.files", "Settings.documents", "Settings.digest",
    }
)  # fmt: skip

# Fields of the model that the outline says in other words, and where.
TOLD_AS: Final[dict[str, str]] = {
    "Certificate.chain_pem": "Certificate.chain",
    "Trust.ca_pem": "Trust.ca",
    "Host.names": "the name that it stands under",
    "Listener.name": "the name that it stands under",
    "Upstream.name": "the name that it stands under",
    "Endpoint.url": "the URL that it stands under",
    "Endpoint.scheme": "the URL, and Route.upstream_security",
    "Endpoint.address": "the URL",
    "Endpoint.weight": "Upstream.endpoints",
    "Address.host": "Listener.addresses",
    "Address.port": "Listener.addresses",
    "Address.path": "Listener.addresses",
    "Address.passed": "Listener.addresses",
    "Route.targets": "Route.action",
    "Route.redirect": "Route.action",
    "Route.respond": "Route.action",
    "Route.health": "Route.action",
    "Crl.issuer": "Trust.crls",
    "Crl.name": "Trust.crls",
    "Crl.serials": "Trust.crls",
    "Crl.width": "Trust.crls",
    "Crl.this_update": "Trust.crls",
    "Crl.next_update": "Trust.crls",
    "ClientRule.dns": "ClientAuth.allow",
    "ClientRule.uri": "ClientAuth.allow",
    "ClientRule.spiffe": "ClientAuth.allow",
    "ClientRule.subject": "ClientAuth.allow",
    "ClientRule.pins": "ClientAuth.allow",
    "Stream.targets": "Host.stream",
    "Stream.passthrough": "Host.stream",
    "Stream.idle_timeout": "Host.stream",
    "Target.upstream": "Route.action",
    "Target.weight": "Route.action",
    "Redirect.to": "Route.action",
    "Redirect.status": "Route.action",
    "Respond.status": "Route.action",
    "Respond.body": "Route.action",
    "Respond.content_type": "Route.action",
}


def outline(settings: Settings) -> Outline:
    """The outline of valid settings."""
    found = _fields(settings)
    found["digest"] = settings.digest
    found["trusted_proxies"] = sorted(found["trusted_proxies"])
    found["listeners"] = {listener.name: _fields(listener) for listener in settings.listeners}
    hosts = [(host, _fields(host)) for host in settings.hosts]
    found["hosts"] = {name: shown for host, shown in hosts for name in host.names}
    found["routes"] = [_route(route) for route in settings.routes]
    found["upstreams"] = {name: _upstream(upstream) for name, upstream in settings.upstreams.items()}
    return found


def _fields(value: Any) -> Outline:
    """A dataclass's fields, by name."""
    kind: type = type(value)
    return {name: way(getattr(value, name)) for name, way in _ways(kind)}


@functools.cache
def _ways(kind: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """The fields of a dataclass that are outlined, and how each is."""
    known = [(one.name, f"{kind.__name__}.{one.name}", one.repr) for one in fields(kind)]
    return tuple(
        (name, _WAYS.get(path, _plain if shown else _hidden))
        for name, path, shown in known
        if path not in LEFT_OUT and path not in TOLD_AS
    )


def _plain(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, Trust):
        return {**_fields(value), "ca": _authorities(value.ca_pem)}
    if isinstance(value, (Certificate, Upstream)):
        return value.name
    if isinstance(value, Address):
        return value.text
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, bytes):
        return _hidden(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(item.decode("latin-1") if isinstance(item, bytes) else str(item) for item in value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value)


def _hidden(value: Any) -> str:
    """That it changed, not what it is; an empty value stays empty."""
    if not value:
        return ""
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return f"sha256/{hashlib.sha256(data).hexdigest()[:16]}"


def _pairs(pairs: tuple[tuple[bytes, bytes], ...]) -> list[str]:
    """``name: sha256/…`` for each; the value ``*`` is a word of ours."""
    return sorted(f"{name.decode('latin-1')}: {'*' if value == b'*' else _hidden(value)}" for name, value in pairs)


def _stream(stream: Stream | None) -> str | None:
    if stream is None:
        return None
    total = sum(target.weight for target in stream.targets)
    to = ", ".join(sorted(f"{target.upstream.name} ({100 * target.weight / total:.4g}%)" for target in stream.targets))
    idle = "" if stream.idle_timeout is None else f", idle for at most {stream.idle_timeout:g} s"
    return f"{'passed through' if stream.passthrough else 'relayed'} to {to}{idle}"


@functools.lru_cache(maxsize=16)
def _lists(found: tuple[Crl, ...]) -> Outline:
    """What each issuer's revocation lists say."""
    shown: Outline = {}
    for crl in found:
        shown.setdefault(crl.name, []).append(
            [len(crl.serials) // crl.width, crl.this_update, crl.next_update, _hidden(crl.serials)]
        )
    return shown


def _later(_: Any) -> None:
    """The large parts of the settings are made by `outline` itself: here they would be made twice."""


_WAYS: Final[dict[str, Callable[[Any], Any]]] = {
    "Settings.listeners": _later,
    "Settings.hosts": _later,
    "Settings.routes": _later,
    "Settings.upstreams": _later,
    "HeaderRules.set": _pairs,
    "HeaderRules.add": _pairs,
    "Route.match_headers": _pairs,
    "Host.certificates": lambda found: {one.key_type: _certificate(one) for one in found},
    "Host.listeners": sorted,
    "Host.stream": lambda found: _stream(found),
    "Listener.stream": lambda found: _stream(found),
    "Route.listeners": sorted,
    "Certificate.names": sorted,
    "Trust.crls": lambda found: _lists(found),
    "ClientAuth.allow": lambda found: sorted(map(rule_text, found)),
    "RouteClientAuth.allow": lambda found: sorted(map(rule_text, found)),
    "UpstreamTls.pins": lambda found: [f"sha256/{base64.b64encode(pin).decode()}" for pin in found],
    "Upstream.endpoints": lambda found: {one.url: one.weight for one in found},
}


def _route(route: Route) -> Outline:
    return {**_fields(route), "action": _action(route), "upstream_security": _security(route)}


def _upstream(upstream: Upstream) -> Outline:
    return {**_fields(upstream), "security": _upstream_security(upstream)}


def _certificate(certificate: Certificate) -> Outline:
    leaf, *above = x509.load_pem_x509_certificates(certificate.chain_pem)
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        **_fields(certificate),
        "issuer": _name(leaf.issuer),
        "pin": "sha256/" + base64.b64encode(hashlib.sha256(key).digest()).decode(),
        "chain": [one.fingerprint(hashes.SHA256()).hex() for one in above],
    }


def _authorities(pem: bytes) -> dict[str, str]:
    """Subjects by fingerprint."""
    found = x509.load_pem_x509_certificates(pem) if pem else []
    return {one.fingerprint(hashes.SHA256()).hex(): _name(one.subject) for one in found}


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    text = str(common[0].value) if common else name.rfc4514_string()
    return text[:80] or "(no name)"


def _action(route: Route) -> str:
    if route.redirect is not None:
        return f"redirects with {route.redirect.status} to {route.redirect.to}"
    if route.respond is not None:
        body = f", body {_hidden(route.respond.body)}" if route.respond.body else ""
        return f"answers {route.respond.status} ({route.respond.content_type}{body})"
    if route.health:
        return f"answers with the gateway's own health ({route.health})"
    return f"goes to {', '.join(sorted(_share(target, route) for target in route.targets))}"


def _share(target: Target, route: Route) -> str:
    total = sum(one.weight for one in route.targets)
    return target.upstream.name if len(route.targets) == 1 else f"{target.upstream.name} ({100 * target.weight / total:.4g}%)"


def _security(route: Route) -> str:
    """How its least protected upstream is reached: ``verified`` (or on this machine, or none), ``unverified``, ``plain``."""
    found = {_upstream_security(target.upstream) for target in route.targets}
    return next((word for word in ("plain", "unverified") if word in found), "verified")


def _upstream_security(upstream: Upstream) -> str:
    far = [one for one in upstream.endpoints if not _is_local(one.address.host, one.address.path)]
    if any(not one.scheme.over_tls for one in far):
        return "plain"
    return "unverified" if far and upstream.tls is not None and not upstream.tls.verify else "verified"


def _is_local(host: str, path: str = "") -> bool:
    """Whether an address is this machine's own: a unix socket or a loopback address."""
    if path or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
