"""Plots as inline SVG: bars with their range, stacked bars, the latency plot of HdrHistogram, and lines of cost that grows.

Colours are classes (`c0`, `c1`, … and `subject`), so that the page's style sheet decides them for light and dark. Bars use
percentages and no view box: they follow the width of the page while text beside them keeps its size. The latency plot has
the axis 1 / (1 - p), on which every further nine is as wide as the one before: the tail is where the page has room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .markup import Markup, tag

__all__ = ["COLOURS", "bar", "growth", "latency", "stack"]

COLOURS = 8

_WIDTH, _HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 28, 14, 56
_INSET = 24  # between the frame and the first and the last point of a line
_RUNGS = 8
_NINES = ((0.0, "0 %"), (50.0, "50 %"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %"))


def _share(part: float, whole: float) -> str:
    return f"{max(0.0, min(1.0, part / whole if whole else 0.0)) * 100:.2f}%"


def bar(value: float, low: float, high: float, most: float, kind: str) -> Markup:
    """A bar of `value` with a line from `low` to `high`, where `most` is the whole width."""
    return tag(
        "svg",
        tag("rect", x="0", y="3", width=_share(value, most), height="14", rx="2", class_=kind),
        tag("line", x1=_share(low, most), x2=_share(high, most), y1="10", y2="10", class_="range"),
        class_="bar",
        width="100%",
        height="20",
        role="img",
        aria_label=f"{value:.3g}, from {low:.3g} to {high:.3g}",
    )


def stack(parts: Sequence[tuple[float, str]], most: float) -> Markup:
    """Parts one after the other, each with its class."""
    rects, x = [], 0.0
    for value, kind in parts:
        rects.append(tag("rect", x=_share(x, most), y="3", width=_share(value, most), height="14", class_=kind))
        x += max(0.0, value)
    return tag("svg", *rects, class_="bar", width="100%", height="20", role="img", aria_label="parts, see the figures beside it")


def _place(share: float, end: float) -> float:
    """Where a percentile lies between 0 and 1, on an axis of nines that ends at `end`."""
    return math.log10(100 / (100 - min(share, end))) / math.log10(100 / (100 - end))


def _step(most: float) -> float:
    """A round distance of about four or five lines up to `most`."""
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def latency(curves: dict[str, tuple[str, Sequence[tuple[float, float]]]]) -> Markup | None:
    """One line for each name: `curves` gives its class and its points (percentile, milliseconds). None without a point."""
    points = [point for _, line in curves.values() for point in line]
    if not points:
        return None
    end = max(90.0, *(share for share, _ in points))
    most = max(value for _, value in points) or 1.0
    step = _step(most)
    top = math.ceil(most / step) * step

    def x(share: float) -> float:
        return _LEFT + _place(share, end) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    parts: list[Markup] = []
    for number in range(round(top / step) + 1):
        height = y(number * step)
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{height:.1f}", y2=f"{height:.1f}", class_="grid"))
        parts.append(tag("text", f"{number * step:.4g} ms", x=_LEFT - 6, y=f"{height + 4:.1f}", text_anchor="end"))
    for share, name in _NINES:
        if share <= end:
            parts.append(tag("line", x1=f"{x(share):.1f}", x2=f"{x(share):.1f}", y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid"))
            parts.append(tag("text", name, x=f"{x(share):.1f}", y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"))
    caption = "percentile of the handshakes; each further nine is as wide as the one before"
    parts.append(tag("text", caption, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 10, text_anchor="middle"))
    for name, (kind, line) in curves.items():
        if line:
            drawn = " ".join(
                f"{'M' if number == 0 else 'L'}{x(share):.1f} {y(value):.1f}" for number, (share, value) in enumerate(line)
            )
            parts.append(tag("path", tag("title", name), d=drawn, class_=f"line {kind}"))
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        class_="latency",
        role="img",
        aria_label="latency by percentile; the table has the figures",
    )


def _rungs(least: float, most: float) -> list[float]:
    """Round values around `least` and `most`, for an axis of logarithms: as many as fit."""
    kept: list[float] = []
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 2, 5), (1,)):
        powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
        below = max(rung for rung in found if rung <= least * 1.0001)
        above = min((rung for rung in found if rung >= most * 0.9999), default=found[-1])
        kept = [rung for rung in found if below <= rung <= above]
        if len(kept) <= _RUNGS:
            break
    return kept


def growth(
    lines: Mapping[str, tuple[str, Sequence[tuple[float, float]]]], ticks: Sequence[tuple[float, str]], caption: str, unit: str
) -> Markup | None:
    """One line for each name, both axes logarithmic: `lines` gives its class and its points (x, value), `ticks` each x in words.

    An x of 0 stands to the left of the smallest other one, as far as that is of the next. None without a point.
    """
    points = [point for _, line in lines.values() for point in line if point[1] > 0]
    if not points:
        return None
    positive = sorted(x for x, _ in ticks if x > 0)
    apart = math.log10(positive[1] / positive[0]) if len(positive) > 1 else 1.0
    places = {x: math.log10(x) if x > 0 else math.log10(positive[0]) - apart for x, _ in ticks}
    first, last = min(places.values()), max(places.values())
    rungs = _rungs(min(value for _, value in points), max(value for _, value in points))
    low, high = math.log10(rungs[0]), math.log10(rungs[-1] if len(rungs) > 1 else rungs[0] * 10)

    def x(at: float) -> float:
        return _LEFT + _INSET + (places[at] - first) / ((last - first) or 1.0) * (_WIDTH - _LEFT - _RIGHT - 2 * _INSET)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(value) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts: list[Markup] = []
    for rung in rungs:
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y(rung):.1f}", y2=f"{y(rung):.1f}", class_="grid"))
        parts.append(tag("text", f"{rung:,.4g} {unit}", x=_LEFT - 6, y=f"{y(rung) + 4:.1f}", text_anchor="end"))
    for at, words in ticks:
        parts.append(tag("line", x1=f"{x(at):.1f}", x2=f"{x(at):.1f}", y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid"))
        parts.append(tag("text", words, x=f"{x(at):.1f}", y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"))
    parts.append(tag("text", caption, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 10, text_anchor="middle"))
    for name, (kind, line) in lines.items():
        seen = [(x(at), y(value)) for at, value in line if value > 0]
        drawn = " ".join(f"{'M' if number == 0 else 'L'}{across:.1f} {down:.1f}" for number, (across, down) in enumerate(seen))
        if seen:
            parts.append(tag("path", tag("title", name), d=drawn, class_=f"line {kind}"))
            parts += [tag("circle", cx=f"{across:.1f}", cy=f"{down:.1f}", r=3, class_=kind) for across, down in seen]
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        class_="latency",
        role="img",
        aria_label=f"cost by {caption}; the table has the figures",
    )
