"""A datagram socket in the place of the service manager, and systemd's own tool as the measure."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.process.notify import Notifier


class Manager:
    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address.replace("@", "\0", 1))
        self.sock.settimeout(60)

    def told(self) -> list[str]:
        return self.sock.recv(4096).decode().splitlines()

    def silent(self) -> bool:
        return not select.select([self.sock], [], [], 0)[0]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Manager]:
    found = Manager(f"{short_tmp}/notify" if request.param == "path" else f"@edge-test-{os.getpid()}-{time.monotonic_ns()}")
    yield found
    found.sock.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    found = Notifier(manager.address)
    yield found
    found.close()


def test_every_message_is_one_datagram_of_lines(manager: Manager, notifier: Notifier) -> None:
    notifier.ready("serving on https://localhost")
    assert manager.told() == ["READY=1", "STATUS=serving on https://localhost"]
    notifier.status("degraded")
    assert manager.told() == ["STATUS=degraded"]
    notifier.reloading(12.5)
    assert manager.told() == ["RELOADING=1", "MONOTONIC_USEC=12500000"]
    notifier.main_pid(42)
    assert manager.told() == ["MAINPID=42"]
    notifier.stopping(31.0, "draining")
    assert manager.told() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=31000000", "STATUS=draining"]


def test_a_status_cannot_say_anything_else(manager: Manager, notifier: Notifier) -> None:
    notifier.status("bad\nMAINPID=1\r\n" + "ä" * 1000)
    (line,) = manager.told()
    assert line.startswith("STATUS=bad MAINPID=1 ää")
    assert len(line.encode()) < 420


def test_the_same_bytes_as_systemd_notify(manager: Manager, notifier: Notifier) -> None:
    program = shutil.which("systemd-notify")
    if program is None:
        pytest.skip("systemd-notify is not installed")
    environ = {"NOTIFY_SOCKET": manager.address, "PATH": os.environ["PATH"]}
    subprocess.run([program, "--no-block", "--ready", "--status=all is well"], env=environ, check=True, timeout=60)
    reference = manager.told()
    notifier.ready("all is well")
    ours = manager.told()
    assert set(ours) <= set(reference)


def test_the_variables_are_taken_and_can_be_handed_on(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    notifier = Notifier.taken_from(environ)
    assert environ == {"PATH": "/bin"}
    assert notifier.environment == {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000"}
    notifier.close()


def test_the_watchdog_is_told_at_half_its_period_and_only_when_asked_to(manager: Manager) -> None:
    notifier = Notifier(manager.address, 4.0)
    assert notifier.due(100.0) == 100.0
    notifier.beat(100.0)
    assert manager.told() == ["WATCHDOG=1"]
    notifier.beat(101.9)
    assert manager.silent()
    assert notifier.due(101.9) == 102.0
    notifier.beat(102.0)
    assert manager.told() == ["WATCHDOG=1"]
    notifier.close()


@pytest.mark.parametrize("variables", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}])
def test_a_watchdog_that_is_not_ours_or_makes_no_sense_is_left_alone(manager: Manager, variables: dict[str, str]) -> None:
    notifier = Notifier.taken_from({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000", **variables})
    assert notifier.due(1.0) == float("inf")
    notifier.beat(1.0)
    assert manager.silent()
    notifier.close()


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here", "vsock:2:1234", "nonsense", "/" + "x" * 200])
def test_nobody_who_listens_is_no_problem(address: str) -> None:
    notifier = Notifier.taken_from({"NOTIFY_SOCKET": address} if address else {})
    notifier.ready("serving")
    notifier.stopping(1.0, "draining")
    notifier.close()
    notifier.ready("serving")


def test_a_manager_that_does_not_read_does_not_hold_us_up(manager: Manager, notifier: Notifier) -> None:
    for _ in range(2000):
        notifier.status("x" * 300)  # would wait for ever
