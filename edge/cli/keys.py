"""What the manual's page of keys says about one key: in which tables it stands, what may be written, the default and what for."""

from __future__ import annotations

import re
from importlib import resources

import edge

__all__ = ["key_names", "keys_named"]

_CELL = re.compile(r"(?<!\\)\|")


def _page() -> str:
    return (resources.files(edge) / "manual" / "keys.md").read_text(encoding="utf-8")


def key_names() -> list[str]:
    """Every key's name, each once."""
    return sorted(set(re.findall(r"^\| `([a-z0-9_]+)` \|", _page(), re.MULTILINE)))


def keys_named(name: str) -> str:
    """Every key that is called so; a table may stand before it, with or without its brackets: ``""`` when there is none.

    >>> keys_named("limits.request_line").splitlines()[0]
    'request_line in [limits]'
    """
    table, _, key = name.lower().replace("[", "").replace("]", "").rpartition(".")
    inherited = "upstream_tls" if table.startswith("upstream") and table.endswith("tls") else table.rpartition(".")[2]
    found = _rows(key, table) or _rows(key, inherited)
    return "\n".join([*found, "All of them: edge help keys"]) if found else ""


def _rows(key: str, table: str) -> list[str]:
    found: list[str] = []
    heading = ""
    for line in _page().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith(f"| `{key}` |") and _fits(heading, table):
            value, default, meaning = (cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[2:5])
            where = "at the top of the file" if heading == "The file" else f"in {heading}"
            default = "" if default == "–" else " (required)" if default == "required" else f" (default: {default.strip('`')})"
            found += [f"{key} {where}", f"  {value}{default}", f"  {meaning}"]
    return found


def _fits(heading: str, table: str) -> bool:
    """Whether `table` is the end of the heading's path, with or without the NAME that stands for any."""
    path, wanted = heading.strip("[]").lower().split("."), table.split(".")
    return not table or any(words[-len(wanted) :] == wanted for words in (path, [word for word in path if word != "name"]))
