"""Certificates: found, read, joined with their keys, and chosen for hosts. Everything that would fail in a handshake fails here
first.

A certificate has one source: two files, one file with both, or a directory as Kubernetes and certbot write it. What its chain
must be like stands in `edge.settings.chains`. A key that everybody on this machine can read is an error: it is given away.
All problems of a certificate are told at once, and each file is read once.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import UnsetType

from edge.settings import keys
from edge.settings.chains import PrivateKey, check_chain, names_of, on_day, subject_of
from edge.settings.files import Unreadable, read_file
from edge.settings.model import Certificate, Ocsp, Place
from edge.settings.ocsp import must_staple, responders
from edge.settings.problems import Path
from edge.settings.source import Source

__all__ = ["CertificateReader", "covers", "read_authorities"]

_MOST_BYTES = 4 * 1024 * 1024
_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
_DIR_NAMES = (("tls.crt", "tls.key"), ("fullchain.pem", "privkey.pem"))


@dataclass(frozen=True, slots=True)
class _Files:
    chain: str
    key: str
    chain_at: Path  # where the file is named
    key_at: Path


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether one of a certificate's names covers the host name; a wildcard covers one label (RFC 9525 section 6.3)."""
    if host in names:
        return True
    _, dot, parent = host.partition(".")
    return bool(dot) and not host.startswith("*.") and not _is_address(host) and f"*.{parent}" in names


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_bytes(source: Source, at: Path, name: str) -> bytes | None:
    """A file's bytes, or None after the problem was told. `name` is relative to the file that names it."""
    path = source.directory(at) / name
    source.look(os.path.abspath(path))
    try:
        data = read_file(path, _MOST_BYTES)
    except Unreadable as unreadable:
        source.error(at, f"{source.shown(at, name)} {unreadable}", reason=unreadable.reason)
        return None
    source.remember(os.path.abspath(path), data)
    return data


def _read_chain(source: Source, at: Path, name: str, data: bytes) -> list[x509.Certificate]:
    shown = source.shown(at, name)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        if data[:1] == b"\x30":
            source.error(at, f"{shown} is DER, not PEM", "convert it: openssl x509 -inform der -in FILE -out FILE.pem")
        elif b"-----BEGIN " in data:
            source.error(at, f"{shown} holds no certificate", "is this the key's file?")
        else:
            source.error(at, f"{shown} is not PEM")
        return []
    try:
        return x509.load_pem_x509_certificates(data)
    except (ValueError, UnsupportedAlgorithm):
        source.error(at, f"{shown} holds a certificate that cannot be read")
        return []


def read_authorities(source: Source, at: Path, name: str, now: float) -> bytes | None:
    """The PEM certificates of a trust store's file."""
    data = read_bytes(source, at, name)
    if data is None:
        return None
    found = _read_chain(source, at, name, data)
    if not found:
        return None
    for certificate in found:
        if certificate.not_valid_after_utc.timestamp() < now:
            source.warning(at, f"the authority {subject_of(certificate)} expired {on_day(certificate.not_valid_after_utc)}")
        if not _may_issue(certificate):
            source.warning(
                at, f"{subject_of(certificate)} is no authority: certificates that it signed count for nothing",
                f"name the one that issued it: {certificate.issuer.rfc4514_string()}",
            )  # fmt: skip
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in found)


def _may_issue(certificate: x509.Certificate) -> bool:
    """Whether it can stand above others in a chain: by its basicConstraints, if it has any (RFC 5280 section 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.issuer == certificate.subject
    except ValueError:
        return True


class CertificateReader:
    """Reads certificates, each file pair once. `now` is POSIX time in seconds."""

    def __init__(self, source: Source, now: float, ocsp: Ocsp) -> None:
        self._source = source
        self._now = now
        self._ocsp = ocsp
        self._cache: dict[tuple[str, str, str], Certificate | None] = {}

    def read(self, at: Path, table: keys.CertificateSource, name: str = "") -> Certificate | None:
        """The certificate that a table describes, or None after its problems were told."""
        files = self._files(at, table)
        if files is None:
            return None
        passphrase = "" if isinstance(table.passphrase, UnsetType) else table.passphrase
        directory = self._source.directory(at)
        cached = (str(directory / files.chain), str(directory / files.key), passphrase)
        if cached not in self._cache:
            self._cache[cached] = self._load(at, files, passphrase, name or self._source.shown(files.chain_at, files.chain))
        return self._cache[cached]

    def _files(self, at: Path, table: keys.CertificateSource) -> _Files | None:
        pair = not isinstance(table.chain, UnsetType) or not isinstance(table.key, UnsetType)
        given = [pair, not isinstance(table.bundle, UnsetType), not isinstance(table.dir, UnsetType)]
        if sum(given) != 1 and self._source.touched(at):
            return None
        if sum(given) != 1:
            message = "a certificate has one source" if sum(given) else "a certificate needs a source"
            self._source.error(at, message, "write chain and key, or bundle, or dir")
            return None
        if not isinstance(table.bundle, UnsetType):
            return _Files(table.bundle, table.bundle, (*at, "bundle"), (*at, "bundle"))
        if not isinstance(table.dir, UnsetType):
            return self._in_directory((*at, "dir"), table.dir)
        if isinstance(table.chain, UnsetType) or isinstance(table.key, UnsetType):
            if self._source.touched(at):
                return None
            missing = "chain" if isinstance(table.chain, UnsetType) else "key"
            self._source.error(
                at, f"a certificate needs '{missing}'", f'write {missing} = "/path", or bundle for one file with both'
            )
            return None
        return _Files(table.chain, table.key, (*at, "chain"), (*at, "key"))

    def _in_directory(self, at: Path, name: str) -> _Files | None:
        directory = self._source.directory(at) / name
        for chain, key in _DIR_NAMES:
            try:
                if (directory / chain).exists() or (directory / key).exists():
                    return _Files(os.path.join(name, chain), os.path.join(name, key), at, at)
            except (OSError, ValueError):
                break
        shown = self._source.shown(at, name)
        self._source.error(at, f"{shown} holds no certificate", "it needs tls.crt and tls.key, or fullchain.pem and privkey.pem")
        return None

    def _load(self, at: Path, files: _Files, passphrase: str, name: str) -> Certificate | None:
        source = self._source
        chain_data = read_bytes(source, files.chain_at, files.chain)
        key_data = chain_data if files.key == files.chain else read_bytes(source, files.key_at, files.key)
        chain = _read_chain(source, files.chain_at, files.chain, chain_data) if chain_data is not None else []
        key = self._read_key(at, files, key_data, passphrase) if key_data is not None else None
        if key_data is not None and b"PRIVATE KEY-----" in key_data:
            self._check_mode(files)
        if chain:
            try:
                fine = check_chain(source, files.chain_at, chain, key, self._now)
                names = names_of(chain[0])
                asked, must = responders(chain[0]), must_staple(chain[0])
            except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
                source.error(
                    files.chain_at, f"{source.shown(files.chain_at, files.chain)} holds a certificate that cannot be read"
                )
                return None
            if fine and key is not None:
                return replace(
                    self._model(at, chain, key, names, name), responders=asked, staple=self._policy(files.chain_at, must)
                )
        return None

    def _policy(self, at: Path, must: bool) -> str:
        """`Certificate.staple`."""
        if must and not self._ocsp.stapling:
            self._source.warning(
                at, "clients insist on a staple for this certificate (Must-Staple), and stapling is off", 'ocsp.stapling = "auto"'
            )
        return self._ocsp.must_staple if must else ""

    def _model(self, at: Path, chain: list[x509.Certificate], key: PrivateKey, names: tuple[str, ...], name: str) -> Certificate:
        span = self._source.value(at)
        leaf = chain[0]
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return Certificate(
            name=name,
            chain_pem=b"".join(certificate.public_bytes(encoding) for certificate in chain),
            key_pem=key.private_bytes(encoding, form, serialization.NoEncryption()),
            key_type="rsa"
            if isinstance(key, rsa.RSAPrivateKey)
            else "ecdsa"
            if isinstance(key, ec.EllipticCurvePrivateKey)
            else "ed25519",
            names=names,
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
            purposes=_purposes(leaf),
            place=Place(file=span.file, line=span.line, column=span.column),
        )

    def _read_key(self, at: Path, files: _Files, data: bytes, passphrase: str) -> PrivateKey | None:
        source, where = self._source, files.key_at
        shown = source.shown(where, files.key)
        start = data.find(b"-----BEGIN ")
        while start >= 0 and b"PRIVATE KEY-----" not in data[start : start + 48].split(b"\n", 1)[0]:
            start = data.find(b"-----BEGIN ", start + 11)
        if start < 0:
            source.error(where, f"{shown} holds no private key" if b"-----BEGIN " in data else f"{shown} is not PEM")
            return None
        secret = passphrase.encode() or None
        try:
            key = serialization.load_pem_private_key(data[start:], secret, unsafe_skip_rsa_key_validation=True)
        except TypeError:
            if secret is None:
                source.error(
                    where, f"the key in {shown} is encrypted", 'write passphrase = "${credential:NAME}" or "${file:/path}"'
                )
                return None
            source.warning((*at, "passphrase"), "a passphrase, but the key is not encrypted", "take it out")
            try:
                key = serialization.load_pem_private_key(data[start:], None, unsafe_skip_rsa_key_validation=True)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                source.error(where, f"the key in {shown} cannot be read")
                return None
        except (ValueError, UnsupportedAlgorithm):
            if secret is not None:
                source.error((*at, "passphrase"), f"the key in {shown} cannot be read with this passphrase")
            else:
                source.error(where, f"the key in {shown} cannot be read")
            return None
        if isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            return key
        source.error(where, f"the key in {shown} is of a kind that TLS does not use", "make an ECDSA P-256 key")
        return None

    def _check_mode(self, files: _Files) -> None:
        path = self._source.directory(files.key_at) / files.key
        shown = self._source.shown(files.key_at, files.key)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            return
        if mode & 0o006:
            self._source.error(
                files.key_at,
                f"everybody on this machine can read the private key {shown} (mode {mode:04o})",
                f"chmod 600 {shown}",
            )
        elif mode & 0o060:
            self._source.warning(
                files.key_at, f"a group can read the private key {shown} (mode {mode:04o})", f"chmod 600 {shown}"
            )


def _purposes(leaf: x509.Certificate) -> frozenset[str]:
    """What the leaf may be by its extendedKeyUsage (RFC 5280 section 4.2.1.12); without one, everything."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset(_PURPOSES.values())
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage:
        return frozenset(_PURPOSES.values())
    return frozenset(word for oid, word in _PURPOSES.items() if oid in usage)
