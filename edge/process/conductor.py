"""Reloads, one at a time: asked for by a signal, a command, the admin API or a change on disk, all by the same way.

rehearse → judge what it would change → bind, prepare, commit → say so. A request that comes during a reload waits for its
own, since what is on disk may have changed again; equal requests that wait share one. Whatever fails leaves what runs as it is,
and is an event, a sentence in the status, and the answer to whoever asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.process.control_socket import Answer, failure
from edge.process.operations import Request
from edge.process.rehearsing import Found, Rehearsing
from edge.process.transaction import Refusal, Transaction
from edge.settings.files import State
from edge.settings.report import on_one_line

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Asked", "Conductor", "Way", "PASSING"]

_MOST_WAITING = 16
PASSING = ("invalid-settings", "rehearsal-failed")  # refusals that files which are just being written explain
_MOST_TOLD = 20  # changes in an event
_MOST_DETAIL = 2000  # characters


class Way:
    """By which way a reload was asked for; it decides what is done about changes that take protection away."""

    SIGNAL = "signal"
    COMMAND = "command"
    ADMIN = "admin"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Asked:
    way: str
    by: str  # for the log
    allow_weaker: bool = False
    tentative: bool = False  # a refusal that may pass is nobody's business but the asker's: it will ask again


class Conductor:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._waiting: dict[Asked, list[Answer]] = {}
        self._current: tuple[Asked, list[Answer]] | None = None
        self._rehearsing: Rehearsing | None = None
        self._documents = dict(supervisor.origin.documents) if supervisor.origin is not None else {}
        # what stat said of each file before it was read, for what runs
        self.states: Mapping[str, State] = supervisor.origin.states if supervisor.origin is not None else {}
        self._number = supervisor.generation
        self._began = 0.0
        self._found = Found()
        self._counts = {"accepted": 0, "refused": 0}
        self._last: dict[str, Any] | None = None
        supervisor.operations.add("reload", self._on_request)
        supervisor.more_status["reloads"] = lambda: {**self._counts, "last": self._last}

    @property
    def busy(self) -> bool:
        """Whether a reload is under way."""
        return self._current is not None

    def _on_request(self, request: Request, by: str, answer: Answer) -> None:
        way = Way.ADMIN if by == "admin" else Way.COMMAND
        self.ask(Asked(way, by, allow_weaker=request.get("allow_weaker") is True), answer)

    def ask(self, asked: Asked, answer: Answer) -> None:
        """Reload, once the gateway serves; `answer` gets the outcome as the control socket tells it."""
        if self._supervisor.ends:
            self._decline(asked, answer, "not-serving", "the gateway ends")
        elif self._supervisor.origin is None:
            self._decline(asked, answer, "no-file", "these settings do not come from a file")
        elif len(self._waiting) >= _MOST_WAITING and asked not in self._waiting:
            self._decline(asked, answer, "busy", "too many reloads wait already")
        else:
            self._waiting.setdefault(asked, []).append(answer)
            self._next()

    def _decline(self, asked: Asked, answer: Answer, error: str, detail: str) -> None:
        if asked.way == Way.SIGNAL:  # who sends one hears no answer
            self._supervisor.log.event("reload-refused", level="error", error=error, detail=detail, by=asked.by)
        answer(failure(error, detail))

    def begin(self) -> None:
        """The gateway serves: what was asked for during the start is done now."""
        self._next()

    def stop(self) -> None:
        """The gateway ends: who waits is told. What is being put in force already is left to its end."""
        if self._rehearsing is not None:
            self._rehearsing.cancel()
            self._rehearsing = None
            self._answer(failure("not-serving", "the gateway ends"))
        waiting, self._waiting = self._waiting, {}
        for answers in waiting.values():
            for answer in answers:
                answer(failure("not-serving", "the gateway ends"))

    def _next(self) -> None:
        origin = self._supervisor.origin
        if self._current is not None or not self._waiting or origin is None or not self._supervisor.serving:
            return
        asked = next(iter(self._waiting))
        self._current = asked, self._waiting.pop(asked)
        self._began = time.monotonic()
        self._found = Found()
        self._supervisor.manager.reloading()
        as_they_were = asked.way == Way.WATCH and self._supervisor.settings.server.watch != "all"
        documents = self._documents if as_they_were else None
        one = self._supervisor
        try:
            self._rehearsing = Rehearsing(one.children, one.loop, origin, one.settings, documents, self._on_rehearsed)
        except OSError as error:
            self._refused(Refusal("rehearsal-failed", f"no process for it: {error.strerror}"))

    def _on_rehearsed(self, found: Found) -> None:
        self._rehearsing = None
        self._found = found
        if self._current is None or not self._supervisor.serving:
            self._refused(Refusal("not-serving", "the gateway ends"))
            return
        asked, _ = self._current
        if found.settings is None:
            first = found.problems[0] if found.problems else "no reason given"
            more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
            self._refused(Refusal(found.error or "rehearsal-failed", f"{first}{more}"))
            return
        weaker = [change["text"] for change in found.changes if change["weaker"]]
        if weaker and not self._may_weaken(asked):
            self._refused(Refusal("weaker", "; ".join(weaker[:_MOST_TOLD])))
            return
        if asked.way == Way.WATCH and found.settings == self._supervisor.settings:
            self._answer({"ok": True, **self._in_force(), "changes": [], "warnings": list(found.warnings)})
            return
        self._supervisor.before_commit(found.settings, self._on_all_there)

    def _on_all_there(self, refusal: Refusal | None) -> None:
        """What the settings need from elsewhere is there, or a refusal says what is not."""
        found = self._found
        if refusal is not None or self._current is None or not self._supervisor.serving or found.settings is None:
            self._refused(refusal or Refusal("not-serving", "the gateway ends"))
            return
        self._number += 1
        Transaction(self._supervisor, found.settings, self._number, self._on_done).start()

    def _may_weaken(self, asked: Asked) -> bool:
        return asked.allow_weaker or asked.way == Way.SIGNAL or self._supervisor.settings.server.reload_weaker == "allow"

    def _on_done(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._refused(refusal)
            return
        assert self._current is not None
        supervisor, found, (asked, _) = self._supervisor, self._found, self._current
        self._documents = dict(found.documents or {})
        self.states = found.states
        texts = [change["text"] for change in found.changes]
        weaker = [change["text"] for change in found.changes if change["weaker"]]
        self._note(ok=True, detail=f"{len(texts)} changes" if len(texts) != 1 else texts[0])
        supervisor.degraded.pop("watch", None)
        if asked.way != Way.WATCH or supervisor.settings.server.watch == "all":
            supervisor.degraded.pop("reload", None)
        seconds = round(time.monotonic() - self._began, 3)
        told = texts[:_MOST_TOLD] + ([f"and {len(texts) - _MOST_TOLD} more"] if len(texts) > _MOST_TOLD else [])
        supervisor.log.event("reloaded", **self._in_force(), by=asked.by, changes=told, seconds=seconds)
        if weaker:
            supervisor.log.event("reload-weakened", level="warning", by=asked.by, changes=weaker[:_MOST_TOLD])
        for warning in found.warnings:
            supervisor.log.event("reload-warning", level="warning", detail=on_one_line(warning)[:_MOST_DETAIL])
        supervisor.committed()
        self._answer({"ok": True, **self._in_force(), "changes": list(found.changes), "warnings": list(found.warnings)})

    def _in_force(self) -> dict[str, Any]:
        return {"generation": self._supervisor.generation, "digest": self._supervisor.settings.digest}

    def _refused(self, refusal: Refusal) -> None:
        if self._current is None:
            return
        asked, _ = self._current
        detail = str(refusal)[:_MOST_DETAIL]
        if not (asked.tentative and refusal.error in PASSING):
            self._note(ok=False, detail=f"{refusal.error}: {detail}")
            supervisor = self._supervisor
            about = "watch" if asked.way == Way.WATCH else "reload"
            supervisor.degraded[about] = f"what is on disk is not what runs: the last reload was refused ({refusal.error})"
            line = on_one_line(str(refusal))[:_MOST_DETAIL]
            supervisor.log.event("reload-refused", level="error", error=refusal.error, detail=line, by=asked.by)
            supervisor.changed()
        found = self._found
        more: dict[str, Any] = {"generation": self._supervisor.generation}
        more["problems"], more["warnings"], more["changes"] = list(found.problems), list(found.warnings), list(found.changes)
        self._answer(failure(refusal.error, detail, **more))

    def _note(self, *, ok: bool, detail: str) -> None:
        self._counts["accepted" if ok else "refused"] += 1
        self._last = {"at": time.time(), "ok": ok, "detail": detail}

    def _answer(self, answer: dict[str, Any]) -> None:
        """The end of one reload, and the beginning of the next."""
        assert self._current is not None
        (_, answers), self._current = self._current, None
        self._supervisor.manager.reloaded()
        self._supervisor.log.flush()  # who gets the answer finds the event
        for one in answers:
            one(answer)
        self._supervisor.loop.later(0.0, self._next)
