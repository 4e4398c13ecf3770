"""What is measured. A scenario takes one sample of one target; lower is better in every one of them."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from . import load, reloads
from .first import first_handshake
from .growth import growth
from .handshakes import Job
from .processes import environment
from .requests import requests, sizes
from .rotation import ROTATION
from .rows import handshakes
from .samples import Sample, Scenario, Site, Target

__all__ = ["SCENARIOS", "Sample", "Scenario", "Site", "Target"]


_SETTLED = 2.5  # seconds until what is freed late has been freed


def _idle_memory(target: Target, site: Site, seconds: float) -> Sample:
    """Bytes of the target's own memory for each idle TLS connection, on a fresh process that has warmed up."""
    child, port = target.start()
    with child:
        child.wait_port(port)
        load.handshakes(port, site.core, 0.3, "1.3-full")
        time.sleep(0.2)
        before, began = child.memory(), time.perf_counter()
        job = Job("127.0.0.1", port, mode="idle", connections=site.idle)
        command = [sys.executable, "-m", f"{__package__}.handshakes", job.text()]
        with subprocess.Popen(
            ["taskset", "-c", str(site.core), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            opened = holder.stdout.readline()
            time.sleep(_SETTLED)
            grown = child.memory() - before
            holder.stdin.close()
        if int(opened or 0) != site.idle:
            raise RuntimeError(f"only {opened!r} of {site.idle} connections were opened")
    return Sample(grown / site.idle, site.idle, time.perf_counter() - began, 0, 0, 0)


def _start_up(target: Target, site: Site, seconds: float, *, many: bool = False) -> Sample:
    """Seconds from the start of the process to the end of its first handshake."""
    began = time.perf_counter()
    child, port = target.start(workers=2, hosts=site.many[:500] if many else ())
    with child:
        child.wait_port(port)
        first_handshake(port)
        total = time.perf_counter() - began
        used = child.cpu()
        return Sample(total, 1, total, used / total, 0, 0, {"CPU, ms": used * 1e3})


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in [
        *requests(),
        *handshakes(),
        Scenario("idle-memory", "memory per idle TLS connection", "KiB", 1 / 1024, _idle_memory),
        Scenario("start", "time from start to the first handshake (2 workers)", "ms", 1e3, _start_up),
        Scenario(
            "start-500",
            "time from start to the first handshake (2 workers, 500 more certificates)",
            "ms",
            1e3,
            partial(_start_up, many=True),
            only=("edge", "nginx"),
        ),
        Scenario(
            "reload",
            "latency of a request, p99, while certificates are renewed under load",
            "ms",
            1e3,
            reloads.under_load,
            only=("edge", "nginx"),
        ),
        ROTATION,
        *sizes(),
        *growth(),
    ]
}
