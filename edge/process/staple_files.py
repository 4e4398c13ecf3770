"""Where OCSP answers outlive the gateway: the folder ``ocsp`` in the state directory, one file for each certificate.

A file is called after the certID and holds the response as it came (DER; ``openssl ocsp -respin FILE -text`` shows it). Answers
are public and are verified whenever they are read, so the folder is no place of trust. The supervisor makes and opens it once,
with its own rights, and gives it to whom the controller becomes: who writes needs no right to walk there.

Whatever goes wrong here only means that answers are fetched again.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress

from edge.process.privileges import Identity
from edge.tls.ocsp import LARGEST

__all__ = ["StapleFiles"]

_NAME = re.compile(r"[0-9a-f]{64}\.der")
_OLD = 30 * 86_400.0  # seconds after which a file of an unknown certificate is removed
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class StapleFiles:
    """The folder. `problem` says why there is none; without a `state_dir` none is wanted."""

    def __init__(self, state_dir: str, identity: Identity | None) -> None:
        self._folder = -1
        self.problem = ""
        path = os.path.join(state_dir, "ocsp")
        if not state_dir:
            return
        try:
            os.makedirs(state_dir, 0o755, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if identity is not None and os.fstat(self._folder).st_uid != identity.uid:
                os.fchown(self._folder, identity.uid, identity.gid)
        except OSError as error:
            self.problem = f"{path}: {error.strerror or error}"
            self.close()

    def read(self, key: str) -> bytes | None:
        """What was kept for a certificate. Raises OSError, but not when there is none."""
        if self._folder < 0:
            return None
        try:
            handle = os.open(f"{key}.der", _READ, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(f"{key}.der is no file")
            return os.read(handle, LARGEST + 1)
        finally:
            os.close(handle)

    def write(self, key: str, response: bytes) -> None:
        """Keep an answer: the file is the old or the new one, whole. Raises OSError."""
        if self._folder < 0:
            raise OSError(self.problem or "the folder is closed")
        new = f"{key}.new-{os.getpid()}"
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            try:
                if os.write(handle, response) != len(response):
                    raise OSError("there is no space left")
            finally:
                os.close(handle)
            os.replace(new, f"{key}.der", src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            with suppress(OSError):
                os.unlink(new, dir_fd=self._folder)
            raise

    def sweep(self, known: Iterable[str]) -> None:
        """Remove old files of certificates that are not `known`. Never raises."""
        if self._folder < 0:
            return
        kept, before = {f"{key}.der" for key in known}, time.time() - _OLD
        with suppress(OSError):
            for name in os.listdir(self._folder):
                if name in kept or not (_NAME.fullmatch(name) or ".new-" in name):
                    continue
                with suppress(OSError):
                    if os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mtime < before:
                        os.unlink(name, dir_fd=self._folder)

    def close(self) -> None:
        """Close this process's copy. Idempotent."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
