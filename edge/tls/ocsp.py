"""OCSP (RFC 6960, in the profile of RFC 5019): what to ask about a certificate, and whether an answer is true and fit to staple.

Pure: bytes and the time in, bytes or an `OcspError` out. The controller asks here before it passes an answer on, and the
supervisor before it hands one to the workers, so nothing is stapled that was not verified in the process that gives it out.

An answer is good when all of this holds
* it is successful, and the one statement in it about our certificate (serial number and both hashes of its issuer, with
  whatever hash the responder chose) says ``good``; statements about other certificates are passed over;
* its signature is the issuer's own, or that of a certificate which this very issuer has signed, which has the usage
  id-kp-OCSPSigning and is valid now (RFC 6960 section 4.2.2.2). Nobody else speaks for the issuer, whatever chain he shows;
* now lies in its window, where ``thisUpdate`` may be `SKEW` ahead of us, for clocks differ, and ``nextUpdate`` may not have
  passed. Without a ``nextUpdate`` it is good for `UNBOUNDED` seconds. It is not good for longer than its signer's certificate.

Requests carry no nonce: it would keep responders from answering with what they have signed before. They name certificates by
SHA-1, which every responder knows and nothing rests on: what counts is the signature, and for that SHA-1 is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["LARGEST", "SKEW", "Answer", "OcspError", "Question", "question", "verify"]

LARGEST: Final = 32 * 1024  # bytes of an answer; it travels in every full handshake that asks for it
SKEW: Final = 300.0  # seconds that a responder's clock may be ahead
UNBOUNDED: Final = 86_400.0  # seconds

_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_TOO_WEAK: Final = (hashes.SHA1, hashes.MD5)


class OcspError(ValueError):
    """Why there is nothing to staple. `kind` is a word that keeps its meaning (``revoked``, ``wrong-signer``, …)."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(detail or kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one certificate."""

    key: str  # SHA-256 of the certID, hex: another certificate, of the same name and key too, has another one
    leaf: x509.Certificate
    issuer: x509.Certificate
    request: bytes  # DER


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was verified: ``good``, about this certificate, by who may say so."""

    response: bytes  # DER
    this_update: float  # POSIX seconds
    until: float  # POSIX seconds: not to be stapled after


def question(chain_pem: bytes) -> Question:
    """The question about the first certificate of a chain, whose second one is its issuer.

    Raises OcspError ``no-issuer``, or ``self-signed``: nobody could answer.
    """
    leaf, *above = x509.load_pem_x509_certificates(chain_pem)
    if not above and leaf.issuer == leaf.subject:
        raise OcspError("self-signed", "it has no authority")
    if not above:
        raise OcspError("no-issuer", "the chain's file holds no issuer: add the certificate that issued it after it")
    issuer = above[0]
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1()).build()
    identity = b"".join((request.issuer_name_hash, request.issuer_key_hash, leaf.serial_number.to_bytes(21, "big")))
    return Question(hashlib.sha256(identity).hexdigest(), leaf, issuer, request.public_bytes(Encoding.DER))


def verify(asked: Question, response: bytes, now: float) -> Answer:
    """The answer in `response`, if it is good. `now` in POSIX seconds.

    Raises OcspError: ``too-large``, ``garbage``, ``refused``, ``wrong-certificate``, ``wrong-signer``, ``bad-signature``,
    ``weak-signature``, ``revoked``, ``unknown``, ``not-yet-valid``, ``expired``. ``revoked`` and ``unknown`` are verified too.
    """
    if len(response) > LARGEST:
        raise OcspError("too-large", f"the answer is larger than {LARGEST} bytes")
    try:
        parsed = ocsp.load_der_ocsp_response(response)
        if parsed.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise OcspError("refused", f"the responder says {parsed.response_status.name.lower().replace('_', ' ')}")
        return _verify(asked, parsed, response, now)
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError) as error:
        if isinstance(error, OcspError):
            raise
        raise OcspError("garbage", "the answer is not an OCSP response") from None


def _verify(asked: Question, parsed: ocsp.OCSPResponse, response: bytes, now: float) -> Answer:
    single = next((one for one in parsed.responses if _is_about(one, asked)), None)
    if single is None:
        raise OcspError("wrong-certificate", "the answer is about another certificate")
    signer = _signer(parsed, asked.issuer, now)
    _check_signature(parsed, signer)
    this = single.this_update_utc.timestamp()
    if this > now + SKEW:
        raise OcspError("not-yet-valid", f"the answer is valid from {single.this_update_utc:%Y-%m-%d %H:%M:%S} UTC on")
    until = single.next_update_utc.timestamp() if single.next_update_utc is not None else this + UNBOUNDED
    if signer is not asked.issuer:
        until = min(until, signer.not_valid_after_utc.timestamp())
    if until <= now or until <= this:
        raise OcspError("expired", "the answer is not valid any more")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        when = f"{single.revocation_time_utc:%Y-%m-%d %H:%M} UTC" if single.revocation_time_utc is not None else "unknown"
        why = f", {single.revocation_reason.value}" if single.revocation_reason is not None else ""
        raise OcspError("revoked", f"the certificate is revoked since {when}{why}")
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise OcspError("unknown", "the responder does not know the certificate")
    return Answer(response, this, until)


def _is_about(single: ocsp.OCSPSingleResponse, asked: Question) -> bool:
    kind = _HASHES.get(single.hash_algorithm.name)
    if kind is None or single.serial_number != asked.leaf.serial_number:
        return False
    name, key = hashes.Hash(kind()), hashes.Hash(kind())
    name.update(asked.issuer.subject.public_bytes())
    key.update(_key_bits(asked.issuer))
    return single.issuer_name_hash == name.finalize() and single.issuer_key_hash == key.finalize()


def _key_bits(certificate: x509.Certificate) -> bytes:
    """The subjectPublicKey without its algorithm: what key hashes are made of."""
    public = certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    raise UnsupportedAlgorithm("an issuer with a key of another kind")


def _signer(parsed: ocsp.OCSPResponse, issuer: x509.Certificate, now: float) -> x509.Certificate:
    """Who signed it, if he may. Raises OcspError."""
    if _is_responder(parsed, issuer):
        return issuer
    named = [one for one in parsed.certificates if _is_responder(parsed, one)]
    if not named:
        raise OcspError("wrong-signer", "the answer is signed by somebody who shows no certificate of the issuer's")
    why = ""
    for delegate in named:
        why = _unfit(delegate, issuer, now)
        if not why:
            return delegate
    raise OcspError("wrong-signer", why)


def _is_responder(parsed: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if parsed.responder_name is not None:
        return parsed.responder_name == certificate.subject
    # SHA-1 by definition (RFC 6960 section 4.2.1)
    return parsed.responder_key_hash == hashlib.sha1(_key_bits(certificate), usedforsecurity=False).digest()


def _unfit(delegate: x509.Certificate, issuer: x509.Certificate, now: float) -> str:
    """Why a certificate may not sign for the issuer; empty: it may."""
    try:
        delegate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return "the answer is signed by somebody whom the issuer did not authorise"
    try:
        usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "the answer is signed by a certificate that is not for signing answers"
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        return "the answer is signed by a certificate that is not for signing answers"
    if not delegate.not_valid_before_utc.timestamp() - SKEW <= now < delegate.not_valid_after_utc.timestamp():
        return "the certificate of the answer's signer is not valid now"
    return ""


def _check_signature(parsed: ocsp.OCSPResponse, signer: x509.Certificate) -> None:
    public, signed, signature = signer.public_key(), parsed.tbs_response_bytes, parsed.signature
    algorithm = parsed.signature_hash_algorithm
    if isinstance(algorithm, _TOO_WEAK):
        raise OcspError("weak-signature", f"the answer is signed with {algorithm.name.upper()}")
    try:
        if isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            public.verify(signature, signed)
        elif isinstance(public, rsa.RSAPublicKey) and algorithm is not None:
            public.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(public, ec.EllipticCurvePublicKey) and algorithm is not None:
            public.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            raise OcspError("bad-signature", "the answer is signed in a way that is not known here")
    except InvalidSignature:
        raise OcspError("bad-signature", "the answer's signature is wrong") from None
