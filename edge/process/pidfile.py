"""The PID file, for those who want one. It is no lock: the control socket says whether a gateway runs."""

from __future__ import annotations

import contextlib
import os

from edge.process.errors import NOT_PERMITTED, StartError

__all__ = ["remove", "write"]


def write(path: str) -> None:
    """Write our process id, in one step, over whatever is there. Nothing for an empty path. Raises StartError."""
    if not path:
        return
    beside = f"{path}.{os.getpid()}"
    try:
        with open(beside, "x", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise StartError(f"server.pid_file {path}: {error.strerror}", NOT_PERMITTED) from error


def remove(path: str) -> None:
    """Take it away if it is ours still."""
    if not path:
        return
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        if int(file.read()) == os.getpid():
            os.unlink(path)
