"""What the manual's page of errors says about one kind of fault: the one place where its meaning and its remedy are written."""

from __future__ import annotations

import functools
import itertools
from importlib import resources

import edge

__all__ = ["about", "page_of_errors", "sentence"]


def page_of_errors() -> str:
    """The Markdown of the page."""
    return (resources.files(edge) / "manual" / "errors.md").read_text(encoding="utf-8")


@functools.cache
def about(kind: str) -> tuple[tuple[str, str], ...]:
    """The page's columns about a fault, with their heads: ``("what it means", …), ("what to do", …)``. Empty: not known."""
    head: list[str] = []
    found: list[tuple[str, str]] = []
    lines = page_of_errors().splitlines()
    for before, line in itertools.pairwise(["", *lines]):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not before.startswith("|"):
            head = cells
        elif f"`{kind}`" in cells[0]:
            found += [(name, cell.replace("`", "")) for name, cell in zip(head[1:], cells[1:], strict=True) if cell]
    return tuple(found)


def sentence(kind: str, detail: str) -> tuple[str, str]:
    """What happened and what to do, each as one sentence without its full stop; the second may be empty."""
    columns: dict[str, str] = {}
    for name, cell in about(kind):
        columns.setdefault(name, cell)
    means = columns.get("what it means") or kind.replace("-", " ")
    for words in ("; detail is its alert", "; detail says which case", "detail says why"):
        means = means.replace(words, "")
    means = means.strip() or kind.replace("-", " ")
    return f"{means} ({detail})" if detail else means, columns.get("what to do", "")
