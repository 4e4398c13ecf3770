"""The examples of the documents, made loadable: certificates that exist in place of those that a page names."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "edge" / "manual").glob("*.md"))]
FILES = [*sorted((ROOT / "config" / "examples").glob("*.toml")), ROOT / "config" / "dev.toml"]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PAIR = re.compile(r'chain = "[^"]*"(,\s*|\n)key = "[^"]*"')
_SECRET = re.compile(r"\$\{file:/run/secrets/[^}]*\}")
_TICKETS = re.compile(r'ticket_secret = "[^"]*"')
_CA = re.compile(r'ca = \["[^\]]*"\]')
_CRL = re.compile(r'crl = \["[^\]]*"\]')


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Each block of `language` with its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            if found[1] == language:
                yield f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}", found[2]


class Pki:
    """One CA, and leaves for whatever names an example has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the examples")])
        self._certificate = self._build(self._name, self._key, None)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self.crl = folder / "crl.pem"
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now)
        revoked = builder.next_update(now + datetime.timedelta(days=7)).sign(self._key, hashes.SHA256())
        self.crl.write_bytes(revoked.public_bytes(serialization.Encoding.PEM))
        self._made = 0

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, names: list[str] | None
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=80))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
        else:
            usage = {
                "digital_signature": False, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
                "key_agreement": False, "encipher_only": False, "decipher_only": False,
            }  # fmt: skip
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def leaf(self, names: list[str], *, with_rsa: bool = False) -> tuple[Path, Path]:
        """Chain and key for `names`."""
        key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
        self._made += 1
        chain, private = self._folder / f"{self._made}.pem", self._folder / f"{self._made}.key"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        chain.write_bytes(self._build(subject, key, names).public_bytes(serialization.Encoding.PEM))
        private.touch(mode=0o600)
        private.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return chain, private


def loadable(text: str, folder: Path) -> str:
    """`text` with certificates that cover all of its hosts, and CAs that exist."""
    pki = Pki(folder)
    values = tomllib.loads(text)
    names = [
        name.partition(":-")[2].rstrip("}") if name.startswith("${") else name
        for host in values.get("host", [])
        for name in host["names"]
    ]
    count = 0

    def pair(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        chain, key = pki.leaf(names or ["localhost"], with_rsa="rsa" in found[0])
        return f'chain = "{chain}"{found[1]}key = "{key}"'

    secret = folder / "secret"
    secret.write_text("0123456789abcdef" * 4)
    secret.chmod(0o600)
    text = _TICKETS.sub(f'ticket_secret = "{secret}"', text)
    text = _SECRET.sub(f"${{file:{secret}}}", text)
    text = _CRL.sub(f'crl = ["{pki.crl}"]', text)
    return _CA.sub(f'ca = ["{pki.ca}"]', _PAIR.sub(pair, text))
