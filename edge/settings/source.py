"""Reading the settings files: TOML, interpolation, includes, and one tree that knows where each part of it was written.

A `Source` is the merged tree of the main file and all that it includes. Arrays of tables are joined, named tables are put
together, and single tables are merged key by key; whatever is defined twice is an error that names both places.
Paths in the tree lead back to the file, line and column by `key` and `value`, and to the text as written by `shown`, which
is how messages speak of values that may be secret.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from edge.settings.files import State, Unreadable, read_file, state_of
from edge.settings.foreign import looks_foreign
from edge.settings.interpolate import Missing, interpolate
from edge.settings.later import LATER
from edge.settings.places import Places
from edge.settings.problems import Path, Problem, Reason, Severity, Span

__all__ = ["UNKNOWN", "Document", "Source"]

UNKNOWN = object()  # stands for a value that could not be had from elsewhere
_MOST_BYTES = 16 * 1024 * 1024
_MOST_FILES = 10_000
_NAMED = frozenset({"upstream", "trust", "jwt", "rate_limit", "waf"})
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOML_WORDS = {
    "Expected '=' after a key in a key/value pair": ("a key without '='", 'write key = "value"'),
    "Invalid value": ("not a value", 'strings stand in quotes: "value"'),
    "Unclosed array": ("a list that does not end", "write ']' after its last value"),
    "Unclosed inline table": ("an inline table that does not end", "write '}' after its last key, on the same line"),
    "Unterminated string": ("a string that does not end", "write the closing quote"),
    "Unescaped '\\' in a string": ("a single backslash in a string", "write two, or a string in single quotes"),
    "Expected newline or end of document after a statement": (
        "more text where the line should end",
        "write each key on a line of its own",
    ),
    "Invalid statement": ("neither a key nor a table", 'write key = "value", [table] or [[table]]'),
    "Invalid initial character for a key part": (
        "a key is missing here",
        "keys hold letters, digits, - and _; others stand in quotes",
    ),
    "Expected ']' at the end of a table declaration": ("a table header that does not end", "write [name]"),
    "Expected ']]' at the end of an array declaration": ("a table header that does not end", "write [[name]]"),
}


class Document:
    """One file: its text, its values and where they stand."""

    __slots__ = ("directory", "file", "interpolated", "name", "places", "text", "values", "written")

    def __init__(self, name: str, directory: FilePath, text: str) -> None:
        self.name = name
        self.file = os.path.abspath(name)
        self.directory = directory
        self.text = text
        self.values: dict[str, Any] = {}
        self.places = Places(name, text)
        self.interpolated: set[Path] = set()
        self.written: dict[Path, str] = {}  # what stood where something was replaced


class Source:
    """The merged tree, and the problems found so far."""

    def __init__(self, environ: Mapping[str, str], texts: Mapping[str, str] | None = None) -> None:
        """`texts`: what stands in each settings file, by its absolute path, instead of what is on disk; there are no others."""
        self._texts = texts
        self.tree: dict[str, Any] = {}
        self.environ = environ
        self.documents: list[Document] = []
        self.files: list[str] = []
        self.states: dict[str, State] = {}  # of files and directories, from before they were read
        self.problems: list[Problem] = []
        self.unknown = False  # whether UNKNOWN stands in the tree
        self.pruned: set[Path] = set()  # what was wrong, and so was taken out of the tree
        self._secrets: dict[str, str] = {}  # what came from elsewhere, and how it is written
        self.failed_to_parse = False  # some file has no values at all: what names it may hold is not known
        self._digest = hashlib.sha256()
        self._origin: dict[Path, tuple[Document, Path]] = {}
        self._seen: set[str] = set()

    # problems

    def add(self, severity: Severity, span: Span, message: str, mend: str = "", reason: Reason = Reason.MISTAKE) -> None:
        self.problems.append(
            Problem(
                severity=severity,
                file=span.file,
                line=span.line,
                column=span.column,
                length=span.length,
                message=message,
                mend=mend,
                reason=reason,
            )
        )

    def error(self, path: Path, message: str, mend: str = "", *, at_key: bool = False, reason: Reason = Reason.MISTAKE) -> None:
        self.add(Severity.ERROR, self.key(path) if at_key else self.value(path), message, mend, reason)

    def warning(self, path: Path, message: str, mend: str = "", *, at_key: bool = False) -> None:
        self.add(Severity.WARNING, self.key(path) if at_key else self.value(path), message, mend)

    def note(self, path: Path, message: str, *, at_key: bool = True) -> None:
        self.add(Severity.NOTE, self.key(path) if at_key else self.value(path), message)

    @property
    def failed(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    # places

    def _locate(self, path: Path) -> tuple[Document | None, Path]:
        for end in range(len(path), 0, -1):
            found = self._origin.get(path[:end])
            if found is not None:
                return found[0], found[1] + path[end:]
        return (self.documents[0] if self.documents else None), path

    def key(self, path: Path) -> Span:
        document, local = self._locate(path)
        return document.places.key(local) if document is not None else Span("")

    def value(self, path: Path) -> Span:
        document, local = self._locate(path)
        return document.places.value(local) if document is not None else Span("")

    def directory(self, path: Path) -> FilePath:
        """The directory that file names at `path` are relative to: that of the file that names them."""
        document, _ = self._locate(path)
        return document.directory if document is not None else FilePath(".")

    def secret(self, path: Path) -> bool:
        """Whether the value at `path`, or what it stands in, came from elsewhere."""
        document, local = self._locate(path)
        if document is None or not document.interpolated:
            return False
        return any(local[:end] in document.interpolated for end in range(len(local), 0, -1))

    def shown(self, path: Path, value: object) -> str:
        """The value as a message may show it: as written when it came from elsewhere, and shortened."""
        document, local = self._locate(path)
        if document is not None and document.written:
            for end in range(len(local), 0, -1):
                if local[:end] in document.written:
                    return document.written[local[:end]]
        text = str(value)
        return text if len(text) <= 60 else text[:57] + "…"

    def redact(self, text: str) -> str:
        """The text without anything that came from elsewhere. Short values go only when they are all of it."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= 4:
                text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
            elif text == secret:
                return "***"
        return text

    def touched(self, path: Path) -> bool:
        """Whether something was taken out at `path` or below it; then what is missing there was told already."""
        return any(taken[: len(path)] == path for taken in self.pruned)

    def digest(self) -> str:
        return self._digest.hexdigest()

    def look(self, file: str) -> None:
        """Note what a file is before it is read for the first time: what changes from then on is a change."""
        if file not in self.states:
            self.states[file] = state_of(file)

    def remember(self, file: str, data: bytes) -> None:
        """Count a file among those that were read. It was looked at before."""
        if file not in self._seen:
            self._seen.add(file)
            self.files.append(file)
            self._digest.update(len(data).to_bytes(8, "big") + data)

    def watch(self, folder: str) -> None:
        """Count a directory among what is read: what comes into it, or goes, is a change. To be called before it is read."""
        self.look(folder)
        if folder not in self._seen:
            self._seen.add(folder)
            self.files.append(folder)

    # reading

    def read(self, name: str, text: str | None = None) -> None:
        """Read the main file and what it includes."""
        document = self._document(name, FilePath(name), text, asked_by=None)
        if document is None:
            self.failed_to_parse = True
            return
        self._merge(document)
        self._include(document)

    def _document(self, name: str, path: FilePath, text: str | None, *, asked_by: Span | None) -> Document | None:
        place = asked_by if asked_by is not None else Span(name)
        if text is None and self._texts is not None:
            text = self._texts.get(os.path.abspath(name))
        if text is None:
            self.look(os.path.abspath(path))
            try:
                data = read_file(path, _MOST_BYTES)
            except Unreadable as unreadable:
                self.add(Severity.ERROR, place, f"{name} {unreadable}", reason=unreadable.reason)
                return None
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                self.add(Severity.ERROR, Span(name, line, 1), "not UTF-8 text", "save the file as UTF-8")
                return None
        try:
            encoded = text.encode("utf-8")
        except UnicodeEncodeError as error:
            self.add(
                Severity.ERROR, Span(name, text.count("\n", 0, error.start) + 1, 1), "not UTF-8 text", "save the file as UTF-8"
            )
            return None
        self.remember(os.path.abspath(path), encoded)
        text = text.replace("\r\n", "\n")
        document = Document(name, path.parent, text)
        self.documents.append(document)
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self._syntax(document, str(error))
            return None
        except RecursionError:
            self.add(Severity.ERROR, Span(name), "lists or tables are nested too deeply")
            return None
        except ValueError:  # a number too long for Python to read
            self.add(Severity.ERROR, Span(name), "a number is too long")
            return None
        try:
            later = LATER["File"]  # told by the check of shapes; what they hold is of no interest
            values = {key: {} if key in later else value for key, value in values.items()}
            document.values = self._replace_table(document, (), values)
        except RecursionError:
            self.add(Severity.ERROR, Span(name), "lists or tables are nested too deeply")
            return None
        return document

    def _syntax(self, document: Document, text: str) -> None:
        if text.startswith(("Cannot", "Duplicate")) and document.places.twice:
            for twice in document.places.twice:
                name = ".".join(part for part in twice.path if isinstance(part, str))
                if twice.mixed:
                    self.add(
                        Severity.ERROR, twice.second, f"'{name}' is written in two forms, the first at {twice.first}",
                        f"keep one form: either {twice.path[-1]} = {{ … }} or its long form",
                    )  # fmt: skip
                else:
                    self.add(
                        Severity.ERROR, twice.second, f"'{name}' is written twice, first at {twice.first}", "keep one of them"
                    )
            return
        lines = document.text.split("\n")
        found = _TOML_PLACE.search(text)
        message = text[: found.start()] if found is not None else text
        if found is not None and found[1] is not None:
            line, column = int(found[1]), int(found[2])
        else:
            line, column = len(lines), len(lines[-1]) + 1
        here = lines[line - 1][column - 1 :] if line <= len(lines) else ""
        words, mend = _TOML_WORDS.get(message, ("", ""))
        mend = looks_foreign(lines[line - 1]) or mend if line <= len(lines) else mend
        before = lines[line - 1][: column - 1] if line <= len(lines) else ""
        if "inline table" in message or (message.startswith("Invalid initial") and "{" in before):
            if not here.strip() or here.lstrip().startswith("#"):
                words = "an inline table cannot span lines"
                mend = "close it on this line, or write its long form: a [table] of its own"
            elif here.lstrip().startswith("}"):
                words, mend = "an inline table cannot end in a comma", "take the last comma away"
        if text.startswith("Illegal character") or "Found invalid character" in text:
            words, mend = "a character that cannot stand here", ""
        if text.startswith(("Cannot", "Duplicate")):
            words, mend = "a key or table that was written before, perhaps in another form", "keep one of them"
        if not words:
            words = f"not TOML: {message[:1].lower()}{message[1:]}"
        self.add(Severity.ERROR, Span(document.name, line, column), words, mend)

    def _replace_table(self, document: Document, path: Path, table: dict[str, Any]) -> dict[str, Any]:
        return {key: self._replace(document, (*path, key), value) for key, value in table.items()}

    def _replace(self, document: Document, path: Path, value: Any) -> Any:
        """The value with its strings interpolated. What TOML has and no key takes (dates, nan) becomes None."""
        if isinstance(value, str):
            if "${" not in value:
                return value
            try:
                replaced, parts = interpolate(value, document.directory, self.environ)
            except Missing as missing:
                self.add(Severity.ERROR, document.places.value(path), str(missing), missing.mend, missing.reason)
                self.unknown = True
                return UNKNOWN
            if parts:
                document.interpolated.add(path)
                document.written[path] = value
                self._secrets.update((part, value) for part in parts if part)
            return replaced
        if isinstance(value, dict):
            return self._replace_table(document, path, value)
        if isinstance(value, list):
            return [self._replace(document, (*path, index), item) for index, item in enumerate(value)]
        if isinstance(value, (bool, int)):
            return value if -(2**62) < value < 2**62 else None
        if isinstance(value, float):
            return value if abs(value) < 1e300 else None
        return None

    def _include(self, document: Document) -> None:
        """Read what `include` names, and what that includes in turn; a file is read once."""
        patterns = document.values.get("include", [])
        for index, pattern in enumerate(
            [patterns] if isinstance(patterns, str) else patterns if isinstance(patterns, list) else []
        ):
            if not isinstance(pattern, str) or not pattern or "\0" in pattern:
                continue
            place = document.places.value(("include", index) if isinstance(patterns, list) else ("include",))
            names = self._matching(os.path.join(document.directory, pattern))
            if not names and not glob.has_magic(pattern):
                self.add(Severity.ERROR, place, f"{pattern} cannot be read: no such file")
            for name in names[:_MOST_FILES]:
                if os.path.abspath(name) in self._seen or os.path.isdir(name):
                    continue
                included = self._document(name, FilePath(name), None, asked_by=place)
                if included is None:
                    self.failed_to_parse = True
                else:
                    self._merge(included)
                    self._include(included)

    def _matching(self, pattern: str) -> list[str]:
        if self._texts is None:
            return sorted(glob.glob(pattern))
        return sorted(name for name in self._texts if fnmatch.fnmatchcase(name, os.path.abspath(pattern)))

    def _merge(self, document: Document) -> None:
        for key, value in document.values.items():
            if key == "include":
                if document is self.documents[0]:
                    self.tree[key] = value
                continue
            if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
                existing = self.tree.setdefault(key, [])
                if isinstance(existing, list):
                    for index, item in enumerate(value):
                        self._origin[(key, len(existing))] = (document, (key, index))
                        existing.append(item)
                    continue
            self._put(self.tree, (key,), value, document)

    def _put(self, table: dict[str, Any], path: Path, value: Any, document: Document) -> None:
        """Put one key where it belongs; tables are merged, all else may stand once."""
        key = path[-1]
        assert isinstance(key, str)
        if key not in table:
            table[key] = value
            self._origin[path] = (document, path)
            return
        existing = table[key]
        is_name = len(path) == 2 and path[0] in _NAMED
        if isinstance(existing, dict) and isinstance(value, dict) and not is_name:
            # what was there keeps its origin, part by part
            holder = self._origin.pop(path, None)
            if holder is not None:
                for part in existing:
                    self._origin.setdefault((*path, part), (holder[0], (*holder[1], part)))
            merged = dict(existing)
            table[key] = merged
            for part, item in value.items():
                self._put(merged, (*path, part), item, document)
            return
        first, name = self.key(path), ".".join(str(part) for part in path)
        self.add(
            Severity.ERROR,
            document.places.key(path),
            f"'{name}' is defined twice, first at {first}",
            "keep one of them, or rename it",
        )
