"""One generation of settings on its way into force, on all workers or on none.

Bound, opened and built first is what may fail: ports, log files, TLS contexts. Then every worker *prepares*: it builds all
that is new beside what runs, and says so. When all have, the new sockets begin to listen and everybody *commits*, which cannot
fail: a worker that does not answer a commit is replaced by one that begins with the new settings. Until then whatever goes wrong
(a refusal, a deadline) ends in `abandon`, and nothing has changed.

A worker that dies while the others prepare has no vote: its successor begins with what is in force when it is forked, and
prepares as well if that is still the old.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.process import parcel
from edge.process.channel import MOST_DESCRIPTORS, Message
from edge.process.children import Child
from edge.process.errors import StartError
from edge.process.listening import Change
from edge.process.logs import Following
from edge.process.loop import Timer
from edge.settings.model import Settings
from edge.settings.transfer import encode
from edge.tls.choice import HostTable, build_table
from edge.tls.trust import TrustError

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Refusal", "Transaction"]

_PREPARE = 60.0  # seconds for all workers to prepare
_COMMIT = 5.0  # seconds for all workers to commit


class Refusal(Exception):
    """Why nothing has changed: a word that keeps its meaning, and a sentence."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


class Transaction:
    """`done` is called once: with None when the generation is in force, or with why it is not."""

    def __init__(
        self, supervisor: Supervisor, settings: Settings, generation: int, done: Callable[[Refusal | None], None]
    ) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self.generation = generation
        self._done = done
        self._numbers: list[int] = []
        self._change: Change | None = None
        self._following: Following | None = None
        self._tables: dict[str, HostTable] = {}
        self._parcel = -1
        self._asked: set[int] = set()  # pids
        self._prepared: set[int] = set()
        self._committing: set[int] | None = None  # pids that have not answered yet
        self._timer = Timer(0.0, None)

    def start(self) -> None:
        """Make what may fail, and ask the workers."""
        try:
            self._make()
        except Refusal as refusal:
            self._give_up(refusal)
            return
        except Exception as error:  # a defect; without an end nobody could reload any more
            self._give_up(Refusal("internal-error", f"{type(error).__name__}: {error}"))
            raise
        reports = self._supervisor.workforce.reports
        reports["ready"] = lambda worker, _: self._ask(worker)
        reports["prepared"] = self._on_prepared
        reports["refused"] = self._on_refused
        reports["committed"] = lambda worker, _: self._on_committed(worker)
        self._supervisor.workforce.on_gone = self._on_gone
        self._timer = self._supervisor.loop.later(_PREPARE, self._late)
        for worker in self._supervisor.workforce.workers:
            if worker.ready:
                self._ask(worker)
        self._look()

    def _make(self) -> None:
        supervisor, settings = self._supervisor, self._settings
        self._numbers = self._who_stays()
        try:
            self._change = supervisor.sockets.change(settings.listeners, self._numbers)
        except StartError as error:
            raise Refusal("bind-failed", str(error)) from error
        if any(len(self._change.sockets_for(number)) > MOST_DESCRIPTORS - 4 for number in self._numbers):
            raise Refusal("bind-failed", "too many new addresses for one reload: add them in several")
        try:
            self._following = supervisor.destinations.prepare(settings.log)
        except StartError as error:
            raise Refusal("log-failed", str(error)) from error
        known = {context.host: context for table in supervisor.tables.values() for context in table.contexts}
        try:
            self._tables = {one.name: build_table(settings, one, known) for one in settings.listeners if one.tls}
            self._parcel = parcel.pack(encode(settings))
        except (TrustError, OSError) as error:
            raise Refusal("rehearsal-failed", str(error)) from error

    def _who_stays(self) -> list[int]:
        """The numbers of the workers that there will be."""
        workforce = self._supervisor.workforce
        numbers = [worker.number for worker in workforce.workers]
        wanted = self._settings.server.workers
        return numbers[:wanted] + workforce.free_numbers(wanted - len(numbers))

    # preparing

    def _ask(self, worker: Child) -> None:
        """Have a worker prepare, if it is one that stays and was not asked."""
        if self._committing is not None or worker.pid in self._asked or worker.number not in self._numbers:
            return
        assert self._change is not None
        assert self._following is not None
        self._asked.add(worker.pid)
        bound = self._change.sockets_for(worker.number)
        names, files = self._following.files()
        order: Message = {
            "do": "prepare",
            "generation": self.generation,
            "sockets": [name for name, _ in bound],
            "logs": names,
        }
        self._supervisor.children.send(worker, order, [self._parcel, *(sock.fileno() for _, sock in bound), *files])

    def _on_prepared(self, worker: Child, message: Message) -> None:
        if message.get("generation") == self.generation and worker.pid in self._asked:
            self._prepared.add(worker.pid)
            self._look()

    def _on_refused(self, worker: Child, message: Message) -> None:
        if message.get("generation") != self.generation:
            return
        if self._committing is not None:
            self._supervisor.children.kill(worker)  # its successor has the new settings
        else:
            self._give_up(Refusal("worker-refused", f"{worker.name}: {message.get('why')}"))

    def _on_gone(self, worker: Child) -> None:
        if self._committing is not None:
            self._committing &= {one.pid for one in self._supervisor.workforce.workers if one.pid}
            self._look_committed()
        else:
            self._look()

    def _late(self) -> None:
        silent = [worker.name for worker in self._staying() if worker.pid not in self._prepared]
        self._give_up(Refusal("worker-refused", f"{', '.join(silent)} did not answer within {_PREPARE:g} s"))

    def _staying(self) -> list[Child]:
        return [worker for worker in self._supervisor.workforce.workers if worker.pid and worker.number in self._numbers]

    def _look(self) -> None:
        """Commit when all that live have prepared."""
        if self._committing is None and all(worker.pid in self._prepared for worker in self._staying()):
            self._commit()

    def _give_up(self, refusal: Refusal) -> None:
        supervisor = self._supervisor
        for worker in supervisor.workforce.workers:
            if worker.pid in self._asked:
                supervisor.children.send(worker, {"do": "abandon", "generation": self.generation})
        if self._change is not None:
            self._change.abandon()
        if self._following is not None:
            self._following.close()
        self._finish(refusal)

    # committing

    def _commit(self) -> None:
        supervisor = self._supervisor
        assert self._change is not None
        assert self._following is not None
        try:
            self._change.listen()
        except StartError as error:
            self._give_up(Refusal("bind-failed", str(error)))
            return
        self._timer.cancel()
        self._timer = supervisor.loop.later(_COMMIT, self._commit_is_late)
        self._committing = set()
        for worker in self._staying():
            if supervisor.children.send(worker, {"do": "commit", "generation": self.generation}):
                self._committing.add(worker.pid)
        self._change.commit()
        supervisor.in_force(self._settings, self._tables, self._following, self.generation)
        self._staff()
        self._look_committed()

    def _staff(self) -> None:
        """More or fewer workers."""
        workforce = self._supervisor.workforce
        there = {worker.number for worker in workforce.workers}
        try:
            workforce.start(number for number in self._numbers if number not in there)
        except OSError as error:
            self._supervisor.log.event("child-not-started", level="error", detail=str(error))
        workforce.settings_changed()
        workforce.send_home([worker for worker in workforce.workers if worker.number not in self._numbers])
        workforce.look()

    def _on_committed(self, worker: Child) -> None:
        if self._committing is not None:
            self._committing.discard(worker.pid)
            self._look_committed()

    def _look_committed(self) -> None:
        if not self._committing:
            self._finish(None)

    def _commit_is_late(self) -> None:
        for worker in self._supervisor.workforce.workers:
            if worker.pid in (self._committing or ()):
                self._supervisor.children.kill(worker)
        self._finish(None)

    def _finish(self, refusal: Refusal | None) -> None:
        self._timer.cancel()
        workforce = self._supervisor.workforce
        for what in ("ready", "prepared", "refused", "committed"):
            workforce.reports.pop(what, None)
        workforce.on_gone = lambda worker: None
        if self._parcel >= 0:
            os.close(self._parcel)
            self._parcel = -1
        done, self._done = self._done, lambda refusal: None
        done(refusal)
