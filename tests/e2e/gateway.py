"""The gateway under test as a child process: written configuration, readiness, logs, memory, and a certain end.

`EDGE_E2E_COMMAND` replaces the program that is run (default: this Python with ``-m edge.cli.main``), so that the same
tests judge an installed `edge` or any program with the same command line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.processes import family, own_memory
from edge.cli.main import main
from tests.ports import free_port

__all__ = ["PATIENCE", "Gateway", "deadline", "free_port", "lasting_descriptors", "wait_for"]

PATIENCE = 60.0  # of every wait for what should come: long enough for a busy machine, and it costs nothing when all is well
_T = TypeVar("_T")


def lasting_descriptors(pid: int) -> int:
    """How many descriptors a process has open, but for TCP connections: these come and go with the load."""
    table = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = {f"socket:[{fields[9]}]" for fields in table if fields[3] == "0A"}
    passing = {f"socket:[{fields[9]}]" for fields in table} - listening
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(descriptor) not in passing
    return count


def deadline(seconds: float) -> Callable[[], bool]:
    """A test of whether `seconds` from now have not yet passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def wait_for(probe: Callable[[], _T | None], what: str, seconds: float = PATIENCE) -> _T:
    """Poll `probe` until it gives something true; fail with `what` after `seconds`."""
    within = deadline(seconds)
    while True:
        found = probe()
        if found:
            return found
        if not within():
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Gateway:
    """One running gateway. `port` is its TLS listener, `plain_port` its listener with ``tls = "off"`` when there is one."""

    def __init__(self, folder: Path, toml: str, *, port: int, plain_port: int, command: list[str] | None = None) -> None:
        self.folder = folder
        self.port = port
        self.plain_port = plain_port
        self.config = folder / "edge.toml"
        self.config.write_text(toml)
        self.access_path = folder / "access.log"
        self.events_path = folder / "events.log"
        self._stderr_path = folder / "stderr"
        self.program = command or shlex.split(os.environ.get("EDGE_E2E_COMMAND", "")) or [sys.executable, "-m", "edge.cli.main"]
        with self._stderr_path.open("wb") as stderr, (folder / "stdout").open("wb") as stdout:
            self.process = subprocess.Popen(
                [*self.program, "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def plain_url(self) -> str:
        return f"http://localhost:{self.plain_port}"

    @property
    def stderr(self) -> str:
        return self._stderr_path.read_text(errors="replace")

    def _wait_ready(self) -> None:
        within = deadline(PATIENCE)
        for port in filter(None, (self.port, self.plain_port)):
            while True:
                if self.process.poll() is not None:
                    raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.stderr}")
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
                    break
                if not within():
                    raise AssertionError(f"port {port} does not answer:\n{self.stderr}")
                time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = PATIENCE) -> int:
        """End it: SIGTERM, and after `seconds` SIGKILL to its whole process group. Returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`edge WORDS --config FILE`, on a terminal of 120 columns.

        It runs in this process: to start Python costs many times what a command does. With `EDGE_E2E_COMMAND` it is that program.
        """
        arguments = [*words, "--config", str(self.config)]
        if os.environ.get("EDGE_E2E_COMMAND"):
            environment = {**os.environ, "COLUMNS": "120"}
            return subprocess.run(
                [*self.program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
            )
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "120")
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    # logs

    def access(self) -> list[dict[str, Any]]:
        """The whole lines of the access log so far."""
        return _json_lines(self.access_path)

    def events(self) -> list[dict[str, Any]]:
        """The whole lines of the event log so far: failed handshakes among them."""
        return _json_lines(self.events_path)

    def access_line(self, **wanted: object) -> dict[str, Any]:
        """Wait for an access line that has all of `wanted`."""
        return wait_for(lambda: _first(self.access(), wanted), f"an access line with {wanted}; have {self.access()}")

    def event_line(self, **wanted: object) -> dict[str, Any]:
        """Wait for an event line that has all of `wanted`."""
        return wait_for(lambda: _first(self.events(), wanted), f"an event with {wanted}; have {self.events()}")

    # processes

    def pids(self) -> list[int]:
        """The process itself and all its descendants."""
        return family(self.process.pid)

    def rss(self) -> int:
        """Resident bytes that belong to its processes alone."""
        return own_memory(self.pids())


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]


def _first(lines: list[dict[str, Any]], wanted: dict[str, object]) -> dict[str, Any] | None:
    return next((line for line in lines if all(line.get(key) == value for key, value in wanted.items())), None)
