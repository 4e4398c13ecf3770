"""What a route demands of the client behind a connection, and what its upstream is told of it (RFC 9440).

The handshake has verified the certificate and asked the host's rules; a route can only ask for more. Who does not satisfy it
gets 403 on that route, and the connection goes on. What was found out is kept with the connection: its client never changes.

`Client-Cert` and `Client-Cert-Chain` are dropped from every request (`headers`) and written here for clients that were verified,
and only then. The chain is the one that was verified, from the leaf's issuer to its anchor.
"""

from __future__ import annotations

from base64 import b64encode

from edge.errors import Fault, Side
from edge.http.message import ConnectionInfo, Fields
from edge.policy.forwarded import Prepared
from edge.settings.client_rules import ClientLeaf, admitting
from edge.settings.model import RouteClientAuth

__all__ = ["check_client", "client_fields"]


def check_client(demand: RouteClientAuth, conn: ConnectionInfo, prepared: Prepared) -> None:
    """Raises `Fault` ``client-certificate-required`` or ``client-certificate-not-allowed`` (403).

    `prepared` must be of the settings that `demand` is of.
    """
    leaf = conn.client
    if leaf is None:
        if demand.required:
            raise Fault(Side.CLIENT, "client-certificate-required", status=403)
    elif demand.allow and id(demand) not in prepared.admitted:
        if admitting(demand.allow, leaf) is None:
            raise Fault(Side.CLIENT, "client-certificate-not-allowed", detail=leaf.label, status=403)
        prepared.admitted |= {id(demand)}


def client_fields(forward: str, conn: ConnectionInfo, prepared: Prepared) -> Fields:
    """The fields that tell an upstream of the client's certificate. `forward` is ``leaf`` or ``chain``."""
    leaf = conn.client
    if leaf is None:
        return []
    kept = prepared.client_fields
    if kept is None:
        kept = prepared.client_fields = {}
    if forward not in kept:
        kept[forward] = _fields(leaf, forward)
    return kept[forward]


def _fields(leaf: ClientLeaf, forward: str) -> Fields:
    fields = [(b"client-cert", _bytes(leaf.der))]
    if forward == "chain" and leaf.chain:
        fields.append((b"client-cert-chain", b", ".join(map(_bytes, leaf.chain))))
    return fields


def _bytes(der: bytes) -> bytes:
    """A byte sequence of structured fields (RFC 8941 section 3.3.5)."""
    return b":%b:" % b64encode(der)
