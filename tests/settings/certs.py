"""Certificates for the tests of this room: made anew, with whatever is wrong with them."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PEM = serialization.Encoding.PEM
API = ["api.example.com"]
PAIR = '[{ chain = "c.pem", key = "c.key" }]'


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate that issues others; the root issues itself."""

    def __init__(self, common_name: str, issuer: Authority | None = None, *, key: Key | None = None) -> None:
        self.key: Key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
        self.name = name(common_name)
        signer = issuer if issuer is not None else self
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=100))
            .not_valid_after(NOW + datetime.timedelta(days=1000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    def issue(
        self,
        names: Sequence[str],
        *,
        key: Key | None = None,
        start: int = -10,
        end: int = 80,
        published: bool = False,
        client_only: bool = False,
        server_only: bool = False,
    ) -> Leaf:
        """A leaf, valid from `start` to `end` days from NOW. `published`: it says where its issuer's certificate is."""
        own: Key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
        sans: list[x509.GeneralName] = []
        for text in names:
            try:
                sans.append(x509.IPAddress(ipaddress.ip_address(text)))
            except ValueError:
                sans.append(x509.DNSName(text))
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(names[0] if names else "nobody"))
            .issuer_name(self.name)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=start))
            .not_valid_after(NOW + datetime.timedelta(days=end))
        )
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        if published:
            where = x509.UniformResourceIdentifier("http://ca.example/ca.der")
            access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        if client_only or server_only:
            purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client_only else ExtendedKeyUsageOID.SERVER_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return Leaf(builder.sign(self.key, hashes.SHA256()), own)


class Leaf:
    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    def key_pem(self, passphrase: str = "") -> bytes:
        secret = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, secret)

    def write(self, directory: Path, stem: str, *chain: bytes, passphrase: str = "") -> Leaf:
        """Write ``stem.pem`` (the leaf, then `chain`) and ``stem.key`` (mode 0600)."""
        (directory / f"{stem}.pem").write_bytes(b"".join((self.pem, *chain)))
        write_key(directory / f"{stem}.key", self.key_pem(passphrase))
        return self


def write_key(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def host(certificates: str) -> str:
    """The settings of one host with these certificates."""
    return f'[[host]]\nnames = ["api.example.com"]\ncertificates = {certificates}\nupstream = "http://127.0.0.1:8000"\n'


def only(lines: list[str]) -> str:
    """The one line that was told."""
    assert len(lines) == 1, lines
    return lines[0]
