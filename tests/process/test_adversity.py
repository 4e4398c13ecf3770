"""What happens to machines: full disks, folders that go away, no descriptors left, and ends at the worst moment."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Spawn, can_connect, wait_until
from tests.process.test_supervisor import _PROGRAM, Gateway, alive


@pytest.fixture
def gateway(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> Gateway:
    return Gateway(spawn, short_tmp, free_port()).ready()


def family(config: Path) -> list[int]:
    """The living processes that were started for a settings file; forks keep the command line."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and str(config).encode() in (folder / "cmdline").read_bytes() and alive(int(folder.name)):
                found.append(int(folder.name))
    return found


class OnSmallDisk(Gateway):
    """Logs, sockets, state and PID file lie on a file system of 128 KiB that only this gateway sees."""

    def __init__(self, spawn: Spawn, folder: Path, port: int) -> None:
        self.port = port
        self.drain = "60s"
        self.config = folder / "edge.toml"
        self._disk = folder / "disk"
        self._disk.mkdir()
        self.write()
        mounted = 'mount -t tmpfs -o size=128k none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mounted, self._disk, sys.executable, "-c", _PROGRAM, self.config]
        self.process = spawn(*command, stderr=subprocess.PIPE)
        self.folder = Path(f"/proc/{self.process.pid}/root{self._disk}")

    def write(self, settings: str = "", *, workers: int = 2, body: str = "ok", port: int = 0, server: str = "") -> None:
        seen, self.folder = getattr(self, "folder", self._disk), self._disk
        super().write(settings, workers=workers, body=body, port=port, server=f'{server}\npid_file = "{self._disk}/pid"')
        self.folder = seen

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))


def test_a_full_disk_stops_nothing(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a mount namespace here")
    gateway = OnSmallDisk(spawn, short_tmp, free_port()).ready()
    gateway.fill()
    for _ in range(200):
        assert gateway.get() == 200
    gateway.write(body="new")
    assert gateway.ask("reload")["ok"]
    assert gateway.fetch() == (200, "new")
    os.kill(gateway.workers()[0], signal.SIGKILL)
    wait_until(lambda: [one["state"] for one in gateway.ask("status")["workers"]] == ["serving"] * 2)
    assert {gateway.fetch()[1] for _ in range(20)} == {"new"}
    (gateway.folder / "ballast").unlink()
    before = (gateway.folder / "access.log").stat().st_size

    def written() -> bool:
        assert gateway.get() == 200
        return (gateway.folder / "access.log").stat().st_size > before

    wait_until(written, what="lines in the log again")
    assert gateway.end() == 0


def test_folders_that_go_away_stop_nothing(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> None:
    gateway = Gateway(spawn, short_tmp, free_port())
    state = short_tmp / "state"
    state.mkdir()
    text = gateway.config.read_text().replace(f'state_dir = "{short_tmp}"', f'state_dir = "{state}"')
    gateway.end()
    gateway.config.write_text(text)
    gateway.process = spawn(sys.executable, "-c", _PROGRAM, gateway.config, stderr=subprocess.PIPE)
    gateway.ready()
    state.chmod(0)
    assert gateway.ask("reload")["ok"]
    state.chmod(0o700)
    shutil.rmtree(state)
    state.write_text("not a folder any more")
    assert gateway.ask("reload")["ok"]
    os.kill(gateway.workers()[0], signal.SIGKILL)
    wait_until(lambda: [one["state"] for one in gateway.ask("status")["workers"]] == ["serving"] * 2)
    for _ in range(10):
        assert gateway.get() == 200


@pytest.mark.parametrize("delay", ["start", 0.0, 0.02, 0.06, 0.12, "drain"])
def test_no_process_and_no_port_outlives_the_supervisor(
    spawn: Spawn, short_tmp: Path, free_port: Callable[[], int], delay: float | str
) -> None:
    gateway = Gateway(spawn, short_tmp, free_port())
    if delay == "start":
        wait_until(lambda: len(family(gateway.config)) > 1, what="the first child")
    else:
        gateway.ready()
        if delay == "drain":
            gateway.write(server='drain_delay = "5s"')
            assert gateway.ask("reload")["ok"]
            gateway.process.terminate()
            wait_until(lambda: gateway.event("draining"))
        else:
            gateway.write(workers=3, body="new")
            gateway.process.send_signal(signal.SIGHUP)
            with contextlib.suppress(subprocess.TimeoutExpired):
                gateway.process.wait(float(delay))  # somewhere in the rehearsal, the preparing or the commit
    gateway.process.kill()
    gateway.process.wait(60)
    wait_until(lambda: not family(gateway.config), what="all processes end")
    assert not can_connect(gateway.port)
    (short_tmp / "events.log").unlink(missing_ok=True)
    again = Gateway(spawn, short_tmp, gateway.port).ready()  # on the same port and socket
    assert again.end() == 0


def test_a_storm_of_signals_is_some_reloads(gateway: Gateway) -> None:
    for number in range(300):
        gateway.process.send_signal((signal.SIGHUP, signal.SIGUSR1)[number % 10 == 0])
        if number % 50 == 0:
            assert gateway.get() == 200
    gateway.write(body="the last one")
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.fetch() == (200, "the last one"))
    wait_until(lambda: gateway.ask("status")["reloads"]["accepted"], what="a reload is over")  # one worker has it before all have
    status = gateway.ask("status")
    assert status["reloads"]["accepted"] <= 301
    assert status["reloads"]["refused"] == 0
    assert [worker["restarts"] for worker in status["workers"]] == [0, 0]


def test_without_descriptors_it_waits_and_can_be_asked(spawn: Spawn, short_tmp: Path, free_port: Callable[[], int]) -> None:
    limit = 100
    ours, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    gateway = Gateway.__new__(Gateway)
    gateway.port, gateway.folder, gateway.config, gateway.drain = free_port(), short_tmp, short_tmp / "edge.toml", "60s"
    gateway.write()
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n{_PROGRAM}"
    gateway.process = spawn(sys.executable, "-c", program, gateway.config, stderr=subprocess.PIPE)
    gateway.ready()
    with contextlib.ExitStack() as stack:
        for _ in range(min(4 * limit, ours - 200)):  # the rest stands in the kernel's queue
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=60))
        wait_until(lambda: gateway.event("accept-failed"))
        assert gateway.ask("status")["ok"]
        assert gateway.ask("reload")["ok"]
    wait_until(lambda: gateway.get() == 200)
    assert [worker["restarts"] for worker in gateway.ask("status")["workers"]] == [0, 0]
