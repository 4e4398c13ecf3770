"""HTML and SVG as values: elements are functions, and whatever is no element is escaped.

There is no way to put text onto a page that is not escaped, except to build it with `tag`. A figure that is shown carries
the place in the JSON that it comes from (`data-at`), so that a test can hold the page against the JSON.
"""

from __future__ import annotations

import html
import re
from typing import Any

__all__ = ["Markup", "at", "lookup", "tag"]

_VOID = {"br", "meta", "rect", "line", "circle", "path"}
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def _escape(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(str(child))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. ``class_`` and ``data_at`` are written `class` and `data-at`; an attribute that is None is left out."""
    assert _NAME.fullmatch(name)
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}>" if name in ("br", "meta") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{''.join(map(_escape, children))}</{name}>")


def at(place: tuple[str | int, ...], text: str, **attributes: object) -> Markup:
    """A figure as `text`, with its place in the JSON."""
    return tag("span", text, data_at="/".join(map(str, place)), **attributes)


def lookup(facts: Any, place: str) -> Any:
    """What is at a `data-at` of the JSON. Raises KeyError or IndexError."""
    for part in place.split("/"):
        facts = facts[int(part)] if isinstance(facts, list) else facts[part]
    return facts
