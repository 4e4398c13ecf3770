"""The workers: begun, heard, judged, and sent home when there are to be fewer.

A worker that is not well (dead, not ready yet, or without a heartbeat) has its sockets served by its siblings. A worker that is
to go is *leaving*: new connections are steered to the others, it accepts what waits on its sockets until nothing does, these
are closed, and only then it drains. What a leaving worker that dies leaves behind is taken by a sibling.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from edge.process import heartbeat
from edge.process.channel import Message
from edge.process.children import Child
from edge.process.heartbeat import Heartbeats, Verdict
from edge.process.orphans import Orphans
from edge.process.worker import Work, run_worker

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Workforce"]

_EMPTYING = 5.0  # seconds for a leaving worker to empty its sockets
_KILL_AFTER = 1.0  # seconds beyond its drain


class Workforce:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._heartbeats = Heartbeats()
        self._cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._emptying: set[int] = set()  # numbers of leaving workers whose sockets are still open
        self.orphans = Orphans(supervisor.children, supervisor.sockets)
        self.workers: list[Child] = []  # by number; some may not live
        self.leaving: list[Child] = []
        self.reports: dict[str, Callable[[Child, Message], None]] = {}  # what workers say, for those who have asked
        self.on_gone: Callable[[Child], None] = lambda worker: None

    def start(self, numbers: Iterable[int]) -> None:
        """Begin workers. Raises OSError when there are no more processes; what could be begun is there."""
        made = [self._worker(number) for number in numbers]
        self.workers = sorted([*self.workers, *made], key=lambda worker: worker.number)
        for worker in made:
            self._supervisor.children.start(worker)

    def _worker(self, number: int) -> Child:
        child = Child(f"worker {number}", lambda channel: run_worker(self._work(number), channel), lambda *_: None, number=number)
        child.on_message = lambda message: self._on_report(child, message)
        child.on_exit = lambda how: self._on_exit(child, how)
        return child

    def _work(self, number: int) -> Work:
        """In a new worker: what it is made of, as things are at the fork."""
        one = self._supervisor
        if one.settings.server.pin and self._cpus:
            os.sched_setaffinity(0, {self._cpus[(number - 1) % len(self._cpus)]})
        own = one.sockets.of(number)
        ready = not one.unready()  # so that no health route says otherwise until it is told
        return Work(number, one.settings, own, one.tables, one.destinations, one.identity, one.counters, one.replays, ready)

    def send(self, message: Message) -> None:
        """To all that are ready."""
        for worker in self.workers:
            if worker.ready:
                self._supervisor.children.send(worker, message)

    # what is heard

    def _on_report(self, worker: Child, message: Message) -> None:
        what = str(message.get("is"))
        if what == "ready":
            worker.ready = True
            worker.beat_at = time.monotonic()  # from now on its silence counts
            self.orphans.tell(worker)
            self._supervisor.on_worker_ready()
            self.look()
        elif what == "beat":
            worker.beat_at, worker.beat = time.monotonic(), message
        elif what == "told":
            self._supervisor.operations.told(worker, message)
        elif what == "taken-away" and worker in self.leaving:
            self._emptied(worker.number)
        if what in self.reports:
            self.reports[what](worker, message)

    def _on_exit(self, worker: Child, how: str) -> None:
        self._supervisor.counters.clear(worker.number)
        if worker in self.leaving:
            self.leaving.remove(worker)
            if worker.number in self._emptying:
                self.look()  # siblings take what waits there; the time for emptying goes on
        self.on_gone(worker)
        self._supervisor.on_worker_exit(worker, how)

    # who is well

    def is_well(self, worker: Child) -> bool:
        """Whether it accepts connections, as far as one can tell."""
        return worker.ready and worker.pid not in self._heartbeats.stalled

    def look(self) -> None:
        """Judge the workers, and see to it that every socket is served."""
        supervisor = self._supervisor
        if not supervisor.accepts:
            return
        for worker, verdict in self._heartbeats.judge([*self.workers, *self.leaving], time.monotonic()):
            if verdict is Verdict.HUNG:
                supervisor.log.event("worker-hung", level="error", child=worker.name, pid=worker.pid, seconds=heartbeat.HUNG)
                supervisor.children.kill(worker)
            elif verdict is Verdict.STALLED:
                supervisor.log.event("worker-stalled", level="warning", child=worker.name, pid=worker.pid)
            else:
                supervisor.log.event("worker-recovered", child=worker.name, pid=worker.pid)
                self.orphans.tell(worker)
        unwell = {worker.number for worker in self.workers if not self.is_well(worker)}
        well_leaving = {worker.number for worker in self.leaving if self.is_well(worker)}
        self.orphans.look(self.workers, unwell | (self._emptying - well_leaving))

    def settings_changed(self) -> None:
        """Adopted sockets are handed out anew: there may be others now."""
        for worker in self.workers:
            self.orphans.tell(worker)

    # fewer workers

    def free_numbers(self, count: int) -> list[int]:
        """The lowest numbers that nobody has."""
        taken = {worker.number for worker in [*self.workers, *self.leaving]} | self._emptying
        found: list[int] = []
        number = 1
        while len(found) < count:
            if number not in taken:
                found.append(number)
            number += 1
        return found

    def send_home(self, workers: list[Child]) -> None:
        """These are to go, without a connection lost."""
        if not workers:
            return
        supervisor = self._supervisor
        numbers = {worker.number for worker in workers}
        self.workers = [worker for worker in self.workers if worker not in workers]
        self.leaving += [worker for worker in workers if worker.pid]
        self._emptying |= numbers
        try:
            supervisor.sockets.steer_away(self._emptying)
        except OSError as error:  # then what comes while they close is reset, a handful of connections
            supervisor.log.event("not-steered", level="warning", detail=str(error))
        for worker in workers:
            worker.kept = False
            supervisor.children.send(worker, {"do": "take-away", "listener": None})
            supervisor.log.event("worker-leaving", child=worker.name, pid=worker.pid)
        supervisor.loop.later(_EMPTYING, lambda: self._emptied(*numbers))
        self.look()

    def _emptied(self, *numbers: int) -> None:
        """Nothing waits on the sockets of these leaving workers any more, or their time is over."""
        done = self._emptying.intersection(numbers)
        if not done:
            return
        supervisor = self._supervisor
        self._emptying -= done
        self.look()  # siblings let go of them
        for number in done:
            supervisor.sockets.remove(number)
        if not self._emptying:
            supervisor.sockets.unsteer()
        for worker in self.leaving:
            if worker.number in done:
                self._drain(worker)

    def _drain(self, worker: Child) -> None:
        seconds = self._supervisor.settings.server.drain
        self._supervisor.children.send(worker, {"do": "drain", "seconds": seconds})
        self._supervisor.loop.later(seconds + _KILL_AFTER, lambda: self._supervisor.children.kill(worker))
