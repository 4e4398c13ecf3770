"""The certificate that every target serves: ECDSA P-256 for `localhost`, from a CA that lives as long as the run."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

__all__ = ["Leaf", "Set", "issue", "issue_many", "issue_set"]


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
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        _build(_CA, ca_key, _CA)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca = folder / "ca.pem"
    ca.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    large = rsa.generate_private_key(65_537, 2048)
    return Set(
        leaf=_issue(folder, ca_key, "localhost", ""),
        rsa=_issue(folder, ca_key, "localhost", "rsa-", large),
        client=_issue(folder, ca_key, "bench client", "client-"),
        ca=ca,
    )


def _issue(
    folder: Path,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    prefix: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> Leaf:
    key = key or ec.generate_private_key(ec.SECP256R1())
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
    leaf = (
        _build(name, key, _CA)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    chain, private = (
        leaf.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    made = Leaf(folder / f"{prefix}chain.pem", folder / f"{prefix}key.pem", folder / f"{prefix}both.pem")
    made.chain.write_bytes(chain)
    for path, content in ((made.key, private), (made.both, chain + private)):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return made
