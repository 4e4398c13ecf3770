"""How a change of the settings is said: one sentence for an operator, however many places it is at.

What was found at several places is told once, with a count: `subjects` are those places. A loss is the sentence that nobody must
miss, so it says how many hosts and routes lose what; other changes name their places first. Of header fields only the names are
said: a value may be a secret, of which an outline holds no more than a digest.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from edge.settings.outline import Outline
from edge.settings.rules import Rule, listing

__all__ = ["Change", "Subject", "change", "day", "items", "plural", "route_name", "said"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `where` is what it is about (empty: the gateway as a whole); `text` is a whole sentence that names it too."""

    weaker: bool
    kind: str  # the key, or for things "host-added", "route-removed", "certificate-renewed", …
    where: str
    text: str


Subject = tuple[str, str]
"""``("host", "api.example.com")``; ``("", "")`` is the top of the file."""

_SECRET = re.compile(r": (sha256/[0-9a-f]{16}|\*|)$")
_MOST_LINES = 8  # of one kind of thing that was added or removed, before they are counted


def change(weaker: bool, kind: str, statement: str, why: str, subjects: list[Subject], routes: list[Outline]) -> Change:
    """The change that `statement` says of `subjects`. `routes`: those of the new settings, which a loss counts."""
    after = f" ({why})" if why else ""
    where = _where(subjects)
    if statement.startswith(("lose ", "no longer ")):
        return Change(weaker, kind, where, _loss(statement, subjects, routes) + after)
    if kind.endswith(("-added", "-removed")):
        return Change(weaker, kind, where, f"{_counted(subjects)} {statement}{after}")
    return Change(weaker, kind, where, f"{where}: {statement}{after}" if where else statement + after)


def _loss(statement: str, subjects: list[Subject], routes: list[Outline]) -> str:
    """``2 hosts with 7 routes lose client_auth (require → off): a, b``."""
    names = {name for kind, name in subjects if kind == "host"}
    served = sum(1 for route in routes if route["host"] is None or route["host"] in names)
    count = Counter(kind for kind, _ in subjects)
    parts = [plural(number, kind) for kind, number in count.items()]
    if names and "route" not in count and served:
        parts[0] += f" with {plural(served, 'route')}"
    one = len(subjects) == 1
    verb = statement.replace("lose ", "loses ", 1) if one else statement
    if verb.startswith("no longer "):
        verb = f"no longer {statement.split(' ', 2)[2].replace('require ', 'requires ' if one else 'require ', 1)}"
    return f"{' and '.join(parts)} {verb}: {listing([name for _, name in subjects])}"


def said(path: str, rule: Rule, prefix: str, old: Any, new: Any) -> str:
    """What became of the field `path` of a table; `prefix` is how the file spells that table."""
    words = prefix + rule.words
    if path == "ClientAuth.mode" and rule.weaker(old, new):
        return f"lose client_auth ({old} → {new})" if new == "off" else f"no longer require a client certificate ({old} → {new})"
    if path == "Trust.ca":
        named = {**old, **new}
        return items(words, [named[one] for one in old], [named[one] for one in new])
    if isinstance(old, dict) and isinstance(new, dict):
        return items(words, list(old), list(new), [key for key in old if key in new and old[key] != new[key]])
    if isinstance(old, list) and isinstance(new, list):
        return items(words, old, new)
    return f"{words} {rule.show(old)} → {rule.show(new)}".strip()


def items(words: str, old: list[str], new: list[str], changed: list[str] | None = None) -> str:
    """``tls.ciphers: adds A; drops B``. Of headers only the names are said."""
    plus = [one for one in new if one not in old]
    minus = [one for one in old if one not in new]
    if any(_SECRET.search(str(one)) for one in [*plus, *minus]):
        names = [_SECRET.sub("", one) for one in plus], [_SECRET.sub("", one) for one in minus]
        changed = [name for name in names[0] if name in names[1]]
        plus, minus = ([name for name in some if name not in changed] for some in names)
    parts = [f"{verb} {listing([str(one) for one in some])}"
             for verb, some in (("adds", plus), ("drops", minus), ("changes", changed or [])) if some]  # fmt: skip
    return f"{words}: {'; '.join(parts)}" if parts else f"{words}: another order"


def route_name(route: Outline) -> str:
    """What a route matches, in one line."""
    methods = f"{' '.join(route['methods'])} " if route["methods"] is not None else ""
    fields = [_SECRET.sub("", pair) for pair in route["match_headers"]]
    return f"{methods}{route['host'] or '*'}{route['path']}" + (f" with {', '.join(fields)}" if fields else "")


def plural(count: int, word: str) -> str:
    """``1 route``, ``2 routes``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _where(subjects: list[Subject]) -> str:
    """``host a``; ``hosts a, b``; ``12 routes (a, b, c and 9 more)``; the top of the file comes first."""
    parts = []
    for kind in dict.fromkeys(kind for kind, _ in subjects if kind):
        names = [name for one, name in subjects if one == kind]
        if len(names) <= 3:
            parts.append(f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}")
        else:
            parts.append(f"{plural(len(names), kind)} ({listing(names)})")
    found = " and ".join(parts)
    if ("", "") in subjects:
        return f"everywhere ({found})" if found else ""
    return found


def _counted(subjects: list[Subject]) -> str:
    """As `_where`, for things that came or went: more of their names."""
    kind, names = subjects[0][0], [name for _, name in subjects]
    if len(names) == 1:
        return f"{kind} {names[0]}"
    return f"{plural(len(names), kind)} ({listing(names, _MOST_LINES)})"


def day(moment: float) -> str:
    """The date in UTC of POSIX seconds."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d")
