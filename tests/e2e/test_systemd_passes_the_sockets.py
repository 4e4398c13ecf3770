"""Socket activation: the listening sockets come from the service manager, here from systemd's own small launcher."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .clients import curl
from .gateway import Gateway, free_port
from .pki import Pki

Activated = Callable[..., Gateway]


@pytest.fixture
def activated(tmp_path: Path, pki: Pki) -> Iterator[Activated]:
    """Start a gateway on one passed socket called `name`; `address` is what its listener says."""
    running: list[Gateway] = []

    def start(address: str, *, name: str = "main", workers: int = 1) -> Gateway:
        program = shutil.which("systemd-socket-activate")
        if program is None:
            pytest.skip("systemd-socket-activate is not installed")
        port = free_port()
        toml = f"""
        [server]
        workers = {workers}
        state_dir = "{tmp_path}/state"
        runtime_dir = "{tmp_path}/run"
        [log]
        access = "{tmp_path}/access.log"
        events = "{tmp_path}/events.log"
        [[listener]]
        name = "main"
        address = "{address.replace("PORT", str(port))}"
        [[route]]
        path = "/"
        respond = {{ body = "served" }}
        {pki.host()}
        """
        command = [program, "-l", f"127.0.0.1:{port}", f"--fdname={name}", sys.executable, "-m", "edge.cli.main"]
        running.append(Gateway(tmp_path, toml, port=port, plain_port=0, command=command))
        return running[-1]

    yield start
    for gateway in running:
        gateway.end()


@pytest.mark.parametrize(("address", "name"), [("systemd", "main"), ("systemd:web", "web"), ("127.0.0.1:PORT", "unknown")])
def test_the_first_connection_is_served_although_nobody_listened_when_it_came(
    activated: Activated, pki: Pki, address: str, name: str
) -> None:
    gateway = activated(address, name=name)
    assert curl(gateway, "/", ca=pki.ca).body == b"served"
    assert gateway.event_line(event="serving")["urls"] == [f"https://localhost:{gateway.port}"]


def test_several_workers_share_the_one_socket(activated: Activated, pki: Pki) -> None:
    gateway = activated("systemd", workers=3)
    assert curl(gateway, "/", ca=pki.ca).body == b"served"
    command = ["h2load", "-n", "2000", "-c", "100", "-m", "5", f"https://localhost:{gateway.port}/"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "2000 succeeded, 0 failed, 0 errored" in out


def test_a_socket_for_nobody_ends_the_start_and_says_why(activated: Activated) -> None:
    gateway = activated("127.0.0.1:1")
    assert gateway.process.wait(60) == 1
    assert "the service manager passed a socket called 'main' for 127.0.0.1:" in gateway.stderr
    assert 'listener "main" has 127.0.0.1:1. Give both the same address, or write address = "systemd"' in gateway.stderr
