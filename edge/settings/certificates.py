"""Certificates: read, checked, and chosen for hosts. Everything that would fail in a handshake fails here first.

A chain starts with the leaf, and each certificate is signed by the next one (RFC 8446 section 4.4.2). A certificate that is
expired or not yet valid is a warning, for clocks and renewals must not keep a gateway from starting; everything that no
client would accept, or that gives the key away, is an error. All problems of a certificate are told at once, and each file is
read once.
"""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import os
import stat
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from msgspec import UnsetType

from edge.settings import keys
from edge.settings.files import Unreadable, read_file
from edge.settings.model import Certificate, Ocsp, Place
from edge.settings.ocsp import must_staple, responders
from edge.settings.problems import Path
from edge.settings.source import Source

__all__ = ["CertificateReader", "covers", "read_authorities"]

_MOST_BYTES = 4 * 1024 * 1024
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
_DIR_NAMES = (("tls.crt", "tls.key"), ("fullchain.pem", "privkey.pem"))
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class _Files:
    chain: str
    key: str
    chain_at: Path  # where the file is named
    key_at: Path


def _subject(certificate: x509.Certificate) -> str:
    text = certificate.subject.rfc4514_string()
    if text:
        return text if len(text) <= 80 else text[:77] + "…"
    names = _names(certificate)
    return names[0] if names else "(no name)"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names, lower-case, and addresses of the subjectAltName. Raises ValueError for an extension that is broken."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    return (*names, *(str(address) for address in found.get_values_for_type(x509.IPAddress)))


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
            source.warning(at, f"the authority {_subject(certificate)} expired {_day(certificate.not_valid_after_utc)}")
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in found)


def _day(moment: datetime.datetime) -> str:
    return f"on {moment:%Y-%m-%d %H:%M} UTC"


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
                fine = self._check_chain(files.chain_at, chain, key)
                names = _names(chain[0])
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

    def _check_chain(self, at: Path, chain: list[x509.Certificate], key: PrivateKey | None) -> bool:
        """Whether the chain can be used with the key. Everything wrong with it is told."""
        source, leaf, fine = self._source, chain[0], True
        own_key = key is None or _same_key(leaf, key)
        if not own_key and key is not None:
            fine = False
            later = next((index for index, other in enumerate(chain) if _same_key(other, key)), None)
            if later is None:
                source.error(
                    at,
                    f"the key does not belong to the certificate {_subject(leaf)}",
                    "check which key its request was made with",
                )
            else:
                where = f"the certificate of this key, {_subject(chain[later])}, is number {later + 1}"
                source.error(at, f"the chain is misordered: {where}", _right_order(chain, later))
        elif not self._check_order(at, chain):
            fine = False
        for certificate in chain:
            fine = self._check_strength(at, certificate) and fine
        self._check_dates(at, leaf)
        return fine

    def _check_order(self, at: Path, chain: list[x509.Certificate]) -> bool:
        source = self._source
        for index, (certificate, issuer) in enumerate(itertools.pairwise(chain), 1):
            if certificate.issuer != issuer.subject:
                if certificate.issuer == certificate.subject:
                    source.error(
                        at,
                        f"the chain goes on after {_subject(certificate)}, which is its own issuer",
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
                source.error(at, f"number {index} of the chain, {_subject(certificate)}, was not signed by number {index + 1}")
                return False
        if len(chain) == 1 and chain[0].issuer != chain[0].subject and _issuer_is_published(chain[0]):
            source.warning(
                at, f"the chain is incomplete: {chain[0].issuer.rfc4514_string()}, which issued it, is missing",
                "add the authority's intermediate certificate after it (certbot: fullchain.pem)",
            )  # fmt: skip
        return True

    def _check_strength(self, at: Path, certificate: x509.Certificate) -> bool:
        source, who = self._source, _subject(certificate)
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

    def _check_dates(self, at: Path, leaf: x509.Certificate) -> None:
        if leaf.not_valid_after_utc.timestamp() <= self._now:
            self._source.warning(at, f"the certificate {_subject(leaf)} expired {_day(leaf.not_valid_after_utc)}", "renew it")
        elif leaf.not_valid_before_utc.timestamp() > self._now:
            self._source.warning(
                at,
                f"the certificate {_subject(leaf)} is not valid before {_day(leaf.not_valid_before_utc)[3:]}",
                "check the clock",
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
    return "the right order is: " + ", ".join(f"{index + 1} ({_subject(chain[index])})" for index in order)
