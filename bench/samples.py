"""What a scenario is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .certificates import Leaf
from .offer import Offer
from .processes import Child

__all__ = ["Sample", "Scenario", "Site", "Target"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: `value` in the scenario's unit, the operations behind it, and how busy the target's core was."""

    value: float
    count: float
    seconds: float
    busy: float  # share of the server core that the target used
    load_busy: float  # share of the load core that the load generator used, where requests are relayed with the upstream
    errors: int
    details: dict[str, float] = field(default_factory=dict)  # more figures, by what they are
    durations: tuple[float, ...] = ()  # seconds of each operation of an open loop
    doubt: str = ""  # why it counts only where its target has none better, in words


@dataclass(frozen=True, slots=True)
class Site:
    """What all samples of a run share."""

    core: int  # of the load
    large: Path  # a file of the bulk size
    bulk: int  # bytes
    idle: int  # connections
    renewals: Sequence[Leaf] = ()  # certificates for `localhost`
    client: Leaf | None = None  # a certificate for mutual TLS
    many: Sequence[Leaf] = ()  # certificates for ``h0.bench.example`` and so on
    upstream: Callable[[], float] = float  # CPU seconds that the upstreams have used so far


class Target(Protocol):
    """A target as the scenarios see it. `start` gives a fresh process of it, not yet listening."""

    port: int
    child: Child

    def start(
        self,
        *,
        leaf: Leaf | None = None,
        workers: int = 1,
        hosts: Sequence[Leaf] = (),
        routes: int = 0,
        connections: int = 0,
        remember: str = "",
        ticket_keys: bool = False,
    ) -> tuple[Child, int]:
        """`routes` and so on: see `bench.peers.Job`. With `remember` the report shows the configuration under that name."""
        ...

    def variant(self, name: str) -> Target:
        """The same program in another way: "rsa", "both", "mutual", "staple", "early", or "" for itself. Raises RuntimeError."""
        ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something to measure. `take` gives one sample of one target; lower is better in every scenario."""

    name: str
    what: str  # completes "edge spends … × nginx's … "
    unit: str
    scale: float  # from the sample's natural unit to `unit`
    take: Callable[[Target, Site, float], Sample]
    needs: tuple[str, ...] = ()
    only: tuple[str, ...] = ()  # the targets that it can be done with; empty: all
    core: bool = True  # whether it is in the core set
    loop: str = ""  # of handshakes: "closed" or "open"
    offer: Offer | None = None
    variant: str = ""
    axis: str = ""  # what grows from one scenario to the next: a key of `bench.axes.AXES`
    x: float = 0  # where on the axis this one is
    fresh: bool = False  # whether it starts the target afresh, and the running one does nothing
    relayed: bool = False  # whether requests are relayed, which a target that only ends TLS cannot do
