"""Processes that the bench starts: pinned to a core, accounted with all their descendants, and certain to end.

CPU time is the scheduler's own count in nanoseconds (the CPU clock of each process), summed over every process below the one
that was started. It includes threads that have ended, and what the kernel does on their behalf.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Child", "environment", "family", "free_ports", "own_memory", "run_pinned"]


_CPUCLOCK_SCHED = 2  # with the complement of a process's number: its clock, see clock_getcpuclockid(3)


def environment() -> dict[str, str]:
    """The environment for children: ours, with Python children finding the same packages from any directory."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # compiled as when installed
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "GOMAXPROCS": "1"}


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def family(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                found += map(int, Path(f"/proc/{each}/task/{task}/children").read_text().split())
    return found


def own_memory(pids: Sequence[int]) -> int:
    """Bytes of memory that belong to these processes alone; what they share with each other counts once.

    Pages of files are left out: their share falls and rises as strangers map the same libraries. What the kernel holds for
    their sockets is not known here.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
    return total


def run_pinned(command: Sequence[str], core: int | None, seconds: float) -> tuple[str, float]:
    """Run a load generator to its end on `core` (None: on any): its standard output and the CPU seconds that it used.

    Raises RuntimeError when it fails or takes longer than `seconds`.
    """
    before = os.times()
    try:
        done = subprocess.run(
            command if core is None else ["taskset", "-c", str(core), *command],
            capture_output=True,
            timeout=seconds,
            check=False,
            env=environment(),
            text=True,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{command[0]} took longer than {seconds:.0f} s") from error
    after = os.times()
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"[:400])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, used


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process with all its threads, those that have ended too; 0 when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


class Child:
    """A server that the bench has started. A context manager: it has ended when the block is left."""

    def __init__(self, name: str, command: Sequence[str], core: int, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._errors = folder / "stderr"
        with self._errors.open("wb") as stderr, (folder / "stdout").open("wb") as stdout:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env=environment(),
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    @property
    def errors(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._errors.read_text(errors="replace")[-2000:]

    def wait_port(self, port: int, seconds: float = 15.0) -> None:
        """Wait until it accepts connections. Raises RuntimeError when it ends instead or `seconds` pass."""
        end = time.monotonic() + seconds
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {self.errors}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise RuntimeError(f"{self.name} does not answer on port {port}: {self.errors}") from None
            time.sleep(0.002)

    def cpu(self) -> float:
        """CPU seconds used so far."""
        return sum(self.cpu_by_process().values())

    def cpu_by_process(self) -> dict[int, float]:
        """CPU seconds of each of its processes."""
        return {pid: _cpu_of(pid) for pid in self.pids()}

    def pids(self) -> list[int]:
        """Its process and those below it."""
        return family(self._process.pid)

    def memory(self) -> int:
        """Bytes of `own_memory`, its descendants' among them."""
        return own_memory(self.pids())

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
