"""Instructions and cycles for each operation, counted by the processor (``perf stat``): a busy machine hardly touches these.

Counting is not free: the kernel saves and loads the counters whenever the server's process leaves or enters a core, and in a
virtual machine that costs more than a small handshake may. So it is never done while CPU time is measured, but in passes of its
own after the rounds. A pass takes a short and a long load, and what is told is the difference of the two for each further
operation: the client's start, the sessions that it fetches and connections that stay cost both of them the same.

Instructions say how much a server does, cycles how long the processor was at it, waits for memory among it. Two servers with
equal instructions can differ in cycles, and cycles depend on what else fills the caches; instructions hardly do.

Where `perf` is missing or the machine allows no counting, nothing is told, and why is said. Where the kernel's share may not
be counted, only the program's own is.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from .measure import BASE, Targets, takes_part
from .processes import Child, environment
from .samples import Sample, Scenario, Site

__all__ = ["Counting", "Uncountable", "count", "events"]

_EVENTS = ("instructions:u", "cycles:u", "instructions:k", "cycles:k")
_SHORT, _LONG = 0.2, 1.0  # seconds; wrk and h2load make them 1 and 2 in `_lengths`
_PASSES = 2
_PATIENCE = 10.0  # seconds for perf to do as it is told


class Uncountable(Exception):
    """Nothing can be counted here; the text says why."""


def _perf() -> str:
    if (found := shutil.which("perf")) is None:
        raise Uncountable("perf is not installed")
    return found


def events() -> tuple[str, ...]:
    """What can be counted on this machine: the program's part, and the kernel's where that is allowed. Raises Uncountable."""
    perf, said = _perf(), ""
    for wanted in (_EVENTS, _EVENTS[:2]):
        command = [perf, "stat", "-x", ";", "-e", ",".join(wanted), "--", "true"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=environment() | {"LC_ALL": "C"}
        )
        if done.returncode == 0 and set(_read(done.stderr)) == set(wanted):
            return wanted
        said = said or " ".join(done.stderr.split())[:120]
    raise Uncountable(f"this machine counts no instructions ({said or 'perf says nothing'})")


def _read(text: str) -> dict[str, float]:
    """perf's lines ``count;unit;event;…``; what it could not count is left out."""
    found = {}
    for line in text.splitlines():
        fields = line.split(";")
        if len(fields) > 2 and fields[0].replace(".", "", 1).isdigit():
            found[fields[2]] = float(fields[0])
    return found


class Counting:
    """Counts while the block runs, in all processes of `child` and in what they start; `seen` has the counts afterwards.

    Raises Uncountable when perf does not take part.
    """

    def __init__(self, child: Child, wanted: Sequence[str], folder: Path) -> None:
        self.seen: dict[str, float] = {}
        self._output = folder / "counted"
        self._output.unlink(missing_ok=True)
        self._orders, theirs = os.pipe2(0)[::-1]
        answers, self._answers = os.pipe2(0)[::-1]
        pids = ",".join(map(str, child.pids()))
        command = [_perf(), "stat", "-x", ";", "-o", str(self._output), "-e", ",".join(wanted), "-p", pids]
        command += ["-D", "-1", "--control", f"fd:{theirs},{answers}"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs, answers),
                env=environment() | {"LC_ALL": "C"},
            )
        finally:
            os.close(theirs)
            os.close(answers)

    def __enter__(self) -> Counting:
        try:
            self._tell("enable")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._tell("disable")
                self._process.send_signal(signal.SIGINT)
                self._process.communicate(timeout=_PATIENCE)
                self.seen = _read(self._output.read_text())
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise Uncountable(f"perf: {problem}") from problem
        finally:
            self._end()

    def _tell(self, order: str) -> None:
        """perf says ``ack`` when it has done so, and closes its end when it is gone."""
        answer = b""
        with contextlib.suppress(OSError):
            os.write(self._orders, f"{order}\n".encode())
            if select.select([self._answers], [], [], _PATIENCE)[0]:
                answer = os.read(self._answers, 16)
        if not answer.startswith(b"ack"):
            self._process.kill()
            said = self._process.communicate()[1].decode(errors="replace")
            raise Uncountable(f"perf does not count: {' '.join(said.split())[:200]}")

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        os.close(self._orders)
        os.close(self._answers)


def _lengths(scenario: Scenario) -> tuple[float, float]:
    return (_SHORT, _LONG) if scenario.loop else (1.0, 2.0)


def _counted(scenario: Scenario) -> bool:
    """Whether its load falls on the running target, in a closed loop: the others start a fresh process or follow the clock."""
    return not scenario.fresh and (scenario.loop == "closed" or (scenario.relayed and scenario.unit in ("µs", "s/GB")))


def further(short: tuple[Sample, dict[str, float]], long: tuple[Sample, dict[str, float]]) -> dict[str, float]:
    """Counts for each operation that the long load has more than the short one; of the long one alone when it has no more."""
    (less, before), (more, after) = short, long
    operations = more.count - less.count
    if operations < more.count / 10:
        return {name: value / more.count for name, value in after.items()}
    return {name: (value - before[name]) / operations for name, value in after.items()}


def count(
    scenarios: Sequence[Scenario], targets: Targets, site: Site, folder: Path, *, end: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Instructions and cycles of every target in every scenario that can be counted, as a report has them.

    ``scenarios`` in the answer has for each scenario and target the counts of each pass; ``problems`` what went wrong, in
    words; ``events`` what was counted. Stops at monotonic time `end`. Raises Uncountable.
    """
    wanted = events()
    folder.mkdir()
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    problems: list[str] = []
    given_up: set[tuple[str, str]] = set()
    for number in range(_PASSES):
        for scenario in filter(_counted, scenarios):
            for name, target in targets.running.items():
                if not takes_part(name, scenario) or (scenario.name, name) in given_up:
                    continue
                if time.monotonic() > end:
                    problems.append(f"the time was up in pass {number + 1} of counting, before {scenario.name} with {name}")
                    return {"events": list(wanted), "scenarios": found, "problems": problems}
                progress(f"counting instructions, pass {number + 1} of {_PASSES}: {scenario.name}, {name}")
                pair: list[tuple[Sample, dict[str, float]]] = []
                try:
                    child = target.variant(scenario.variant).child
                    for seconds in _lengths(scenario):
                        with Counting(child, wanted, folder) as counting:
                            sample = scenario.take(target, site, seconds)
                        if sample.errors or set(counting.seen) != set(wanted):
                            raise RuntimeError(f"{sample.errors} errors, {len(counting.seen)} of {len(wanted)} counters")
                        pair.append((sample, counting.seen))
                except (RuntimeError, OSError, Uncountable) as error:
                    problems.append(f"{scenario.name}: {name} was not counted in pass {number + 1}: {error}")
                    given_up.add((scenario.name, name))
                    continue
                found.setdefault(scenario.name, {}).setdefault(name, []).append(further(*pair))
    return {"events": list(wanted), "scenarios": found, "problems": problems}


def summary(passes: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, Any]:
    """Of one target: medians for each operation with the range of its instructions, and the ratios to the base (0: none)."""

    def total(what: str, one: dict[str, float]) -> float:
        return sum(value for name, value in one.items() if name.startswith(what))

    instructions = sorted(total("instructions", one) for one in passes)
    cycles = sorted(total("cycles", one) for one in passes)
    middle = {"instructions": median(instructions), "cycles": median(cycles)}
    of = {
        f"{what}_ratio": median(total(what, one) for one in passes) / other
        if base and (other := median(total(what, one) for one in base))
        else 0.0
        for what in middle
    }
    return (
        middle
        | of
        | {
            "low": instructions[0],
            "high": instructions[-1],
            "kernel": median(one.get("instructions:k", 0.0) for one in passes),
            "passes": len(passes),
        }
    )


def summaries(counted: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`summary` for each scenario and target of what `count` gave."""
    return {
        scenario: {name: summary(passes, [] if name == BASE else of.get(BASE, [])) for name, passes in of.items()}
        for scenario, of in counted["scenarios"].items()
    }
