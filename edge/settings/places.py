"""Where each key and each value of a TOML text stands.

`tomllib` gives values without places, so the text is parsed once more by tree-sitter, whose tree is walked into a map from
key paths to spans. The map is a help for messages and never decides anything: whatever it does not know (a text that the
two parsers read differently) falls back to the nearest place above it. The same walk finds keys that were written twice,
which is how mixing an inline table with its long form is told in words that say so.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from edge.settings.problems import Path, Span

__all__ = ["Places", "Twice"]

_PARSER = Parser(Language(tree_sitter_toml.language()))
_DEPTH = 64  # of nested values; deeper ones have the place of what holds them

Raw = tuple[int, int, int, int]  # start row and byte column, end row and byte column


@dataclass(frozen=True, slots=True)
class Twice:
    """A key that was written twice. `mixed`: once as an inline table or plain value, once as a table header."""

    path: Path
    first: Span
    second: Span
    mixed: bool


def _raw(node: Node) -> Raw:
    start, end = node.start_point, node.end_point
    return start[0], start[1], end[0], end[1]


def _key_text(node: Node) -> str:
    text = (node.text or b"").decode("utf-8", "replace")
    if node.type == "bare_key":
        return text
    if "\\" not in text:
        return text[1:-1]
    try:
        return next(iter(tomllib.loads(f"{text} = 0")))
    except (tomllib.TOMLDecodeError, StopIteration):
        return text[1:-1]


def _key_nodes(node: Node) -> list[Node]:
    """The parts of a key, left to right; a dotted key nests to the left."""
    parts: list[Node] = []
    while node.type == "dotted_key":
        children = [child for child in node.named_children if child.type in ("bare_key", "quoted_key", "dotted_key")]
        if len(children) != 2:
            break
        parts.append(children[1])
        node = children[0]
    if node.type in ("bare_key", "quoted_key"):
        parts.append(node)
    parts.reverse()
    return parts


class Places:
    """The spans of one text's keys and values."""

    __slots__ = ("_elements", "_file", "_headers", "_inline", "_keys", "_lines", "_values", "twice")

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        encoded = text.encode("utf-8", "surrogatepass")
        self._lines = encoded.split(b"\n")
        self._keys: dict[Path, Raw] = {}
        self._values: dict[Path, Raw] = {}
        self._elements: dict[Path, int] = {}  # arrays of tables: how many elements were seen
        self._headers: set[Path] = set()
        self._inline: set[Path] = set()
        self.twice: list[Twice] = []
        for node in _PARSER.parse(encoded).root_node.named_children:
            if node.type == "pair":
                self._pair((), node, 0)
            elif node.type in ("table", "table_array_element"):
                self._table(node)

    def key(self, path: Path) -> Span:
        """The span of a key, of an array's element, or of the nearest thing above it."""
        while path:
            found = self._keys.get(path) or self._values.get(path)
            if found is not None:
                return self._span(found)
            path = path[:-1]
        return Span(self._file)

    def value(self, path: Path) -> Span:
        """The span of a value; of its table's header when it is one; of the nearest thing above it when unknown."""
        found = self._values.get(path)
        return self._span(found) if found is not None else self.key(path)

    def _span(self, raw: Raw) -> Span:
        row, column, end_row, end_column = raw
        line = self._lines[row] if row < len(self._lines) else b""
        end = end_column if end_row == row else len(line.rstrip())
        before = line[:column].decode("utf-8", "replace")
        inside = line[column:end].decode("utf-8", "replace")
        return Span(self._file, row + 1, len(before) + 1, max(1, len(inside)))

    def _table(self, node: Node) -> None:
        children = node.children
        if len(children) < 3:
            return
        parts = _key_nodes(children[1])
        if not parts:
            return
        is_element = node.type == "table_array_element"
        path: Path = ()
        for part in parts[:-1]:
            path = (*path, _key_text(part))
            self._keys.setdefault(path, _raw(part))
            if path in self._inline:
                self._note_twice(path, _raw(part), mixed=True)
            path = self._into(path)
        path = (*path, _key_text(parts[-1]))
        start, end = node.start_point, children[2].end_point
        header: Raw = (start[0], start[1], end[0], end[1])
        if path in self._inline or (is_element and path in self._values):
            self._note_twice(path, header, mixed=True)
        elif path in self._headers and not is_element:
            self._note_twice(path, header, mixed=False)
        if is_element:
            count = self._elements.get(path, 0)
            self._elements[path] = count + 1
            self._keys.setdefault(path, header)
            path = (*path, count)
            self._keys[path] = header
        else:
            self._headers.add(path)
            path = self._into(path)
            self._keys.setdefault(path, header)
        for child in node.named_children[1:]:
            if child.type == "pair":
                self._pair(path, child, 0)

    def _into(self, path: Path) -> Path:
        count = self._elements.get(path, 0)
        return (*path, count - 1) if count else path

    def _pair(self, prefix: Path, node: Node, depth: int) -> None:
        named = [child for child in node.named_children if child.type != "comment"]
        if len(named) < 2:
            return
        parts = _key_nodes(named[0])
        path = prefix
        for part in parts:
            path = (*path, _key_text(part))
            self._keys.setdefault(path, _raw(part))
        if not parts:
            return
        if path in self._values or path in self._headers or path in self._elements:
            self._note_twice(path, _raw(parts[-1]), mixed=path not in self._values)
        self._value(path, named[1], depth)

    def _value(self, path: Path, node: Node, depth: int) -> None:
        self._values[path] = _raw(node)
        if depth >= _DEPTH:
            return
        if node.type == "inline_table":
            self._inline.add(path)
            for child in node.named_children:
                if child.type == "pair":
                    self._pair(path, child, depth + 1)
        elif node.type == "array":
            index = 0
            for child in node.named_children:
                if child.type != "comment":
                    self._value((*path, index), child, depth + 1)
                    index += 1

    def _note_twice(self, path: Path, second: Raw, *, mixed: bool) -> None:
        first = self._values.get(path) if path in self._values else self._keys.get(path)
        self.twice.append(Twice(path, self._span(self._keys.get(path, first or second)), self._span(second), mixed))
