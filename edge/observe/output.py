"""Where log lines go, without ever making the writer wait.

Lines are kept until `flush`, then written in as few writes as the destination allows. The rules:

* A line is written whole or not at all. Several workers share a pipe, and the kernel keeps writes apart only up to
  `PIPE_BUF` bytes (POSIX, write(2)), so a pipe, a terminal or a stream socket gets whole lines, at most `PIPE_BUF` bytes
  a write. A datagram holds one line. A file opened for appending takes everything in one write.
* Nothing blocks. Descriptors made for us are non-blocking. A description shared with others (the user's terminal) must
  keep its flags, so there `poll` says first whether `PIPE_BUF` bytes fit.
* What cannot be written waits in memory up to `MAX_BUFFERED` bytes; beyond that new lines are dropped and counted, and
  once writing works again a line says how many are missing.

Invariant: `_torn` is the rest of a line of which a part was written (a full disk); it goes out before anything else.
"""

from __future__ import annotations

import enum
import os
import select
import time
from collections.abc import Callable

__all__ = ["FLUSH_AT", "MAX_BUFFERED", "Kind", "Output"]

PIPE_BUF = min(select.PIPE_BUF, 4096)
FLUSH_AT = 32 * 1024  # bytes
MAX_BUFFERED = 1024 * 1024  # bytes
_MAX_DATAGRAM = 8 * 1024 - 64  # with its header what syslog servers take by default
_MAX_LINE = 64 * 1024

Send = Callable[[bytes], int]


class Kind(enum.Enum):
    """What a descriptor leads to."""

    FILE = "file"
    STREAM = "stream"  # pipe, terminal, stream socket: several writers, no atomicity beyond PIPE_BUF
    SYSLOG = "syslog"  # a connected datagram socket


class Output:
    """One destination of lines. `send` (default: `os.write` on `fd`) writes without blocking or raises BlockingIOError.

    `fd` -1: there is nowhere to write at present; lines wait, then are dropped and counted. `shared`: the description
    belongs to others too and is blocking, so poll before each write. The descriptor's owner closes it.
    """

    __slots__ = (
        "_framed",
        "_lines",
        "_notice",
        "_poll",
        "_send",
        "_shared",
        "_size",
        "_torn",
        "dropped",
        "fd",
        "kind",
        "limit",
        "unreported",
    )

    def __init__(self, fd: int, kind: Kind, *, shared: bool = False, send: Send | None = None) -> None:
        self.kind = kind
        self._framed = kind is Kind.SYSLOG
        self.limit = {Kind.FILE: _MAX_LINE, Kind.STREAM: PIPE_BUF, Kind.SYSLOG: _MAX_DATAGRAM}[kind]  # bytes of one line
        self.dropped = 0  # lines, ever
        self.unreported = 0  # of these, how many no line has told of yet
        self._lines: list[bytes] = []
        self._size = 0
        self._torn = b""
        self._notice: Callable[[int], bytes] | None = None
        self.fd = -1
        self.reopen(fd, shared=shared, send=send)

    def reopen(self, fd: int, *, shared: bool = False, send: Send | None = None) -> None:
        """Go on with another descriptor of the same kind. Lines that wait go to the new one."""
        if self._torn:  # its beginning stands in the old file
            self._torn = b""
            self._lose()
        self.fd = fd
        self._shared = shared
        self._send = send
        self._poll = select.poll()
        if fd >= 0:
            self._poll.register(fd, select.POLLOUT)

    def on_recovery(self, notice: Callable[[int], bytes]) -> None:
        """`notice(count)` makes the line that is written after `count` lines were lost."""
        self._notice = notice

    def write(self, line: bytes, severity: int = 6) -> None:
        """Take one line, its line feed included. `severity` is syslog's (RFC 5424 section 6.2.1): 3 error, 4 warning, 6 info."""
        if self._size + len(line) > MAX_BUFFERED:
            self._lose()
            return
        if self._framed:
            line = syslog_frame(line, severity, time.time())
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what can be written now."""
        if self.fd < 0 or not (self._lines or self._torn or self.unreported):
            return
        try:
            if self._torn:
                self._write_torn()
            while self._lines:
                self._write_some()
        except OSError:  # nobody reads, a full disk, a restarted syslog: the lines wait, then are counted
            return
        if self.unreported and self._notice is not None:
            count, self.unreported = self.unreported, 0
            self.write(self._notice(count), 4)
            self.flush()

    def close(self, seconds: float = 0.5) -> None:
        """Write what is left, waiting for a slow reader `seconds` at most."""
        deadline = time.monotonic() + seconds
        self.flush()
        while (self._lines or self._torn) and self.fd >= 0 and time.monotonic() < deadline:
            self._poll.poll(10)
            time.sleep(0.002)
            self.flush()

    def _lose(self) -> None:
        self.dropped += 1
        self.unreported += 1

    def _put(self, data: bytes) -> int:
        if self._send is not None:
            return self._send(data)
        if self._shared and not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
            raise BlockingIOError
        return os.write(self.fd, data)

    def _write_torn(self) -> None:
        written = self._put(self._torn)
        self._torn = self._torn[written:]
        if self._torn:
            raise BlockingIOError

    def _write_some(self) -> None:
        """One write of as many whole lines as the destination keeps together. What it took is off our hands."""
        lines = self._lines
        count = len(lines) if self.kind is Kind.FILE else 1
        if self.kind is Kind.STREAM:
            size = len(lines[0])
            while count < len(lines) and size + len(lines[count]) <= PIPE_BUF:
                size += len(lines[count])
                count += 1
        data = b"".join(lines[:count])
        written = self._put(data)
        if written < len(data) and self.kind is not Kind.SYSLOG:
            count = 0
            taken = 0
            while taken < written:
                taken += len(lines[count])
                count += 1
            if taken > written:
                self._torn = lines[count - 1][written - taken :]
        self._size -= sum(map(len, lines[:count]))
        del lines[:count]
        if self._torn:
            self._write_torn()


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FACILITY_DAEMON = 3


def syslog_frame(line: bytes, severity: int, posix: float) -> bytes:
    """A line as local syslog sockets expect it: RFC 3164 without the host name, which the server knows."""
    now = time.localtime(posix)
    clock = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2d} {now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}"
    return b"<%d>%s edge[%d]: %s" % (_FACILITY_DAEMON * 8 + severity, clock.encode(), os.getpid(), line.rstrip(b"\n"))
