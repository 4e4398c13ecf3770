"""What must be equal for a connection to an upstream to be used again: its full security identity (STYLE principle 8).

Two endpoints that differ in any of these may not share a connection: who is on the other end and how that was proven, who
we said that we are, and what the handshake could agree on. Keys are compared on every request, so the hash is computed once.
"""

from __future__ import annotations

import hashlib

from edge.settings.model import Address, Endpoint, Scheme, Trust, Upstream

__all__ = ["PeerKey", "key_for"]


class PeerKey:
    """The identity of one upstream peer. Immutable by convention; equal by its parts."""

    __slots__ = (
        "_hash",
        "_parts",
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
        self._parts = (address, scheme, server_name, trust, verify, client_identity, min_version, alpn, pins)
        self._hash = hash(self._parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PeerKey) and self._parts == other._parts)

    def __repr__(self) -> str:
        where = self.address.path or f"{self.address.host}:{self.address.port}"
        return f"<PeerKey {self.scheme}://{where} {self.server_name}>"


def key_for(endpoint: Endpoint, upstream: Upstream) -> PeerKey:
    """The key of an endpoint. Made once at load: equality tests are fast, building is not."""
    tls = upstream.tls
    if endpoint.scheme is not Scheme.HTTPS or tls is None:
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
    """32 bytes, equal for trust stores with the same contents."""
    return hashlib.sha256((b"system\n" if trust.system else b"own\n") + trust.ca_pem).digest()
