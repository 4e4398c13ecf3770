"""`edge bench handshake` against a running gateway: what it finds is what the gateway is known to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .gateway import Gateway


def test_the_defaults_are_found_from_outside(echo_gateway: Gateway, tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "edge.cli.main", "bench", "handshake", "--target", f"127.0.0.1:{echo_gateway.port}"]
    command += ["--name", "localhost", "--count", "3", "--seconds", "0.3", "--rate", "100", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It speaks TLS 1.3 and 1.2" in done.stdout
    found = json.loads(output.read_text())
    rows = {row["label"]: row for row in found["handshakes"] if "refused" not in row}
    for label, trips in (("TLS 1.3 full, X25519MLKEM768", 1), ("TLS 1.3 full, P-256", 1), ("TLS 1.2 full, X25519", 2)):
        assert rows[label]["round_trips"] == trips
        assert rows[label]["handshake_ms"]["count"] == 3
    assert rows["TLS 1.3 full, X25519MLKEM768"]["flight_bytes"] > rows["TLS 1.3 full, X25519"]["flight_bytes"] + 1000
    for version in ("1.3", "1.2"):
        resumed = rows[f"TLS {version} resumed, X25519"]
        assert (resumed["round_trips"], resumed["not_as_asked"]) == (1, 0)
        assert resumed["flight_bytes"] < rows[f"TLS {version} full, X25519"]["flight_bytes"]
    assert all(loop["failed"] == 0 and loop["count"] > 0 for loop in found["loops"])
    assert output.with_suffix(".html").read_text().startswith("<!doctype html>")
