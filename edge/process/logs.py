"""Opening what logs are written to. The supervisor does it, for it may do what workers may not, and hands out descriptors.

A stream of the user's (stdout, stderr) is opened anew through ``/proc`` where that works, because making it non-blocking
must not change it for the shell that shares it; where it does not work the stream is shared and polled. Files are reopened on
request, after a rotation has renamed them: every process goes on with the new descriptor that the supervisor opened.

The supervisor may write where workers may not, so a name that they could have changed must not lead it elsewhere: a symbolic link
is followed when root or the supervisor's own user made it, and no other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge.observe.log import Channel, Log
from edge.observe.output import Kind, Output
from edge.process.errors import NOT_PERMITTED, StartError
from edge.settings.model import AccessLog
from edge.settings.model import Log as LogSettings

__all__ = ["Destinations", "Following", "fill_standard_descriptors"]

_STANDARD = {"stdout": 1, "stderr": 2}
_RECONNECT = 1.0  # seconds between attempts to reach a syslog server that is gone


@dataclass(slots=True)
class _Destination:
    fd: int
    kind: Kind
    terminal: bool = False
    shared: bool = False
    send: Callable[[bytes], int] | None = None
    path: str = ""  # of files only: these are reopened
    owner: socket.socket | None = None  # of sockets: whose descriptor it is

    def close(self) -> None:
        if self.owner is not None:
            self.owner.close()
        elif self.fd >= 0:
            os.close(self.fd)


class _Syslog:
    """A datagram socket that finds its server again after a restart."""

    __slots__ = ("_path", "_retry_at", "sock")

    def __init__(self, path: str) -> None:
        self._path = path
        self._retry_at = 0.0
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self._connect()

    def _connect(self) -> bool:
        self._retry_at = time.monotonic() + _RECONNECT
        try:
            self.sock.connect(self._path)
        except OSError:
            return False
        return True

    def send(self, data: bytes) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            raise
        except OSError:
            if time.monotonic() < self._retry_at or not self._connect():
                raise
            return self.sock.send(data)


class _StreamSocket:
    """A stream socket that others write to as well (systemd's journal): it keeps its flags, each write says not to wait."""

    __slots__ = ("sock",)

    def __init__(self, fd: int) -> None:
        self.sock = socket.socket(fileno=fd)

    def send(self, data: bytes) -> int:
        return self.sock.send(data, socket.MSG_DONTWAIT)


def _open_standard(fd: int) -> _Destination:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:  # closed by whoever started us
        return _Destination(-1, Kind.STREAM)
    if stat.S_ISREG(mode):
        return _Destination(os.dup(fd), Kind.FILE)
    terminal = os.isatty(fd)
    if stat.S_ISSOCK(mode):
        stream = _StreamSocket(os.dup(fd))
        return _Destination(stream.sock.fileno(), Kind.STREAM, send=stream.send, owner=stream.sock)
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return _Destination(os.dup(fd), Kind.STREAM, terminal=terminal, shared=True)
    return _Destination(own, Kind.STREAM, terminal=terminal)


def _open_file(path: str) -> _Destination:
    is_pipe = os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)
    # a pipe for reading too, so that it opens without a reader and survives one that goes away
    flags = os.O_RDWR | os.O_NONBLOCK if is_pipe else os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno != errno.ELOOP or os.lstat(path).st_uid not in (0, os.geteuid()):
            raise
        fd = os.open(path, flags | os.O_CLOEXEC, 0o640)
    return _Destination(fd, Kind.STREAM if is_pipe else Kind.FILE, path=path)


def _open(to: str) -> _Destination:
    if to in _STANDARD:
        return _open_standard(_STANDARD[to])
    if to == "syslog" or to.startswith("syslog:"):
        syslog = _Syslog(to.partition(":")[2] or "/dev/log")
        return _Destination(syslog.sock.fileno(), Kind.SYSLOG, send=syslog.send, owner=syslog.sock)
    try:
        return _open_file(to)
    except OSError as error:
        status = NOT_PERMITTED if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else 1
        raise StartError(f"log file {to}: {error.strerror}", status) from error


def fill_standard_descriptors() -> None:
    """Open /dev/null where stdin, stdout or stderr are closed, so that no socket or log ever gets one of these numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Following:
    """Where other settings want their logs: what was opened for it beyond what is open."""

    settings: LogSettings
    fresh: dict[str, _Destination]

    def files(self) -> tuple[list[str], list[int]]:
        """Names and descriptors (which stay ours) of the fresh files, for processes that may not open them."""
        found = [(to, destination.fd) for to, destination in self.fresh.items() if destination.path]
        return [to for to, _ in found], [fd for _, fd in found]

    def close(self) -> None:
        """It is not wanted. Idempotent, and without effect after `Destinations.follow`."""
        for destination in self.fresh.values():
            destination.close()
        self.fresh.clear()


def _wanted(settings: LogSettings) -> set[str]:
    return {log.to for log in (settings.access, settings.events) if log.to is not None}


def _given(fd: int, path: str) -> _Destination:
    return _Destination(fd, Kind.FILE if stat.S_ISREG(os.fstat(fd).st_mode) else Kind.STREAM, path=path)


def _output(destination: _Destination) -> Output:
    return Output(destination.fd, destination.kind, shared=destination.shared, send=destination.send)


class Destinations:
    """Everything that the settings' logs are written to, open. Inherited by children, who make a `Log` of their own on it."""

    def __init__(self, settings: LogSettings, environ: Mapping[str, str]) -> None:
        """Raises StartError. Of `environ` only ``NO_COLOR`` matters."""
        self._settings = settings
        self._colour = not environ.get("NO_COLOR")
        self._open: dict[str, _Destination] = {}
        self._outputs: dict[str, Output] = {}
        for log in (settings.access, settings.events):
            if log.to is not None and log.to not in self._open:
                self._open[log.to] = _open(log.to)

    def log(self) -> Log:
        """A log on these destinations, for the calling process alone."""
        self._outputs = {to: _output(destination) for to, destination in self._open.items()}
        return self._log()

    def _log(self) -> Log:
        return Log(self._settings, self._channel(self._settings.access), self._channel(self._settings.events))

    def _channel(self, settings: AccessLog) -> Channel | None:
        if settings.to is None:
            return None
        terminal = self._open[settings.to].terminal
        return Channel(settings, self._outputs[settings.to], terminal=terminal, colour=terminal and self._colour)

    def files(self) -> tuple[list[str], list[int]]:
        """Names and descriptors (which stay ours) of the files that are open."""
        found = [(to, destination.fd) for to, destination in self._open.items() if destination.path]
        return [to for to, _ in found], [fd for _, fd in found]

    def reopen(self) -> tuple[list[str], list[int], list[str]]:
        """Open files anew: their names, their descriptors (which stay ours), and a sentence for each that failed."""
        names, descriptors, failures = [], [], []
        for to, destination in self._open.items():
            if not destination.path:
                continue
            try:
                fresh = _open_file(destination.path)
            except OSError as error:
                failures.append(f"log file {to}: {error.strerror}")
                continue
            self.replace(to, fresh.fd)
            names.append(to)
            descriptors.append(fresh.fd)
        return names, descriptors, failures

    def prepare(self, settings: LogSettings, given: Mapping[str, int] | None = None) -> Following:
        """Open what `settings` need and is not open. `given`: files that somebody else opened for us, ours from now on.

        Raises StartError; then nothing has changed, and what was given is closed.
        """
        following = Following(settings, {to: _given(fd, to) for to, fd in (given or {}).items()})
        try:
            for to in _wanted(settings):
                if to not in following.fresh and to not in self._open:
                    following.fresh[to] = _open(to)
        except BaseException:
            following.close()
            raise
        return following

    def follow(self, following: Following) -> Log:
        """Go on with what was prepared: the log to write to from now on. Those made before must be forgotten.

        What waits for a destination that stays is written there; what is left of the others is written now or lost.
        """
        self._settings = following.settings
        for to, destination in following.fresh.items():
            if to in self._open:
                self.replace(to, destination.fd)
            else:
                self._open[to] = destination
                self._outputs[to] = _output(destination)
        following.fresh.clear()
        for to in self._open.keys() - _wanted(following.settings):
            if to in self._outputs:
                self._outputs.pop(to).close(0.0)
            self._open.pop(to).close()
        return self._log()

    def close(self) -> None:
        """Close everything. What logs still hold is lost: close these first."""
        for destination in self._open.values():
            destination.close()

    def replace(self, to: str, fd: int) -> None:
        """Go on with `fd`, which is ours from now on."""
        destination = self._open[to]
        old, destination.fd = destination.fd, fd
        if to in self._outputs:
            self._outputs[to].flush()
            self._outputs[to].reopen(fd)
        with contextlib.suppress(OSError):
            os.close(old)
