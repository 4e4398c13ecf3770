"""The completions name every command, option and page, and the shells that are here can read them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from edge.cli.catalogue import NAMES
from edge.cli.main import main

CHECK = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_hold_all_commands(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    for word in [*NAMES, "strict", "effective", "routing", "certificates"]:
        assert word in out
    if shutil.which(shell):
        done = subprocess.run([*CHECK[shell], "/dev/stdin"], input=out, text=True, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    ask = "COMP_WORDS=(edge expl); COMP_CWORD=1; _shtab_edge edge expl edge; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["explain"]
