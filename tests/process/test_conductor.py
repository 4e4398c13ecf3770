"""Whatever happens, a reload ends with an answer, and another one can follow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge.process import conductor as module
from edge.process.conductor import Asked, Conductor, Way
from edge.process.loop import Loop
from edge.process.supervisor import Supervisor
from edge.process.transaction import Refusal, Transaction

Answers = list[dict[str, Any]]


class Rehearsal:
    """One that goes on until it is cancelled."""

    def __init__(self, *_: object) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Gateway:
    """As much of a supervisor as a conductor asks for."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.loop = Loop(self.failures.append)
        self.serving = True
        self.ends = False
        self.origin = SimpleNamespace(documents={}, states={})
        self.settings = SimpleNamespace(server=SimpleNamespace(watch="off"), digest="")
        self.generation = 1
        self.children = None
        self.operations = SimpleNamespace(add=lambda _name, _operation: None)
        self.more_status: dict[str, object] = {}
        self.manager = SimpleNamespace(reloading=lambda: None, reloaded=lambda: None)
        self.log = SimpleNamespace(flush=lambda: None, event=lambda _name, **_: None)


def test_the_end_answers_those_who_wait_for_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Rehearsing", Rehearsal)
    gateway = Gateway()
    conductor = Conductor(gateway)  # type: ignore[arg-type]
    late: Answers = []
    first: Answers = []
    second: Answers = []
    conductor.ask(Asked(Way.COMMAND, "first"), first.append)
    conductor.ask(Asked(Way.COMMAND, "second"), second.append)
    gateway.serving, gateway.ends = False, True
    conductor.stop()
    conductor.ask(Asked(Way.COMMAND, "late"), late.append)
    assert late[0]["error"] == "not-serving"
    assert [answer["error"] for answer in (*first, *second)] == ["not-serving", "not-serving"]
    assert not conductor.busy
    gateway.loop.close()


def test_what_is_asked_for_during_the_start_is_done_when_the_gateway_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Rehearsing", Rehearsal)
    gateway = Gateway()
    gateway.serving = False
    conductor = Conductor(gateway)  # type: ignore[arg-type]
    answers: Answers = []
    conductor.ask(Asked(Way.SIGNAL, "SIGHUP"), answers.append)
    assert not conductor.busy and not answers
    gateway.serving = True
    conductor.begin()
    assert conductor.busy
    conductor.stop()
    gateway.loop.close()


def test_one_who_depends_on_settings_and_fails_keeps_no_other_from_being_told() -> None:
    told: list[str] = []
    gateway = Gateway()

    def fail() -> None:
        raise OSError("no more descriptors")

    hooks = [lambda: told.append("one"), fail, lambda: told.append("two")]
    supervisor: Any = SimpleNamespace(on_committed=hooks, loop=gateway.loop, changed=lambda: told.append("all"))
    Supervisor.committed(supervisor)
    assert told == ["one", "two", "all"]
    assert [str(error) for error in gateway.failures] == ["no more descriptors"]
    gateway.loop.close()


def test_a_defect_before_anything_is_asked_of_workers_refuses_the_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Transaction) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(Transaction, "_make", fail)
    supervisor: Any = SimpleNamespace(workforce=SimpleNamespace(workers=[], reports={}, on_gone=None))
    refused: list[Refusal | None] = []
    with pytest.raises(LookupError):
        Transaction(supervisor, None, 2, refused.append).start()  # type: ignore[arg-type]
    assert [refusal.error for refusal in refused if refusal is not None] == ["internal-error"]
