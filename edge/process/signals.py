"""Signals as events of the supervisor's loop.

A handler of Python runs between any two steps of the interpreter, so one that acted would interrupt another action. These
do nothing: the interpreter writes each signal's number into a pipe (`signal.set_wakeup_fd`), and the loop reads the numbers and
acts, one after the other. Writing never blocks; only a flood that fills the pipe before the loop reads it would lose numbers.

The pipe belongs to one process: a child closes its copies, for a number that a child's interpreter wrote would be its parent's
signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from edge.process.loop import Loop

__all__ = ["NUMBERS", "Signals", "has_terminal", "ignore_signals"]

_TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # by people and service managers
NUMBERS = (*_TOLD, signal.SIGCHLD)
"""Those that the supervisor acts on."""


class Signals:
    """What the supervisor does about them, from `begin` until `restore`."""

    def __init__(self, loop: Loop, act: Callable[[int], None]) -> None:
        self._loop = loop
        self._act = act
        self._pipe: tuple[socket.socket, ...] = ()
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1

    def begin(self) -> None:
        """Have `act` called in the loop with the number of each signal that comes."""
        wake, waker = self._pipe = socket.socketpair()
        wake.setblocking(False)
        waker.setblocking(False)
        self._before = {number: signal.signal(number, _handler) for number in NUMBERS}
        self._wakeup_before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._loop.watch(wake, lambda: self._arrived(wake))

    def _arrived(self, wake: socket.socket) -> None:
        for number in _drained(wake):
            self._act(number)

    def restore(self) -> None:
        """Give back the handlers that `begin` found."""
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def close(self) -> None:
        """Close the pipe, or a new child's copies of it. Idempotent."""
        for sock in self._pipe:
            sock.close()


def ignore_signals() -> None:
    """In a child: leave signals to the supervisor. SIGCHLD and the wake-up descriptor are its business too."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _TOLD:
        signal.signal(number, signal.SIG_IGN)


def _handler(_number: int, _frame: object) -> None:
    """The number is already on its way through the wake-up descriptor."""


def _drained(wake: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return wake.recv(4096)
    return b""


def has_terminal() -> bool:
    """Whether this process has a controlling terminal; where it had one, SIGHUP says that it is gone."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
