"""What makes two hosts the same to a client that has proven who it is.

`policy_id` covers everything that decides who a client is and on which terms it was let in: the host's names, versions, suites
and groups, how long its tickets live, and all of its client authentication. It is the session-id context of the host's TLS
context and the input from which its ticket keys derive, so a ticket of one policy means nothing to another one: without that,
resumption walks around client authentication. `coalesce_id` covers only the certificates and the client authentication: two
hosts that share it may share a connection, all others answer 421.

The client authentication counts whole, field by field as the model has it, so a new key of it cannot be forgotten here. Left
out is what says nothing about who comes in: where something was written, what a trust store is called, what upstreams are told.

Revocation lists do not count either, so that a new one leaves tickets as they are: the certificate that a ticket stands for is
looked up anew each time. Of the intermediates above it a ticket knows nothing. Where they are checked too (``crl_check =
"chain"``), what is revoked belongs to the identity.

All of this counts for `coalesce_id`: a client that one host would refuse, because of a list of its own, must not come in by way
of another one.

Both are SHA-256 digests over length-prefixed parts, so that no two different inputs can run together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from edge.settings.model import ClientAuth, Crl, Host, Place, Settings, TlsPolicy, Trust, Upstream

__all__ = ["coalesce_id", "policy_id", "same_terms", "upstreams_of"]

_CALLED = frozenset({(Trust, "name"), (Crl, "name"), (ClientAuth, "announce")})  # names of things, and what is said aloud
_BESIDE = _CALLED | {
    (Trust, "crl_grace"),
    (Crl, "this_update"),
    (Crl, "next_update"),
    *((ClientAuth, name) for name in ("forward", "chain", "max_age")),
}  # says nothing about who comes in
_OF_TLS = ("min_version", "max_version", "ciphers", "ciphersuites", "groups", "early_data", "ticket_lifetime")


def _digest(parts: list[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _parts(value: Any, beside: frozenset[tuple[type, str]] = _CALLED) -> Iterator[bytes]:
    """A value of the model as parts, without the fields `beside`; different values give different parts."""
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value) if (type(value), each.name) not in beside]
        if beside is _BESIDE and isinstance(value, Trust) and value.crl_check != "chain":
            names.remove("crls")
        held = [(name, item) for name in names if not isinstance(item := getattr(value, name), Place)]
        yield f"{type(value).__name__} {len(held)}".encode()
        for name, item in held:
            yield name.encode()
            yield from _parts(item, beside)
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for name in sorted(value):
            yield str(name).encode()
            yield from _parts(value[name], beside)
    elif isinstance(value, frozenset):
        yield f"set {len(value)}".encode()
        yield from sorted(_digest(list(_parts(item, beside))) for item in value)
    elif isinstance(value, tuple):
        yield f"tuple {len(value)}".encode()
        for item in value:
            yield from _parts(item, beside)
    elif isinstance(value, bytes):
        yield b"bytes"
        yield value
    else:
        yield type(value).__name__.encode()
        yield str(value).encode()


@lru_cache(maxsize=256)
def _terms(client_auth: ClientAuth) -> tuple[bytes, ...]:
    """The parts of a client authentication that say who comes in, which many hosts share."""
    return tuple(_parts(client_auth, _BESIDE))


@lru_cache(maxsize=256)
def _whole(client_auth: ClientAuth) -> tuple[bytes, ...]:
    """All its parts."""
    return tuple(_parts(client_auth))


@lru_cache(maxsize=256)
def _negotiated(tls: TlsPolicy) -> tuple[bytes, ...]:
    """The parts of what is negotiated, which almost all hosts share."""
    return tuple(part for name in _OF_TLS for part in _parts(getattr(tls, name)))


def coalesce_id(host: Host) -> bytes:
    """32 bytes, equal for hosts with the same certificates and the same client-auth policy."""
    prints = sorted(certificate.fingerprint.encode() for certificate in host.certificates)
    return _digest([b"coalesce", *prints, *_whole(host.client_auth)])


def policy_id(host: Host) -> bytes:
    """32 bytes: the host's names, what it negotiates and who may be its client. Renewing a certificate leaves it unchanged."""
    names = [name.encode() for name in sorted(host.names)]
    return _digest([b"policy 4", *names, *_negotiated(host.tls), *_terms(host.client_auth)])


def same_terms(one: Host, other: Host) -> bool:
    """Whether a client that was admitted by one host would have been admitted by the other one on the same terms.

    What the host shows of itself (names, certificates) does not count, who may be its client and how well that was proven does.
    """
    return one is other or (_terms(one.client_auth) == _terms(other.client_auth) and one.tls.min_version == other.tls.min_version)


def upstreams_of(settings: Settings) -> dict[str, Upstream]:
    """Every upstream by its name, those that stand as URLs in routes and streams included."""
    found = dict(settings.upstreams)
    for route in settings.routes:
        found.update((target.upstream.name, target.upstream) for target in route.targets)
    for stream in (*(host.stream for host in settings.hosts), *(listener.stream for listener in settings.listeners)):
        if stream is not None:
            found.update((target.upstream.name, target.upstream) for target in stream.targets)
    return found
