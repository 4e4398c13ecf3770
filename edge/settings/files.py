"""Reading the files that settings name, each up to a size, with one wording for what keeps a file from being read."""

from __future__ import annotations

from pathlib import Path

from edge.settings.problems import Reason

__all__ = ["Unreadable", "read_file"]


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
