"""`edge run`, `proxy` and `demo` through the real command: what they print, that the printed line works, and how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli.development import settings_from
from edge.cli.main import main
from edge.cli.proxy import settings_text
from edge.cli.run import overridden
from edge.settings.load import load
from tests.conftest import Spawn, can_connect, wait_until


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A state directory of the test's own, for root as for anybody."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.geteuid = lambda: 1000\n", encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "COVERAGE_PROCESS_START") if name in os.environ}
    return {
        **kept,
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }


def started(spawn: Spawn, environment: dict[str, str], tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
    said = tmp_path / "stderr"
    with said.open("wb") as stderr, (tmp_path / "stdout").open("wb") as stdout:
        process = spawn(sys.executable, "-m", "edge", *arguments, env=environment, cwd=tmp_path, stderr=stderr, stdout=stdout)
    return process, said


def printed_line(process: subprocess.Popen[bytes], said: Path) -> list[str]:
    def found() -> list[str] | None:
        assert process.poll() is None, said.read_text(encoding="utf-8")
        lines = said.read_text(encoding="utf-8").splitlines()
        return (
            next((line.split() for line in lines if line.startswith("  curl ")), None)
            if any("Ctrl-C" in line for line in lines)
            else None
        )

    line: list[str] = wait_until(found, 30, "the curl line")
    return line


def test_demo_prints_a_line_that_works_and_ends_on_ctrl_c(
    spawn: Spawn, environment: dict[str, str], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    process, said = started(spawn, environment, tmp_path, "demo", "--port", str(port))
    line = printed_line(process, said)
    assert line[-1] == f"https://localhost:{port}/inspect"
    answer = subprocess.run([*line, "-sS"], capture_output=True, text=True, timeout=60, check=True)
    assert '"target": "/inspect"' in answer.stdout
    redirect = subprocess.run(
        ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code} %{redirect_url}", f"http://localhost:{port + 1}/a?b"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert redirect.stdout == f"308 https://localhost:{port}/a?b"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)
    assert "Traceback" not in said.read_text(encoding="utf-8")
    assert (tmp_path / "state" / "edge" / "dev").stat().st_mode & 0o777 == 0o700


def test_proxy_stands_in_front_of_a_port(
    spawn: Spawn, environment: dict[str, str], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    service, port = free_port(), free_port()
    (tmp_path / "hello.txt").write_text("hello\n", encoding="utf-8")
    spawn(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(service), cwd=tmp_path, stderr=subprocess.DEVNULL)
    process, said = started(
        spawn, environment, tmp_path, "proxy", str(service), "--name", "app.localhost", "--listen", f"127.0.0.1:{port}"
    )
    line = printed_line(process, said)
    wait_until(lambda: can_connect(service), what="the service")
    url = f"https://app.localhost:{port}/hello.txt"
    command = [*line[:-1], "-sS", "--resolve", f"app.localhost:{port}:127.0.0.1", url]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "hello\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_port_that_is_taken_is_4(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "edge", "proxy", "9", "--listen", f"127.0.0.1:{port}"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["8000", "--listen", "nowhere"], "has no port"),
        (["8000", "--listen", "127.0.0.1:99999"], "has no port"),
        (["8443"], "--listen has the port of the service itself"),
        (["8000", "--name", "no such name"], "is not a host name"),
    ],
)
def test_wrong_arguments_of_proxy(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["proxy", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_the_command_line_overrides_workers_and_formats() -> None:
    settings = load("edge.toml", text="", environ={}).settings
    assert settings is not None
    changed = overridden(settings, workers=7, log="text")
    assert (changed.server.workers, changed.log.access.format, changed.log.events.format) == (7, "text", "text")
    assert overridden(settings, workers=None, log=None) == settings


def test_names_and_paths_cannot_leave_their_strings(tmp_path: Path) -> None:
    from edge.cli.terminal import Stop

    text = settings_text(
        https=["127.0.0.1:1"], to="http://127.0.0.1:2", names=['"]\n[server]\nuser = "x'], chain=tmp_path, key=tmp_path
    )
    with pytest.raises(Stop, match="host name"):
        settings_from(text)
