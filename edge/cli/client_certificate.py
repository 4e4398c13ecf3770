"""Whether a client's certificate would be accepted, for `edge explain --cert`.

The handshake itself asks OpenSSL; without the client's key there is no handshake, so the chain is verified here by
cryptography's verifier, with the rules that both have in common: signatures, dates, basic constraints and the client-auth usage.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification

from edge.cli.terminal import Exit, Stop
from edge.settings.client_rules import ClientLeaf
from edge.settings.model import ClientAuth

__all__ = ["leaf_of", "names_of", "verdict"]


def _read(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise Stop(Exit.USAGE, "--cert: this is not a PEM certificate", "The private key is not needed.") from None


def leaf_of(pem: bytes) -> ClientLeaf:
    """The first certificate, as rules see it. Raises Stop(USAGE) as `verdict` does."""
    return ClientLeaf(_read(pem)[0].public_bytes(Encoding.DER))


def verdict(pem: bytes, auth: ClientAuth) -> str:
    """An empty string when the certificate (and the intermediates after it) leads to the trusted CAs, else why it does not.

    Raises Stop(USAGE) when `pem` holds no certificate.
    """
    leaf, *between = _read(pem)
    if auth.trust is None or not auth.trust.ca_pem:
        return ""
    store = verification.Store(x509.load_pem_x509_certificates(auth.trust.ca_pem))
    verifier = (
        verification.PolicyBuilder()
        .store(store)
        .max_chain_depth(auth.depth)
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(), ee_policy=verification.ExtensionPolicy.permit_all()
        )
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, between)
    except verification.VerificationError as error:
        return _stranger(leaf, between, x509.load_pem_x509_certificates(auth.trust.ca_pem)) or str(error).removeprefix(
            "validation failed: "
        )
    return ""


def _stranger(leaf: x509.Certificate, between: list[x509.Certificate], trusted: list[x509.Certificate]) -> str:
    """Who issued the last certificate of the chain, if that is none of the trusted authorities; else ``""``."""
    last, rest, known = leaf, list(between), {one.subject for one in trusted}
    while last.issuer not in known:
        issuer = next((one for one in rest if one.subject == last.issuer and one.issuer != one.subject), None)
        if issuer is None:
            return f"{last.issuer.rfc4514_string()}, which issued {last.subject.rfc4514_string()}, is not among the authorities"
        rest.remove(issuer)
        last = issuer
    return ""


def names_of(leaf: ClientLeaf) -> list[str]:
    """What rules look at, for people."""
    try:
        names = [*(f"uri {uri}" for uri in leaf.uris), *(f"dns {name}" for name in leaf.dns)]
        return [f"it has: {', '.join([*names, f'subject {leaf.subject}'])}"]
    except ValueError as error:
        return [f"its names cannot be read: {error}"]
