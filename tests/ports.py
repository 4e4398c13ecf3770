"""TCP ports of loopback that belong to whoever asked, until its process ends.

A probe says only that a port was free; between it and the use, another process can take the port. So every process claims
whole blocks: it binds the first port of one and keeps that socket (which does not listen) for as long as it lives. Whoever
uses this module, in this test run or in another beside it, leaves a claimed block alone. All blocks lie outside the range
from which the kernel picks ports by itself, where that leaves room. A process hands out no port twice.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_port"]

_BLOCK = 100
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_claims: list[socket.socket] = []


def _blocks() -> range:
    """The first ports of all blocks."""
    first, last = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (32_768, 65_535)
    below, above = range(10_000, min(first, 65_536) - _BLOCK, _BLOCK), range(max(last + 1, 10_000), 65_536 - _BLOCK, _BLOCK)
    roomy = max(below, above, key=len)
    return roomy if len(roomy) >= 20 else range(10_000, 65_536 - _BLOCK, _BLOCK)


def _bound(port: int) -> socket.socket | None:
    """A socket that has the port of 127.0.0.1, if ::1 has it free too."""
    claim = socket.socket()
    try:
        claim.bind(("127.0.0.1", port))
        with socket.socket(socket.AF_INET6) as other:
            other.bind(("::1", port))
    except OSError as error:
        if error.errno not in (97, 99):  # no IPv6 here
            claim.close()
            return None
    return claim


def _ports() -> Iterator[int]:
    blocks = _blocks()
    for number in range(len(blocks)):
        first = blocks[(os.getpid() * 7 + number) % len(blocks)]
        claim = _bound(first)
        if claim is None:
            continue
        _claims.append(claim)
        for port in range(first + 1, first + _BLOCK):
            probe = _bound(port)
            if probe is not None:
                probe.close()
                yield port
    raise RuntimeError(f"all {len(blocks)} blocks of ports are taken")


_free = _ports()


def free_port() -> int:
    """A TCP port that is free on 127.0.0.1 and ::1, another one at every call."""
    return next(_free)
