"""The supervisor: binds, forks, keeps alive, ends. It serves no traffic and never waits for anything but its own poll.

Handlers of signals do nothing (the interpreter writes their numbers into a pipe); the loop reads the numbers and acts, so
no action ever interrupts another one. Its state only moves forward: STARTING → SERVING → DRAINING → ENDING.

* STARTING: workers are forked; one that ends before all are ready means that the gateway cannot run.
* SERVING: a worker that ends is replaced, at once the first time, with a growing pause when it goes on.
* DRAINING: workers finish what is under way until the deadline.
* ENDING: what still lives is told to stop, then killed.

Other children (the demo upstream) are kept alive in the same way and end last. Children hold one end of a channel; when
the supervisor dies, in whatever way, they see its end and end as well.
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.process import privileges, sockets
from edge.process.admin import close_admin
from edge.process.channel import Channel, Message, pair
from edge.process.controller import ControllerWork, run_controller
from edge.process.logs import Destinations
from edge.process.worker import Work, ignore_signals, run_worker
from edge.settings.model import Settings

if TYPE_CHECKING:
    from edge.tls.choice import HostTable

__all__ = ["ExtraChild", "Serving", "Supervisor"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
_DESCRIPTORS_A_CONNECTION = 2  # the client's and the upstream's
_STOP_GRACE = 1.0  # seconds between telling a worker to stop and killing it
_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before the next start, by crashes in the last minute
_CRASH_MEMORY = 60.0  # seconds


class _State(enum.IntEnum):
    STARTING = 0
    SERVING = 1
    DRAINING = 2
    ENDING = 3


@dataclass(frozen=True, slots=True)
class Serving:
    """What there is to say once every worker accepts connections."""

    urls: tuple[str, ...]
    workers: int
    descriptors: int  # the limit on open descriptors


@dataclass(frozen=True, slots=True)
class ExtraChild:
    """Another process to keep alive: `run` gets a descriptor that becomes readable when it has to end."""

    name: str
    run: Callable[[int], None]


@dataclass(slots=True)
class _Child:
    name: str
    start: Callable[[Channel], int]  # in the child: work, return the exit status
    is_worker: bool
    pid: int = 0  # 0: not running
    channel: Channel | None = None
    ready: bool = False
    since: float = 0.0  # POSIX seconds
    restarts: int = 0
    start_at: float = 0.0
    crashes: list[float] = field(default_factory=list)


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        bound: list[sockets.Bound],
        tables: Mapping[str, HostTable],
        destinations: Destinations,
        identity: privileges.Identity | None,
        extra_children: Sequence[ExtraChild],
        on_ready: Callable[[Serving], None],
        descriptors: int,
        controller: ControllerWork,
        lacking: str,
    ) -> None:
        """`lacking`: a sentence about the admin listener when it could not be had."""
        self._settings = settings
        self._bound = bound
        self._destinations = destinations
        self._on_ready = on_ready
        self._descriptors = descriptors
        self._log = destinations.log()
        self._state = _State.STARTING
        self._deadline = float("inf")
        self._killed = False
        self._exit_status = 0
        self._selector = selectors.DefaultSelector()
        self._lacking = lacking
        self._started = self._since = time.time()
        self._controller_work = controller
        self._controller = _Child("controller", lambda channel: run_controller(controller, channel), is_worker=False)
        self._controller.start_at = float("inf")  # when the workers serve
        self._extras = [self._controller]
        self._extras += [_Child(extra.name, _extra_start(extra, identity), is_worker=False) for extra in extra_children]
        self._workers = [
            _Child(f"worker {number}", _worker_start(Work(number, settings, own, tables, destinations, identity)), is_worker=True)
            for number, own in enumerate(bound, 1)
        ]
        self._has_terminal = _has_terminal()

    def run(self) -> int:
        """Supervise until the end; returns the exit status. Restores the signal handlers that it found."""
        wake, waker = socket.socketpair()
        wake.setblocking(False)
        waker.setblocking(False)
        before = {number: signal.signal(number, _handler) for number in _SIGNALS}
        old_wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, None)
        try:
            while self._step(wake):
                pass
        finally:
            self._kill_all()
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            wake.close()
            waker.close()
            sockets.close_all(self._bound)
            close_admin(self._controller_work.sockets)
            self._log.close()
            self._destinations.close()
        return self._exit_status

    # one turn

    def _step(self, wake: socket.socket) -> bool:
        """Start what is due, wait, act. False: everything has ended."""
        now = time.monotonic()
        if self._state <= _State.SERVING:
            for child in [*self._extras, *self._workers]:
                if not child.pid and child.start_at <= now:
                    self._fork(child)
        if not self._advance(now):
            return False
        self._log.flush()
        for key, _ in self._selector.select(self._timeout(time.monotonic())):
            if key.data is None:
                for number in _drained(wake):
                    self._on_signal(number)
            else:
                self._on_message(key.data)
        self._reap()
        return True

    def _timeout(self, now: float) -> float:
        due = [self._deadline, now + 3600.0]
        if self._state <= _State.SERVING:
            due += [child.start_at for child in [*self._extras, *self._workers] if not child.pid]
        return max(0.0, min(due) - now)

    def _advance(self, now: float) -> bool:
        """What follows from who lives and how late it is."""
        if self._state is _State.DRAINING and not any(child.pid for child in self._workers):
            self._end(now)
        if self._state is _State.DRAINING and now >= self._deadline:
            self._log.event("drain-deadline", level="warning", seconds=self._settings.server.drain)
            self._end(now)
        if self._state is _State.ENDING:
            if not any(child.pid for child in [*self._extras, *self._workers]):
                return False
            if now >= self._deadline and not self._killed:
                self._killed = True
                self._deadline = float("inf")
                self._kill_all()
        return True

    # signals

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._state >= _State.DRAINING:
                if number == signal.SIGINT:
                    self._exit_status = 130
                self._end(time.monotonic())
            else:
                self._drain(signal.Signals(number).name)
        elif number == signal.SIGUSR1:
            self._reopen_logs()
        elif number == signal.SIGHUP:
            if self._has_terminal and not _has_terminal():
                self._drain("SIGHUP")  # the terminal is gone, this is no request to reload
            else:
                self._log.event("reload-unavailable", level="warning", detail="this version takes new settings by a restart only")

    def _drain(self, why: str) -> None:
        seconds = self._settings.server.drain
        self._log.event("draining", reason=why, seconds=seconds)
        self._state = _State.DRAINING
        self._tell_state()
        self._deadline = time.monotonic() + seconds + _STOP_GRACE
        sockets.close_all(self._bound)
        for child in self._workers:
            self._order(child, {"do": "drain", "seconds": seconds})

    def _end(self, now: float) -> None:
        if self._state is _State.ENDING:
            self._kill_all()
            return
        self._state = _State.ENDING
        self._deadline = now + _STOP_GRACE
        sockets.close_all(self._bound)
        for child in self._workers:
            self._order(child, {"do": "stop"})
        for child in self._extras:
            self._hang_up(child)

    def _reopen_logs(self) -> None:
        names, descriptors, failures = self._destinations.reopen()
        for failure in failures:
            self._log.event("log-not-reopened", level="error", detail=failure)
        if names:
            for child in [*self._workers, self._controller]:
                self._order(child, {"do": "logs", "to": names}, tuple(descriptors))
        self._log.event("logs-reopened", files=names)

    # children

    def _fork(self, child: _Child) -> None:
        ours, theirs = pair()
        sys.stdout.flush()
        sys.stderr.flush()
        self._log.flush()
        # until the child has handlers of its own, a signal to it would be written into our wake-up descriptor, as one to us
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ignore_signals()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                self._leave_behind(child, ours)
                status = child.start(theirs)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        child.pid, child.channel, child.ready = pid, ours, False
        self._selector.register(ours.sock, selectors.EVENT_READ, child)
        child.since = time.time()
        self._order(child, self._state_order(child))
        self._log.event("started", level="debug", child=child.name, pid=pid)

    def _leave_behind(self, child: _Child, ours: Channel) -> None:
        """In the child: close what belongs to others. The supervisor's ends of the channels would hide its death, and
        the sockets of other workers would go on taking connections after these have closed them."""
        ours.close()
        sockets.close_all(bound for worker, bound in zip(self._workers, self._bound, strict=True) if worker is not child)
        for other in [*self._extras, *self._workers]:
            if other.channel is not None:
                other.channel.close()
        if child is not self._controller:
            close_admin(self._controller_work.sockets)
        self._selector.close()

    def _on_message(self, child: _Child) -> None:
        if child.channel is None:
            return
        for message, _ in child.channel.receive():
            if message.get("is") == "ready":
                child.ready = True
                self._tell_state()
            elif "ask" in message:
                self._answer(child, message)
        if child.channel.ended:
            self._hang_up(child)
        if self._state is _State.STARTING and all(worker.ready for worker in self._workers):
            self._state = _State.SERVING
            self._tell_state()
            self._announce()
            self._controller.start_at = 0.0

    def _announce(self) -> None:
        by_name = {listener.name: listener for listener in self._settings.listeners}
        urls = tuple(dict.fromkeys(sockets.url_of(by_name[name], sock) for name, sock in self._bound[0]))
        self._log.event("serving", urls=urls, workers=len(self._workers), pid=os.getpid(), descriptors=self._descriptors)
        needed = _DESCRIPTORS_A_CONNECTION * self._settings.limits.connections
        if self._descriptors < needed:
            self._log.event("descriptor-limit-low", level="warning", limit=self._descriptors, needed=needed)
        if self._lacking:
            self._log.event("admin-unavailable", level="warning", detail=self._lacking)
        self._log.flush()
        self._on_ready(Serving(urls, len(self._workers), self._descriptors))

    # what the gateway is like

    def _unready(self) -> list[str]:
        """Why clients should not be sent here; empty when they may."""
        if self._state is not _State.SERVING:
            return [self._state.name.lower()]
        return [] if any(worker.ready for worker in self._workers) else ["no worker serves"]

    def _status(self) -> Message:
        reasons = self._unready()
        degraded = [f"{child.name} is not running" for child in [*self._workers, self._controller] if not child.ready]
        return {
            "version": 1,
            "ok": True,
            "pid": os.getpid(),
            "generation": self._controller_work.generation,
            "digest": self._settings.digest,
            "started": self._started,
            "since": self._since,
            "ready": not reasons,
            "reasons": reasons,
            "state": self._state.name.lower(),
            "workers": [
                {
                    "number": number,
                    "pid": child.pid,
                    "state": "serving" if child.ready else "starting",
                    "since": child.since,
                    "restarts": child.restarts,
                }
                for number, child in enumerate(self._workers, 1)
            ],
            "degraded": [*degraded, *filter(None, [self._lacking])],
        }

    def _state_order(self, child: _Child) -> Message:
        """What a child is told of the gateway: the controller all, workers what their health routes answer."""
        status = self._status()
        if child is self._controller:
            return {"do": "state", **status}
        return {"do": "state", **{key: status[key] for key in ("ready", "generation", "digest")}}

    def _tell_state(self) -> None:
        for child in [*self._workers, self._controller]:
            if child.channel is not None:
                with contextlib.suppress(OSError):  # dying: it is told when it is there again
                    child.channel.send(self._state_order(child))

    def _answer(self, child: _Child, question: Message) -> None:
        """Answer what the controller asks."""
        if question["ask"] == "status":
            answer = self._status()
        else:
            answer = {"version": 1, "ok": False, "error": "unknown-operation", "detail": "this version cannot do that"}
        self._order(child, {"re": question.get("id"), **answer})

    def _order(self, child: _Child, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        if child.channel is None:
            return
        try:
            child.channel.send(message, descriptors)
        except OSError as error:  # dying, or stuck: the deadline takes care of it
            self._log.event("worker-does-not-listen", level="warning", child=child.name, pid=child.pid, detail=str(error))

    def _hang_up(self, child: _Child) -> None:
        if child.channel is not None:
            self._selector.unregister(child.channel.sock)
            child.channel.close()
            child.channel = None

    def _reap(self) -> None:
        for child in [*self._extras, *self._workers]:
            if child.pid:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._on_exit(child, os.waitstatus_to_exitcode(status))

    def _on_exit(self, child: _Child, code: int) -> None:
        pid, was_ready = child.pid, child.ready
        self._hang_up(child)
        child.pid, child.ready = 0, False
        child.restarts += 1
        self._tell_state()
        if code == 0 and self._state >= _State.DRAINING:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        if self._state is _State.STARTING and child.is_worker and not was_ready:
            self._log.event("start-failed", level="error", child=child.name, pid=pid, detail=f"ended with {how}")
            self._exit_status = 1
            self._end(time.monotonic())
            return
        if self._state >= _State.DRAINING:
            self._log.event("child-ended", level="error", child=child.name, pid=pid, detail=how)
            return
        now = time.monotonic()
        child.crashes = [moment for moment in child.crashes if now - moment < _CRASH_MEMORY]
        pause = _PAUSES[min(len(child.crashes), len(_PAUSES) - 1)]
        child.crashes.append(now)
        child.start_at = now + pause
        self._log.event("child-ended", level="error", child=child.name, pid=pid, detail=how, restart_in=pause)

    def _kill_all(self) -> None:
        for child in [*self._workers, *self._extras]:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                self._hang_up(child)
                child.pid = 0


def _worker_start(work: Work) -> Callable[[Channel], int]:
    return lambda channel: run_worker(work, channel)


def _extra_start(extra: ExtraChild, identity: privileges.Identity | None) -> Callable[[Channel], int]:
    def start(channel: Channel) -> int:
        privileges.drop(identity)
        extra.run(channel.sock.fileno())
        return 0

    return start


def _handler(_number: int, _frame: object) -> None:
    """The number is already on its way through the wake-up descriptor."""


def _drained(wake: socket.socket) -> bytes:
    try:
        return wake.recv(4096)
    except BlockingIOError:
        return b""


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
