"""Client authentication: whose certificates are asked for, and which of them are let in.

Rules are read into one form here, so that what compares them later compares text: names lower-case, subjects as cryptography
writes them, pins as bytes. A rule that could not mean what its author thinks (a star within a segment, a SPIFFE ID that no
certificate may have) is an error and not a rule that never fits.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from cryptography import x509
from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.layers import Merged, listed, typed
from edge.settings.pins import pin
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.syntax import Bad, host_name, is_address
from edge.settings.units import seconds
from edge.settings.upstreams import TrustStores

__all__ = ["RoutesDemands", "client_auth", "route_client_auth"]

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
        allow=_rules(source, raw.allow, merged.values.get("allow"), merged.origin("allow", at)),
        announce=raw.announce,
        forward=raw.forward,
        chain=raw.forward == "chain",
        max_age=seconds(raw.max_age),
    )
    return auth, merged


class RoutesDemands:
    """What the routes of each host demand of its clients' certificates, before there are hosts and routes.

    A host asks for certificates where any of its routes needs one, and a client is asked in the handshake, so hosts have to
    know it first.
    """

    def __init__(self, source: Source, trust: TrustStores) -> None:
        self._source = source
        self._trust = trust
        self._exact = {
            name for table in source.tree.get("host", []) for name in map(_canonical, listed((table or {}).get("names", [])))
        }
        self._tables: list[tuple[str, Path, dict[str, Any]]] = []
        for index, table in enumerate(source.tree.get("route", [])):
            demand = (table or {}).get("client_auth")
            if isinstance(demand, dict) and isinstance(table.get("host"), str):
                self._tables.append((_canonical(table["host"]), ("route", index, "client_auth"), demand))

    def _of(self, names: list[str]) -> list[tuple[Path, dict[str, Any]]]:
        found = []
        for name, path, demand in self._tables:
            wildcard = "*." + name.partition(".")[2]
            if name in names or (wildcard in names and name not in self._exact):
                found.append((path, demand))
        return found

    def added(self, auth: model.ClientAuth, names: list[str]) -> model.ClientAuth:
        """The client authentication of the host with these names, so that its routes can demand what they do."""
        source = self._source
        for path, demand in self._of(names):
            store = auth.trust
            if "trust" in demand:
                store = self._trust.find(demand["trust"], (*path, "trust"))
                if store is not None and auth.trust is not None and store != auth.trust:
                    source.error((*path, "trust"), f"the host accepts certificates of {auth.trust.name!r}", "take it out")
            if store is None and "trust" not in demand and not source.touched(path):
                message = "nothing says whose certificates the host accepts"
                source.error(path, message, 'write trust = "NAME" here, or client_auth in the host', at_key=True)
            mode = model.ClientAuthMode.REQUEST if auth.mode is model.ClientAuthMode.OFF else auth.mode
            chain = auth.chain or demand.get("forward") == "chain"
            auth = replace(auth, mode=mode, trust=auth.trust or store, chain=chain)
        return auth


def _canonical(name: object) -> str:
    try:
        return host_name(str(name))
    except Bad:
        return ""


def route_client_auth(
    source: Source, raw: keys.RouteClientAuth | UnsetType, written: object, at: Path, *, one_host: bool
) -> model.RouteClientAuth | None:
    """What a route demands. `one_host`: it is a route of one [[host]], which asks for the certificates."""
    if isinstance(raw, UnsetType) or not isinstance(written, dict):
        return None
    if not one_host:
        source.error(
            at, "client_auth needs a host, which asks for the certificates", "write host, the name of a [[host]]", at_key=True
        )
    return model.RouteClientAuth(
        required=raw.mode == "require",
        allow=_rules(source, raw.allow, written.get("allow"), (*at, "allow")),
        forward="" if isinstance(raw.forward, UnsetType) else raw.forward,
    )


def _rules(
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
