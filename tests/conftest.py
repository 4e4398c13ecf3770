"""What every test may use, and two rules: nothing that a test starts outlives it, and in CI nothing is skipped.

A skip is a test that nobody runs. With ``CI`` set it is a failure, unless its reason begins with ``upstream bug:`` and so
says whose bug has to be mended first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.ports import free_port

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
ALLOWED_SKIP = "upstream bug:"

hypothesis.settings.register_profile("edge", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("edge")

Spawn = Callable[..., subprocess.Popen[bytes]]


# -- skips ---------------------------------------------------------------------------------------------------------------


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason.startswith(ALLOWED_SKIP):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped in CI: {reason!r} (only reasons that begin with {ALLOWED_SKIP!r} are allowed)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _refuse_skip(report)
    return report


# -- order -----------------------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those marked `long` begin first: one that began last would keep one processor busy while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


# -- processes -----------------------------------------------------------------------------------------------------------


def _children(pid: int) -> list[int]:
    """The processes whose parent is `pid`, zombies included; on Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry.name))
    return found


def _end_all_children() -> None:
    """Ends every descendant: orphans come to this process, for it is their subreaper (see `pytest_configure`)."""
    for _ in range(100):
        children = _children(os.getpid())
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _runs_tests(config: pytest.Config) -> bool:
    """False in the process that only hands tests to workers."""
    return hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)


def pytest_configure(config: pytest.Config) -> None:
    os.umask(0o022)  # tests look at the modes of files
    if sys.platform == "linux" and _runs_tests(config):
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def pytest_unconfigure(config: pytest.Config) -> None:
    if sys.platform == "linux" and _runs_tests(config):
        _end_all_children()


def end(process: subprocess.Popen[bytes], grace: float = 30.0) -> None:
    """Ends a process that `spawn` started, with its whole group: SIGTERM, then SIGKILL after `grace` seconds."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@contextlib.contextmanager
def _spawner() -> Iterator[Spawn]:
    started: list[subprocess.Popen[bytes]] = []

    def spawn(*command: str | os.PathLike[str], **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([os.fspath(part) for part in command], start_new_session=True, **options)
        started.append(process)
        return process

    try:
        yield spawn
    finally:
        for process in reversed(started):
            end(process)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts a command (arguments as `subprocess.Popen`'s) in a process group of its own, ended after the test."""
    with _spawner() as start:
        yield start


@pytest.fixture(scope="module")
def spawn_for_module() -> Iterator[Spawn]:
    """As `spawn`, ended after the module's tests."""
    with _spawner() as start:
        yield start


# -- ports, folders, waiting ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", name="free_port")
def _free_port() -> Callable[[], int]:
    """A function that returns a TCP port that is free on 127.0.0.1 and ::1, another one at every call."""
    return free_port


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder with a short path: those of unix sockets are limited to 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="edge-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def busy_unix_socket(path: Path) -> Iterator[None]:
    """Somebody listens at `path` and accepts nothing, and the queue is full."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(os.fspath(path))
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(os.fspath(path))
        yield


def wait_until(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> Any:
    """Waits for another process: returns the first true value of `condition`, or fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or condition}")
        time.sleep(0.01)


def can_connect(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=60).close()
    except OSError:
        return False
    return True
