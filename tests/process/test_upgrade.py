"""What an upgrade starts: the same command, found anew."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.process import upgrade
from edge.process.handover import Mode
from edge.process.loop import Loop
from edge.process.upgrade import Upgrade, own_command


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


class Gateway:
    """As much of a supervisor as an upgrade in place asks for."""

    def __init__(self, command: str) -> None:
        self.loop = Loop(lambda _error: None)
        self.events: list[str] = []
        self.log = SimpleNamespace(event=lambda name, **_: self.events.append(name), flush=lambda: None)
        self.conductor = SimpleNamespace(busy=False)
        self.children = SimpleNamespace(living=list)
        self.settings = SimpleNamespace(server=SimpleNamespace(upgrade_command=(command,)))
        self.sockets = SimpleNamespace(by_listener={})
        self.controller_work = SimpleNamespace(sockets=[])
        self.manager = SimpleNamespace(notifier=SimpleNamespace(environment={}))
        self.generation, self.control_path = 1, ""
        self.sections: dict[str, Any] = {}
        self.heirlooms = dict
        self.early: list[str] = []  # what became of the filter of early data
        self.replays = SimpleNamespace(close=lambda: self.early.append("closed"), open=lambda _now: self.early.append("open"))


def _tried(gateway: Gateway) -> list[dict[str, Any]]:
    """The answers to who asked for an upgrade in place, once it has been rehearsed."""
    answers: list[dict[str, Any]] = []
    made = Upgrade(gateway, list)  # type: ignore[arg-type]
    attempt = made._attempt = upgrade._Attempt(Mode.REHEARSE, "test", answers.append)
    made._replace(attempt)
    assert not made.running
    gateway.loop.close()
    return answers


def test_what_cannot_be_passed_on_is_told_to_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("there are more sockets than can be passed on")

    monkeypatch.setattr(upgrade, "leave", full)
    gateway = Gateway("edge")
    (answer,) = _tried(gateway)
    assert (answer["ok"], answer["error"]) == (False, "upgrade-failed")
    assert "more sockets" in answer["detail"]
    assert gateway.events == ["upgrading-in-place", "upgrade-failed"]
    assert gateway.early == ["closed", "open"]


def test_a_program_that_has_gone_between_rehearsal_and_start_changes_nothing(tmp_path: Path) -> None:
    gateway = Gateway(str(tmp_path / "gone"))
    assert [answer["ok"] for answer in _tried(gateway)] == [True]  # all that could be known before
    assert gateway.events[-1] == "upgrade-failed"
