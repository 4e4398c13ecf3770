"""``bench profile``: where `edge` spends its time under one kind of load, as flame graphs.

`edge` runs as it does in the bench, one worker on one core, while the load of a scenario runs on the other. py-spy samples
its worker from outside, with the stacks of native code where that can be done, and draws the functions of Python. perf, where
there is one, then looks at the same load from below (`bench.native`): a second picture of native code, with a table of
what share is whose. Whichever of the two cannot be had is named.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from . import flame, native
from .certificates import issue_set
from .load import missing
from .machine import Cores
from .measure import SUBJECT, Targets
from .origin import Origin
from .peers import find
from .samples import Site
from .scenarios import SCENARIOS

__all__ = ["main"]

T = TypeVar("T")

_BULK = 256 << 20
_LIBRARIES, _FUNCTIONS = 6, 15  # that the table shows
_ENOUGH = 1000  # samples, for shares to a few percent


def _sampler() -> str | None:
    """Where py-spy is; None when it is nowhere. Raises ValueError when there is no perf either."""
    beside = Path(sys.executable).parent / "py-spy"
    if beside.exists():
        return str(beside)
    if not missing("py-spy"):
        return "py-spy"
    if missing("perf"):
        raise ValueError("bench profile needs py-spy (pip install py-spy) or perf")
    return None


def _busiest(before: dict[int, float], after: dict[int, float]) -> int:
    """The worker: the process of `edge` that the load made work most."""
    return max(after, key=lambda pid: after[pid] - before.get(pid, 0.0))


def main(words: list[str], console: Console) -> int:
    """``bench profile`` with `words` behind it. Raises ValueError for wrong usage, RuntimeError when sampling fails."""
    parser = argparse.ArgumentParser(
        prog="bench profile",
        description="Draw flame graphs of edge under the load of one scenario, of Python and of native code.",
    )
    parser.add_argument("--scenario", default="tls1.3-full", help="whose load (tls1.3-full)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (10)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the picture of Python (default: bench-results/SCENARIO.svg)",
    )
    arguments = parser.parse_args(words)
    scenario = SCENARIOS.get(arguments.scenario)
    if scenario is None or not 1 <= arguments.seconds <= 600:
        raise ValueError("--scenario is one of those of `bench --help`, and --seconds is between 1 and 600")
    if scenario.fresh:
        raise ValueError(f"{scenario.name} starts edge afresh for each sample, which nothing can be attached to in time")
    if "nginx" not in find() or missing("taskset"):
        raise ValueError("the bench needs nginx (it is the upstream of every target) and taskset")
    sampler, cores = _sampler(), Cores()
    output = arguments.output or Path("bench-results") / f"{scenario.name}.svg"
    output.parent.mkdir(parents=True, exist_ok=True)
    drawn, event = False, ""
    problems: list[str] = []
    stacks: native.Stacks = {}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, console.status(f"{scenario.name}, {arguments.seconds:g} s"):
        folder = Path(name)
        folder.chmod(0o755)
        certificates = issue_set(folder)
        (folder / "origin").mkdir()
        large = folder / "bulk"
        with large.open("wb") as file:
            file.truncate(_BULK)
        site = Site(cores.load, large, _BULK, 1000, client=certificates.client)
        with (
            Origin(find()["nginx"], cores.load, folder / "origin") as origin,
            Targets({SUBJECT: sys.executable}, certificates, origin, cores.server, folder) as targets,
        ):
            target = targets.running[SUBJECT]
            child = target.variant(scenario.variant).child
            before = child.cpu_by_process()
            scenario.take(target, site, 1.0)
            worker = _busiest(before, child.cpu_by_process())

            def under_load(look: Callable[[], T]) -> T:
                load = threading.Thread(target=scenario.take, args=(target, site, arguments.seconds + 1))
                load.start()
                try:
                    return look()
                finally:
                    load.join()

            if sampler is None:
                problems.append("no picture of Python's functions: pip install py-spy")
            else:
                try:
                    under_load(lambda: _record(sampler, worker, arguments.seconds, output))
                    drawn = True
                except RuntimeError as error:
                    problems.append(f"no picture of Python's functions: {error}")
            try:
                stacks, event = under_load(lambda: native.record(worker, arguments.seconds, folder))
            except native.Unseen as error:
                problems.append(f"no picture of native code: {error}")
    if drawn:
        console.print(f"The flame graph of {scenario.name}: {output}", highlight=False, soft_wrap=True)
    if stacks:
        _show(scenario.name, stacks, event, output, console)
    for problem in problems:
        console.print(f"! {problem}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    if not drawn and not stacks:
        raise RuntimeError("nothing could be seen of the worker")
    return 0


def _show(name: str, stacks: native.Stacks, event: str, output: Path, console: Console) -> None:
    """Draw the native picture beside `output`, write its stacks, and say what share is whose."""
    picture = output.with_name(f"{output.stem}-native.svg")
    picture.write_text(flame.draw(f"edge, {name}: native code, {event} of one worker", stacks), encoding="utf-8")
    picture.with_suffix(".folded").write_text(native.folded(stacks), encoding="utf-8")
    samples = sum(stacks.values())
    without = "" if not event.endswith(":u") else ", without the kernel, which may not be looked into here"
    console.print(f"Native code ({samples:,} samples{without}): {picture}", highlight=False, soft_wrap=True)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("share", "library", "function"):
        shown.add_column(head, justify="right" if head == "share" else "left", overflow="ellipsis", no_wrap=True, min_width=5)
    for library, share in native.by_library(stacks)[:_LIBRARIES]:
        shown.add_row(f"{share:.1%}", library, "all of it", style="bold")
    for frame, share in native.by_symbol(stacks)[:_FUNCTIONS]:
        shown.add_row(f"{share:.1%}", frame.library, frame.symbol)
    console.print(shown)
    if samples < _ENOUGH:
        console.print(f"{samples:,} samples are few: shares are known to {100 / samples**0.5:.0f} points or so.", highlight=False)


def _record(sampler: str, pid: int, seconds: float, output: Path) -> None:
    """py-spy's picture. Raises RuntimeError."""
    command = [sampler, "record", "--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", "250", "--function"]
    command += ["--format", "flamegraph", "--output", str(output)]
    done = subprocess.run([*command, "--native"], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:  # not every machine has what --native needs
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"py-spy: {done.stderr.strip()[:300]}")
