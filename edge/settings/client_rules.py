"""Who of the clients with a verified certificate is let in: what a rule means, and whether a certificate satisfies it.

A rule's conditions must all hold, and any rule admits. Everything is compared exactly and nothing is guessed: what is odd in a
certificate (an extension that does not parse or stands there twice, a name with a NUL or another character that names do not
have, more than `MOST_NAMES` names) satisfies no rule.

* `dns`: a dNSName of the subjectAltName, without regard to case. ``*.`` in front stands for exactly one label. A
  certificate that is itself for a wildcard is no member of it. The common name never counts (RFC 9525 section 6.3).
* `uri`: a uniformResourceIdentifier of the subjectAltName. Without ``*`` the two must be the same text. A segment of the path
  that is ``*`` stands for exactly one segment; when it is the last one, it stands for one or more: everything below, but not
  the place itself. What a ``*`` stands for consists of letters, digits and ``-._~!$&'()+,;=:@``: no empty segment, no ``.`` or
  ``..``, no escapes, no query, no fragment.
* `spiffe`: the same, and the certificate has no other URI (X509-SVID section 2).
* `subject`: the whole distinguished name in the form of RFC 4514, with regard to case and order.
* `spki`: the SHA-256 of the certificate's public key (RFC 7469 section 2.4).

What is known of a certificate is read when it is first asked for, and kept, for it is asked for on every request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import cached_property, lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.settings.model import ClientRule

__all__ = ["MOST_NAMES", "ClientLeaf", "admitting", "dns_matches", "normal_name", "rule_text", "satisfies", "uri_matches"]

MOST_NAMES = 256
_LONGEST = 2048  # characters of a URI (SPIFFE-ID section 2.4)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()+,;=:@]+"


class ClientLeaf:
    """A client's certificate, which was verified. Its properties raise ValueError for what cannot be read."""

    def __init__(self, der: bytes, name: str = "") -> None:
        self.der = der
        self.name = name  # the subject as logs have it
        self.chain: tuple[bytes, ...] = ()  # DER of what stands above it, in the chain that was verified; only if it is wanted

    @cached_property
    def certificate(self) -> x509.Certificate:
        try:
            return x509.load_der_x509_certificate(self.der)
        except x509.InvalidVersion as error:
            raise ValueError(str(error)) from None

    @cached_property
    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return (), ()
        except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise ValueError(str(error)) from None
        if len(found) > MOST_NAMES:
            raise ValueError(f"more than {MOST_NAMES} names")
        names = found.get_values_for_type(x509.DNSName)
        return tuple(name.lower() for name in names), tuple(found.get_values_for_type(x509.UniformResourceIdentifier))

    @property
    def dns(self) -> tuple[str, ...]:
        """The DNS names of the subjectAltName, lower-case."""
        return self._names[0]

    @cached_property
    def dns_forms(self) -> frozenset[str]:
        """Its DNS names, and the wildcards that they are within."""
        return frozenset(form for name in self.dns for form in _forms(name))

    @property
    def uris(self) -> tuple[str, ...]:
        """The URIs of the subjectAltName."""
        return self._names[1]

    @cached_property
    def issuer(self) -> str:
        """In the form in which issuers are compared."""
        return normal_name(self.certificate.issuer)

    @cached_property
    def subject(self) -> str:
        """RFC 4514."""
        return self.certificate.subject.rfc4514_string()

    @cached_property
    def pin(self) -> bytes:
        """The SHA-256 of the SubjectPublicKeyInfo."""
        try:
            key = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from None
        return hashlib.sha256(key).digest()

    @cached_property
    def label(self) -> str:
        """What to call it in a log: its first URI, else its first DNS name; ``""`` for none, and for what cannot be read."""
        try:
            return next(iter((*self.uris, *self.dns)), "")
        except ValueError:
            return ""

    @cached_property
    def serial(self) -> str:
        """The serial number in hexadecimal digits; ``""`` when the certificate cannot be read."""
        try:
            return f"{self.certificate.serial_number:x}"
        except ValueError:
            return ""


def normal_name(name: x509.Name) -> str:
    """A distinguished name without regard to case, spaces and kinds of strings (RFC 5280 section 7.1)."""
    return " ".join(name.rfc4514_string().casefold().split())


def _forms(name: str) -> tuple[str, ...]:
    """What a rule may say that means this lower-case name; nothing does, if it is no proper one."""
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        return ()
    _, dot, parent = name.partition(".")
    return (name, f"*.{parent}") if dot else (name,)


def dns_matches(pattern: str, name: str) -> bool:
    """Whether a lower-case name is that of a rule, or within its wildcard."""
    return pattern in _forms(name)


def uri_matches(pattern: str, uri: str) -> bool:
    """Whether a URI is that of a rule, or what its ``*`` stand for."""
    return len(uri) <= _LONGEST and _compiled(pattern).fullmatch(uri) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    scheme, _, rest = pattern.partition("://")
    authority, *segments = rest.split("/")
    parts = [re.escape(f"{scheme}://{authority}")]
    for at, segment in enumerate(segments, 1):
        if segment != "*":
            parts.append("/" + re.escape(segment))
        else:
            parts.append(f"/{_SEGMENT}" if at < len(segments) else f"(?:/{_SEGMENT})+")
    return re.compile("".join(parts))


def satisfies(rule: ClientRule, leaf: ClientLeaf) -> bool:
    """Whether all conditions of a rule hold. Raises ValueError for a certificate that cannot be read."""
    return bool(
        (not rule.pins or leaf.pin in rule.pins)
        and (not rule.dns or rule.dns in leaf.dns_forms)
        and (not rule.spiffe or (len(leaf.uris) == 1 and uri_matches(rule.spiffe, leaf.uris[0])))
        and (not rule.uri or any(uri_matches(rule.uri, uri) for uri in leaf.uris))
        and (not rule.subject or leaf.subject == rule.subject)
    )


def admitting(rules: Iterable[ClientRule], leaf: ClientLeaf) -> ClientRule | None:
    """The first rule that admits a certificate; None: not one does."""
    try:
        return next((rule for rule in rules if satisfies(rule, leaf)), None)
    except ValueError:
        return None


def rule_text(rule: ClientRule) -> str:
    """A rule for people, on one line."""
    pins = " or ".join(f"sha256/{base64.b64encode(pin).decode()}" for pin in rule.pins)
    parts = (("spiffe", rule.spiffe), ("uri", rule.uri), ("dns", rule.dns), ("subject", rule.subject), ("spki", pins))
    return " and ".join(f"{key} {value}" for key, value in parts if value)
