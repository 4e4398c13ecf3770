"""A datagram socket in systemd's place: ready, watchdog, a new main process, stopping; each from the process that may say so."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import StartGateway
from .gateway import Gateway, wait_for
from .pki import Pki


class Manager:
    """What was told, by which process."""

    def __init__(self, path: str) -> None:
        self.told: list[tuple[int, list[str]]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(path)
        self._sock.setblocking(False)

    def read(self) -> list[tuple[int, list[str]]]:
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
            except BlockingIOError:
                return self.told
            ((_, _, credentials),) = ancillary
            self.told.append((array.array("i", credentials)[0], data.decode().splitlines()))

    def wait(self, line: str, pid: int | None = None) -> list[str]:
        """The message that has this line (from this process)."""

        def find() -> list[str] | None:
            return next((lines for who, lines in self.read() if line in lines and pid in (None, who)), None)

        return wait_for(find, f"{line} from {pid}")

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    found = Manager(f"{short_tmp}/notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"{short_tmp}/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    yield found
    found.close()


@pytest.fixture
def edge(manager: Manager, start_gateway: StartGateway, pki: Pki) -> Callable[..., Gateway]:
    def start(server: str = "") -> Gateway:
        return start_gateway(
            f"""
            [server]
            workers = 2
            drain = "7s"
            state_dir = "$FOLDER/state"
            runtime_dir = "$FOLDER/run"
            {server}
            {pki.host()}
            [[route]]
            path = "/"
            respond = {{ body = "ok" }}
            """
        )

    return start


def upgrade(gateway: Gateway) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(gateway.folder / "run" / "edge.sock"))
        sock.sendall(b'{"op":"upgrade"}\n')
        answer = json.loads(sock.makefile("rb").readline())
    assert answer["ok"], answer
    return int(answer["pid"])


def watchdogs(manager: Manager, pid: int) -> int:
    return sum(who == pid and lines == ["WATCHDOG=1"] for who, lines in manager.read())


def test_ready_watchdog_and_stopping(edge: Callable[..., Gateway], manager: Manager) -> None:
    gateway = edge()
    pid = gateway.process.pid
    ready = manager.wait("READY=1", pid)
    assert ready[1].startswith("STATUS=serving, generation 1, 2 of 2 workers")
    wait_for(lambda: watchdogs(manager, pid) >= 3, "three beats of the watchdog")
    gateway.signal(signal.SIGHUP)
    assert manager.wait("RELOADING=1", pid)[1].startswith("MONOTONIC_USEC=")
    wait_for(lambda: sum("READY=1" in lines for _, lines in manager.read()) == 2, "the end of the reload")
    assert gateway.end() == 0
    stopping = manager.wait("STOPPING=1", pid)
    assert "EXTEND_TIMEOUT_USEC=12000000" in stopping
    assert {who for who, _ in manager.read()} == {pid}


def test_the_watchdog_is_silent_when_the_supervisor_hangs_or_no_worker_answers(
    edge: Callable[..., Gateway], manager: Manager
) -> None:
    gateway = edge()
    pid = gateway.process.pid
    wait_for(lambda: watchdogs(manager, pid), "a beat")
    workers = [event["pid"] for event in gateway.events() if event["event"] == "started"]
    workers = workers or [one for one in gateway.pids() if one != pid]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        wait_for(lambda: quiet(manager, pid), "silence")
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    before = watchdogs(manager, pid)
    wait_for(lambda: watchdogs(manager, pid) > before, "a beat again")


def quiet(manager: Manager, pid: int, seconds: float = 1.2) -> bool:
    before, end = watchdogs(manager, pid), time.monotonic() + seconds
    while time.monotonic() < end:
        if watchdogs(manager, pid) != before:
            return False
        time.sleep(0.02)
    return True


def test_after_an_upgrade_the_new_program_is_the_main_process(edge: Callable[..., Gateway], manager: Manager) -> None:
    gateway = edge()
    old = gateway.process.pid
    manager.wait("READY=1", old)
    new = upgrade(gateway)
    try:
        manager.wait("READY=1", new)
        manager.wait("WATCHDOG=1", new)
        said = manager.read()
        told = said.index((old, [f"MAINPID={new}"]))
        assert {who for who, _ in said[:told]} == {old}
        assert {who for who, _ in said[told + 1 :]} == {new}
    finally:
        os.kill(new, signal.SIGTERM)
    manager.wait("STOPPING=1", new)


def test_in_place_the_main_process_stays(edge: Callable[..., Gateway], manager: Manager) -> None:
    gateway = edge('upgrade = "in-place"')
    pid = gateway.process.pid
    manager.wait("READY=1", pid)
    assert upgrade(gateway) == pid
    gateway.event_line(event="took-over")
    wait_for(lambda: sum(who == pid and "READY=1" in lines for who, lines in manager.read()) == 2, "ready again")
    before = watchdogs(manager, pid)
    wait_for(lambda: watchdogs(manager, pid) > before, "the watchdog of the new program")
    assert {who for who, _ in manager.read()} == {pid}
