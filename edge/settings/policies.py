"""Policies that inherit: TLS, limits, HSTS, header rules. Each from merged tables to its model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.layers import Merged, Place, listed, merge, typed
from edge.settings.problems import Path, nearest
from edge.settings.source import Source
from edge.settings.syntax import Bad, field_name, field_value
from edge.settings.tickets import lifetime
from edge.settings.units import bytes_a_second, seconds, size
from edge.settings.upstreams import read_alpn

__all__ = [
    "PROFILES",
    "REQUEST_LIMITS",
    "check_limit_places",
    "check_suites",
    "header_rules",
    "hsts",
    "limits",
    "merged_tls",
    "tls_policy",
]

_SUITES_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_SUITES_12 = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
)  # fmt: skip
_GROUPS = ("X25519MLKEM768", "X25519", "prime256v1", "secp384r1")

# Mozilla Server Side TLS, guideline 6.0 of 2026-04-06
PROFILES: Final[dict[str, dict[str, Any]]] = {
    "intermediate": {
        "min_version": "1.2",
        "max_version": "1.3",
        "ciphers": _SUITES_12,
        "ciphersuites": _SUITES_13,
        "groups": _GROUPS,
    },
    "modern": {"min_version": "1.3", "max_version": "1.3", "ciphers": (), "ciphersuites": _SUITES_13, "groups": _GROUPS},
}

_WEAK = frozenset(
    {
        "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256", "AES256-GCM-SHA384",
    }
)  # fmt: skip
_KNOWN: Final[dict[str, tuple[str, ...]]] = {
    "ciphers": (*_SUITES_12, "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES256-CCM", *sorted(_WEAK)),
    "ciphersuites": (*_SUITES_13, "TLS_AES_128_CCM_SHA256"),
    "groups": (*_GROUPS, "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X448", "secp521r1"),
}
_OTHER_NAMES = {"p-256": "prime256v1", "secp256r1": "prime256v1", "p-384": "secp384r1", "p-521": "secp521r1"}

# the limits that are decided once the route is known; the others belong to the connection
REQUEST_LIMITS: Final = frozenset({"request_body", "body_timeout", "body_min_rate", "write_timeout"})


def merged_tls(places: Iterable[Place]) -> Merged:
    """Merged TLS keys. A profile takes back the single keys of wider places that it decides."""
    merged = Merged()
    for path, table in places:
        if "profile" in table:
            for key in PROFILES["modern"]:
                merged.values.pop(key, None)
                merged.origins.pop(key, None)
        for key, value in table.items():
            merged.values[key] = value
            merged.origins[key] = (*path, key)
    return merged


def _names(source: Source, merged: Merged, key: str, at: Path) -> tuple[str, ...]:
    where = merged.origin(key, at)
    known, names = _KNOWN[key], [str(name) for name in listed(merged.values[key])]
    for name in names:
        if name in known:
            if name in _WEAK:
                source.warning(where, f"{name} is weak: without forward secrecy or authenticated encryption", "take it out")
            continue
        hint = (
            _OTHER_NAMES.get(name.lower()) or {other.lower(): other for other in known}.get(name.lower()) or nearest(name, known)
        )
        mend = _as_list(name, known) if ":" in name else f'write "{hint}"' if hint else f"there is {', '.join(known)}"
        source.error(where, f'"{source.shown(where, name)}" is not known in {key}', mend)
    if not names:
        source.error(where, f"{key} without an entry", "take the key out, for the profile's")
    return tuple(dict.fromkeys(names))


def _as_list(text: str, known: tuple[str, ...]) -> str:
    """What to write for OpenSSL's one string with colons: the same names as a list, if they are names."""
    names = [_OTHER_NAMES.get(name.lower(), name) for name in text.split(":")]
    if all(name in known for name in names):
        return f"write a list: {json.dumps(names)}"
    return "write a list of names, or take the key out: the profile's are good ones"


def tls_policy(source: Source, merged: Merged, at: Path) -> model.TlsPolicy | None:
    """What a host's handshake offers."""
    raw = typed(source, at, merged.values, keys.Tls)
    if raw is None:
        return None
    profile = PROFILES[raw.profile]
    lists = {
        key: _names(source, merged, key, at) if key in merged.values else profile[key]
        for key in ("ciphers", "ciphersuites", "groups")
    }
    least = profile["min_version"] if isinstance(raw.min_version, UnsetType) else raw.min_version
    most = profile["max_version"] if isinstance(raw.max_version, UnsetType) else raw.max_version
    if least > most:
        source.error(
            merged.origin("max_version", merged.origin("min_version", at)), f"min_version {least} is above max_version {most}"
        )
    elif least == "1.2" and not lists["ciphers"]:
        source.error(merged.origin("min_version", at), "TLS 1.2 without a suite", 'write ciphers, or profile = "intermediate"')
    elif most == "1.2":
        source.warning(
            merged.origin("max_version", at), "TLS 1.3 is off: slower handshakes, and no post-quantum key exchange", "take it out"
        )
    return model.TlsPolicy(
        min_version=least,
        max_version=most,
        ciphers=lists["ciphers"],
        ciphersuites=lists["ciphersuites"],
        groups=lists["groups"],
        tickets=raw.tickets == "on",
        ticket_lifetime=lifetime(source, raw, merged, at),
        early_data=raw.early_data == "on",
        alpn=read_alpn(source, raw.alpn, merged.origin("alpn", at)),
    )


def check_suites(source: Source, policy: model.TlsPolicy, certificates: Iterable[model.Certificate], at: Path) -> None:
    """Warn of certificates that no TLS 1.2 suite of the policy goes with: clients without TLS 1.3 could not connect."""
    if policy.min_version != "1.2":
        return
    for certificate in certificates:
        is_rsa = certificate.key_type == "rsa"
        if not any(suite.startswith("ECDHE-ECDSA-") is not is_rsa for suite in policy.ciphers):
            kind = "RSA" if is_rsa else "ECDSA"
            message = f"no suite of TLS 1.2 goes with the {certificate.key_type} certificate {certificate.name}"
            source.warning(at, message, f'add an ECDHE-{kind} suite, or write min_version = "1.3"')


def limits(source: Source, places: Iterable[Place]) -> model.Limits:
    """The limits of merged places."""
    merged = merge(places)
    raw = typed(source, (), merged.values, keys.Limits)
    if raw is None:
        return model.Limits()

    def some(value: float | None, otherwise: float) -> float:
        return otherwise if value is None else value

    def whole(value: int | None) -> int:
        return 1 if value is None else value

    return model.Limits(
        request_line=whole(size(raw.request_line)),
        header_bytes=whole(size(raw.header_bytes)),
        header_count=raw.header_count,
        request_body=size(raw.request_body),
        streams=raw.streams,
        requests_per_connection=None if raw.requests_per_connection == "off" else raw.requests_per_connection,
        connections=raw.connections,
        pipelined=whole(size(raw.pipelined)),
        handshake_timeout=some(seconds(raw.handshake_timeout), 10.0),
        header_timeout=some(seconds(raw.header_timeout), 10.0),
        body_timeout=some(seconds(raw.body_timeout), 30.0),
        body_min_rate=bytes_a_second(raw.body_min_rate),
        idle_timeout=some(seconds(raw.idle_timeout), 60.0),
        write_timeout=some(seconds(raw.write_timeout), 30.0),
        tls_hello=whole(size(raw.tls_hello)),
        h2_resets=raw.h2_resets,
        key_updates=raw.key_updates,
        empty_records=raw.empty_records,
        h2_control=raw.h2_control,
    )


def check_limit_places(source: Source, place: Place, *, where: str) -> None:
    """Tell limits that stand where they cannot be kept. `where`: "listener", "host" or "route"."""
    path, table = place
    for key in table:
        if key == "connections":
            source.error(
                (*path, key), "'connections' counts all listeners together", "write it in [limits] at the top", at_key=True
            )
        elif where != "listener" and key not in REQUEST_LIMITS:
            message = f"'{key}' is decided before the {where} is known"
            source.error((*path, key), message, "write it in [limits] at the top or in a [[listener]]", at_key=True)


def hsts(source: Source, layers: Iterable[tuple[Path, Any]]) -> tuple[model.Hsts | None, Merged]:
    """The HSTS of merged places. Each layer is the path and value of an `hsts` key."""
    merged, off = Merged(), False
    for path, value in layers:
        if value == "none":
            merged, off = Merged(), True
            continue
        off = False
        for key, item in value.items():
            merged.values[key] = item
            merged.origins[key] = (*path, key)
    if off:
        return None, merged
    raw = typed(source, (), merged.values, keys.Hsts)
    if raw is None:
        return None, merged
    max_age = int(seconds(raw.max_age) or 0)
    if raw.preload and (max_age < 365 * 86_400 or not raw.include_subdomains):
        source.error(
            merged.origin("preload", ()), "the browsers' list needs max_age of 365 days or more, and include_subdomains",
            'write max_age = "730d" and include_subdomains = true',
        )  # fmt: skip
    return model.Hsts(max_age=max_age, include_subdomains=raw.include_subdomains, preload=raw.preload), merged


def header_rules(source: Source, layers: Iterable[tuple[Path, Any]]) -> model.HeaderRules:
    """The header rules of merged places, name by name; lists replace."""
    to_set: dict[bytes, bytes] = {}
    to_add: dict[bytes, list[bytes]] = {}
    remove: frozenset[bytes] = frozenset()
    for path, value in layers:
        if value == "none":
            to_set, to_add, remove = {}, {}, frozenset()
            continue
        for name, text in value.get("set", {}).items():
            read = _field(source, (*path, "set", name), name, text)
            if read is not None:
                to_set[read[0]] = read[1]
        for name, texts in value.get("add", {}).items():
            fields = [_field(source, (*path, "add", name), name, text) for text in listed(texts)]
            good = [field for field in fields if field is not None]
            if good:
                to_add[good[0][0]] = [field[1] for field in good]
        if "remove" in value:
            removed: set[bytes] = set()
            for name in listed(value["remove"]):
                try:
                    removed.add(field_name(name, setting=False))
                except Bad as bad:
                    source.error((*path, "remove"), str(bad), bad.mend)
            remove = frozenset(removed)
    added = tuple((name, text) for name, texts in to_add.items() for text in texts)
    return model.HeaderRules(set=tuple(to_set.items()), add=added, remove=remove)


def _field(source: Source, at: Path, name: str, text: str) -> tuple[bytes, bytes] | None:
    try:
        return field_name(name, setting=True), field_value(text)
    except Bad as bad:
        source.error(at, str(bad), bad.mend)
        return None
