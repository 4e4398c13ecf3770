"""Keys of session tickets that are in the bench's hands: where each target has them, and how it is told of new ones.

* `edge`: a secret that keys are computed from (`tls.ticket_secret`); a new file and a reload.
* nginx: a key to issue with and the one before it (`ssl_session_ticket_key`, twice); new files and a reload.
* HAProxy: three keys, the second of which issues (`tls-ticket-keys`); a new one is told on its socket, without a reload.

Each goes on accepting tickets under the keys of before, as all of them can. `rotate` returns when the new keys are in force.
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path

from .processes import Child, run_pinned

__all__ = ["CONTROL", "KEYS", "OLDER", "TARGETS", "place", "rotate"]

TARGETS = ("edge", "nginx", "haproxy")
KEYS, OLDER = "tickets", "tickets-before"
"""The names of the files in a target's folder."""

CONTROL = "control"
"""HAProxy's socket."""

_LENGTH = 80  # bytes: a name of 16, and 32 each for HMAC and AES-256
_PATIENCE = 30.0  # seconds for a reload


def _line() -> bytes:
    return base64.b64encode(secrets.token_bytes(_LENGTH)) + b"\n"


def _put(path: Path, content: bytes) -> None:
    """In one step, for its owner alone."""
    beside = path.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_bytes(content)
    os.replace(beside, path)


def place(name: str, folder: Path) -> None:
    """The first keys of the target `name`, in its `folder`."""
    if name == "haproxy":
        _put(folder / KEYS, _line() + _line() + _line())
        return
    _put(folder / KEYS, secrets.token_bytes(_LENGTH))
    _put(folder / OLDER, secrets.token_bytes(_LENGTH))


def rotate(child: Child, core: int) -> None:
    """Have the target issue under new keys. What is run for that runs on `core`. Raises RuntimeError or OSError."""
    {"edge": _edge, "nginx": _nginx, "haproxy": _haproxy}[child.name](child, core)


def _edge(child: Child, core: int) -> None:
    _put(child.folder / KEYS, secrets.token_bytes(_LENGTH))
    command = [sys.executable, "-m", "edge.cli.main", "reload", "--config", str(child.folder / "edge.toml")]
    run_pinned(command, core, _PATIENCE)


def _nginx(child: Child, core: int) -> None:
    master, *before = child.cpu_by_process()
    _put(child.folder / OLDER, (child.folder / KEYS).read_bytes())
    _put(child.folder / KEYS, secrets.token_bytes(_LENGTH))
    child.signal(signal.SIGHUP)
    end = time.monotonic() + _PATIENCE
    while set(before) & set(now := child.cpu_by_process()) or len(now) < 2:
        if time.monotonic() > end:
            raise RuntimeError(f"the workers of before are still there {_PATIENCE:.0f} s after the reload of {master}")
        time.sleep(0.01)


def _haproxy(child: Child, core: int) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        sock.connect(str(child.folder / CONTROL))
        sock.sendall(b"set ssl tls-key " + str(child.folder / KEYS).encode() + b" " + _line())
        answer = sock.recv(4096)
    if b"updated" not in answer:
        raise RuntimeError(f"haproxy did not take a new key: {answer!r}")
