"""A run: every target started once, then rounds in which they take turns in every scenario.

The order within a round rotates, so that none is always first. A ratio compares two samples of one round; what is
reported is the median over the rounds and the range. A sample with errors counts for nothing and is said aloud. One that is
in doubt, because the load side was late itself, counts only for a target that has no better one in this scenario; that is
said aloud too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from .certificates import Leaf, Set
from .conclusions import LATE
from .first import first_handshake, get
from .floor import Floor, part
from .latency import Latency, curve
from .origin import Origin
from .peers import PEERS, Job
from .processes import Child, free_ports
from .samples import Sample, Scenario, Site
from .stapling import Stapling, wait_staple
from .ticket_keys import place

__all__ = ["BASE", "SUBJECT", "Result", "Summary", "Targets", "measure", "takes_part"]

BASE = "nginx"
"""Ratios are to this target, when it takes part."""

SUBJECT = "edge"
"""What all this is about."""


class _Running:
    """One target that runs for the whole measurement, and can be started afresh beside it."""

    def __init__(
        self, name: str, program: str, certificates: Set, stapling: Stapling, origin: Origin, core: int, folder: Path
    ) -> None:
        self.name = name
        self.certificates = certificates
        self.stapled = stapling.given
        self._program = program
        self._variants: dict[str, _Variant | Exception] = {}
        self._origin = origin
        self._core = core
        self._folder = folder
        self._starts = 0
        self.configuration = ""
        self.others: dict[str, str] = {}  # configurations that `remember` names
        self.child, self.port = self.start()

    def start(
        self,
        *,
        leaf: Leaf | None = None,
        workers: int = 1,
        hosts: Sequence[Leaf] = (),
        second: Leaf | None = None,
        client_ca: Path | None = None,
        staple: Path | None = None,
        routes: int = 0,
        connections: int = 0,
        remember: str = "",
        early: bool = False,
        ticket_keys: bool = False,
    ) -> tuple[Child, int]:
        self._starts += 1
        folder = self._folder / f"{self.name}-{self._starts}"
        folder.mkdir()
        (port,) = free_ports(1)
        job = Job(folder, leaf or self.certificates.leaf, port, self._origin.port, self._origin.sink, workers, hosts)
        job = replace(job, second=second, client_ca=client_ca, staple=staple, early=early)
        job = replace(job, routes=routes, connections=connections or job.connections, ticket_keys=ticket_keys)
        if ticket_keys:
            place(self.name, folder)
        command, text = PEERS[self.name].configure(self._program, job)
        self.configuration = self.configuration or text
        if remember:
            self.others[remember] = text
        return Child(self.name, command, self._core, folder), port

    def variant(self, name: str) -> _Running | _Variant:
        """See `bench.samples.Target`. It is started when it is first asked for, and runs to the end of the measurement."""
        if not name:
            return self
        if name not in self._variants:
            try:
                self._variants[name] = _Variant(self, name)
            except (RuntimeError, OSError) as error:
                self._variants[name] = error
        found = self._variants[name]
        if isinstance(found, Exception):
            raise RuntimeError(str(found))
        return found

    def end_variants(self) -> None:
        for found in self._variants.values():
            if isinstance(found, _Variant):
                found.child.end()

    def check(self) -> None:
        """Raises RuntimeError unless it relays a request as it should."""
        self.child.wait_port(self.port)
        first_handshake(self.port)
        answer = get(self.port, "/small")
        if not answer.startswith(b"HTTP/1.1 200") or b"x" * 100 not in answer:
            raise RuntimeError(f"{self.name} does not relay: {answer[:200]!r} {self.child.errors}")


class _Variant:
    """A target with another certificate policy, beside the one that it is of."""

    def __init__(self, of: _Running, name: str) -> None:
        """Raises RuntimeError when it does not come up."""
        given = of.certificates
        if name == "rsa":
            self.child, self.port = of.start(leaf=given.rsa)
        elif name == "both":
            self.child, self.port = of.start(second=given.rsa)
        elif name == "early":
            if not PEERS[of.name].early:
                raise RuntimeError(f"{of.name} takes no early data over TCP")
            self.child, self.port = of.start(early=True, remember="early data")
        elif name == "staple":
            self.child, self.port = of.start(leaf=of.stapled.leaf, staple=of.stapled.response, remember="staple")
        else:
            self.child, self.port = of.start(client_ca=given.ca)
        self.start, self.variant = of.start, of.variant
        try:
            self.child.wait_port(self.port)
            if name == "staple":
                wait_staple(self.port)
        except BaseException:
            self.child.end()
            raise


class Targets:
    """All targets of a run, as a context manager: they have ended when the block is left.

    A peer that does not come up is left out, with a sentence in `failed`; without `SUBJECT` there is no run.
    """

    def __init__(self, programs: dict[str, str], certificates: Set, origin: Origin, core: int, folder: Path) -> None:
        self.running: dict[str, _Running] = {}
        self.failed: list[str] = []
        self._stack = contextlib.ExitStack()
        try:
            stapling = self._stack.enter_context(Stapling(folder / "stapling"))
            for name, program in programs.items():
                running = _Running(name, program, certificates, stapling, origin, core, folder)
                self._stack.enter_context(running.child)
                self._stack.callback(running.end_variants)
                try:
                    running.check()
                except (RuntimeError, OSError) as error:
                    if name == SUBJECT:
                        raise
                    self.failed.append(f"{name} is left out: {error}")
                else:
                    self.running[name] = running
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Targets:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def configurations(self) -> dict[str, str]:
        """Of each target, and of what it was told besides for some scenarios."""
        others = {f"{name}, {what}": text for name, running in self.running.items() for what, text in running.others.items()}
        return {name: running.configuration for name, running in self.running.items()} | others


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
    rate: float  # operations a second
    doubtful: int  # of the `rounds`, those in doubt: all or none
    aside: int  # samples in doubt that did not count


@dataclass(slots=True)
class Result:
    """All samples of one scenario, by round and target. `problems` says what went wrong, in words.

    `floors` has the floor of each round, in microseconds, where there is one.
    """

    scenario: Scenario
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    floors: list[dict[str, float] | None] = field(default_factory=list)

    def counting(self, target: str) -> dict[int, Sample]:
        """The samples of `target` that count, by round: those that are not in doubt, or all when all of them are."""
        all_ = {number: each[target] for number, each in enumerate(self.rounds) if target in each}
        return {number: sample for number, sample in all_.items() if not sample.doubt} or all_

    def doubts(self, target: str) -> str:
        """Which samples of `target` are in doubt and why, in words; "" when none is."""
        found = {number: each[target].doubt for number, each in enumerate(self.rounds) if target in each and each[target].doubt}
        if not found:
            return ""
        rounds = ", ".join(str(number + 1) for number in found)
        fate = "they count, because there is none better" if self.counting(target).keys() == found.keys() else "not counted"
        first = next(iter(found.values()))
        return f"{self.scenario.name}: in doubt with {target} in round{'s' if len(found) > 1 else ''} {rounds} ({first}); {fate}"

    def parts(self, target: str) -> dict[str, Any] | None:
        """How `target`'s cost divides into crypto, the kernel's part and its own (`bench.floor.part`)."""
        floors = dict(enumerate(self.floors))
        samples = self.counting(target).items()
        pairs = [(sample.value * 1e6, floor) for number, sample in samples if (floor := floors.get(number)) and sample.value > 0]
        return part(pairs) if pairs else None

    def summary(self, target: str) -> Summary | None:
        """None when `target` has no valid sample."""
        counting, base = self.counting(target), self.counting(BASE)
        samples = list(counting.values())
        if not samples:
            return None
        values = sorted(sample.value * self.scenario.scale for sample in samples)
        pairs = [(sample.value, base[number].value) for number, sample in counting.items() if number in base]
        ratios = sorted(value / other for value, other in pairs if other > 0) or [0.0]
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
            median(sample.count / sample.seconds if sample.seconds else 0.0 for sample in samples),
            sum(bool(sample.doubt) for sample in samples),
            sum(target in each for each in self.rounds) - len(samples),
        )

    def latency(self, target: str) -> dict[str, Any] | None:
        """Of an open loop: the durations of all rounds that count together, as milliseconds and points of a plot; and how
        late the client was itself, the worst of these rounds."""
        samples = self.counting(target).values()
        durations = sorted(each for sample in samples for each in sample.durations)
        found = Latency.of(durations)
        if found is None:
            return None
        facts: dict[str, Any] = {"late": max(sample.details.get(LATE, 0.0) for sample in samples), "rounds": len(samples)}
        return found.milliseconds() | facts | {"curve": [[share, round(value * 1e3, 3)] for share, value in curve(durations)]}


def takes_part(name: str, scenario: Scenario) -> bool:
    """Whether `scenario` can be done with the target `name`."""
    if scenario.only:
        return name in scenario.only
    return not scenario.relayed or name not in PEERS or PEERS[name].relays


def measure(
    scenarios: Sequence[Scenario],
    targets: Targets,
    site: Site,
    *,
    rounds: int,
    seconds: float,
    end: float,
    progress: Callable[[str], None],
    floor: Floor | None = None,
) -> list[Result]:
    """Take `rounds` of samples of `seconds` each, each round with every scenario; stops at monotonic time `end` and says so.

    With a `floor` it is measured before each closed loop of handshakes.

    A target that fails in the first round of a scenario is left out of it from then on.
    """
    results = [Result(scenario) for scenario in scenarios]
    given_up: set[tuple[str, str]] = set()
    for number in range(rounds):
        for done, result in enumerate(results):
            scenario = result.scenario
            if time.monotonic() > end:
                result.problems.append(f"{scenario.name}: the time was up after {number} of {rounds} rounds")
                continue
            names = [name for name in targets.running if takes_part(name, scenario)]
            shift = number % len(names) if names else 0
            samples: dict[str, Sample] = {}
            result.floors.append(_floor(floor, result, number, progress))
            for name in names[shift:] + names[:shift]:
                if (scenario.name, name) in given_up:
                    continue
                left = max(0.0, end - time.monotonic())
                progress(
                    f"round {number + 1} of {rounds}, {done + 1} of {len(results)}: {scenario.name}, {name} "
                    f"(at most {left // 60:.0f}:{left % 60:02.0f} left)"
                )
                try:
                    sample = scenario.take(targets.running[name], site, seconds)
                except (RuntimeError, OSError) as error:
                    result.problems.append(f"{scenario.name}: {name} failed in round {number + 1}: {error}")
                    if number == 0:
                        given_up.add((scenario.name, name))
                    continue
                if sample.errors:
                    result.problems.append(
                        f"{scenario.name}: {name} had {sample.errors} errors in round {number + 1}; the sample is not counted"
                    )
                else:
                    samples[name] = sample
            result.rounds.append(samples)
    for result in results:
        result.problems += [words for name in targets.running if (words := result.doubts(name))]
    return results


def _floor(floor: Floor | None, result: Result, number: int, progress: Callable[[str], None]) -> dict[str, float] | None:
    """The floor of a closed loop of handshakes, now. A failure is a problem of the result."""
    scenario = result.scenario
    if floor is None or scenario.offer is None or scenario.loop != "closed":
        return None
    progress(f"round {number + 1}: the floor of {scenario.name}")
    try:
        return floor.sample(scenario.offer, scenario.variant)
    except (RuntimeError, OSError) as error:
        result.problems.append(f"{scenario.name}: the floor failed in round {number + 1}: {error}")
        return None
