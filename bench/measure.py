"""A run: every target started once, then rounds in which they take turns, scenario by scenario.

The order within a round rotates, so that none is always first. A ratio compares two samples of one round; what is
reported is the median over the rounds and the range. A sample with errors counts for nothing and is said aloud.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .certificates import Leaf
from .first import first_handshake, get
from .origin import Origin
from .peers import PEERS, Job
from .processes import Child, free_ports
from .samples import Sample, Site
from .scenarios import Scenario

__all__ = ["BASE", "Result", "Summary", "Targets", "measure"]

BASE = "nginx"
"""Ratios are to this target, when it takes part."""


class _Running:
    """One target that runs for the whole measurement, and can be started afresh beside it."""

    def __init__(self, name: str, program: str, leaf: Leaf, origin: Origin, core: int, folder: Path) -> None:
        self.name = name
        self._program = program
        self._leaf = leaf
        self._origin = origin
        self._core = core
        self._folder = folder
        self._starts = 0
        self.configuration = ""
        self.child, self.port = self.start()

    def start(self, *, leaf: Leaf | None = None, workers: int = 1, hosts: Sequence[Leaf] = ()) -> tuple[Child, int]:
        self._starts += 1
        folder = self._folder / f"{self.name}-{self._starts}"
        folder.mkdir()
        (port,) = free_ports(1)
        job = Job(folder, leaf or self._leaf, port, self._origin.port, self._origin.sink, workers, hosts)
        command, text = PEERS[self.name].configure(self._program, job)
        self.configuration = self.configuration or text
        return Child(self.name, command, self._core, folder), port

    def check(self) -> None:
        """Raises RuntimeError unless it relays a request as it should."""
        self.child.wait_port(self.port)
        first_handshake(self.port)
        answer = get(self.port, "/small")
        if not answer.startswith(b"HTTP/1.1 200") or b"x" * 100 not in answer:
            raise RuntimeError(f"{self.name} does not relay: {answer[:200]!r} {self.child.errors}")


class Targets:
    """All targets of a run, as a context manager: they have ended when the block is left."""

    def __init__(self, programs: dict[str, str], leaf: Leaf, origin: Origin, core: int, folder: Path) -> None:
        self.running: dict[str, _Running] = {}
        self._stack = contextlib.ExitStack()
        try:
            for name, program in programs.items():
                running = _Running(name, program, leaf, origin, core, folder)
                self._stack.enter_context(running.child)
                running.check()
                self.running[name] = running
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Targets:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def configurations(self) -> dict[str, str]:
        return {name: running.configuration for name, running in self.running.items()}


@dataclass(frozen=True, slots=True)
class Summary:
    """One target in one scenario: medians and ranges over the rounds; `ratio` is to `BASE`, 0 where there is none."""

    value: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    busy: float
    load_busy: float
    details: dict[str, float]


@dataclass(slots=True)
class Result:
    """All samples of one scenario, by round and target. `problems` says what went wrong, in words."""

    scenario: Scenario
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self, target: str) -> Summary | None:
        """None when `target` has no valid sample."""
        samples = [each[target] for each in self.rounds if target in each]
        if not samples:
            return None
        values = sorted(sample.value * self.scenario.scale for sample in samples)
        pairs = [each for each in self.rounds if target in each and BASE in each and each[BASE].value > 0]
        ratios = sorted(each[target].value / each[BASE].value for each in pairs) or [0.0]
        return Summary(
            median(values),
            values[0],
            values[-1],
            median(ratios),
            ratios[0],
            ratios[-1],
            len(samples),
            median(sample.busy for sample in samples),
            median(sample.load_busy for sample in samples),
            {name: median(sample.details[name] for sample in samples) for name in samples[0].details},
        )


def _turns(names: list[str], rounds: int) -> Iterator[list[str]]:
    for number in range(rounds if names else 0):
        shift = number % len(names)
        yield names[shift:] + names[:shift]


def measure(
    scenario: Scenario, targets: Targets, site: Site, *, rounds: int, seconds: float, end: float, progress: Callable[[str], None]
) -> Result:
    """Take `rounds` of samples of `seconds` each; stops early at monotonic time `end`, between rounds, and says so."""
    result = Result(scenario)
    names = [name for name in targets.running if name in (scenario.only or targets.running)]
    for number, order in enumerate(_turns(names, rounds), 1):
        if time.monotonic() > end:
            result.problems.append(f"{scenario.name}: the time was up after {number - 1} of {rounds} rounds")
            break
        samples: dict[str, Sample] = {}
        for name in order:
            progress(f"{scenario.name}: round {number} of {rounds}, {name}")
            try:
                sample = scenario.take(targets.running[name], site, seconds)
            except (RuntimeError, OSError) as error:
                result.problems.append(f"{scenario.name}: {name} failed in round {number}: {error}")
                continue
            if sample.errors:
                result.problems.append(
                    f"{scenario.name}: {name} had {sample.errors} errors in round {number}; the sample is not counted"
                )
            else:
                samples[name] = sample
        result.rounds.append(samples)
    return result
