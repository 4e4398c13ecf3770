"""Reading the files that settings name, each up to a size, with one wording for what keeps a file from being read.

What stat says of a file before it is read tells later whether it is still what was read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge.settings.problems import Reason

__all__ = ["State", "Unreadable", "read_file", "state_of"]

State = tuple[int, ...]
"""What decides whether a path is still the same; states are compared and nothing else."""


class Unreadable(Exception):
    """Why a file was not read: its text follows the file's name ("cannot be read: no such file or directory")."""

    def __init__(self, words: str, reason: Reason = Reason.MISTAKE) -> None:
        super().__init__(words)
        self.reason = reason


def read_file(path: Path, most: int) -> bytes:
    """A file's bytes, at most `most` of them (a number of whole MiB). Raises `Unreadable`."""
    try:
        with path.open("rb") as handle:
            data = handle.read(most + 1)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        denied = isinstance(error, PermissionError)
        raise Unreadable(f"cannot be read: {words.lower()}", Reason.NOT_PERMITTED if denied else Reason.MISTAKE) from None
    if len(data) > most:
        raise Unreadable(f"is longer than {most >> 20} MiB")
    return data


def state_of(path: str) -> State:
    """Of a file or a directory, links followed; one number for a path that cannot be looked at. Never raises."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        return (getattr(error, "errno", None) or -1,)
    times = found.st_mtime_ns, found.st_ctime_ns
    if stat.S_ISDIR(found.st_mode):
        return found.st_dev, found.st_ino, *times
    return found.st_dev, found.st_ino, found.st_size, found.st_mode, found.st_uid, found.st_gid, *times
