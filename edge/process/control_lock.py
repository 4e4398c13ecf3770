"""The lock beside the control socket: one gateway at a time in a directory, also when several start in the same instant.

Whether somebody listens on a socket, and taking its name, are two steps, and between them there is room for another gateway. An
advisory lock (flock(2)) is one step. It is held as long as the gateway lives, by an open file description: the kernel gives it up
with the last descriptor, however the gateway ends, and a program that takes over gets a descriptor of the same one. The file
is left where it is, because a lock on a file without a name would exclude nobody. In it stands who holds it, for people.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

from edge.process.errors import StartError

__all__ = ["NAME", "AlreadyRunning", "ControlLock"]

NAME = "edge.lock"
_PATIENCE = 1.0  # seconds for the holder to write down who it is
_LOOK = 0.01  # seconds


class AlreadyRunning(StartError):
    """Another gateway has this directory."""


class ControlLock:
    """A lock that is held, on `descriptor`, until `close`."""

    __slots__ = ("descriptor", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        """`descriptor`: of a lock that is held already, by the program before us; it is ours from now on."""
        self.descriptor = descriptor
        self.path = path

    @classmethod
    def take(cls, folder: str) -> ControlLock:
        """Take the lock of a directory where nobody else may write.

        Raises AlreadyRunning, which names the process that has it; StartError for a file that cannot be used.
        """
        path = os.path.join(folder, NAME)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise _unusable(path, "it belongs to somebody else")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor) if error.errno == errno.EWOULDBLOCK else ""
            os.close(descriptor)
            if holder:
                raise AlreadyRunning(f"another gateway ({holder}) runs already: it holds {path}") from error
            raise _unusable(path, error.strerror or str(error)) from error
        except StartError:
            os.close(descriptor)
            raise
        lock = cls(descriptor, path)
        lock.sign()
        return lock

    def sign(self) -> None:
        """Write down that this process holds it."""
        with contextlib.suppress(OSError):  # a full disk: it is for people alone
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, b"%d\n" % os.getpid(), 0)

    def leave(self) -> None:
        """Let go of it, whoever else has a descriptor. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Give it up, at our end. Idempotent."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, 0)
        self.leave()


def _holder(descriptor: int) -> str:
    """Who holds the lock, in words. It has not written that yet in the moment when it has just got it."""
    end = time.monotonic() + _PATIENCE
    while True:
        with contextlib.suppress(OSError, ValueError, OverflowError):
            pid = int(os.pread(descriptor, 32, 0))
            if _lives(pid):
                return f"pid {pid}"
        if time.monotonic() > end:
            return "which does not say its pid"
        time.sleep(_LOOK)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _unusable(path: str, why: str) -> StartError:
    return StartError(f"no control socket beside {path}: {why}. Set server.runtime_dir")
