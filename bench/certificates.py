"""The certificate that every target serves: ECDSA P-256 for `localhost`, from a CA that lives as long as the run."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

__all__ = ["Leaf", "Set", "Stapled", "issue", "issue_many", "issue_set", "issue_stapled"]


_CA = "edge bench CA"


@dataclass(frozen=True, slots=True)
class Leaf:
    chain: Path
    key: Path
    both: Path  # chain and key in one file, for HAProxy


@dataclass(frozen=True, slots=True)
class Set:
    """What the targets of a run need: their certificates for `localhost`, and a client's with the authority that it is from."""

    leaf: Leaf
    rsa: Leaf
    client: Leaf
    ca: Path


@dataclass(frozen=True, slots=True)
class Stapled:
    """A certificate whose chain has its issuer, and the OCSP response about it (DER, where HAProxy looks for it)."""

    leaf: Leaf
    response: Path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _build(subject: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, issuer: str) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
    )


def issue(folder: Path) -> Leaf:
    """Make a CA and a leaf for `localhost` and 127.0.0.1, as PEM files in `folder`."""
    return _issue(folder, ec.generate_private_key(ec.SECP256R1()), "localhost", "")


def issue_many(folder: Path, count: int) -> list[Leaf]:
    """Leaves for ``h0.bench.example`` and so on, each with a key of its own, from one CA; their files in `folder`."""
    folder.mkdir()
    ca_key = ec.generate_private_key(ec.SECP256R1())
    return [_issue(folder, ca_key, f"h{number}.bench.example", f"{number}-") for number in range(count)]


def issue_set(folder: Path) -> Set:
    """Everything from one CA, as PEM files in `folder`: an ECDSA P-256 and an RSA 2048 certificate, and a client's."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = folder / "ca.pem"
    ca.write_bytes(_authority(ca_key).public_bytes(serialization.Encoding.PEM))
    large = rsa.generate_private_key(65_537, 2048)
    return Set(
        leaf=_issue(folder, ca_key, "localhost", ""),
        rsa=_issue(folder, ca_key, "localhost", "rsa-", large),
        client=_issue(folder, ca_key, "bench client", "client-"),
        ca=ca,
    )


def issue_stapled(folder: Path, responder: str) -> Stapled:
    """A certificate for `localhost` that names `responder` (a URL), and what that has to answer for a day: it is good."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(ca_key)
    leaf = _issue(folder, ca_key, "localhost", "stapled-", responder=responder, issuer=authority)
    now = datetime.datetime.now(datetime.UTC)
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=x509.load_pem_x509_certificate(leaf.chain.read_bytes()),
            issuer=authority,
            algorithm=hashes.SHA1(),  # of the issuer's name and key in the identifier: what servers look for (RFC 5019)
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now - datetime.timedelta(minutes=10),
            next_update=now + datetime.timedelta(days=1),
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, authority)
        .sign(ca_key, hashes.SHA256())
    )
    response = leaf.both.with_name(f"{leaf.both.name}.ocsp")
    response.write_bytes(answer.public_bytes(serialization.Encoding.DER))
    return Stapled(leaf, response)


def _authority(ca_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    return (
        _build(_CA, ca_key, _CA)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _issue(
    folder: Path,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    prefix: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    *,
    responder: str = "",
    issuer: x509.Certificate | None = None,
) -> Leaf:
    """With an `issuer` the chain has it too."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
    building = (
        _build(name, key, _CA)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
    )
    if responder:
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder))
        building = building.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    leaf = building.sign(ca_key, hashes.SHA256())
    chain, private = (
        leaf.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    chain += b"" if issuer is None else issuer.public_bytes(serialization.Encoding.PEM)
    made = Leaf(folder / f"{prefix}chain.pem", folder / f"{prefix}key.pem", folder / f"{prefix}both.pem")
    made.chain.write_bytes(chain)
    for path, content in ((made.key, private), (made.both, chain + private)):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return made
