"""A gateway as its operator meets it: it starts, survives its workers, rotates its logs, drains, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Spawn, can_connect, wait_until

_PROGRAM = """
import os, sys
from edge.process import Origin, run
from edge.settings.load import load
def read(documents=None):
    return load(sys.argv[1], environ=os.environ, documents=documents)
loaded = read()
if loaded.settings is None:
    sys.exit(str(loaded.problems))
sys.exit(run(loaded.settings, origin=Origin(sys.argv[1], read, loaded.documents)))
"""

_NOSY_CHILD = """
def nosy(descriptor):
    import select
    names = [name for name in os.listdir("/proc/self/fd") if int(name) > 2 and int(name) != descriptor]
    found = [os.readlink("/proc/self/fd/" + name) for name in names if os.path.lexists("/proc/self/fd/" + name)]
    with open(os.path.join(os.path.dirname(sys.argv[1]), "found"), "w") as file:
        file.write(" ".join([*found, "end"]))
    select.select([descriptor], [], [])
"""
_NOSY_PROGRAM = _PROGRAM.replace("loaded = read()", f"{_NOSY_CHILD}loaded = read()").replace(
    "loaded.documents)", 'loaded.documents), extra_children=[("nosy", nosy)]'
)


class Gateway:
    def __init__(
        self,
        spawn: Spawn,
        folder: Path,
        port: int,
        settings: str = "",
        *,
        workers: int = 2,
        server: str = "",
        drain: str = "60s",
        program: str = _PROGRAM,
    ) -> None:
        self.port = port
        self.folder = folder
        self.drain = drain
        self.config = folder / "edge.toml"
        self.write(settings, workers=workers, server=server)
        self.process = spawn(sys.executable, "-c", program, self.config, stderr=subprocess.PIPE)

    def write(self, settings: str = "", *, workers: int = 2, body: str = "ok", port: int = 0, server: str = "") -> None:
        """Write the settings file."""
        folder, port, drain = self.folder, port or self.port, self.drain
        self.config.write_text(
            f"""
            {settings}
            [[listener]]
            name = "plain"
            address = "127.0.0.1:{port}"
            tls = "off"
            [[route]]
            path = "/ping"
            respond = {{ status = 200, body = "{body}" }}
            {"" if "[admin]" in settings else "[admin]" + chr(10) + 'address = "off"'}
            [server]
            workers = {workers}
            {server}
            drain = "{drain}"
            state_dir = "{folder}"
            runtime_dir = "{folder}"
            [log]
            access = "{folder}/access.log"
            events = "{folder}/events.log"
            """
        )

    def ask(self, op: str, **more: object) -> dict[str, Any]:
        """What the control socket answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.folder / "edge.sock"))
            client.sendall(json.dumps({"op": op, **more}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                data += client.recv(65536)
        answer: dict[str, Any] = json.loads(data)
        assert answer["version"] == 1
        return answer

    def ready(self) -> Gateway:
        wait_until(lambda: self.event("serving") or self.process.poll() is not None, what="serving")
        assert self.process.poll() is None, self.errors()
        return self

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def events(self) -> list[dict[str, object]]:
        path = self.folder / "events.log"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def event(self, name: str) -> dict[str, object] | None:
        return next((event for event in self.events() if event["event"] == name), None)

    def get(self, path: str = "/ping") -> int:
        return self.fetch(path)[0]

    def fetch(self, path: str = "/ping", port: int = 0) -> tuple[int, str]:
        """Status and body, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def workers(self) -> list[int]:
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split() if _name(int(pid)).startswith("edge-worker")]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


@pytest.fixture
def gateway(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> Gateway:
    return Gateway(spawn, short_tmp, free_port()).ready()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_it_says_where_it_serves_once_it_does(gateway: Gateway) -> None:
    event = gateway.event("serving")
    assert event is not None
    assert event["urls"] == [f"http://localhost:{gateway.port}"]
    assert event["workers"] == 2
    assert gateway.get() == 200
    assert len(gateway.workers()) == 2
    assert gateway.end() == 0
    assert f"serving on http://localhost:{gateway.port}" in gateway.errors()


def test_a_child_has_no_power_over_the_supervisor_by_what_it_inherits(
    spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]
) -> None:
    """Such as the pipe into which the numbers of signals are written."""
    admin = f'[admin]\naddress = "127.0.0.1:{free_port()}"'
    Gateway(spawn, short_tmp, free_port(), admin, program=_NOSY_PROGRAM).ready()
    found = wait_until(lambda: (short_tmp / "found").exists() and (short_tmp / "found").read_text().split())
    assert found[-1] == "end"
    assert [what for what in found if what.startswith("socket:") or "inotify" in what] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_everything(gateway: Gateway, number: signal.Signals) -> None:
    workers = gateway.workers()
    assert gateway.end(number) == 0
    assert not any(alive(pid) for pid in workers)
    assert not can_connect(gateway.port)
    draining = gateway.event("draining")
    assert draining is not None
    assert draining["reason"] == number.name


def test_the_terminals_ctrl_c_reaches_all_processes_and_still_drains(gateway: Gateway) -> None:
    os.killpg(gateway.process.pid, signal.SIGINT)
    assert gateway.process.wait(60) == 0
    assert gateway.event("child-ended") is None


def test_a_worker_that_dies_is_replaced(gateway: Gateway) -> None:
    first = gateway.workers()
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: len(set(gateway.workers()) - set(first)) == 1 and gateway.event("child-ended"))
    ended = gateway.event("child-ended")
    assert ended is not None
    assert (ended["pid"], ended["detail"]) == (first[0], "signal SIGKILL")
    for _ in range(20):
        assert gateway.get() == 200


def test_a_worker_that_goes_on_dying_is_replaced_more_and_more_slowly(gateway: Gateway) -> None:
    for count in range(1, 4):
        os.kill(gateway.workers()[-1], signal.SIGKILL)
        wait_until(
            lambda n=count: len(gateway.workers()) == 2 and [e["event"] for e in gateway.events()].count("child-ended") == n
        )
    pauses = [event["restart_in"] for event in gateway.events() if event["event"] == "child-ended"]
    assert pauses == sorted(pauses)
    assert gateway.get() == 200


def test_workers_end_when_the_supervisor_is_killed(gateway: Gateway) -> None:
    workers = gateway.workers()
    gateway.process.kill()
    gateway.process.wait(60)
    wait_until(lambda: not any(alive(pid) for pid in workers), what="workers end")
    assert not can_connect(gateway.port)
    assert gateway.event("supervisor-gone")


def test_sigusr1_reopens_the_logs_of_every_process(gateway: Gateway) -> None:
    access, events = gateway.folder / "access.log", gateway.folder / "events.log"
    old = gateway.folder / "access.log.1"
    assert gateway.get() == 200
    wait_until(lambda: access.stat().st_size)
    access.rename(old)
    events.rename(gateway.folder / "events.log.1")
    size = old.stat().st_size
    gateway.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: gateway.event("logs-reopened"))
    for _ in range(30):
        assert gateway.get() == 200
    wait_until(lambda: len(access.read_text().splitlines()) == 30, what="30 lines in the new file")
    assert old.stat().st_size == size


def test_a_log_that_cannot_be_reopened_goes_on_as_it_was(gateway: Gateway) -> None:
    moved = gateway.folder / "moved"
    access = gateway.folder / "access.log"
    access.rename(moved)
    access.mkdir()
    gateway.process.send_signal(signal.SIGUSR1)
    failed = wait_until(lambda: gateway.event("log-not-reopened"))
    assert "access.log" in failed["detail"]
    assert gateway.get() == 200
    wait_until(lambda: moved.stat().st_size)


def test_a_taken_port_is_one_line_and_status_4(gateway: Gateway, spawn: Spawn, tmp_path: Path) -> None:
    second = Gateway(spawn, tmp_path, gateway.port)
    assert second.process.wait(60) == 4
    line = second.errors()
    assert line.count("\n") == 1
    assert f"127.0.0.1:{gateway.port}: the port is taken by" in line
    assert f"(pid {gateway.process.pid})" in line
    assert gateway.get() == 200


def test_an_unwritable_log_is_one_line(spawn: Spawn, tmp_path: Path, free_port: Callable[[], int]) -> None:
    (tmp_path / "access.log").mkdir()
    gateway = Gateway(spawn, tmp_path, free_port())
    assert gateway.process.wait(60) == 1
    assert gateway.errors() == f"edge: log file {tmp_path}/access.log: Is a directory\n"


class SlowUpstream:
    """Accepts one request and answers when told."""

    def __init__(self, port: int) -> None:
        self.server = socket.create_server(("127.0.0.1", port))
        self.server.settimeout(60)

    def take(self) -> socket.socket:
        connection, _ = self.server.accept()
        connection.settimeout(60)
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        return connection


@pytest.fixture
def slow(free_port: Callable[[], int]) -> Iterator[SlowUpstream]:
    upstream = SlowUpstream(free_port())
    yield upstream
    upstream.server.close()


def with_upstream(spawn: Spawn, folder: Path, port: int, slow: SlowUpstream, drain: str = "60s") -> Gateway:
    route = f'[[route]]\npath = "/slow"\nupstream = "http://127.0.0.1:{slow.server.getsockname()[1]}"'
    return Gateway(spawn, folder, port, route, drain=drain).ready()


def begin(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(60)
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: x.example\r\n\r\n")
    return client


def test_what_is_under_way_is_finished(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int], slow: SlowUpstream) -> None:
    gateway = with_upstream(spawn, short_tmp, free_port(), slow)
    with begin(gateway.port) as client, slow.take() as upstream:
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not can_connect(gateway.port))
        assert gateway.process.poll() is None
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"done")
    assert gateway.process.wait(60) == 0


def test_the_second_signal_ends_at_once(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int], slow: SlowUpstream) -> None:
    gateway = with_upstream(spawn, short_tmp, free_port(), slow)
    with begin(gateway.port) as client, slow.take():
        gateway.process.send_signal(signal.SIGINT)
        wait_until(lambda: gateway.event("draining"))
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(60) == 130
        with contextlib.suppress(ConnectionResetError):
            assert b"200" not in client.recv(4096)


def test_the_deadline_ends_what_does_not_finish(
    spawn: Spawn, short_tmp: Path, free_port: Callable[[], int], slow: SlowUpstream
) -> None:
    gateway = with_upstream(spawn, short_tmp, free_port(), slow, drain="500ms")
    with begin(gateway.port), slow.take():
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0


def test_a_worker_that_hangs_is_killed_in_the_end(gateway: Gateway) -> None:
    hung = gateway.workers()[0]
    os.kill(hung, signal.SIGSTOP)
    gateway.process.send_signal(signal.SIGTERM)
    wait_until(lambda: gateway.event("draining"))
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(60) == 0
    assert not alive(hung)
