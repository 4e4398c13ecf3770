"""What must be equal for a connection to an upstream to be used again: its full security identity (STYLE principle 8).

Two endpoints that differ in any of these may not share a connection: who is on the other end and how that was proven, who
we said that we are, and what the handshake could agree on. Keys are looked up on every request, so equal ones are one object.
"""

from __future__ import annotations

import hashlib
from typing import Any
from weakref import WeakValueDictionary

from edge.settings.model import Address, Endpoint, Scheme, Trust, Upstream

__all__ = ["PeerKey", "key_for"]


class PeerKey:
    """The identity of one upstream peer. Immutable by convention; what is made twice of equal parts is one object."""

    __slots__ = (
        "__weakref__",
        "address",
        "alpn",
        "client_identity",
        "min_version",
        "pins",
        "scheme",
        "server_name",
        "trust",
        "verify",
    )

    def __new__(cls, address: Address, scheme: Scheme, **parts: Any) -> PeerKey:
        values = (address, scheme, *sorted((name, value) for name, value in parts.items() if value))
        key = _keys.get(values)
        if key is None:
            key = _keys[values] = super().__new__(cls)
        return key

    def __init__(
        self,
        address: Address,
        scheme: Scheme,
        *,
        server_name: str = "",
        trust: bytes = b"",
        verify: bool = False,
        client_identity: bytes = b"",
        min_version: str = "",
        alpn: tuple[str, ...] = (),
        pins: tuple[bytes, ...] = (),
    ) -> None:
        self.address = address
        self.scheme = scheme
        self.server_name = server_name  # what SNI says and verification demands; "" without TLS
        self.trust = trust  # SHA-256 of the trust store, see `trust_identity`
        self.verify = verify
        self.client_identity = client_identity  # of the certificate that we show; b"" for none
        self.min_version = min_version
        self.alpn = alpn
        self.pins = pins  # () when nothing is enforced

    def __repr__(self) -> str:
        where = self.address.path or f"{self.address.host}:{self.address.port}"
        return f"<PeerKey {self.scheme}://{where} {self.server_name}>"


_keys: WeakValueDictionary[tuple[Any, ...], PeerKey] = WeakValueDictionary()


def key_for(endpoint: Endpoint, upstream: Upstream) -> PeerKey:
    """The key of an endpoint. Made once at load: equality tests are fast, building is not."""
    tls = upstream.tls
    if not endpoint.scheme.over_tls or tls is None:
        return PeerKey(endpoint.address, endpoint.scheme)
    return PeerKey(
        endpoint.address,
        endpoint.scheme,
        server_name=tls.server_name or endpoint.address.host,
        trust=trust_identity(tls.trust),
        verify=tls.verify,
        client_identity=tls.client_certificate.fingerprint.encode() if tls.client_certificate is not None else b"",
        min_version=tls.min_version,
        alpn=tls.alpn,
        pins=() if tls.pin_report else tls.pins,
    )


def trust_identity(trust: Trust) -> bytes:
    """32 bytes, equal for trust stores with the same contents and the same revocation."""
    found = hashlib.sha256(b"system\n" if trust.system else b"own\n")
    found.update(f"{len(trust.ca_pem)} {trust.crl_check} {trust.crl_grace}\n".encode() + trust.ca_pem)
    for crl in trust.crls:
        found.update(f"{len(crl.serials)} {crl.width} {crl.next_update} {crl.issuer}\n".encode() + crl.serials)
    return found.digest()
