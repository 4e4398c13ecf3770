"""`python -m bench`, short: edge and nginx, one round of a relay and of handshakes, and the figures are there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_a_short_run_gives_a_ratio_for_each_scenario(tmp_path: Path) -> None:
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    output = tmp_path / "result.json"
    command = [
        sys.executable,
        "-m",
        "bench",
        "--peers",
        "nginx,edge",
        "--scenario",
        "h1-small,bulk-up,tls1.3-resumed,idle-memory,start-500,reload",
    ]
    command += ["--rounds", "1", "--seconds", "0.5", "--bulk", "16", "--idle", "50", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "edge spends" in done.stdout
    assert "× nginx's CPU per small HTTP/1.1 request" in done.stdout
    result = json.loads(output.read_text())
    assert set(result["configurations"]) == {"nginx", "edge", "upstream"}
    assert "WebSockets alive 10.0" in done.stdout
    for scenario in result["scenarios"]:
        assert scenario["problems"] == []
        assert scenario["summary"]["edge"]["ratio"] > 0
