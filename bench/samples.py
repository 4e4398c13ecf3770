"""What a scenario is given, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .certificates import Leaf
from .processes import Child

__all__ = ["Sample", "Site", "Target"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: `value` in the scenario's unit, the operations behind it, and how busy the target's core was."""

    value: float
    count: float
    seconds: float
    busy: float  # share of the server core that the target used
    load_busy: float  # share of the load core that the load generator used
    errors: int
    details: dict[str, float] = field(default_factory=dict)  # more figures, by what they are


@dataclass(frozen=True, slots=True)
class Site:
    """What all samples of a run share."""

    core: int  # of the load
    large: Path  # a file of the bulk size
    bulk: int  # bytes
    idle: int  # connections
    renewals: Sequence[Leaf] = ()  # certificates for `localhost`
    many: Sequence[Leaf] = ()  # certificates for ``h0.bench.example`` and so on


class Target(Protocol):
    """A target as the scenarios see it. `start` gives a fresh process of it, not yet listening."""

    port: int
    child: Child

    def start(self, *, leaf: Leaf | None = None, workers: int = 1, hosts: Sequence[Leaf] = ()) -> tuple[Child, int]: ...
