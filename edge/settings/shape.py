"""Holding the tree against the schema: unknown keys, wrong types, wrong words, missing keys; all of them, in our words.

jsonschema-rs finds the errors; each is turned into one problem at the place where the value stands. An `anyOf` (a word or a
table, one value or a list) is told by the branch that the value looks like. The wrong parts are taken out of the tree, so
that the checks that follow say only what is new.
"""

from __future__ import annotations

import difflib
from typing import Any

from edge.settings.foreign import ours_for
from edge.settings.later import LATER
from edge.settings.problems import Path, nearest, quoted
from edge.settings.schema import fits, validator, whole_schema
from edge.settings.source import UNKNOWN, Source
from edge.settings.units import KINDS, meant

__all__ = ["check_shape"]

_TYPES = {"string": "a string", "integer": "a whole number", "boolean": "true or false", "array": "a list", "object": "a table"}
_UNLIMITED = frozenset({"none", "never", "unlimited", "infinite", "infinity", "no", "false", "disabled", "disable", "-1"})
_TABLES = {
    "Host": "a [[host]]", "Route": "a [[route]]", "Upstream": "an upstream", "Listener": "a [[listener]]", "Health": "health",
    "Redirect": "redirect", "NamedCertificate": "a [[certificate]]", "EndpointTable": "an endpoint", "TargetTable": "an upstream",
}  # fmt: skip


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "date"


def _spoken(value: object) -> str:
    return {
        "boolean": "true or false", "integer": "a number", "number": "a number with a fraction", "string": "a string",
        "array": "a list", "object": "a table", "date": "a date or an impossible number",
    }[_kind(value)]  # fmt: skip


def _node(schema_path: list[str | int]) -> dict[str, Any]:
    """The schema that a keyword's path belongs to."""
    node: Any = whole_schema()
    for part in schema_path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node if isinstance(node, dict) else {}


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = whole_schema()["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


class _Shape:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.wrong: list[Path] = []

    def run(self) -> None:
        if self.source.unknown:
            for path in _unknown(self.source.tree):
                self.source.pruned.add(path)
                _prune(self.source.tree, path)
        if fits(self.source.tree):
            return
        for error in validator().iter_errors(self.source.tree):
            self.report(error)
        self.source.pruned.update(self.wrong)
        for path in sorted(set(self.wrong), key=len, reverse=True):
            _prune(self.source.tree, path)

    def report(self, error: Any) -> None:
        path: Path = tuple(error.instance_path)
        word = error.kind.name
        node = _node(list(error.schema_path)[:-1])
        if word == "additionalProperties":
            for key in error.kind.unexpected:
                self.unknown(path, key, node)
        elif word == "required":
            what = _TABLES.get(node.get("title", ""), "this table")
            self.source.error(
                path, f"{what} needs '{error.kind.property}'", _required_mend(node, error.kind.property), at_key=True
            )
        elif word == "anyOf":
            self.any_of(path, error, node)
        else:
            self.wrong_value(path, node, error.instance)

    def any_of(self, path: Path, error: Any, node: dict[str, Any]) -> None:
        """Tell the errors of the branch whose type the value has; if none has it, what would be right here."""
        kind = _kind(error.instance)
        for branch, errors in zip(node["anyOf"], error.kind.context, strict=True):
            target = _resolved(branch)
            matches = target.get("type") == kind
            if matches and kind in ("object", "array"):
                for inner in errors:
                    self.report(inner)
                return
            if matches and "enum" not in target:
                self.wrong_value(path, {**target, "anyOf": node["anyOf"]}, error.instance)
                return
        self.wrong_value(path, node, error.instance)

    def unknown(self, path: Path, key: str, node: dict[str, Any]) -> None:
        title = node.get("title", "")
        full: Path = (*path, key)
        self.wrong.append(full)
        if key in LATER.get(title, ()):
            self.source.error(full, f"'{key}' is not in this version", "take it out for now", at_key=True)
            return
        known = list(node.get("properties", {}))
        hint = _ELSEWHERE.get((title, key)) or ours_for(key) or nearest(key, known)
        mend = f"write '{hint}'" if hint in known else hint
        self.source.error(full, f"unknown key '{key}'", mend or _known(title, known), at_key=True)

    def wrong_value(self, path: Path, node: dict[str, Any], value: object) -> None:
        self.wrong.append(path)
        branches = [_resolved(branch) for branch in node.get("anyOf", [])] or [node]
        unit = next((branch for branch in branches if "x-unit" in branch), None)
        words = [word for branch in branches for word in branch.get("enum", [])]
        if unit is not None:
            message, mend = self.unit_words(path, unit, value)
        elif (
            isinstance(value, int) and not isinstance(value, bool) and any(branch.get("type") == "integer" for branch in branches)
        ):
            message, mend = _number_words(value, branches, words)
        elif words:
            shown = self.source.shown(path, value)
            what = f'"{shown}"' if isinstance(value, str) else shown if _kind(value) == "integer" else _spoken(value)
            hint = _meant_word(value, [str(word) for word in words])
            types = [_TYPES[branch["type"]] for branch in branches if branch.get("type") in _TYPES]
            choice = quoted(words) if isinstance(words[0], str) else " or ".join(str(word) for word in words)
            message = f"{what} is not possible here"
            mend = f'write "{hint}"' if hint and not types else f"write {' or '.join([choice, *types])}"
        elif value == "" or value == []:
            message, mend = "an empty value", "write a value, or take the key out"
        else:
            types = list(dict.fromkeys(_TYPES[branch["type"]] for branch in branches if branch.get("type") in _TYPES))
            message, mend = f"{_spoken(value)} where {' or '.join(types)} belongs", ""
            if path[-1:] == ("upstream",) and _kind(value) == "integer":
                mend = f'write its URL: "http://127.0.0.1:{value}"'
            elif isinstance(value, (int, float)) and not isinstance(value, bool) and "a string" in types:
                mend = f'write it in quotes: "{value}"'
            elif isinstance(value, str) and "a whole number" in types and self.source.shown(path, value) == value.strip():
                mend = f"write it without quotes: {value}" if value.isascii() and value.isdigit() else ""
            elif "a table" in types and not isinstance(value, dict):
                plain = value if isinstance(value, str) and self.source.shown(path, value) == value else ""
                mend = _table_mend(path, next(branch for branch in branches if branch.get("type") == "object"), plain)
            elif node.get("examples"):
                mend = f"write for example {_toml(node['examples'][0])}"
        self.source.error(path, message, mend)

    def unit_words(self, path: Path, node: dict[str, Any], value: object) -> tuple[str, str]:
        kind, off = KINDS[node["x-unit"]], bool(node.get("x-off"))
        text = value.strip() if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ""
        number = text.removesuffix(kind.unit) if text.endswith(kind.unit) else text
        try:
            amount: float | None = float(number.rstrip("BKMGibsmhd/%").strip()) if text and not isinstance(value, bool) else None
        except ValueError:
            amount = None
        if amount == 0:
            return (
                f"0 is not {kind.article} {kind.name}",
                'write "off"' if off else f'it cannot be off; write for example "{kind.example}"',
            )
        shown = self.source.shown(path, text)
        guess = meant(node["x-unit"], text) if shown == text else ""
        if amount is not None and amount > 0 and (not isinstance(value, str) or text.replace(".", "", 1).isdigit()):
            return f"a number without its unit: {shown}", f'write "{guess or shown + kind.unit}" ({kind.units})'
        if not isinstance(value, str):
            return f"{_spoken(value)} where {kind.article} {kind.name} belongs", f'write for example "{kind.example}"'
        shown = self.source.shown(path, value)
        if value.lower() in _UNLIMITED and off:
            return f'"{shown}" is not {kind.article} {kind.name}', 'write "off"'
        if value.lower() in (_UNLIMITED | {"off"}):
            return f'"{shown}" is not possible here', f'this has no "off"; write for example "{kind.example}"'
        mend = f'write "{guess}"' if guess else f'write for example "{kind.example}"'
        return f'"{shown}" is not {kind.article} {kind.name}', f"{mend} (units: {kind.units})"


def _meant_word(value: object, words: list[str]) -> str:
    """The one word that was probably meant; none where two are as near."""
    if isinstance(value, bool):
        return next((word for word in words if word == ("on" if value else "off")), "")
    found = nearest(value, words) if isinstance(value, str) else ""
    others = [word for word in words if word != found]
    return found if found and isinstance(value, str) and _likeness(value, found) > max(
        (_likeness(value, word) for word in others), default=0.0
    ) else ""  # fmt: skip


def _likeness(word: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, word).ratio()


def _table_mend(path: Path, table: dict[str, Any], value: str) -> str:
    """An inline table that has what it must have, or else its first key; with `value` where one string is all that is needed."""
    properties = table.get("properties", {})
    required = table.get("required", [])
    keys = required or [key for key, node in properties.items() if "examples" in node or "default" in node][:1]
    if not keys:
        return ""
    example = {key: properties[key].get("examples", [properties[key].get("default")])[0] for key in keys}
    if value and len(required) == 1 and isinstance(example[required[0]], str):
        example = {required[0]: value}
    inner = ", ".join(f"{key} = {_toml(item)}" for key, item in example.items())
    name = f"{path[-1]} = " if isinstance(path[-1], str) else ""
    return f"write for example {name}{{ {inner} }}"


def _number_words(value: int, branches: list[dict[str, Any]], words: list[Any]) -> tuple[str, str]:
    branch = next(branch for branch in branches if branch.get("type") == "integer")
    if value == 0 and "off" in words:
        return "0 would mean none at all", 'write "off" for no bound'
    least, most = branch.get("minimum"), branch.get("maximum")
    if least is not None and value < least:
        return f"{value} is too little", f"write {least} or more"
    return f"{value} is too much", f"write {most} or less"


def _known(title: str, known: list[str]) -> str:
    return (
        f"the keys here are {', '.join(sorted(known))}"
        if known and len(known) <= 14
        else f"see: edge help keys{f' ({title})' if title else ''}"
    )


def _required_mend(node: dict[str, Any], key: str) -> str:
    examples = node.get("properties", {}).get(key, {}).get("examples")
    return f"write for example {key} = {_toml(examples[0])}" if examples else f"write {key} = …"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


_ELSEWHERE = {
    ("File", "hosts"): "write [[host]]",
    ("File", "listeners"): "write [[listener]]",
    ("File", "routes"): "write [[route]]",
    ("File", "certificates"): "write [[certificate]], or certificates in a [[host]]",
    ("Host", "name"): "write 'names'",
    ("Host", "server_name"): "write 'names'",
    ("Host", "certificate"): "write 'certificates'",
    ("Host", "path"): "paths stand in a [[route]]",
    ("Host", "redirect"): "write it in a [[route]] with this host",
    ("Host", "respond"): "write it in a [[route]] with this host",
    ("Host", "protocols"): "write tls = { min_version = … }",
    ("Route", "names"): "write 'host'",
    ("Route", "location"): "write 'path'",
    ("Route", "proxy_pass"): "write 'upstream'",
    ("Upstream", "servers"): "write 'endpoints'",
    ("Upstream", "url"): "write 'endpoints'",
    ("Listener", "port"): 'write address = ":443"',
    ("Listener", "listen"): "write 'address'",
    ("Listener", "client_auth"): "write it in a [[host]] or at the top",
    ("Listener", "ssl"): 'TLS is on; tls = "off" switches it off',
    ("Host", "proxy_pass"): "write 'upstream'",
    ("UpstreamTls", "ca"): "write a [trust.NAME] with ca, and trust = \"NAME\" here",
    ("UpstreamTls", "sni"): "write 'server_name'",
    ("ClientAuth", "ca"): "write a [trust.NAME] with ca, and trust = \"NAME\" here",
    ("ClientRule", "cn"): "common names are not looked at: write dns, uri or spiffe, or the whole subject",
    ("ClientRule", "san"): "write dns, uri or spiffe",
    ("Tls", "protocols"): "write min_version",
}  # fmt: skip


def _prune(tree: dict[str, Any], path: Path) -> None:
    """Take the value at `path` away: from a table its key; from a list the whole list, unless it is an array of tables."""
    node: Any = tree
    holders: list[tuple[Any, str | int]] = []
    for part in path:
        holders.append((node, part))
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return
    for holder, part in reversed(holders):
        if isinstance(holder, dict):
            del holder[str(part)]
            return
        if len(holders) == 2:
            holder[part] = None
            return


def _unknown(value: object, path: Path = ()) -> list[Path]:
    """The paths of values that could not be had."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _unknown(item, (*path, key))]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _unknown(item, (*path, index))]
    return [path] if value is UNKNOWN else []


def check_shape(source: Source) -> None:
    """Report every way in which the tree departs from the schema, and take those parts out of it."""
    _Shape(source).run()
