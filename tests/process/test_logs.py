"""Logs are opened without touching what belongs to others, and found again after they went away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.observe.log import Log
from edge.process import logs
from edge.process.errors import NOT_PERMITTED, StartError
from edge.process.logs import Destinations
from edge.settings.model import AccessLog
from edge.settings.model import Log as LogSettings
from tests.conftest import Spawn, wait_until

Open = Callable[[LogSettings], Destinations]

_PROGRAM = """
import os, sys
from edge.process.logs import Destinations, fill_standard_descriptors
from edge.settings.model import AccessLog, Log
fill_standard_descriptors()
log = Destinations(Log(access=AccessLog(to="stdout"), events=AccessLog(to="stdout")), os.environ).log()
for number in range(int(sys.argv[1])):
    log.event("line", number=number, filler="x" * 200)
log.flush()
print(os.get_blocking(1), log.dropped, file=sys.stderr)
"""


def settings(to: str | None, events: str | None = None) -> LogSettings:
    return LogSettings(access=AccessLog(to=to), events=AccessLog(to=events))


def write(log: Log, name: str) -> None:
    log.event(name)
    log.flush()


def names(text: str | bytes) -> list[str]:
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_a_full_pipe_on_stdout_stops_nobody_and_keeps_its_flags(spawn: Spawn) -> None:
    process = spawn(sys.executable, "-c", _PROGRAM, "20000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None  # stdout is not read: the pipe is full after 64 KiB
    blocking, dropped = process.stderr.read().split()
    assert process.wait(60) == 0
    assert blocking == b"True"
    assert int(dropped) > 0


@pytest.mark.parametrize("kind", ["socket", "file", "closed"])
def test_other_kinds_of_stdout(spawn: Spawn, tmp_path: Path, kind: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "out").open("wb") as file:
        command: list[str | Path] = [sys.executable, "-c", _PROGRAM, "3"]
        if kind == "closed":
            command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
        process = spawn(*command, stdout={"socket": theirs, "file": file, "closed": None}[kind], stderr=subprocess.PIPE)
        assert process.wait(60) == 0
        theirs.close()
        if kind == "socket":
            assert names(ours.recv(65536)) == ["line"] * 3
        elif kind == "file":
            assert names((tmp_path / "out").read_bytes()) == ["line"] * 3


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[Destinations] = []

    def open_all(of: LogSettings) -> Destinations:
        made.append(Destinations(of, {}))
        return made[-1]

    yield open_all
    for destinations in made:
        destinations.close()


def test_both_logs_in_one_file_share_its_descriptor(tmp_path: Path, opened: Open) -> None:
    path = os.fspath(tmp_path / "log")
    destinations = opened(settings(path, path))
    log = destinations.log()
    assert len({id(channel.output) for channel in log.channels()}) == 1
    write(log, "one")
    assert names(Path(path).read_text()) == ["one"]
    assert Path(path).stat().st_mode & 0o777 == 0o640


def test_what_waits_goes_to_the_file_that_it_was_written_for(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "log"
    destinations = opened(settings(None, os.fspath(path)))
    log = destinations.log()
    log.event("before")
    path.rename(tmp_path / "log.1")
    files, descriptors, failures = destinations.reopen()
    assert (files, len(descriptors), failures) == ([os.fspath(path)], 1, [])
    write(log, "after")
    assert names((tmp_path / "log.1").read_text()) == ["before"]
    assert names(path.read_text()) == ["after"]


def test_a_named_pipe_needs_no_reader(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    log = opened(settings(None, os.fspath(path))).log()
    write(log, "early")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert names(os.read(reader, 65536)) == ["early"]
    os.close(reader)
    write(log, "without a reader")


@pytest.mark.parametrize("ours", [True, False])
def test_links_are_followed_when_they_are_ours(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    """A worker that may write where the logs lie must not choose what else the supervisor opens for it."""
    target, link = tmp_path / "target", tmp_path / "access.log"
    target.write_text("")
    link.symlink_to(target)
    if not ours and os.geteuid() == 0:
        os.lchown(link, 65_534, 65_534)
    elif not ours:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    if ours:
        opened(settings(os.fspath(link)))
    else:
        with pytest.raises(StartError, match=r"access\.log: Too many levels of symbolic links"):
            opened(settings(os.fspath(link)))


def test_syslog_comes_and_goes(short_tmp: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_RECONNECT", 0.0)
    path = short_tmp / "log"
    log = opened(settings(None, f"syslog:{path}")).log()
    write(log, "nobody listens yet")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(os.fspath(path))
            server.settimeout(60)
            write(log, "somebody does")
            assert server.recv(4096).startswith(b"<30>")
        path.unlink()


@pytest.mark.parametrize(("error", "status"), [("no such folder", 1), ("a folder", 1), ("read-only", NOT_PERMITTED)])
def test_a_log_that_cannot_be_opened_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, status: int) -> None:
    path = tmp_path / "missing" / "log"
    if error == "a folder":
        path = tmp_path
    elif error == "read-only":

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartError, match=str(path)) as caught:
        Destinations(settings(os.fspath(path)), {})
    assert caught.value.status == status


def test_workers_that_share_a_pipe_keep_their_lines_apart(spawn: Spawn) -> None:
    reader, writer = os.pipe()
    processes = [spawn(sys.executable, "-c", _PROGRAM, "400", stdout=writer, stderr=subprocess.DEVNULL) for _ in range(2)]
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        numbers = [json.loads(line)["number"] for line in stream]
    wait_until(lambda: all(process.poll() == 0 for process in processes))
    assert set(numbers) <= set(range(400))
    assert len(numbers) > 100
