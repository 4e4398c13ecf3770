"""A certificate authority with an OCSP responder that can be made to lie: for the tests of stapling."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Issued", "NOW"]

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Issued:
    """A certificate with its key and its issuer's certificate."""

    certificate: x509.Certificate
    key: _Key
    issuer: x509.Certificate

    @property
    def chain_pem(self) -> bytes:
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, self.issuer))

    @property
    def key_pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path, label: str) -> str:
        """Write both; the value of one entry of `certificates` in TOML."""
        chain, key = folder / f"{label}.pem", folder / f"{label}.key"
        chain.write_bytes(self.chain_pem)
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)
        return f'{{ chain = "{chain}", key = "{key}" }}'


class Authority:
    """One CA."""

    def __init__(self, name: str = "authority of the tests") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, name, self.key.public_key(), 3650)
        self.certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
            self.key, hashes.SHA256()
        )

    def _builder(self, subject: str, issuer: str, public: Any, days: int) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(_name(issuer), _name(subject), public, x509.random_serial_number())
        return builder.not_valid_before(NOW - datetime.timedelta(days=30)).not_valid_after(NOW + datetime.timedelta(days=days))

    @property
    def _own_name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def leaf(self, *names: str, responders: tuple[str, ...] = (), must_staple: bool = False, with_rsa: bool = False) -> Issued:
        """A server's certificate."""
        key: _Key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(names[0], self._own_name, key.public_key(), 60)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        if responders:
            access = [
                x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
                for url in responders
            ]
            builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
        if must_staple:
            builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key, self.certificate)

    def delegate(self, *, usage: bool = True, days: int = 30) -> Issued:
        """A certificate that may sign answers for this authority; without `usage` it may not."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder("responder", self._own_name, key.public_key(), days)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key, self.certificate)

    def answer(
        self,
        about: x509.Certificate,
        *,
        issuer: x509.Certificate | None = None,
        signer: Issued | None = None,
        status: str = "good",
        begins: float = -60.0,
        ends: float | None = 3600.0,
        algorithm: hashes.HashAlgorithm | None = None,
        digest: hashes.HashAlgorithm | None = None,
        by_hash: bool = False,
        now: datetime.datetime | None = None,
    ) -> bytes:
        """An OCSP response (DER). `begins` and `ends` of its window in seconds from `now`."""
        now = now or datetime.datetime.now(datetime.UTC)
        revoked = status == "revoked"
        responder = signer.certificate if signer is not None else self.certificate
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about,
            issuer=issuer or self.certificate,
            algorithm=algorithm or hashes.SHA1(),
            cert_status={
                "good": ocsp.OCSPCertStatus.GOOD,
                "revoked": ocsp.OCSPCertStatus.REVOKED,
                "unknown": ocsp.OCSPCertStatus.UNKNOWN,
            }[status],
            this_update=now + datetime.timedelta(seconds=begins),
            next_update=now + datetime.timedelta(seconds=ends) if ends is not None else None,
            revocation_time=now - datetime.timedelta(days=1) if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        way = ocsp.OCSPResponderEncoding.HASH if by_hash else ocsp.OCSPResponderEncoding.NAME
        builder = builder.responder_id(way, responder)
        if signer is not None:
            builder = builder.certificates([signer.certificate])
        signing = signer.key if signer is not None else self.key
        signed = builder.sign(signing, digest or hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.DER)
