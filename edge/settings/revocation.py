"""Revocation lists of a trust store: read, verified and brought into a form in which a serial number is found quickly.

A list counts only when its signature is that of an authority of the store (RFC 5280 section 6.3.3 f, g), which may sign lists
and whose name it bears. What cannot be understood whole is an error and not a list with fewer entries: deltas, lists about other
issuers' certificates, unknown critical extensions. Of several lists of one issuer and one scope the newest counts; lists of
several scopes (shards) count together. A list that is out of date is a warning here, and decided about in the handshake.

Names are compared without regard to case, spaces and the kind of string that they are written in (section 7.1): an issuer that
spells its name otherwise in its list must not thereby have no list.
"""

from __future__ import annotations

import datetime
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.settings.client_rules import normal_name
from edge.settings.files import Unreadable, read_file
from edge.settings.model import Crl
from edge.settings.problems import Path
from edge.settings.source import Source

__all__ = ["read_crls"]

_MOST_BYTES = 32 << 20
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_KNOWN = (x509.CRLNumber, x509.AuthorityKeyIdentifier, x509.IssuingDistributionPoint, x509.FreshestCRL)
_SHORTEST = 20  # octets of a serial number (RFC 5280 section 4.1.2.2)

_Read = tuple[tuple[str, bytes, bytes], Crl]


class _Unusable(Exception):
    """Why a list does not count, and what to do."""

    def __init__(self, why: str, mend: str = "") -> None:
        super().__init__(why)
        self.mend = mend


def read_crls(source: Source, files: list[tuple[Path, str]], authorities: bytes, now: float) -> tuple[Crl, ...]:
    """The lists in these files, each with where it is named; what is wrong was told. `authorities`: PEM."""
    issuers = x509.load_pem_x509_certificates(authorities) if authorities else []
    newest: dict[tuple[str, bytes, bytes], Crl] = {}
    for at, file in files:
        for key, crl in _read(source, at, file, issuers, now):
            known = newest.get(key)
            if known is None or known.this_update < crl.this_update:
                newest[key] = crl
    for crl in newest.values():
        if crl.next_update is not None and crl.next_update < now:
            message = f"the revocation list of {crl.name} should have been replaced {_day(crl.next_update)}"
            source.warning(files[0][0], message, "fetch the new one: edge help mutual-tls")
    return tuple(sorted(newest.values(), key=lambda crl: (crl.issuer, crl.this_update, crl.serials)))


def _read(source: Source, at: Path, file: str, issuers: list[x509.Certificate], now: float) -> list[_Read]:
    path = source.directory(at) / file
    shown = source.shown(at, file)
    source.look(str(path.absolute()))
    try:
        data = read_file(path, _MOST_BYTES)
    except Unreadable as unreadable:
        source.error(at, f"{shown} {unreadable}", reason=unreadable.reason)
        return []
    source.remember(str(path.absolute()), data)
    found: list[_Read] = []
    try:
        if data[:1] == b"\x30":
            lists = [x509.load_der_x509_crl(data)]
        else:
            lists = [x509.load_pem_x509_crl(block) for block in _PEM.findall(data)]
        if not lists:
            raise _Unusable("holds no revocation list", "is this a CRL, in PEM or DER?")
        for one in lists:
            found.append(_usable(one, issuers))
    except _Unusable as unusable:
        source.error(at, f"{shown} {unusable}", unusable.mend)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        source.error(at, f"{shown} holds a revocation list that cannot be read")
    for _, crl in found:
        if crl.this_update > now:
            source.warning(at, f"the revocation list of {crl.name} begins {_day(crl.this_update)}: is the clock right?")
    return found


def _usable(one: x509.CertificateRevocationList, issuers: list[x509.Certificate]) -> _Read:
    """A list with what tells it apart from others: issuer, key and scope. Raises _Unusable."""
    name = one.issuer.rfc4514_string()
    scope = b""
    for extension in one.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            raise _Unusable(f"is a delta list of {name}", "name the full list")
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl or value.only_contains_attribute_certs:
                raise _Unusable(f"is a list of {name} about other issuers' certificates", "name the issuer's own list")
            scope = value.public_bytes()
        elif extension.critical and not isinstance(value, _KNOWN):
            raise _Unusable(f"has a critical extension that is not known ({extension.oid.dotted_string})")
    issuer = normal_name(one.issuer)
    bearers = [authority for authority in issuers if normal_name(authority.subject) == issuer and _may_sign(authority)]
    if not bearers:
        raise _Unusable(f"is a list of {name}, which is not among the authorities of this store", "add that authority to ca")
    signer = next((authority for authority in bearers if _signed(one, authority)), None)
    if signer is None:
        raise _Unusable(f"is not signed by {name}", "fetch it again; is it from that authority?")
    serials = sorted({_octets(entry.serial_number) for entry in one})
    width = max([_SHORTEST, *map(len, serials)])
    key = signer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    next_update = one.next_update_utc
    crl = Crl(
        issuer=issuer,
        name=name,
        serials=b"".join(sorted(serial.rjust(width, b"\0") for serial in serials)),
        width=width,
        this_update=one.last_update_utc.timestamp(),
        next_update=None if next_update is None else next_update.timestamp(),
    )
    return (issuer, key, scope), crl


def _octets(serial: int) -> bytes:
    if serial < 0:
        raise _Unusable("names a negative serial number")
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big")


def _may_sign(authority: x509.Certificate) -> bool:
    try:
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False


def _signed(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return one.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _day(moment: float) -> str:
    return f"on {datetime.datetime.fromtimestamp(moment, datetime.UTC):%Y-%m-%d %H:%M} UTC"
