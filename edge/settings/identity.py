"""What makes two hosts the same to a client that has proven who it is.

`policy_id` covers everything that decides who a client is and on which terms it was let in. It is the session-id
context of the host's TLS context and the input from which its ticket keys derive, so a ticket of one policy means
nothing to another one: without that, resumption walks around client authentication. `coalesce_id` covers only the
certificates and the client authentication: two hosts that share it may share a connection (INTERFACE rule 4), all others
answer 421.

Both are SHA-256 digests over length-prefixed parts, so that no two different inputs can run together.
"""

from __future__ import annotations

import hashlib

from edge.settings.model import Host

__all__ = ["coalesce_id", "policy_id", "same_terms"]


def _digest(parts: list[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _client_auth(host: Host) -> list[bytes]:
    auth = host.client_auth
    parts = [b"client-auth", auth.mode.encode(), str(auth.depth).encode()]
    if auth.trust is not None:
        parts += [auth.trust.ca_pem, b"system" if auth.trust.system else b""]
    return parts


def coalesce_id(host: Host) -> bytes:
    """32 bytes, equal for hosts with the same certificates and the same client-auth policy."""
    prints = sorted(certificate.fingerprint.encode() for certificate in host.certificates)
    return _digest([b"coalesce", *prints, *_client_auth(host)])


def policy_id(host: Host) -> bytes:
    """32 bytes: the host's names, its version floor and who may be its client. Renewing a certificate leaves it unchanged."""
    names = [name.encode() for name in sorted(host.names)]
    return _digest([b"policy", *names, b"min", host.tls.min_version.encode(), *_client_auth(host)])


def same_terms(one: Host, other: Host) -> bool:
    """Whether a client that was admitted by one host would have been admitted by the other one on the same terms.

    What the host shows of itself (names, certificates) does not count, who may be its client and how well that was proven does.
    """
    return one is other or (one.client_auth == other.client_auth and one.tls.min_version == other.tls.min_version)
