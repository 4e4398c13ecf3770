"""The page's sections on how cost grows: for each family a plot with a line for each target, and a table."""

from __future__ import annotations

from .axes import AXES, Family, families
from .elements import Facts, Place, colours, legend, section, table, value
from .markup import Markup, tag
from .plot import growth

__all__ = ["curves"]

_MEMORY = "memory, MiB"


def curves(facts: Facts) -> list[Markup]:
    """One section for each family of the JSON's ``growth``."""
    found = {family.name: family for family in families(facts)}
    return [_section(facts, number, found[each["axis"]]) for number, each in enumerate(facts.get("growth", []))]


def _section(facts: Facts, number: int, family: Family) -> Markup:
    axis, names = AXES[family.name], [name for name in facts["names"] if family.line(facts, name)]
    kinds = {name: kind for name, kind in colours(facts["names"]).items() if name in names}
    lines = {name: (kind, family.line(facts, name)) for name, kind in kinds.items()}
    drawn = growth(lines, [(x, axis.said(x)) for x in family.xs], axis.x, "µs")
    rows: list[list[object]] = [
        [axis.said(x), *(_cell(facts, member, name) for name in names)]
        for x, member in zip(family.xs, family.members, strict=True)
    ]
    rows.append(["last divided by first", *(_grown(facts, number, name) for name in names)])
    memory = any(
        _MEMORY in each["details"] for member in family.members for each in facts["scenarios"][member]["summary"].values()
    )
    note = (
        f"{axis.note} Medians; in small print the ratio to {facts['base']} within a round"
        f"{', and the memory of all processes in MiB' if memory else ''}. Both axes are logarithmic."
    )
    heads = [axis.x, *names]
    return section(axis.title, tag("p", note), legend(kinds), tag("div", drawn or "", class_="scroll"), table(heads, rows))


def _cell(facts: Facts, member: int, name: str) -> Markup | str:
    found = facts["scenarios"][member]["summary"].get(name)
    if found is None:
        return "–"
    place: Place = ("scenarios", member, "summary", name)
    small: list[object] = []
    if found["ratio"] and name != facts["base"]:
        small.append(value(facts, *place, "ratio", ending=" ×"))
    if _MEMORY in found["details"]:
        small += [" · " if small else "", value(facts, *place, "details", _MEMORY), " MiB"]
    return tag("span", value(facts, *place, "value"), tag("small", *small, class_="ratio"))


def _grown(facts: Facts, number: int, name: str) -> Markup | str:
    found = facts["growth"][number]["grows"].get(name)
    if found is None:
        return "–"
    place: Place = ("growth", number, "grows", name)
    spread: list[object] = ["one round"]
    if found["rounds"] > 1:
        spread = [value(facts, *place, "low"), " to ", value(facts, *place, "high")]
    return tag("span", value(facts, *place, "ratio", ending=" ×"), tag("small", *spread, class_="ratio"))
