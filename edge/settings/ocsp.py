"""The settings of OCSP stapling, and what a certificate says about it itself."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID
from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.layers import typed
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.units import seconds

__all__ = ["Stapled", "must_staple", "ocsp", "responders", "stapled"]

_MOST_RESPONDERS = 4  # of a certificate that are asked
_LONGEST = 60.0  # seconds


def ocsp(source: Source) -> model.Ocsp:
    """The table of the file. Problems are told."""
    raw = typed(source, ("ocsp",), source.tree.get("ocsp", {}), keys.Ocsp)
    if raw is None:
        return model.Ocsp()
    timeout = seconds(raw.timeout) or 0.0
    if not 0.1 <= timeout <= _LONGEST:
        source.error(("ocsp", "timeout"), "a responder has between 100ms and 60s", 'write "10s"')
    if raw.stapling == "off" and raw.must_staple == "refuse":
        source.error(
            ("ocsp", "must_staple"), 'with stapling = "off" no certificate has a staple', 'take must_staple = "refuse" out'
        )
    return model.Ocsp(
        stapling=raw.stapling != "off",
        responder=_url(source, ("ocsp", "responder"), raw.responder, ("http", "https"), "http://ocsp.example.com/"),
        proxy=_url(source, ("ocsp", "proxy"), raw.proxy, ("http",), "http://proxy.example.com:3128"),
        must_staple=raw.must_staple,
        timeout=timeout,
    )


def _url(source: Source, at: Path, text: str | UnsetType, schemes: tuple[str, ...], instead: str) -> str:
    if isinstance(text, UnsetType):
        return ""
    parts = _parts(text, schemes)
    if parts is None:
        source.error(at, f"'{source.shown(at, text)}' is not a URL that can be asked", f'write for example "{instead}"')
    elif at[-1] == "responder" and parts.username is not None:
        source.error(at, "a responder's URL with a user in it", "take the user out")
    return text


def _parts(text: str, schemes: tuple[str, ...]) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if fine and not parts.fragment and text.isascii() and text.isprintable() and " " not in text else None


def responders(leaf: x509.Certificate) -> tuple[str, ...]:
    """The responders that a certificate names (RFC 5280 section 4.2.2.1) and that can be asked. Raises ValueError."""
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    found = [
        entry.access_location.value
        for entry in access
        if entry.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(entry.access_location, x509.UniformResourceIdentifier)
    ]
    return tuple(dict.fromkeys(url for url in found if _parts(url, ("http", "https")) is not None))[:_MOST_RESPONDERS]


def must_staple(leaf: x509.Certificate) -> bool:
    """Whether clients are to insist on a staple (RFC 7633). Raises ValueError."""
    try:
        features = leaf.extensions.get_extension_for_class(x509.TLSFeature).value
    except x509.ExtensionNotFound:
        return False
    return x509.TLSFeatureType.status_request in features


@dataclass(frozen=True, slots=True)
class Stapled:
    """A certificate that clients see, and what stapling is for it."""

    certificate: model.Certificate
    hosts: tuple[str, ...]
    responders: tuple[str, ...]  # to be asked, in this order; empty: there is nobody who could be


def stapled(settings: model.Settings) -> dict[str, Stapled]:
    """All certificates that clients see, by fingerprint. With stapling off: none."""
    if not settings.ocsp.stapling:
        return {}
    found: dict[str, tuple[model.Certificate, list[str]]] = {}
    for host in settings.hosts:
        for certificate in host.certificates:
            found.setdefault(certificate.fingerprint, (certificate, []))[1].extend(host.names)
    instead = (settings.ocsp.responder,) if settings.ocsp.responder else ()
    return {
        fingerprint: Stapled(certificate, tuple(dict.fromkeys(names)), instead or certificate.responders)
        for fingerprint, (certificate, names) in found.items()
    }
