"""The supervisor: keeps workers alive, changes what they run, ends them. It serves no traffic and waits for nothing but its poll.

Signals come as events of that loop (`edge.process.signals`), so no action ever interrupts another one. Its state only moves
forward:

* STARTING: workers are forked; one that ends before all are ready means that the gateway cannot run.
* SERVING: a worker that ends is replaced, and its sockets are served by its siblings until the next one is ready.
* LEAVING: a stop was asked for and is announced (`server.drain_delay`); everything goes on, but the gateway is not ready.
* DRAINING: workers finish what is under way until the deadline.
* ENDING: what still lives is told to stop, then killed.

What runs is `settings`, `tables` and `generation`, which change together at a commit. Others hook in by `on_committed`
(settings were replaced), `on_state` (the state or the readiness has changed), `operations.add` and timers of `loop`.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edge.observe.counters import SUPERVISOR
from edge.process import heartbeat, pidfile, privileges, sockets
from edge.process.channel import Channel, Message
from edge.process.children import Child, Children
from edge.process.conductor import Asked, Conductor, Way
from edge.process.control_socket import ControlSocket
from edge.process.errors import StartError
from edge.process.logs import Following
from edge.process.loop import Loop
from edge.process.manager import ServiceManager
from edge.process.operations import Operations
from edge.process.parts import ExtraChild, Parts, Serving, State
from edge.process.signals import Signals, has_terminal
from edge.process.status import status_of
from edge.process.steward import Steward
from edge.process.succession import Succession
from edge.process.transaction import Refusal
from edge.process.upgrade import Upgrade
from edge.process.watching import Watching
from edge.process.workforce import Workforce
from edge.settings.model import Settings

if TYPE_CHECKING:
    from edge.tls.choice import HostTable

__all__ = ["Supervisor"]

_DESCRIPTORS_A_CONNECTION = 2  # the client's and the upstream's
_STOP_GRACE = 1.0  # seconds between telling a worker to stop and killing it


class Supervisor:
    def __init__(self, parts: Parts) -> None:
        self.settings = parts.settings
        self.sockets = parts.sockets
        self.tables = parts.tables
        self.counters = parts.counters
        self.replays = parts.replays
        self.counted = parts.counters.part(SUPERVISOR)  # what the supervisor itself counts
        self.destinations = parts.destinations
        self.origin = parts.origin
        self.generation = 1
        self.started = self.since = time.time()  # since: of this generation; POSIX seconds
        self.state = State.STARTING
        self.degraded = dict(parts.degraded)  # what is not as it should be, by what it is about
        self.on_committed: list[Callable[[], None]] = []
        self.on_state: list[Callable[[], None]] = []
        self.more_status: dict[str, Callable[[], object]] = {}  # what others have to say in `status`
        self.more_unready: list[Callable[[], list[str]]] = []  # and why clients should not be sent here
        self.more_degraded: list[Callable[[], list[str]]] = []
        self.staple_of: Callable[[str], object] = lambda fingerprint: None  # what there is to say of a certificate's staple
        self.before_commit: Callable[[Settings, Callable[[Refusal | None], None]], None] = lambda settings, go_on: go_on(None)
        self.log = parts.destinations.log()
        self.loop = Loop(self._on_defect)
        self.identity = parts.identity
        self.children = Children(self.loop, self.log, self._leave_behind)
        self.operations = Operations(self)
        self._control: ControlSocket | None = None
        if parts.control is not None:
            handle, waits = self.operations.from_socket, parts.predecessor is not None
            self._control = ControlSocket(self.loop, parts.control, handle=handle, waits=waits)
        self.manager = ServiceManager(self, parts.notifier)
        self.upgrade = Upgrade(self)
        self.operations.add("upgrade", lambda _request, by, answer: self.upgrade.start(by, answer))
        self.sections: dict[str, Callable[[], bytes]] = {}  # what a program that takes over gets besides sockets
        self._succession = Succession(self, parts.predecessor)
        self._on_ready = parts.on_ready
        self._descriptors = parts.descriptors
        self._exit_status = 0
        self._ended = False
        self._signals = Signals(self.loop, self._on_signal)
        self._has_terminal = has_terminal()
        self.steward = Steward(self, parts.controller, parts.lacking)
        self.controller, self.controller_work = self.steward.child, parts.controller
        self.controller.on_exit = lambda _how: self._on_other_exit()
        self._extras = [self._extra(extra) for extra in parts.extra_children]
        self.workforce = Workforce(self)
        self.conductor = Conductor(self)
        self._watching = Watching(self)

    @property
    def workers(self) -> list[Child]:
        """Those that there should be; some may not live."""
        return self.workforce.workers

    @property
    def serving(self) -> bool:
        """Whether all is in its place: not before every worker was ready once, and not after a stop was asked for."""
        return self.state is State.SERVING

    @property
    def ends(self) -> bool:
        """Whether a stop was asked for."""
        return self.state >= State.LEAVING

    @property
    def accepts(self) -> bool:
        """Whether connections are accepted."""
        return self.state in (State.SERVING, State.LEAVING)

    def is_well(self, worker: Child) -> bool:
        return self.workforce.is_well(worker)

    def run(self) -> int:
        """Supervise until the end; returns the exit status. Restores the signal handlers that it found."""
        self._signals.begin()
        self.loop.every(heartbeat.INTERVAL, self.workforce.look)
        try:
            for child in self._extras:
                self.children.start(child)
            self.workforce.start(range(1, self.settings.server.workers + 1))
            while not self._ended:
                self.log.flush()
                self.loop.turn()
        finally:
            self.children.kill_all()
            self._signals.restore()
            if self._control is not None:
                self._control.close()
            self.loop.close()
            self._signals.close()
            self.sockets.close()
            self.steward.close()
            pidfile.remove(self.settings.server.pid_file)
            self.log.close()
            self.destinations.close()
        return self._exit_status

    def _on_defect(self, error: Exception) -> None:
        """A mistake of ours in a callback: written down, and the gateway goes on."""
        detail = "".join(traceback.format_exception(error)[-6:])
        self.log.event("internal-error", level="error", message="in the supervisor", detail=detail)

    # children

    def _leave_behind(self, child: Child) -> None:
        """In a new child: close what it would have power over us by, and what would hide from others that we have ended."""
        self._signals.close()
        self.upgrade.close_copies()
        self._succession.close_copies()
        self.sockets.close_others(child.number)
        if child is not self.controller:
            self.steward.close()
        if self._control is not None:
            self._control.close_copies()
        self._watching.close_copies()

    def on_worker_ready(self) -> None:
        """A worker accepts connections."""
        if self.state is State.STARTING and all(other.ready for other in self.workers):
            self._serve()
        else:
            self.changed()

    def on_worker_exit(self, worker: Child, how: str) -> None:
        """A worker has ended."""
        if self.state is State.STARTING:
            self.log.event("start-failed", level="error", child=worker.name, detail=f"ended with {how or 'status 0'}")
            self._succession.refuse(f"{worker.name} ended with {how or 'status 0'}")
            self._exit_status = 1
            self.end()
        elif self.accepts:
            self.changed()
            self.workforce.look()
        self._ended_all()

    # state

    def _serve(self) -> None:
        self.state = State.SERVING
        by_name = {listener.name: listener for listener in self.settings.listeners}
        bound = self.sockets.of(self.workers[0].number)
        urls = tuple(dict.fromkeys(sockets.url_of(by_name[name], sock) for name, sock in bound))
        self.log.event("serving", urls=urls, workers=len(self.workers), pid=os.getpid(), descriptors=self._descriptors)
        needed = _DESCRIPTORS_A_CONNECTION * self.settings.limits.connections
        if self._descriptors < needed:
            self.log.event("descriptor-limit-low", level="warning", limit=self._descriptors, needed=needed)
        for detail in self.degraded.values():
            self.log.event("degraded", level="warning", detail=detail)
        for upstream in self.settings.upstreams.values():
            if upstream.tls is not None and not upstream.tls.verify:
                self.log.event("upstream-not-verified", level="warning", upstream=upstream.name)
        self.log.flush()
        self.changed()
        self._on_ready(Serving(urls, len(self.workers), self._descriptors))
        self.steward.begin()
        self._succession.serving(self._be_the_one)
        self.conductor.begin()

    def _be_the_one(self) -> None:
        """Nobody else answers for this gateway any more."""
        if self._control is not None:
            self._control.open()
        self.manager.begin()
        try:
            pidfile.write(self.settings.server.pid_file)  # again: it may have been the one's before us
        except StartError as error:
            self.degraded["pid-file"] = str(error)

    def unready(self) -> list[str]:
        """Why clients should not be sent here; empty when they may. One worker that serves also serves the others' sockets."""
        if self.state is not State.SERVING:
            return [self.state.name.lower()]
        unready = [] if any(worker.ready for worker in self.workers) else ["no worker serves"]
        return unready + [reason for tell in self.more_unready for reason in tell()]

    def status(self) -> Message:
        """How it is, as the control socket tells it."""
        return status_of(self)

    def changed(self) -> None:
        """Call after the state, the readiness or the generation has changed."""
        order = {"do": "state", "ready": not self.unready(), "generation": self.generation, "digest": self.settings.digest}
        self.workforce.send(order)
        for hook in self.on_state:
            self.loop.call(hook)

    # another child

    def _on_other_exit(self) -> None:
        if self.state <= State.LEAVING:
            self.changed()
        self._ended_all()

    # signals

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self.children.reap()
            self._ended_all()
        elif number in (signal.SIGTERM, signal.SIGINT):
            if self.ends:
                if number == signal.SIGINT:
                    self._exit_status = 130
                self.end()
            else:
                self.stop(signal.Signals(number).name)
        elif number == signal.SIGUSR2:
            self.upgrade.start("signal", lambda _answer: None)
        elif number == signal.SIGUSR1:
            self._reopen_logs()
        elif number == signal.SIGHUP:
            self._on_hangup()

    def _on_hangup(self) -> None:
        if self._has_terminal and not has_terminal():
            self.stop("SIGHUP")  # the terminal is gone, this is no request to reload
        else:
            self.conductor.ask(Asked(Way.SIGNAL, "SIGHUP"), lambda answer: None)

    # what runs

    def in_force(self, settings: Settings, tables: Mapping[str, HostTable], following: Following, generation: int) -> None:
        """From now on this is what runs; workers that are forked begin with it."""
        self.settings, self.tables, self.generation, self.since = settings, tables, generation, time.time()
        self.log = self.children.log = self.destinations.follow(following)

    def committed(self) -> None:
        """Every worker runs it: those who depend on the settings are told."""
        for hook in self.on_committed:
            self.loop.call(hook)
        self.changed()

    # another program takes over

    @property
    def control_path(self) -> str:
        """Where the control socket lies; empty: there is none."""
        return self._control.path if self._control is not None else ""

    def heirlooms(self) -> dict[str, int]:
        """Descriptors that exist once and go to the next program."""
        return self._control.heirlooms() if self._control is not None else {}

    def retire(self, pid: int) -> None:
        """Another program, with this pid, serves on the same sockets: leave it what exists once, and drain."""
        self.manager.leave_to(pid)
        if self._control is not None:
            self._control.leave()
        self.controller.kept = False
        self.children.hang_up(self.controller)
        self.stop("upgrade", at_once=True)

    def stop(self, why: str, *, at_once: bool = False) -> None:
        """Drain, then end. Idempotent. `at_once`: there is nobody who has to hear first that this is not ready."""
        if self.ends:
            return
        self.upgrade.abandon(f"the gateway is stopped ({why})")
        self.log.event("draining", reason=why, seconds=self.settings.server.drain)
        self.state = State.LEAVING
        self.conductor.stop()
        self.changed()
        delay = self.settings.server.drain_delay
        if at_once or delay is None:
            self._drain()
        else:
            self.loop.later(delay, self._drain)

    def _drain(self) -> None:
        if self.state is not State.LEAVING:
            return
        self.state = State.DRAINING
        self.children.replacing = False
        self.sockets.close()
        for worker in [*self.workers, *self.workforce.leaving]:
            self.children.send(worker, {"do": "drain", "seconds": self.settings.server.drain})
        self.loop.later(self.settings.server.drain + _STOP_GRACE, self._drain_is_late)
        self.changed()
        self._ended_all()

    def _drain_is_late(self) -> None:
        if self.state is State.DRAINING:
            self.log.event("drain-deadline", level="warning", seconds=self.settings.server.drain)
            self.end()

    def end(self) -> None:
        """End now; the second time, kill."""
        if self.state is State.ENDING:
            for child in self.children.living():
                self.children.kill(child)
            return
        self.state = State.ENDING
        self.conductor.stop()
        self.children.replacing = False
        self.sockets.close()
        for worker in [*self.workers, *self.workforce.leaving]:
            self.children.send(worker, {"do": "stop"})
        for child in self.children.living():
            if not child.number:
                self.children.hang_up(child)
        self.loop.later(_STOP_GRACE, self.end)
        self.changed()
        self._ended_all()

    def _ended_all(self) -> None:
        """Go on when all workers have ended, and end when all have."""
        if self.state is State.DRAINING and not any(worker.pid for worker in [*self.workers, *self.workforce.leaving]):
            self.end()
        if self.state is State.ENDING and not self.children.living():
            self._ended = True

    # other duties

    def _reopen_logs(self) -> None:
        names, descriptors, failures = self.destinations.reopen()
        for failure in failures:
            self.log.event("log-not-reopened", level="error", detail=failure)
        if names:
            for child in [*self.workers, self.controller]:
                self.children.send(child, {"do": "logs", "to": names}, descriptors)
        self.log.event("logs-reopened", files=names)

    def _extra(self, extra: ExtraChild) -> Child:
        def start(channel: Channel) -> int:
            privileges.drop(self.identity)
            extra.run(channel.sock.fileno())
            return 0

        return Child(extra.name, start, lambda *_: None, on_exit=lambda _how: self._on_other_exit())
