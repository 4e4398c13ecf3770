"""Pins: what they look like, and the rules that keep a pin from locking its owner out.

A pin is the SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 section 2.4). It is a condition beside verification
and never instead of it, so a server whose certificate is not verified cannot be pinned. One pin alone is an outage that
waits for the next change of keys; two are asked for, unless the file says that one is meant.
"""

from __future__ import annotations

import base64
import binascii

from msgspec import UnsetType

from edge.settings import keys
from edge.settings.layers import listed
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.syntax import Bad

__all__ = ["pin", "pins"]

_MOST = 64
_DIGITS = 44


def pin(text: str) -> bytes:
    """The 32 bytes of ``sha256/BASE64``. Raises Bad."""
    kind, slash, digits = text.partition("/")
    if kind.lower() != "sha256" or not slash:
        raise Bad(f"'{text}' is not a pin", 'write "sha256/…", as `edge pin` prints it')
    if len(digits) > _DIGITS:
        digits = digits.removeprefix("/")  # curl's form has two; and base64 itself may begin with one
    try:
        digest = base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise Bad(
            f"'{text}' is not a pin: it is no SHA-256 in base64", "44 characters after the slash, as `edge pin` prints them"
        )
    return digest


def pins(source: Source, raw: keys.UpstreamTls, written: object, at: Path) -> tuple[bytes, ...]:
    """The pins of an upstream, sorted. `at` is the key's path, `written` its value in the file."""
    if isinstance(raw.pins, UnsetType):
        return ()
    found: dict[bytes, Path] = {}
    fine = True
    texts = listed(raw.pins)
    for index, text in enumerate(texts):
        here: Path = (*at, index) if isinstance(written, (list, tuple)) else at
        try:
            digest = pin(text)
        except Bad as bad:
            source.error(here, f"{source.shown(here, text)} is not a pin" if source.secret(here) else str(bad), bad.mend)
            fine = False
            continue
        if digest in found:
            source.error(here, "this pin stands here twice", "take one out: the backup must be another key's")
            fine = False
        found[digest] = here
    if not texts:
        source.error(at, "a list without a pin", "take the key out, to pin nothing")
    elif len(texts) > _MOST:
        source.error(at, f"more than {_MOST} pins", "pin the authority that they have in common")
    elif fine and len(found) == 1 and not raw.allow_single_pin:
        source.error(
            at,
            "one pin without a backup: the next change of keys would be an outage",
            "add the pin of a second key, kept elsewhere, or write allow_single_pin = true",
        )
    if raw.verify == "off":
        source.error(at, "pins are matched on the verified chain, and verify is off here", 'take verify = "off" out')
    return tuple(sorted(found))
