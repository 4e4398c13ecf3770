"""``bench profile``: where `edge` spends its time under one kind of load, as a flame graph.

`edge` runs as it does in the bench, one worker on one core, while the load of a scenario runs on the other. py-spy samples
its worker from outside, with the stacks of native code where that can be done, and draws the picture. What runs in OpenSSL
is below the functions of the binding; the kernel's share is in the calls that enter it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from rich.console import Console

from .certificates import issue_set
from .load import missing
from .machine import Cores
from .measure import SUBJECT, Targets
from .origin import Origin
from .peers import find
from .samples import Site
from .scenarios import SCENARIOS

__all__ = ["main"]

_BULK = 256 << 20


def _sampler() -> str:
    """Where py-spy is. Raises ValueError when it is nowhere."""
    beside = Path(sys.executable).parent / "py-spy"
    if beside.exists():
        return str(beside)
    if missing("py-spy"):
        raise ValueError("bench profile needs py-spy: pip install py-spy")
    return "py-spy"


def _busiest(before: dict[int, float], after: dict[int, float]) -> int:
    """The worker: the process of `edge` that the load made work most."""
    return max(after, key=lambda pid: after[pid] - before.get(pid, 0.0))


def main(words: list[str], console: Console) -> int:
    """``bench profile`` with `words` behind it. Raises ValueError for wrong usage, RuntimeError when sampling fails."""
    parser = argparse.ArgumentParser(
        prog="bench profile", description="Draw a flame graph of edge under the load of one scenario."
    )
    parser.add_argument("--scenario", default="tls1.3-full", help="whose load (tls1.3-full)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the picture (default: bench-results/SCENARIO.svg)")
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
            load = threading.Thread(target=scenario.take, args=(target, site, arguments.seconds + 1))
            load.start()
            try:
                _record(sampler, worker, arguments.seconds, output)
            finally:
                load.join()
    console.print(f"The flame graph of {scenario.name}: {output}", highlight=False, soft_wrap=True)
    return 0


def _record(sampler: str, pid: int, seconds: float, output: Path) -> None:
    command = [sampler, "record", "--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", "250", "--function"]
    command += ["--format", "flamegraph", "--output", str(output)]
    done = subprocess.run([*command, "--native"], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:  # not every machine has what --native needs
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"py-spy: {done.stderr.strip()[:300]}")
