"""The words of nginx, for people who copy their settings over: what the manual's page about nginx says of each.

The page is the one place where nginx's words and ours stand beside each other; its tables are read when somebody has
written a key that we do not know. Only nginx's directives look like keys of ours: the other servers' files are no TOML.
"""

from __future__ import annotations

import functools
import re
from importlib import resources

__all__ = ["looks_foreign", "ours_for"]

_SECTION = re.compile(r"(global|defaults|frontend|backend|listen)( \S+)?", re.ASCII)  # HAProxy's


@functools.cache
def _words() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in (resources.files("edge") / "manual" / "nginx.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| `") else []
        if len(cells) == 2:
            for word in re.findall(r"`([a-z_]+)", cells[0]):
                found.setdefault(word, cells[1].replace("`", ""))
    return found


def ours_for(key: str) -> str:
    """What stands for nginx's directive `key` here, as a sentence; ``""`` when it is none that the manual knows."""
    ours = _words().get(key, "") if "_" in key else ""
    return f"nginx's word; here: {ours} (edge help nginx)" if ours else ""


def looks_foreign(line: str) -> str:
    """What to say about a line that is no TOML and looks like the settings of nginx, Caddy or HAProxy, else ``""``."""
    text = line.partition("#")[0].strip()
    if "=" in text or text.startswith("[") or not (text.endswith(("{", ";")) or _SECTION.fullmatch(text)):
        return ""
    return "this looks like the settings of another server: edge help nginx, edge help migrating"
