"""Reloads under load: certificates are renewed and the target gets SIGHUP, again and again, while an open-loop load goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from .certificates import Leaf
from .first import first_handshake, shown_certificate
from .processes import environment
from .samples import Sample, Site, Target

__all__ = ["percentile", "under_load"]

_BETWEEN = 0.25  # seconds from one reload to the next
_PATIENCE = 10.0  # seconds until the last renewal must be served
_PHASES = ("before", "during", "after")


def percentile(values: list[float], share: float) -> float:
    """The smallest of `values` that `share` of them do not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _renew(live: Leaf, renewal: Leaf) -> None:
    """Each file appears in one step."""
    for old, new in ((renewal.chain, live.chain), (renewal.key, live.key)):
        beside = new.with_suffix(".new")
        shutil.copy(old, beside)
        os.replace(beside, new)


def _fingerprint(leaf: Leaf) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf.chain.read_text())).hexdigest()


def under_load(target: Target, site: Site, seconds: float) -> Sample:
    """`seconds` before, while it reloads, and after. Raises RuntimeError when the last certificate does not come to be served."""
    with tempfile.TemporaryDirectory(prefix="edge-bench-live-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        live = Leaf(folder / "chain.pem", folder / "key.pem", folder / "both.pem")
        _renew(live, site.renewals[0])
        child, port = target.start(leaf=live, workers=2)
        with child:
            child.wait_port(port)
            first_handshake(port)
            command = ["taskset", "-c", str(site.core), sys.executable, "-m", f"{__package__}.openloop", str(port)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as load:
                try:
                    return _measured(load, child, port, live, site, seconds)
                finally:
                    load.kill()


def _measured(load: subprocess.Popen[bytes], child: Any, port: int, live: Leaf, site: Site, seconds: float) -> Sample:
    output: IO[bytes] | None = load.stdout
    assert output is not None
    if output.readline() != b"ready\n":
        raise RuntimeError("the load could not connect")
    used, began = child.cpu(), time.monotonic()
    time.sleep(seconds)
    first, count = time.monotonic(), 0
    renewal = site.renewals[0]
    while time.monotonic() < first + seconds:
        count += 1
        renewal = site.renewals[count % len(site.renewals)]
        _renew(live, renewal)
        child.signal(signal.SIGHUP)
        time.sleep(_BETWEEN)
    while shown_certificate(port) != _fingerprint(renewal):
        if time.monotonic() > first + seconds + _PATIENCE:
            raise RuntimeError("the last certificate is not served")
        time.sleep(0.02)
    last = time.monotonic()
    time.sleep(seconds)
    total = time.monotonic() - began
    used = child.cpu() - used
    seen = json.loads(load.communicate()[0])
    found: dict[str, dict[str, list[float]]] = {phase: {"request": [], "handshake": []} for phase in _PHASES}
    for kind, what in (("h1", "request"), ("h2", "request"), ("handshake", "handshake")):
        for due, latency in seen["seen"][kind]:
            found["before" if due < first else "during" if due < last else "after"][what].append(latency)
    details = {
        f"{what} p99 {phase}, ms": percentile(found[phase][what], 0.99) * 1e3
        for what in ("request", "handshake")
        for phase in _PHASES
    }
    details |= {
        "reloads": count,
        "sent again": seen["again"],
        "operations": sum(map(len, seen["seen"].values())),
        "WebSockets alive": seen["websockets"],
    }
    if seen["failures"]:
        raise RuntimeError(f"{seen['failed']} operations failed, such as {seen['failures'][0]}")
    value = percentile(found["during"]["request"], 0.99)
    return Sample(value, details["operations"], total, used / total, 0, seen["failed"], details)
