"""A flame graph of `edge` under load, short; and what is missing is said."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import profiles


def test_wrong_usage_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["profile", "--scenario", "nothing"]) == 2
    assert command.main(["profile", "--seconds", "0"]) == 2
    assert command.main(["profile", "--scenario", "routes-1000"]) == 2
    assert capsys.readouterr().err.count("bench: ") == 3


def test_a_missing_sampler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(profiles, "missing", lambda *names: [name for name in names if name == "py-spy"])
    monkeypatch.setattr(profiles, "find", lambda: {"nginx": "nginx"})
    assert command.main(["profile"]) == 2
    assert "pip install py-spy" in capsys.readouterr().err


@pytest.mark.timeout(60)
def test_a_flame_graph_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = Path(sys.executable).parent / "py-spy"
    if not beside.exists() or shutil.which("taskset") is None or "nginx" not in profiles.find():
        pytest.skip("py-spy, taskset or nginx is not installed")
    picture = tmp_path / "one.svg"
    code = command.main(["profile", "--scenario", "tls1.3-resumed", "--seconds", "1", "--output", str(picture)])
    said = capsys.readouterr()
    if code and "ermission" in said.err:
        pytest.skip("this machine allows no looking into other processes")
    assert code == 0, said.err
    text = picture.read_text()
    assert "<svg" in text
    assert "engine" in text
