"""Whether clients would accept a chain with its key.

A chain starts with the leaf, and each certificate is signed by the next one (RFC 8446 section 4.4.2); the root may be left out.
What no client would accept is an error: a key that is another one's, a gap or another order, a weak key, a signature with
SHA-1. What some would accept, or will later, is a warning: a missing intermediate whose address the certificate tells, and dates,
for clocks and renewals must not keep a gateway from starting. All that is wrong is told at once, and what is misordered with the
order that is right.
"""

from __future__ import annotations

import datetime
import itertools

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from edge.settings.problems import Path
from edge.settings.source import Source

__all__ = ["PrivateKey", "check_chain", "names_of", "on_day", "subject_of"]

_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def check_chain(source: Source, at: Path, chain: list[x509.Certificate], key: PrivateKey | None, now: float) -> bool:
    """Whether the chain can be used with the key (None: there is none to compare). Everything wrong with it is told.

    `now` is POSIX time in seconds. Raises what cryptography raises for an extension that is broken.
    """
    leaf, fine = chain[0], True
    own_key = key is None or _same_key(leaf, key)
    if not own_key and key is not None:
        fine = False
        later = next((index for index, other in enumerate(chain) if _same_key(other, key)), None)
        if later is None:
            source.error(
                at,
                f"the key does not belong to the certificate {subject_of(leaf)}",
                "check which key its request was made with",
            )
        else:
            where = f"the certificate of this key, {subject_of(chain[later])}, is number {later + 1}"
            source.error(at, f"the chain is misordered: {where}", _right_order(chain, later))
    elif not _check_order(source, at, chain):
        fine = False
    for certificate in chain:
        fine = _check_strength(source, at, certificate) and fine
    _check_dates(source, at, leaf, now)
    return fine


def _check_order(source: Source, at: Path, chain: list[x509.Certificate]) -> bool:
    for index, (certificate, issuer) in enumerate(itertools.pairwise(chain), 1):
        if certificate.issuer != issuer.subject:
            if certificate.issuer == certificate.subject:
                source.error(
                    at,
                    f"the chain goes on after {subject_of(certificate)}, which is its own issuer",
                    "take out what follows it",
                )
            elif any(certificate.issuer == other.subject for other in chain):
                source.error(
                    at, f"the chain is misordered: number {index + 1} did not issue number {index}", _right_order(chain, 0)
                )
            else:
                who = f"{certificate.issuer.rfc4514_string()}, the issuer of number {index},"
                source.error(at, f"the chain is incomplete: {who} is missing", "add it after that certificate")
            return False
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            source.error(at, f"number {index} of the chain, {subject_of(certificate)}, was not signed by number {index + 1}")
            return False
    if len(chain) == 1 and chain[0].issuer != chain[0].subject and _issuer_is_published(chain[0]):
        source.warning(
            at, f"the chain is incomplete: {chain[0].issuer.rfc4514_string()}, which issued it, is missing",
            "add the authority's intermediate certificate after it (certbot: fullchain.pem)",
        )  # fmt: skip
    return True


def _check_strength(source: Source, at: Path, certificate: x509.Certificate) -> bool:
    who = subject_of(certificate)
    public = certificate.public_key()
    fine = True
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < 2048:
            source.error(
                at,
                f"the RSA key of {who} has {public.key_size} bits, which is too weak",
                "2048 at least; ECDSA P-256 is better",
            )
            fine = False
    elif isinstance(public, ec.EllipticCurvePublicKey):
        if public.curve.name not in _CURVES:
            source.error(at, f"{who} has a key on {public.curve.name}, which clients do not accept", "P-256, P-384 or P-521")
            fine = False
    elif not isinstance(public, ed25519.Ed25519PublicKey):
        source.error(at, f"{who} has a kind of key that TLS does not use", "make an ECDSA P-256 key")
        fine = False
    if certificate.issuer != certificate.subject:
        algorithm = certificate.signature_hash_algorithm
        if isinstance(algorithm, (hashes.SHA1, hashes.MD5)):
            source.error(
                at,
                f"{who} is signed with {algorithm.name.upper()}, which clients do not accept",
                "have it issued again with SHA-256",
            )
            fine = False
    return fine


def _check_dates(source: Source, at: Path, leaf: x509.Certificate, now: float) -> None:
    if leaf.not_valid_after_utc.timestamp() <= now:
        source.warning(at, f"the certificate {subject_of(leaf)} expired {on_day(leaf.not_valid_after_utc)}", "renew it")
    elif leaf.not_valid_before_utc.timestamp() > now:
        source.warning(
            at,
            f"the certificate {subject_of(leaf)} is not valid before {on_day(leaf.not_valid_before_utc)[3:]}",
            "check the clock",
        )


def subject_of(certificate: x509.Certificate) -> str:
    """A certificate's subject for people: where it is empty, its first name. Raises as `names_of`."""
    text = certificate.subject.rfc4514_string()
    if text:
        return text if len(text) <= 80 else text[:77] + "…"
    names = names_of(certificate)
    return names[0] if names else "(no name)"


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names, lower-case, and addresses of the subjectAltName. Raises ValueError for an extension that is broken."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    return (*names, *(str(address) for address in found.get_values_for_type(x509.IPAddress)))


def on_day(moment: datetime.datetime) -> str:
    """``on 2026-11-22 04:55 UTC``."""
    return f"on {moment:%Y-%m-%d %H:%M} UTC"


def _same_key(certificate: x509.Certificate, key: PrivateKey) -> bool:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(encoding, form) == key.public_key().public_bytes(encoding, form)


def _issuer_is_published(certificate: x509.Certificate) -> bool:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(entry.access_method == AuthorityInformationAccessOID.CA_ISSUERS for entry in access)


def _right_order(chain: list[x509.Certificate], leaf: int) -> str:
    order, rest = [leaf], [index for index in range(len(chain)) if index != leaf]
    while rest:
        after = next((index for index in rest if chain[order[-1]].issuer == chain[index].subject), None)
        if after is None:
            break
        order.append(after)
        rest.remove(after)
    return "the right order is: " + ", ".join(f"{index + 1} ({subject_of(chain[index])})" for index in order)
