"""What may be asked of the running gateway: over the control socket, and by the controller for the admin listener.

An operation gets the request and calls `answer` once, now or later. Both ways answer alike, so a command and the admin API
never disagree.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.observe.counters import totals
from edge.process.children import Child
from edge.process.control_socket import Answer, Peer, failure
from edge.process.loop import Timer
from edge.settings.outline import outline

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Operations", "Request"]

Request = dict[str, Any]
_PATIENCE = 3.0  # seconds for workers to answer


class Operations:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._questions: dict[int, _Question] = {}
        self._numbers = itertools.count(1)
        self._known: dict[str, Callable[[Request, str, Answer], None]] = {
            "status": lambda _request, _by, answer: answer({"ok": True, **supervisor.status()}),
            "outline": lambda _request, _by, answer: answer({"ok": True, "outline": outline(supervisor.settings)}),
            "certs": lambda _request, _by, answer: answer({"ok": True, "certificates": self._certificates()}),
            "metrics": lambda _request, _by, answer: answer({"ok": True, "metrics": totals(supervisor.counters)}),
            "failures": self._tell,
            "upstreams": self._tell,
            "stop": self._stop,
        }

    def add(self, name: str, operation: Callable[[Request, str, Answer], None]) -> None:
        """Let `name` be asked for. `operation` gets the request, by whom (for the log), and what to call with the answer."""
        self._known[name] = operation

    def handle(self, request: Request, by: str, answer: Answer) -> None:
        """Answer a request; its name stands under ``op``."""
        operation = self._known.get(str(request.get("op")))
        if operation is None:
            answer(failure("unknown-operation", f"this version knows {', '.join(sorted(self._known))}"))
        else:
            operation(request, by, answer)

    def from_socket(self, request: Request, peer: Peer, answer: Answer) -> None:
        self.handle(request, f"command (uid {peer.uid}, pid {peer.pid})", answer)

    def _stop(self, _request: Request, by: str, answer: Answer) -> None:
        answer({"ok": True, "pid": os.getpid(), "drain": self._supervisor.settings.server.drain})
        self._supervisor.stop(by)

    def _certificates(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for host in self._supervisor.settings.hosts:
            for certificate in host.certificates:
                one = found.setdefault(
                    certificate.fingerprint,
                    {
                        "name": certificate.name,
                        "names": certificate.names,
                        "key_type": certificate.key_type,
                        "not_before": certificate.not_before,
                        "not_after": certificate.not_after,
                        "fingerprint": certificate.fingerprint,
                        "staple": self._supervisor.staple_of(certificate.fingerprint),
                        "hosts": [],
                    },
                )
                one["hosts"] += [name for name in host.names if name not in one["hosts"]]
        return sorted(found.values(), key=lambda one: (one["not_after"], one["name"]))

    # what only workers know

    def _tell(self, request: Request, _by: str, answer: Answer) -> None:
        """Ask every worker, wait a little, answer with what has come."""
        supervisor = self._supervisor
        number = next(self._numbers)
        asked = [
            worker
            for worker in supervisor.workers
            if worker.ready and supervisor.children.send(worker, {"do": "tell", "what": request["op"], "id": number})
        ]
        question = _Question(
            {worker.number for worker in asked}, answer, supervisor.loop.later(_PATIENCE, lambda: self._done(number))
        )
        self._questions[number] = question
        if not asked:
            self._done(number)

    def told(self, worker: Child, message: dict[str, Any]) -> None:
        """A worker's answer."""
        number = message.get("id", 0)
        question = self._questions.get(number)
        if question is not None:
            question.values[worker.number] = message.get("value")
            if question.asked <= question.values.keys():
                self._done(number)

    def _done(self, number: int) -> None:
        question = self._questions.pop(number, None)
        if question is None:
            return
        question.timer.cancel()
        told = [{"number": worker, "value": value} for worker, value in sorted(question.values.items())]
        silent = sorted(question.asked - question.values.keys())
        question.answer({"ok": True, "at": time.time(), "workers": told, "silent": silent})


class _Question:
    __slots__ = ("answer", "asked", "timer", "values")

    def __init__(self, asked: set[int], answer: Answer, timer: Timer) -> None:
        self.asked = asked
        self.answer = answer
        self.timer = timer
        self.values: dict[int, object] = {}
