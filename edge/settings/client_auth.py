"""Client authentication: whose certificates are asked for, and which of them are let in.

Rules are read into one form here, so that what compares them later compares text: names lower-case, subjects as cryptography
writes them, pins as bytes. A rule that could not mean what its author thinks (a star within a segment, a SPIFFE ID that no
certificate may have) is an error and not a rule that never fits.
"""

from __future__ import annotations

import re
from typing import Any

from cryptography import x509
from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.layers import Merged, listed, typed
from edge.settings.pins import pin
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.syntax import Bad, host_name, is_address
from edge.settings.upstreams import TrustStores

__all__ = ["client_auth", "rules"]

_MOST_RULES = 256
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s*]+(?:/[^?#\s]*)?")
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+|/\*)*")


def client_auth(source: Source, trust: TrustStores, layers: list[tuple[Path, Any]]) -> tuple[model.ClientAuth, Merged]:
    """The client-certificate policy of merged places. Each layer is the path and value of a `client_auth` key."""
    merged = Merged()
    inherited = "off"
    for path, value in layers:
        if value == "none":
            merged, inherited = Merged(), "off"
            continue
        asked = value.get("mode", merged.values.get("mode", "require"))
        if inherited != "off" and asked == "off":
            source.error((*path, "mode"), "an inherited protection is only taken away aloud", 'write client_auth = "none"')
        for key, item in value.items():
            merged.values[key] = item
            merged.origins[key] = (*path, key)
        inherited = asked
    if not layers or layers[-1][1] == "none":
        return model.ClientAuth(), merged
    at = layers[-1][0]
    raw = typed(source, at, merged.values, keys.ClientAuth)
    if raw is None:
        return model.ClientAuth(mode=model.ClientAuthMode.REQUIRE), merged
    mode = model.ClientAuthMode(raw.mode)
    found = None
    if isinstance(raw.trust, UnsetType):
        if mode is not model.ClientAuthMode.OFF:
            source.error(
                at,
                "client_auth needs 'trust': whose certificates are accepted",
                'write trust = "NAME" and [trust.NAME]',
                at_key=True,
            )
    else:
        where = merged.origin("trust", at)
        if raw.trust == "system":
            source.warning(
                where, "every public authority may let clients in here", "write a [trust.NAME] with your own authority"
            )
        found = trust.find(raw.trust, where)
    auth = model.ClientAuth(
        mode=mode,
        trust=found,
        depth=raw.depth,
        allow=rules(source, raw.allow, merged.values.get("allow"), merged.origin("allow", at)),
        announce=raw.announce,
    )
    return auth, merged


def rules(
    source: Source, raw: keys.ClientRule | list[keys.ClientRule] | UnsetType, written: object, at: Path
) -> tuple[model.ClientRule, ...]:
    """The rules of an `allow`. `at` is the key's path, `written` its value in the file."""
    found: list[model.ClientRule] = []
    if isinstance(raw, UnsetType):
        return ()
    for index, one in enumerate(listed(raw)):
        here: Path = (*at, index) if isinstance(written, list) else at
        rule = _rule(source, one, here)
        if rule is not None and rule not in found:
            found.append(rule)
    if written == []:
        source.error(at, "a list without a rule: nobody would be let in", "take the key out, to let all trusted clients in")
    elif len(found) > _MOST_RULES:
        source.error(at, f"more than {_MOST_RULES} rules", "use * for what they have in common")
    return tuple(found)


def _rule(source: Source, raw: keys.ClientRule, at: Path) -> model.ClientRule | None:
    values: dict[str, Any] = {}
    for key, read in (("dns", _dns), ("spiffe", _spiffe), ("uri", _uri), ("subject", _subject)):
        text = getattr(raw, key)
        if isinstance(text, UnsetType):
            continue
        where: Path = (*at, key)
        try:
            values[key] = read(text)
        except Bad as bad:
            secret = source.secret(where)
            source.error(
                where, f"{source.shown(where, text)} is not possible here" if secret else str(bad), "" if secret else bad.mend
            )
            return None
    if not isinstance(raw.spki, UnsetType):
        try:
            values["pins"] = tuple(sorted({pin(text) for text in listed(raw.spki)}))
        except Bad as bad:
            source.error((*at, "spki"), str(bad), bad.mend)
            return None
        if not values["pins"]:
            source.error((*at, "spki"), "a list without a pin", "take the key out")
            return None
    if not values:
        if not source.touched(at):
            source.error(at, "a rule without a condition", "write dns, spiffe, uri, subject or spki")
        return None
    return model.ClientRule(**values)


def _dns(text: str) -> str:
    name = host_name(text)
    if is_address(name):
        raise Bad(f"'{text}' is an address, not a DNS name", "use subject or spki")
    return name


def _stars(text: str) -> None:
    if any("*" in segment and segment != "*" for segment in text.split("/")):
        raise Bad(f"'{text}': a * stands for a whole segment of the path", 'write for example ".../ns/*/sa/billing"')


def _spiffe(text: str) -> str:
    _stars(text)
    if _SPIFFE.fullmatch(text) is None or any(segment in (".", "..") for segment in text.split("/")):
        raise Bad(f"'{text}' is not a SPIFFE ID", 'write for example "spiffe://prod.example/ns/pay/*"')
    return text


def _uri(text: str) -> str:
    _stars(text)
    if _URI.fullmatch(text) is None:
        raise Bad(f"'{text}' is not a URI with a path", 'write for example "https://id.example.com/agents/*"')
    return text


def _subject(text: str) -> str:
    try:
        name = x509.Name.from_rfc4514_string(text).rfc4514_string()
    except ValueError:
        name = ""
    if not name:
        raise Bad(f"'{text}' is not a subject", 'write it as the access log does: "CN=billing,O=Example"')
    return name
