"""The machine: which cores serve and load, and the facts that a report has to name."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from OpenSSL import SSL

__all__ = ["Cores", "describe"]


class Cores:
    """One core for the server under test and one for load and upstream; the same one when there is no other.

    `clients`, the core of the load among them, are those that a client of several processes can have: four at most.
    """

    def __init__(self) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        self.server = allowed[0]
        self.load = allowed[1 % len(allowed)]
        self.clients = allowed[1:5] or allowed

    @property
    def shared(self) -> bool:
        return self.server == self.load


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(cores: Cores | None) -> dict[str, object]:
    """What was measured on: processor, kernel, Python, TLS library, memory in MiB, load average now; the `cores`, if pinned."""
    pinned = {} if cores is None else {"server_core": cores.server, "load_core": cores.load}
    return pinned | {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": sys.version.split()[0],
        "tls_library": SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "load_average": os.getloadavg(),
    }
