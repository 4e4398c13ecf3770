"""What a service manager is told, in the protocol of sd_notify(3): datagrams of ``KEY=value`` lines to ``NOTIFY_SOCKET``.

A message is advice. It is sent without waiting and what goes wrong with it is nobody's problem: the gateway serves whether
or not somebody listens. The variables are taken out of the environment when they are read, so that no child ever speaks in
our name; a program that takes over gets them back by `environment`.

The watchdog is told at half of its period, and only by a supervisor whose loop turns and whose workers beat: a gateway
that hangs is started again by the manager.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

__all__ = ["Notifier"]

_MOST_STATUS = 400  # bytes; the manager shows one line
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells the service manager, if there is one. No method raises or waits."""

    __slots__ = ("_address", "_next", "_period", "_sock")

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """`address`: a path, or a name in the abstract name space after ``@``; empty: nobody. `watchdog`: its period in
        seconds, 0: none."""
        self._address = address
        self._period = watchdog / 2 if address else 0.0
        self._next = 0.0
        self._sock: socket.socket | None = None
        if address.startswith(("/", "@")):
            with suppress(OSError):
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sock.setblocking(False)

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Notifier:
        """By the manager's variables, which are taken out of `environ`. A watchdog of another process is not ours."""
        address, period, pid = (environ.pop(name, "") for name in _VARIABLES)
        ours = pid in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if ours and period.isascii() and period.isdigit() else 0.0)

    @property
    def environment(self) -> dict[str, str]:
        """The variables for a program that takes over."""
        if not self._address:
            return {}
        watchdog = {"WATCHDOG_USEC": str(int(self._period * 2e6))} if self._period else {}
        return {"NOTIFY_SOCKET": self._address, **watchdog}

    def ready(self, status: str) -> None:
        """The start, or a reload, is complete."""
        self._tell("READY=1", _status(status))

    def status(self, status: str) -> None:
        """One line for people."""
        self._tell(_status(status))

    def reloading(self, now: float) -> None:
        """New settings are being taken; `ready` ends it. `now`: the monotonic clock, in seconds."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")

    def stopping(self, seconds: float, status: str) -> None:
        """The end has begun and may take `seconds`, which the manager should grant even if its own limit is less."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", _status(status))

    def main_pid(self, pid: int) -> None:
        """Another process is the main one from now on. Only the one that was may say so."""
        self._tell(f"MAINPID={pid}")

    def due(self, now: float) -> float:
        """When `beat` has something to do; infinity without a watchdog. `now`: the monotonic clock, in seconds."""
        if self._sock is None or not self._period:
            return float("inf")
        return max(self._next, now)

    def beat(self, now: float) -> None:
        """Tell the watchdog that all is well. Sends something only when it is due."""
        if self.due(now) <= now:
            self._next = now + self._period
            self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Idempotent."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _tell(self, *lines: str) -> None:
        if self._sock is None:
            return
        address = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        with suppress(OSError, ValueError):
            self._sock.sendto("\n".join(lines).encode("utf-8", "replace"), address)


def _status(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", "replace")[:_MOST_STATUS]
    return f"STATUS={line.decode('utf-8', 'ignore')}"
