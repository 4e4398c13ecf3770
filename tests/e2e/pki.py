"""Certificates for the tests: one private CA for servers, two for clients, and a leaf for every situation that a test needs.

Everything is made once for each test session; keys are ECDSA P-256 except where a name says RSA.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

__all__ = ["Leaf", "Pki"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A chain and its key in PEM files."""

    chain: Path
    key: Path

    @property
    def toml(self) -> str:
        """The value of one entry of `certificates` in the gateway's TOML."""
        return f'{{ chain = "{self.chain}", key = "{self.key}" }}'

    @property
    def spki_sha256(self) -> str:
        """Base64 of the SHA-256 of the leaf's public key, as browsers' command lines and pins have it."""
        leaf = x509.load_pem_x509_certificate(self.chain.read_bytes())
        public = leaf.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(public).digest()).decode()


class Pki:
    """The CAs and leaves of one test session, as files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._clients = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._strangers = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.ca = self._pem("servers-ca.pem", self._servers)
        self.client_ca = self._pem("clients-ca.pem", self._clients)
        self.stranger_ca = self._pem("strangers-ca.pem", self._strangers)
        self.localhost = self.server("localhost", "localhost", "127.0.0.1", "::1")
        self.localhost_rsa = self.server("localhost-rsa", "localhost", "127.0.0.1", key_type=trustme.KeyType.RSA)
        self.wild = self.server("wild", "*.wild.test")
        self.open = self.server("open", "open.test")
        self.guarded = self.server("guarded", "guarded.test")
        self.client = self._leaf("client", self._clients, "client.test")
        self.stranger = self._leaf("stranger", self._strangers, "client.test")

    def server(
        self,
        label: str,
        *names: str,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
        not_after: datetime.datetime | None = None,
    ) -> Leaf:
        """A server certificate for `names`, from the CA in `ca`."""
        return self._leaf(label, self._servers, *names, key_type=key_type, not_after=not_after)

    def host(self, upstream: str = "", name: str = "localhost", leaf: Leaf | None = None) -> str:
        """The TOML of one host; further keys may follow. All of it goes to `upstream` (a URL or a name), if there is one."""
        certificate = (leaf or self.localhost).toml
        text = f'[[host]]\nnames = ["{name}"]\ncertificates = [{certificate}]\n'
        return text + f'upstream = "{upstream}"\n' if upstream else text

    def _pem(self, name: str, ca: trustme.CA) -> Path:
        path = self._folder / name
        ca.cert_pem.write_to_path(str(path))
        return path

    def _leaf(
        self,
        label: str,
        ca: trustme.CA,
        *names: str,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
        not_after: datetime.datetime | None = None,
    ) -> Leaf:
        issued = ca.issue_cert(*names, key_type=key_type, not_after=not_after)
        leaf = Leaf(self._folder / f"{label}.pem", self._folder / f"{label}.key")
        leaf.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        leaf.key.write_bytes(issued.private_key_pem.bytes())
        leaf.key.chmod(0o600)
        return leaf

    def revoke(self, path: Path, *leaves: Leaf, days: float = 7) -> None:
        """Write the revocation list of the CA in `client_ca` anew, as a whole: it is good for `days` from now."""
        now = datetime.datetime.now(datetime.UTC)
        root = x509.load_pem_x509_certificate(self._clients.cert_pem.bytes())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(root.subject)
            .last_update(now - datetime.timedelta(days=30))
            .next_update(now + datetime.timedelta(days=days))
        )
        for leaf in leaves:
            serial = x509.load_pem_x509_certificate(leaf.chain.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        key = load_pem_private_key(self._clients.private_key_pem.bytes(), None)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))  # type: ignore[arg-type]
        fresh.rename(path)

    def workload(self, label: str, *, uri: str = "", dns: str = "", intermediate: bool = False, serial: int = 0) -> Leaf:
        """A client certificate with one name, from the CA in `client_ca`, by way of an `intermediate` or directly."""
        root = x509.load_pem_x509_certificate(self._clients.cert_pem.bytes())
        issuer, key = root, load_pem_private_key(self._clients.private_key_pem.bytes(), None)
        chain = b""
        if intermediate:
            between = ec.generate_private_key(ec.SECP256R1())
            ca = x509.BasicConstraints(ca=True, path_length=0)
            builder = _builder(f"CN={label} issuer", issuer.subject, between).add_extension(ca, critical=True)
            issuer, key = builder.sign(key, hashes.SHA256()), between  # type: ignore[arg-type]
            chain = issuer.public_bytes(Encoding.PEM)
        own = ec.generate_private_key(ec.SECP256R1())
        name = x509.UniformResourceIdentifier(uri) if uri else x509.DNSName(dns)
        builder = _builder(f"CN={label}", issuer.subject, own, serial).add_extension(
            x509.SubjectAlternativeName([name]), critical=False
        )
        leaf = Leaf(self._folder / f"{label}.pem", self._folder / f"{label}.key")
        leaf.chain.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + chain)  # type: ignore[arg-type]
        leaf.key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        leaf.key.chmod(0o600)
        return leaf


def _builder(subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int = 0) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
