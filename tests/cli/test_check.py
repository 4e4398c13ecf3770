"""`edge check`: what it says where, and the code that it ends with."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.cli.main import main
from edge.tls import layout

WRONG = """\
[[host]]
names = ["api.example.com"]
certificates = [{ chain = "a", key = "b" }]
upstrem = "http://127.0.0.1:8000"

[limits]
request_body = 0
"""


@pytest.mark.usefixtures("mesh")
def test_settings_that_are_fine_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "edge.toml: fine (3 hosts, 6 routes, 3 listeners" in captured.err


def test_every_mistake_is_shown_at_once(write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    write(WRONG)
    assert main(["check"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "edge.toml:4:1: error: unknown key 'upstrem'" in captured.err
    assert "edge.toml:7:16: error" in captured.err
    assert "^~~~~~~" in captured.err
    assert captured.err.splitlines()[-1] == "edge.toml: 2 errors"


def test_a_named_file_and_stdin_do_the_same(
    write: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(WRONG)
    assert main(["check", str(path)]) == 1
    named = capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert main(["check", "-"]) == 1
    assert capsys.readouterr().err == named.replace(str(path), "stdin")


def test_stdin_that_is_not_utf8_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a = '\xff'")))
    assert main(["check", "-"]) == 1
    assert "not UTF-8" in capsys.readouterr().err


def test_json_is_one_object(write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    write(WRONG)
    assert main(["check", "--json"]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert (found["version"], found["ok"], len(found["problems"])) == (1, False, 2)
    assert found["problems"][0]["line"] == 4


def test_json_may_stand_before_the_command(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--config", str(mesh), "check"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_strict_makes_warnings_count(write: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(WRONG.replace("upstrem", "upstream").replace("request_body = 0", 'request_body = "1MiB"'))
    (tmp_path / "pki" / "1.key").chmod(0o640)  # a key that a group may read is a warning
    assert main(["check"]) == 0
    assert "1 warning" in capsys.readouterr().err
    assert main(["check", "--strict"]) == 1
    assert "edge.toml: 1 warning (--strict)" in capsys.readouterr().err


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/absent/edge.toml"]) == 2
    assert capsys.readouterr().err == "edge: /absent/edge.toml: No such file or directory\n"


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_file_and_config_together_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "a.toml", "check", "b.toml"]) == 2


def test_without_any_file_the_places_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_CONFIG", raising=False)
    monkeypatch.setattr("edge.cli.locate.SYSTEM_FILE", tmp_path / "absent.toml")
    assert main(["check"]) == 2
    err = capsys.readouterr().err
    assert "$EDGE_CONFIG (not set)" in err
    assert "edge init NAME --to URL" in err


def test_root_reads_the_current_folders_file_only_when_it_is_named(
    mesh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDGE_CONFIG")
    monkeypatch.setattr("edge.cli.locate.SYSTEM_FILE", mesh.parent / "absent.toml")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main(["check"]) == 2
    assert "as root, ./edge.toml is read only when it is named" in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["check"]) == 0


def test_a_file_that_may_not_be_read_is_4(
    mesh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import builtins

    opened = builtins.open

    def refuse(name: object, *rest: object, **named: object) -> object:
        if str(name).endswith("edge.toml"):
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", refuse)
    assert main(["check"]) == 4
    assert "edge.toml: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "routes"])
def test_other_commands_show_the_errors_and_end_with_1(
    command: str, write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(WRONG)
    assert main([command]) == 1
    err = capsys.readouterr().err
    assert "unknown key 'upstrem'" in err
    assert err.splitlines()[-1] == "edge: edge.toml: 2 errors"


def test_effective_is_toml_with_the_place_of_every_value(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--effective"]) == 0
    out = capsys.readouterr().out
    found = tomllib.loads(out)
    assert [host["names"] for host in found["host"]][1] == ["staff.example"]
    assert found["host"][1]["client_auth"]["mode"] == "require"
    assert found["limits"]["request_body"] == "10MiB"
    assert re.search(r'^request_body = "10MiB" +# default$', out, re.MULTILINE)
    assert re.search(r'^timeout = "30s" +# edge\.toml:\d+$', out, re.MULTILINE)
    assert "# certificate all: ecdsa, for open.example" in out


@pytest.mark.usefixtures("mesh")
def test_effective_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--effective", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert found["settings"]["limits"]["request_body"] == {"value": "10MiB", "from": "default"}


def test_effective_never_shows_a_secret(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    write(
        WRONG.replace("upstrem", "upstream").replace("request_body = 0", 'request_body = "1MiB"')
        + '\n[request_headers]\nset = { "X-Token" = "${env:TOKEN}" }\n'
    )
    assert main(["check", "--effective"]) == 0
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    assert "***" in captured.out


def test_effective_of_settings_with_errors_is_their_report(
    write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(WRONG)
    assert main(["check", "--effective"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "unknown key 'upstrem'" in captured.err


def test_a_key_that_may_not_be_read_is_4(mesh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Path.open

    def refuse(self: Path, *rest: Any, **named: Any) -> Any:
        if self.suffix == ".key":
            raise PermissionError(13, os.strerror(13), str(self))
        return opened(self, *rest, **named)

    monkeypatch.setattr(Path, "open", refuse)
    assert main(["check", str(mesh)]) == 4
    assert "cannot be read: permission denied" in capsys.readouterr().err
    assert main(["run"]) == 4


def test_it_says_when_ticket_keys_cannot_be_set(
    mesh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumption"] == "shared"
    monkeypatch.setattr(layout, "_outcome", lambda: layout.LayoutError("the keys stand in 0 places"))
    assert main(["check"]) == 0
    assert "warning: resumption will be per worker after the next reload" in capsys.readouterr().err
    assert main(["check", "--json"]) == 0
    assert "0 places" in json.loads(capsys.readouterr().out)["resumption"]
