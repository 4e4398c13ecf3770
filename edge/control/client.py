"""The caller's side of the control socket: one request, one answer, in bounded time.

A request is one line of JSON and so is its answer. Whoever answers must be root or the caller's own user (root may ask anybody):
else another user could lie in wait at a place that is nobody's, such as /tmp.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["ask"]

_MOST_BYTES = 16 * 1024 * 1024 + 1


def ask(path: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The answer to `request`. `timeout` is in seconds, for all of it.

    Raises FileNotFoundError and ConnectionRefusedError when nobody is there, PermissionError, TimeoutError, and
    ConnectionError when the gateway went away before it answered, or what came is no answer.
    """
    until = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(os.fspath(path))
        _check_peer(sock, path)
        sock.sendall(json.dumps(request).encode() + b"\n")
        received = bytearray()
        while not received.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {timeout:g} s")
            sock.settimeout(left)
            data = sock.recv(1 << 16)
            if not data or len(received) > _MOST_BYTES:
                raise ConnectionResetError("the connection ended without an answer")
            received += data
    try:
        answer = json.loads(received)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ConnectionAbortedError("what came is no answer")
    return answer


def _check_peer(sock: socket.socket, path: Path) -> None:
    if sys.platform != "linux":
        return
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if os.geteuid() not in (0, uid) and uid != 0:
        raise PermissionError(13, "it belongs to another user", os.fspath(path))
