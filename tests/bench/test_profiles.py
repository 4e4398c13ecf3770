"""Flame graphs of `edge` under load, short; what perf says is read as it is meant; and what is missing is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from bench import __main__ as command
from bench import flame, native, profiles
from bench.flame import Frame


def test_wrong_usage_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["profile", "--scenario", "nothing"]) == 2
    assert command.main(["profile", "--seconds", "0"]) == 2
    assert command.main(["profile", "--scenario", "routes-1000"]) == 2
    assert capsys.readouterr().err.count("bench: ") == 3


def test_a_missing_sampler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(profiles, "missing", lambda *names: [name for name in names if name in ("py-spy", "perf")])
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
    if "no picture of native code" in said.out:
        return
    native_text = (tmp_path / "one-native.svg").read_text()
    ElementTree.fromstring(native_text)
    assert "SSL_do_handshake (_rust" in native_text
    assert "SSL_do_handshake (_rust" in (tmp_path / "one-native.folded").read_text()
    assert "all of it" in said.out


SCRIPT = """
\tffffffff82010bae tcp_recvmsg ([kernel.kallsyms])
\t          108c59 epoll_pwait (/usr/lib/x86_64-linux-gnu/libc.so.6)
\tffffffffffffffff [unknown] ([unknown])

\t          2c3d29 core::ops::FnOnce::call_once (/opt/one two/_rust.abi3.so)
\t           fd9c2 _PyEval_EvalFrameDefault (/usr/bin/python3.11)

\t          2c3d29 core::ops::FnOnce::call_once (/opt/one two/_rust.abi3.so)
\t           fd9c2 _PyEval_EvalFrameDefault (/usr/bin/python3.11)
\t               0 [unknown] ([unknown])
"""


def test_what_perf_prints_is_read() -> None:
    stacks = native.read(SCRIPT.splitlines())
    twice = (Frame("_PyEval_EvalFrameDefault", "python3.11"), Frame("core::ops::FnOnce::call_once", "_rust.abi3.so"))
    assert stacks == {(Frame("epoll_pwait", "libc.so.6"), Frame("tcp_recvmsg", "kernel")): 1, twice: 2}
    assert native.by_library(stacks)[0] == ("_rust.abi3.so", pytest.approx(2 / 3))
    assert native.by_symbol(stacks)[1][0] == Frame("tcp_recvmsg", "kernel")
    assert "core::ops::FnOnce::call_once (_rust.abi3.so) 2\n" in native.folded(stacks)
    assert native.read([]) == {}


def test_the_picture_is_well_formed_and_as_wide_as_the_samples() -> None:
    a, b, c = Frame("<main> & co", "python3.11"), Frame("x", "kernel"), Frame("y" * 500, "_rust.abi3.so")
    picture = ElementTree.fromstring(flame.draw("a <title>", {(a, b): 30, (a, c): 69, (a,): 1}))
    space = "{http://www.w3.org/2000/svg}"
    found = {group.findtext(f"{space}title", ""): group.find(f"{space}rect") for group in picture.iter(f"{space}g")}
    widths = {name: float(rect.get("width", "0")) for name, rect in found.items() if rect is not None}
    assert widths["<main> & co (python3.11): 100.0%, 100 samples"] == 1200
    assert widths["x (kernel): 30.0%, 30 samples"] == 360
    kinds = {name[:1]: rect.get("class") for name, rect in found.items() if rect is not None}
    assert kinds == {"a": "other", "<": "interpreter", "x": "kernel", "y": "crypto"}


@pytest.mark.parametrize(("code", "words"), [(1, "may not record here: No permission"), (0, "saw nothing")])
def test_a_machine_that_shows_nothing_says_why(code: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[1] == "record":
            asked.append(command[command.index("-e") + 1])
            (tmp_path / "perf.data").touch()
            return subprocess.CompletedProcess(command, code, "", "No permission")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(shutil, "which", lambda _: "perf")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(native.Unseen, match=words):
        native.record(1, 0.1, tmp_path)
    assert asked == (["cycles", "cycles:u", "cpu-clock:u"] if code else ["cycles"])


def test_a_kernel_that_may_not_be_looked_into_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """perf then counts the program alone, and is content."""
    told = {"record": "", "evlist": "cycles:u\n", "script": SCRIPT}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (tmp_path / "perf.data").touch()
        return subprocess.CompletedProcess(command, 0, told[command[1]], "")

    monkeypatch.setattr(shutil, "which", lambda _: "perf")
    monkeypatch.setattr(subprocess, "run", run)
    stacks, event = native.record(1, 0.1, tmp_path)
    assert event == "cycles:u"
    profiles._show("x", stacks, event, tmp_path / "x.svg", Console(width=120))
    out = " ".join(capsys.readouterr().out.split())
    assert "3 samples, without the kernel, which may not be looked into here" in out
    assert "3 samples are few: shares are known to 58 points or so." in out
    assert "66.7% _rust.abi3.so all of it" in out


def test_without_perf_there_is_no_native_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(native.Unseen, match="perf is not installed"):
        native.record(1, 0.1, tmp_path)
