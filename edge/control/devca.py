"""A private certificate authority for development, and a certificate for this machine that it signs.

It lives in ``STATE_DIR/dev``, a folder of mode 0700, its keys with mode 0600. The authority's certificate is what a developer
trusts once, so it lasts ten years; whoever trusts it should guard its key like an SSH key. The leaf is made anew when it is
near its end, lacks a name, or was not signed by this authority.

Files are replaced whole (written beside, then renamed), so a program that starts meanwhile reads either the old or the new.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["LOCAL_NAMES", "DevCertificate", "ensure"]

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_CA_DAYS = 3650
_LEAF_DAYS = 90
_RENEW_DAYS = 30
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class DevCertificate:
    """Paths of what `ensure` made or found. `chain` holds the leaf and the authority."""

    ca: Path
    chain: Path
    key: Path
    created_ca: bool  # whoever trusted an earlier authority must trust this one anew


def ensure(state_dir: str | Path, names: Iterable[str] = (), *, now: datetime | None = None) -> DevCertificate:
    """The development certificate for localhost and `names` (host names or addresses). Raises OSError when it cannot be kept."""
    folder = Path(state_dir) / "dev"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    now = now or datetime.now(UTC)
    ca_path, ca_key_path = folder / "ca.pem", folder / "ca.key"
    chain_path, key_path = folder / "localhost.pem", folder / "localhost.key"
    authority = _read(ca_path, ca_key_path)
    created = authority is None or not _is_current(authority[0], now, timedelta(days=_LEAF_DAYS))
    if authority is None or created:
        authority = _make_authority(now)
        _write_key(ca_key_path, authority[1])
        _write(ca_path, _pem(authority[0]), 0o644)
    wanted = tuple(dict.fromkeys((*LOCAL_NAMES, *(name.lower() for name in names))))
    leaf = _read(chain_path, key_path)
    if leaf is None or not _is_current(leaf[0], now, timedelta(days=_RENEW_DAYS)) or not _covers(leaf[0], wanted, authority[0]):
        had = _names(leaf[0]) if leaf is not None else ()
        certificate, key = _make_leaf(authority, tuple(dict.fromkeys((*wanted, *had))), now)
        _write_key(key_path, key)
        _write(chain_path, _pem(certificate) + _pem(authority[0]), 0o644)
    return DevCertificate(ca_path, chain_path, key_path, created)


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _read(certificate_path: Path, key_path: Path) -> _Pair | None:
    """A certificate and its key; None when there is none, or what is there does not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return None
    key_path.chmod(0o600)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return certificate, key


def _is_current(certificate: x509.Certificate, now: datetime, left: timedelta) -> bool:
    return certificate.not_valid_before_utc <= now and certificate.not_valid_after_utc - now > left


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _covers(certificate: x509.Certificate, names: tuple[str, ...], authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return set(names) <= set(_names(certificate))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _make_authority(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge development CA {secrets.token_hex(4)}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _make_leaf(authority: _Pair, names: tuple[str, ...], now: datetime) -> _Pair:
    ca, ca_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=_LEAF_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate, key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(path, pem, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
    beside.replace(path)
