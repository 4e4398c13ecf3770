"""`edge check --effective` for people: the settings in force in the file's own form, each line with the place that it came from.

The origin stands in a comment, so the text is TOML that a tool may read; what is computed and no key of the file
(certificates' contents, the digest) stands in comments alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from edge.cli.terminal import printable

__all__ = ["lines"]

_WIDTH = 56  # columns of a key and its value, before the origin
_LISTS = {"listeners": "listener", "hosts": "host", "routes": "route"}
_NAMED = {"upstreams": "upstream", "trust": "trust"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def lines(settings: Mapping[str, Any]) -> Iterator[str]:
    """The lines of `effective(loaded)["settings"]`."""
    yield f"# files: {', '.join(printable(name) for name in settings['files'])}"
    yield f"# digest: {settings['digest']}"
    for key, value in settings.items():
        if key in _LISTS:
            for one in value:
                yield from _table(f"[[{_LISTS[key]}]]", _LISTS[key], one)
        elif key in _NAMED:
            for name, one in value.items():
                path = f"{_NAMED[key]}.{_key(name)}"
                yield from _table(f"[{path}]", path, one)
        elif isinstance(value, dict):
            yield from _table(f"[{key}]", key, value)


def _table(head: str, path: str, table: Mapping[str, Any]) -> Iterator[str]:
    """One table: its keys, then the tables in it. A table that is one word (``hsts = "none"``) is a key."""
    yield ""
    yield head
    tables = []
    for key, value in table.items():
        if isinstance(value, list):
            for one in value:
                yield f"# {_certificate(one)}"
        elif "from" in value and "value" in value:
            yield _line(key, value)
        elif value:
            tables.append((key, value))
    for key, value in tables:
        yield from _table(f"[{path}.{_key(key)}]", f"{path}.{_key(key)}", value)


def _line(key: str, entry: Mapping[str, Any]) -> str:
    shown = f"{_key(key)} = {_value(entry['value'])}"
    return f"{shown:<{_WIDTH}} # {printable(str(entry['from']))}"


def _certificate(one: Mapping[str, Any]) -> str:
    names = ", ".join(one["names"])
    return printable(f"certificate {one['name']}: {one['key_type']}, for {names}, until {one['not_after']} ({one['from']})")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
