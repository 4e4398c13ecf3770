"""`edge diff`: two files, a file and what runs, and what is printed where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli.main import main
from edge.settings.load import load
from edge.settings.outline import outline
from tests.cli.scripted import Scripted

Diff = Callable[..., tuple[int, str, str]]


@pytest.fixture
def diff(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mesh: Path) -> Diff:
    monkeypatch.chdir(mesh.parent)
    monkeypatch.delenv("EDGE_CONFIG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["diff", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def weaker(mesh: Path) -> Path:
    """The settings, but staff needs no certificate any more and a path is new."""
    text = mesh.read_text(encoding="utf-8").replace('mode = "require"', 'mode = "request"')
    place = mesh.with_name("weaker.toml")
    place.write_text(text + '[[route]]\npath = "/new"\nrespond = { status = 204 }\n', encoding="utf-8")
    return place


def test_two_files(diff: Diff, mesh: Path, weaker: Path) -> None:
    code, out, err = diff(str(mesh), str(weaker))
    assert code == 1
    assert out == (
        "! 1 host with 3 routes no longer requires a client certificate (require → request): staff.example\n  route */new added\n"
    )
    assert err == f"{mesh} → {weaker}: 2 changes, 1 of them weakens security\n"
    assert diff(str(mesh), str(mesh)) == (0, "", f"{mesh} → {mesh}: no change\n")


def test_for_scripts(diff: Diff, mesh: Path, weaker: Path) -> None:
    code, out, _ = diff(str(weaker), str(mesh), "--json")
    told = json.loads(out)
    assert (code, told["version"], told["same"], told["from"]) == (1, 1, False, str(weaker))
    assert [change["weaker"] for change in told["changes"]] == [False, False]
    assert json.loads(diff(str(weaker), str(weaker), "--json")[1])["same"] is True


def test_a_file_with_a_mistake_is_refused_as_check_does(diff: Diff, mesh: Path, weaker: Path) -> None:
    weaker.write_text("[[hots]]\n", encoding="utf-8")
    code, out, err = diff(str(mesh), str(weaker))
    assert (code, out) == (1, "")
    assert "unknown key 'hots'" in err
    assert "weaker.toml" in err
    assert diff(str(mesh), str(weaker.with_name("absent.toml")))[0] == 2


def test_against_what_runs(diff: Diff, mesh: Path, weaker: Path, short_tmp: Path) -> None:
    settings = load(mesh, environ={}).settings
    assert settings is not None
    gateway = Scripted(short_tmp / "s")
    gateway.replies["outline"] = {"ok": True, "outline": outline(settings), "config": str(mesh)}
    socket = ["--socket", str(gateway.path)]
    assert diff(*socket) == (0, "", f"the running gateway → {mesh}: no change\n")
    code, out, err = diff(str(weaker), *socket)
    assert code == 1
    assert "no longer requires" in out
    assert err.startswith(f"the running gateway → {weaker}: ")
    assert diff("--config", str(weaker), *socket)[0] == 1
    gateway.close()
    assert diff(*socket)[0] == 3
