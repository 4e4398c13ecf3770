"""The suite's own rules: a skip fails in CI, and what a test leaves running is ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SKIPS = """
import pytest

def test_allowed():
    pytest.skip("upstream bug: https://example.com/1")

def test_called():
    pytest.skip("no such program here")

@pytest.mark.skipif(True, reason="not today")
def test_marked():
    pass

@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False
"""
_LEAK = """
import subprocess, sys
from pathlib import Path

def test_leak():
    script = "import os, time; pid = os.fork(); pid and os._exit(0); open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.run([sys.executable, "-c", script], check=True, start_new_session=True, cwd=Path(__file__).parent)
    while not (Path(__file__).parent / "pid").exists() or not (Path(__file__).parent / "pid").read_text():
        pass
"""


def run(folder: Path, test: str, *, ci: str) -> str:
    (folder / "tests").mkdir()
    for name in ("__init__.py", "conftest.py", "ports.py"):
        shutil.copy(Path(__file__).parent / name, folder / "tests" / name)
    (folder / "tests" / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --import-mode=importlib\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "tests"]
    return subprocess.run(command, cwd=folder, env={**environment, "CI": ci}, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(("ci", "closing"), [("true", "1 failed, 1 skipped, 1 xfailed, 1 error"), ("", "3 skipped, 1 xfailed")])
def test_a_skip_fails_in_ci_unless_an_upstream_bug_is_named(tmp_path: Path, ci: str, closing: str) -> None:
    output = run(tmp_path, _SKIPS, ci=ci)
    assert closing in output.splitlines()[-1]
    assert ("skipped in CI: 'no such program here'" in output) == bool(ci)


def test_what_a_test_leaves_running_is_ended(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, _LEAK, ci="")
    pid = int((tmp_path / "tests" / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
