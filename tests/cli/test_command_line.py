"""The command line's grammar: what is printed where, and with which exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from edge.cli import catalogue, start
from edge.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("EDGE_CONFIG", raising=False)


def test_a_bare_edge_shows_five_commands_to_start_with(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert code == 0
    assert err == ""
    assert sum(line.startswith("  edge ") for line in out.splitlines()) == 5


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in catalogue.NAMES:
        assert f"  edge {name} " in out


@pytest.mark.parametrize("name", [name for name in catalogue.NAMES if name != "bench"])
def test_every_command_has_a_page_with_examples(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert "examples:" in out


@pytest.mark.parametrize("name", sorted(catalogue.LATER))
def test_commands_of_later_versions_say_so(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = run(capsys, name, "--wait")
    assert (code, out) == (2, "")
    assert f"edge {name} is not in this version" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chek"], "Did you mean: edge check"),
        (["relaod"], "Did you mean: edge reload"),
        (["my.toml"], "Did you mean: edge check my.toml"),
        (["zzz"], "All commands: edge --help"),
        (["check", "--strct"], "Did you mean: --strict"),
        (["--confg", "x", "check"], "Did you mean: --config"),
        (["--verbose"], "edge has no option --verbose"),
        (["routes", "extra"], "edge routes takes no 'extra' here"),
        (["proxy"], "the following arguments are required: PORT"),
        (["proxy", "0"], "is not a port"),
        (["proxy", "70000"], "is not a port"),
        (["proxy", "http"], "is not a port"),
        (["run", "--workers", "0"], "is not a number of workers"),
        (["run", "--log", "xml"], "invalid choice"),
        (["completion", "tcsh"], "invalid choice"),
        (["--config"], "expected one argument"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_helpful_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("edge: ")
    assert len(err.splitlines()) <= 2


def test_version_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("edge ")
    for name in ("Python", "OpenSSL", "pyOpenSSL", "h2", "uvloop"):
        line = next(line for line in out.splitlines() if line.split()[0] == name)
        assert line.split()[1][0].isdigit()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/etc/edge/api.key"), 4),
        (OSError(errno.EADDRINUSE, "Address already in use"), 4),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.toml"), 2),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/etc"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def fail(args: object) -> int:
        raise raised

    monkeypatch.setattr(start, "run", fail)
    found, out, err = run(capsys)
    assert (found, out) == (code, "")
    assert len(err.splitlines()) == (0 if code == 130 else 1)
    assert "Traceback" not in err


def test_control_characters_in_a_message_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "help", "\x1b[31mred")
    assert "\x1b" not in err


def test_a_reader_that_stops_early_is_no_mistake() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "completion", "zsh"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        env=_environment(),
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_real_command_ends_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge", "scan"], capture_output=True, timeout=60, check=False, env=_environment()
    )
    assert done.returncode == 2
    assert b"not in this version" in done.stderr


def test_light_commands_import_nothing_heavy() -> None:
    """`edge`, `edge --help` and a typing mistake answer at once: neither the loop nor the TLS library is loaded."""
    code = (
        "import sys; from edge.cli.main import main; main([]); main(['--help']); main(['chek']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=_environment()
    )
    loaded = set(done.stderr.split())
    assert not loaded & {"uvloop", "asyncio", "OpenSSL", "cryptography", "rich", "h2", "shtab", "msgspec"}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_every_command_has_a_module_that_runs() -> None:
    import importlib

    for command in catalogue.COMMANDS:
        assert callable(importlib.import_module(command.module).run)


def test_bench_gets_its_own_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "bench", "--help")
    assert code == 0
    assert "--peers" in out


def test_an_installation_without_the_bench_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cli.bench.find_spec", lambda name: None)
    code, _, err = run(capsys, "bench")
    assert code == 2
    assert "make bench" in err


def test_arguments_that_are_not_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", "https://open.example/\udcff")
    assert (code, err) == (2, "edge: an argument is not UTF-8\n")


@pytest.mark.parametrize("arguments", [["help", "routing"], ["--help"], ["schema"]])
def test_a_locale_without_the_characters_is_no_mistake(arguments: list[str]) -> None:
    environment = {**_environment(), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "edge", *arguments], capture_output=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
