"""What the sections of the page are built from: headings, tables, figures with their place in the JSON, colours, legends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .conclusions import figure
from .markup import Markup, at, tag
from .plot import COLOURS

__all__ = ["Facts", "Place", "colours", "legend", "section", "table", "value"]

Facts = dict[str, Any]
Place = tuple[str | int, ...]


def section(title: str, *parts: object) -> Markup:
    """A part of the page under a heading."""
    return tag("section", tag("h2", title), *parts)


def table(heads: Iterable[str], rows: Iterable[Iterable[object]], kind: str | None = None) -> Markup:
    """A table whose first column is text (with `kind` "words" all are); it scrolls in its own box when the page is narrow."""
    heads = list(heads)
    written = [tag("tr", *(tag("th" if number == 0 else "td", cell) for number, cell in enumerate(row))) for row in rows]
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", head) for head in heads))) if any(heads) else "",
            tag("tbody", *written),
            class_=kind,
        ),
        class_="scroll",
    )


def value(facts: Any, *place: str | int, ending: str = "") -> Markup | str:
    """The figure at `place`, as everywhere; a dash when there is none."""
    for part in place:
        facts = facts[part]
    return "–" if facts is None else at(place, figure(facts) + ending)


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each target; `edge` has one of its own."""
    others = [name for name in names if name != "edge"]
    return {"edge": "subject"} | {name: f"c{number % COLOURS}" for number, name in enumerate(others)}


def legend(kinds: dict[str, str]) -> Markup:
    """Names with their colours."""
    return tag("p", *(tag("span", tag("i", class_=kind), name) for name, kind in kinds.items()), class_="legend")
