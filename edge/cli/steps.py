"""The question that `edge explain` asks and the answer that it gets: steps in the order in which they decide, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.settings.model import Place

__all__ = ["Question", "Step", "Trace"]

_NOWHERE = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as it was asked about. `sni` None: the URL's host, if it is a name; `certificate`: PEM.

    A port that is not written but only the scheme's may stand for another one: there are port mappings.
    """

    secure: bool
    authority: str
    port: int
    port_is_written: bool = True
    target: bytes
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    sni: str | None = None
    certificate: bytes | None = None
    source: str = "192.0.2.1"


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: what it is about, what came out, where it was written, and more lines about it."""

    about: str
    outcome: str
    place: Place = _NOWHERE
    more: tuple[str, ...] = ()


@dataclass(slots=True)
class Trace:
    """The steps, and what the client gets in the end. `status` 0: no HTTP answer at all, or the upstream's own."""

    steps: list[Step] = field(default_factory=list)
    action: str = ""  # "relay", "redirect", "respond", "wait", "refuse" or "alert"
    status: int = 0
    reason: str = ""  # the Fault's kind, when refused
    location: str = ""

    def add(self, about: str, outcome: str, place: Place = _NOWHERE, more: Sequence[str] = ()) -> None:
        self.steps.append(Step(about, outcome, place, tuple(more)))

    def end(self, action: str, status: int = 0, reason: str = "", location: str = "") -> None:
        self.action, self.status, self.reason, self.location = action, status, reason, location
