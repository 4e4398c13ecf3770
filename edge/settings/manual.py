"""What is written from the keys: the manual's page of keys, and `config/edge.toml` with every key and its default.

Both come from the schema alone, so they cannot say anything else than what is checked. In the example file a line that
begins with ``#`` and no space is a key or a table that is switched off: taking the ``#`` away gives valid TOML.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

from edge.settings.schema import whole_schema
from edge.settings.units import KINDS

__all__ = ["example_toml", "keys_markdown"]

_WIDTH = 118
# tables that are not there unless somebody writes them
_OFF = frozenset({"client_auth", "trust", "certificate", "listener", "host", "route", "upstream"})
_AS_ABOVE = frozenset({"Limits", "Tls", "Hsts", "HeaderRules", "ClientAuth"})
_NAMES = {"trust": "mesh", "upstream": "app"}
_HEAD = """\
#:schema ./edge.schema.json
#
# Every key of edge, with its default and the reason. Nothing has to be written: this file says what holds without it.
# A line that begins with "#" and no space is a table that is not there unless you write it, or a key without a default;
# its value is then an example.
# Durations have ms s m h d, sizes B KiB MiB GiB, rates B/s; "off" is the only word for unlimited or disabled.
# A key that takes a list takes one value too. Strings may hold ${env:X}, ${env:X:-default}, ${file:/path}, ${credential:x}.
"""


def _definition(node: dict[str, Any]) -> dict[str, Any] | None:
    """The table that a key holds, if it holds one: directly, in a list, or by name."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        found: dict[str, Any] = whole_schema()["$defs"][name]
        return found
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            return _definition(node[key])
    return next((found for found in map(_definition, node.get("anyOf", [])) if found is not None), None)


def _is_inline(node: dict[str, Any]) -> bool:
    """Whether a key that may hold tables is usually one line: a list of small ones, or a name."""
    inner = _definition(node)
    return (
        inner is not None and "examples" in node and (not isinstance(node["examples"][0], str) or inner["title"] == "TargetTable")
    )


def toml(value: Any) -> str:
    """A value in TOML's spelling, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


class _Example:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def comment(self, text: str) -> None:
        self.lines += textwrap.wrap(
            text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
        )

    def table(self, path: str, definition: dict[str, Any], header: str, *, off: bool, text: str = "") -> None:
        mark = "#" if off else ""
        if header:
            self.lines.append("")
            self.comment(text or definition["description"])
            self.lines.append(mark + header)
        tables: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        for name, node in definition["properties"].items():
            inner = _definition(node)
            if inner is not None and not _is_inline(node):
                tables.append((name, node, inner))
                continue
            self.comment(node.get("description", ""))
            if "default" in node:
                self.lines.append(f"{mark}{name} = {toml(node['default'])}")
            else:
                self.lines.append(f"#{name} = {toml(node['examples'][0])}")
        for name, node, inner in tables:
            self.nested(path, name, node, inner, off=off)

    def nested(self, path: str, name: str, node: dict[str, Any], inner: dict[str, Any], *, off: bool) -> None:
        full = f"{path}.{name}" if path else name
        parts = path.split(".") if path else []
        header = ".".join([*(self.named(part, index, parts) for index, part in enumerate(parts)), name])
        hidden = off or full in _OFF
        if path and inner["title"] in _AS_ABOVE:
            self.lines.append("")
            self.comment(node["description"] + f" Its keys are those of [{_TOP_OF[inner['title']]}].")
            self.lines.append(f"{'#' if hidden else ''}[{header}]")
        elif node.get("type") == "array":
            self.table(full, inner, f"[[{header}]]", off=hidden)
        elif "additionalProperties" in node:
            self.table(full, inner, f"[{header}.{_NAMES[name]}]", off=hidden)
        else:
            self.table(full, inner, f"[{header}]", off=hidden, text=node["description"])

    def named(self, part: str, index: int, parts: list[str]) -> str:
        return f"{part}.{_NAMES[part]}" if index == 0 and part in _NAMES else part


_TOP_OF = {"Limits": "limits", "Tls": "tls", "Hsts": "hsts", "HeaderRules": "request_headers", "ClientAuth": "client_auth"}


def example_toml() -> str:
    """The text of `config/edge.toml`."""
    example = _Example()
    example.lines = [*_HEAD.splitlines(), ""]
    example.table("", whole_schema()["$defs"]["File"], "", off=False)
    return "\n".join(example.lines) + "\n"


def _type(node: dict[str, Any]) -> str:
    """What may be written for a key, in words."""
    if "x-unit" in node:
        return KINDS[node["x-unit"]].name + (' or "off"' if node.get("x-off") else "")
    if "enum" in node:
        return " or ".join(toml(word) for word in node["enum"])
    if "$ref" in node:
        return "a table"
    if "anyOf" in node:
        branches: list[str] = []
        for branch in node["anyOf"]:
            words = _type(branch)
            if words.startswith("list of "):
                continue
            if words not in branches:
                branches.append(words)
        return " or ".join(branches) + (", or a list" if any(branch.get("type") == "array" for branch in node["anyOf"]) else "")
    kind = node.get("type")
    if kind == "array":
        return f"list of {_type(node['items'])}"
    if kind == "object":
        return "table of names"
    return {"string": "string", "integer": "number", "boolean": "true or false"}[str(kind)]


def _rows(definition: dict[str, Any]) -> list[str]:
    rows = ["| key | value | default | what for |", "|---|---|---|---|"]
    for name, node in definition["properties"].items():
        default = f"`{toml(node['default'])}`" if "default" in node else "required" if name in definition["required"] else "–"
        cells = [f"`{name}`", _type(node), default, node.get("description", "")]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def keys_markdown() -> str:
    """The manual's page of keys."""
    parts = [
        "# Keys",
        "",
        "Every key of the settings file. This page is made from the types that check it; `config/edge.toml` holds the same.",
        "",
        "Durations are written with `ms`, `s`, `m`, `h` or `d`, sizes with `B`, `KiB`, `MiB` or `GiB`, rates with `B/s`, and",
        "shares with `%`.",
        '`"off"` is the only word for unlimited or disabled; `0` is an error. Where a list may stand, one value may stand too.',
        "Timeouts say whether they are a total or a gap between bytes.",
    ]
    seen: set[str] = set()

    def add(definition: dict[str, Any], heading: str) -> None:
        title = definition["title"]
        if title in seen:
            return
        seen.add(title)
        parts.extend(["", f"## {heading}", "", definition.get("description", ""), "", *_rows(definition)])
        for name, node in definition["properties"].items():
            inner = _definition(node)
            if inner is not None:
                add(inner, _heading(heading, name, node))

    add(whole_schema()["$defs"]["File"], "The file")
    return "\n".join(parts) + "\n"


def _heading(above: str, name: str, node: dict[str, Any]) -> str:
    base = "" if above == "The file" else above.strip("[]") + "."
    if node.get("type") == "array":
        return f"[[{base}{name}]]"
    if "additionalProperties" in node:
        return f"[{base}{name}.NAME]"
    return f"[{base}{name}]"
