"""What an upgrade starts: the same command, found anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge.process.upgrade import own_command


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "edge"
    path.write_text("#!/opt/edge/bin/python\n")
    path.chmod(0o755)
    return path


def test_a_script_is_started_by_its_own_name(monkeypatch: pytest.MonkeyPatch, script: Path) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/opt/edge/bin/python", str(script), "run", "--config", "edge.toml"])
    assert own_command() == [str(script), "run", "--config", "edge.toml"]


@pytest.mark.parametrize("words", [["-m", "edge", "run"], ["-c", "import edge", "run"], []])
def test_anything_else_is_started_with_this_interpreter(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    assert own_command() == [sys.executable, *words]


@pytest.mark.parametrize("spoil", ["mode", "head", "gone"])
def test_a_script_that_cannot_be_executed_is_given_to_this_interpreter(
    monkeypatch: pytest.MonkeyPatch, script: Path, spoil: str
) -> None:
    if spoil == "mode":
        script.chmod(0o644)
    elif spoil == "head":
        script.write_text("print()\n")
    else:
        script.unlink()
    monkeypatch.setattr(sys, "orig_argv", ["python", str(script), "run"])
    assert own_command() == [sys.executable, str(script), "run"]
