"""Children: forked, heard, missed, replaced.

A child is a description of a process that should live, and of the one that does. When it ends although it is wanted, it is
started again: at once the first time, then with a growing pause as long as it goes on ending. Each has one end of a channel;
when the supervisor dies, in whatever way, it sees the end of it and ends as well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.process.channel import Channel, Message, pair
from edge.process.loop import Loop
from edge.process.signals import NUMBERS, ignore_signals

if TYPE_CHECKING:
    from edge.observe.log import Log

__all__ = ["Child", "Children"]

_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before the next start, by crashes in the last minute
_CRASH_MEMORY = 60.0  # seconds


@dataclass(slots=True, eq=False)
class Child:
    name: str
    start: Callable[[Channel], int]  # in the child: work, return the exit status
    on_message: Callable[[Message], None]
    on_parcels: Callable[[Message, list[int]], None] | None = None  # instead, for who sends descriptors; they are the callee's
    on_exit: Callable[[str], None] = lambda how: None  # how it ended; "" when with status 0
    number: int = 0  # of a worker, from 1
    kept: bool = True  # started again when it ends
    pid: int = 0  # 0: not running
    channel: Channel | None = None
    ready: bool = False
    since: float = 0.0  # POSIX seconds
    restarts: int = 0
    beat_at: float = 0.0  # monotonic seconds; 0: none so far
    beat: Message = field(default_factory=dict)  # the last one
    crashes: list[float] = field(default_factory=list)


class Children:
    """All children of the supervisor, extra ones and those of a moment included."""

    def __init__(self, loop: Loop, log: Log, leave_behind: Callable[[Child], None]) -> None:
        """`leave_behind` is called in each new child: it closes what belongs to others."""
        self._loop = loop
        self.log = log
        self._leave_behind = leave_behind
        self.all: list[Child] = []
        self.replacing = True  # ends are made good

    def living(self) -> list[Child]:
        return [child for child in self.all if child.pid]

    def start(self, child: Child) -> None:
        """Fork. Raises OSError when the system has no more processes."""
        ours, theirs = pair()
        sys.stdout.flush()
        sys.stderr.flush()
        self.log.flush()
        # until the child has handlers of its own, a signal to it would be written into our wake-up descriptor, as one to us
        signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            status = 1
            try:
                ignore_signals()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
                ours.close()
                self._forget_others()
                self._leave_behind(child)
                status = child.start(theirs)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        theirs.close()
        child.pid, child.channel, child.ready, child.since = pid, ours, False, time.time()
        child.beat_at, child.beat = 0.0, {}
        if child not in self.all:
            self.all.append(child)
        ours.on_waiting = lambda waits: self._watch(child, waits)
        self._watch(child, False)
        self.log.event("started", level="debug", child=child.name, pid=pid)

    def adopt(self, child: Child, pid: int, channel: Channel) -> None:
        """Look after a process that is our child already: the program that we were before has forked it."""
        child.pid, child.channel = pid, channel
        self.all.append(child)
        channel.on_waiting = lambda waits: self._watch(child, waits)
        self._watch(child, False)

    def _forget_others(self) -> None:
        """In a new child. The supervisor's ends of other channels would hide its death."""
        for other in self.all:
            if other.channel is not None:
                other.channel.close()
        self._loop.close()

    def _watch(self, child: Child, waits: bool) -> None:
        if child.channel is not None:
            self._loop.watch(child.channel.sock, lambda: self._read(child), (lambda: self._flush(child)) if waits else None)

    def _read(self, child: Child) -> None:
        channel = child.channel
        if channel is None:
            return
        try:
            received = channel.receive()
        except (ValueError, TypeError, IndexError, AttributeError):  # no messages of ours: it is not itself any more
            self.kill(child)
            self.hang_up(child)
            return
        for message, descriptors in received:
            if child.on_parcels is not None:
                child.on_parcels(message, descriptors)
                continue
            for descriptor in descriptors:
                os.close(descriptor)
            child.on_message(message)
        if channel.ended:
            self.hang_up(child)

    def _flush(self, child: Child) -> None:
        if child.channel is not None:
            with contextlib.suppress(OSError):  # it is gone: its end is read
                child.channel.flush()

    def send(self, child: Child, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Whether it will get there as long as the child lives."""
        if child.channel is None:
            return False
        try:
            child.channel.send(message, descriptors)
        except (BrokenPipeError, ConnectionResetError):  # it has ended, which `reap` notes
            return False
        except OSError as error:  # stuck: whoever waits for it has a deadline
            self.log.event("worker-does-not-listen", level="warning", child=child.name, pid=child.pid, detail=str(error))
            return False
        return True

    def hang_up(self, child: Child) -> None:
        """Close its channel: it ends. Idempotent."""
        if child.channel is not None:
            self._loop.forget(child.channel.sock)
            child.channel.close()
            child.channel = None

    def reap(self) -> None:
        """Take note of those that have ended."""
        for child in self.living():
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        self._read(child)  # its last words
        self.hang_up(child)
        pid, child.pid, child.ready = child.pid, 0, False
        how = "" if code == 0 else f"signal {_signal_name(-code)}" if code < 0 else f"status {code}"
        pause = self._pause(child) if child.kept and self.replacing else None
        if pause is None:
            self.all.remove(child)
        else:
            self._loop.later(pause, lambda: self._replace(child))
        if how or pause is not None:
            again = {} if pause is None else {"restart_in": pause}
            self.log.event("child-ended", level="error", child=child.name, pid=pid, detail=how or "status 0", **again)
        child.on_exit(how)

    def _pause(self, child: Child) -> float:
        now = time.monotonic()
        child.crashes = [moment for moment in child.crashes if now - moment < _CRASH_MEMORY]
        pause = _PAUSES[min(len(child.crashes), len(_PAUSES) - 1)]
        child.crashes.append(now)
        return pause

    def _replace(self, child: Child) -> None:
        if child.pid or not child.kept or not self.replacing:
            return
        child.restarts += 1
        try:
            self.start(child)
        except OSError as error:
            pause = self._pause(child)
            self.log.event("child-not-started", level="error", child=child.name, detail=str(error), restart_in=pause)
            self._loop.later(max(pause, 0.1), lambda: self._replace(child))

    def kill(self, child: Child) -> None:
        """SIGKILL; its end is noted by `reap`."""
        if child.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill and wait."""
        for child in self.living():
            self.kill(child)
            os.waitpid(child.pid, 0)
            self.hang_up(child)
            child.pid = 0
        self.all.clear()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
