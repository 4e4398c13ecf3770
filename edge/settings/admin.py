"""The admin listener's settings: where it listens, and who may ask what without the token.

A token is what stands between a network and `reload`, so a short one is an error, and one that cannot travel in a header field
as well. An address beyond loopback without a token is no error: only what `open` names is answered there then.
"""

from __future__ import annotations

import re
from dataclasses import replace

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.layers import listed, typed
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.syntax import LISTENERS_OWN, Bad, host_name, listen_addresses

__all__ = ["admin"]

_LEAST_TOKEN = 16  # characters
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750 section 2.1


def admin(source: Source) -> model.Admin:
    """The admin listener of the file, or the default one. Problems are told."""
    table = source.tree.get("admin", {})
    raw = typed(source, ("admin",), table, keys.Admin)
    if raw is None:
        return model.Admin()
    return model.Admin(
        addresses=_addresses(source, raw),
        written="address" in table,
        token=_token(source, raw),
        open=frozenset(raw.open),
        names=_names(source, raw),
    )


def _addresses(source: Source, raw: keys.Admin) -> tuple[model.Address, ...]:
    texts, found = listed(raw.address), list[model.Address]()
    if texts == ["off"]:
        return ()
    for index, text in enumerate(texts):
        at = _at("address", raw.address, index)
        try:
            if text == "off":
                raise Bad('"off" stands alone', "take the other addresses out")
            found += [
                replace(address, passed="admin") if address.passed == LISTENERS_OWN else address
                for address in listen_addresses(text)
            ]
        except Bad as bad:
            source.error(at, str(bad), bad.mend)
    if not texts:
        source.error(("admin", "address"), "a list without an address", 'write address = "off"')
    return tuple(found)


def _token(source: Source, raw: keys.Admin) -> str:
    if isinstance(raw.token, UnsetType):
        return ""
    at: Path = ("admin", "token")
    if len(raw.token) < _LEAST_TOKEN:
        mend = "openssl rand -hex 32 makes a good one"
        source.error(at, f"a token of {len(raw.token)} characters can be guessed; {_LEAST_TOKEN} is the least", mend)
    elif _TOKEN.fullmatch(raw.token) is None:
        source.error(at, "the token holds a character that a bearer token cannot have", "letters, digits and - . _ ~ + / =")
    return raw.token


def _names(source: Source, raw: keys.Admin) -> frozenset[str]:
    found: set[str] = set()
    for index, text in enumerate(listed(raw.names)):
        at = _at("names", raw.names, index)
        try:
            name = host_name(text)
            if name.startswith("*."):
                raise Bad("a wildcard would let a stranger's name in", "write each name")
            found.add(name)
        except Bad as bad:
            source.error(at, str(bad), bad.mend)
    return frozenset(found)


def _at(key: str, value: object, index: int) -> Path:
    return ("admin", key, index) if isinstance(value, list) else ("admin", key)
