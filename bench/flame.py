"""Flame graphs of native stacks as SVG: a rectangle for each function under its caller, as wide as its share of the samples.

The root is below, what ran is on top; siblings stand from wide to narrow, and left to right means nothing else. Colours say whose
code it is: the kernel's, the interpreter's, the TLS library's, another's. The picture has no script: a function's share is in
its tooltip, and what is narrower than a thousandth is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .markup import Markup, tag

__all__ = ["Frame", "draw", "owner"]

_WIDTH, _ROW, _TOP, _LETTER = 1200, 17, 52, 6.6
_LEAST = 0.001  # of all samples: what is narrower is left out
_OWNERS = (
    ("kernel", "the kernel", "#b98a2f"),
    ("crypto", "TLS and cryptography", "#d6471f"),
    ("interpreter", "the interpreter", "#35618f"),
    ("loop", "the event loop", "#4f8a5b"),
    ("other", "anything else", "#8c8f96"),
)
_STYLE = (
    "svg { background: #fff } text { font: 11px monospace; fill: #1d2430 } .head { font: 15px sans-serif } "
    ".key { font: 12px sans-serif } rect { stroke: #fff; stroke-width: .6; fill-opacity: .55 } "
    + " ".join(f".{name} {{ fill: {colour} }}" for name, _, colour in _OWNERS)
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on a stack, and the library that it is in ("libc.so.6", "kernel")."""

    symbol: str
    library: str


def owner(library: str) -> str:
    """Whose a library is, by its name: "kernel", "crypto", "interpreter", "loop" or "other"."""
    if library == "kernel":
        return "kernel"
    if library.startswith(("_rust.", "libcrypto", "libssl", "_openssl")):
        return "crypto"
    if library.startswith(("libpython", "python")):
        return "interpreter"
    return "loop" if library.startswith(("loop.", "libuv")) else "other"


@dataclass(slots=True)
class _Node:
    count: int = 0
    children: dict[Frame, _Node] = field(default_factory=dict)

    def depth(self, least: float) -> int:
        return 1 + max((child.depth(least) for child in self.children.values() if child.count >= least), default=0)


def _tree(stacks: Mapping[tuple[Frame, ...], int]) -> _Node:
    root = _Node()
    for stack, count in stacks.items():
        root.count += count
        node = root
        for frame in stack:
            node = node.children.setdefault(frame, _Node())
            node.count += count
    return root


def draw(title: str, stacks: Mapping[tuple[Frame, ...], int]) -> str:
    """The picture of `stacks`, each from its root to what ran, with the number of its samples. There is at least one sample."""
    root = _tree(stacks)
    least = root.count * _LEAST
    height = _TOP + root.depth(least) * _ROW + 10
    parts: list[Markup] = []

    def place(node: _Node, name: str, kind: str, x: float, level: int) -> None:
        width = node.count / root.count * _WIDTH
        y = height - 10 - (level + 1) * _ROW
        room = int((width - 4) / _LETTER)
        shown = name if len(name) <= room else name[: max(0, room - 1)] + "…"
        parts.append(
            tag(
                "g",
                tag("title", f"{name}: {node.count / root.count:.1%}, {node.count:,} samples"),
                tag("rect", x=f"{x:.1f}", y=y, width=f"{width:.1f}", height=_ROW - 1, class_=kind),
                tag("text", shown, x=f"{x + 3:.1f}", y=y + 12) if room > 2 else "",
            )
        )
        for frame, child in sorted(node.children.items(), key=lambda each: -each[1].count):
            if child.count >= least:
                place(child, f"{frame.symbol} ({frame.library})", owner(frame.library), x, level + 1)
            x += child.count / root.count * _WIDTH

    place(root, "all", "other", 0.0, 0)
    key: list[Markup] = []
    for number, (kind, words, _) in enumerate(_OWNERS):
        key.append(tag("rect", x=8 + number * 170, y=30, width=12, height=12, class_=kind))
        key.append(tag("text", words, x=25 + number * 170, y=40, class_="key"))
    picture = tag(
        "svg",
        tag("style", Markup(_STYLE)),
        tag("text", title, x=8, y=20, class_="head"),
        *key,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH,
        height=height,
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{picture}\n'
