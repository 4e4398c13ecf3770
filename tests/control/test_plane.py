"""The controller's questions and what it remembers of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from edge.control import plane as module
from edge.control.exposition import exposition
from edge.control.plane import NoAnswer, Plane
from edge.observe.counters import Table
from tests.observe.test_expiry import certificate, with_certificates


class Supervisor:
    """Keeps what is asked; answers at once, if it is to."""

    def __init__(self, *, answers: bool = True) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers = answers
        self.plane = Plane(with_certificates(certificate(90, 50)), 3, None, self.send, Table.create(1))  # type: ignore[arg-type]

    def send(self, message: dict[str, Any]) -> None:
        self.asked.append(message)
        if self.answers:
            answer = {"re": message["id"], "ok": True, "ready": True, "count": len(self.asked)}
            asyncio.get_running_loop().call_soon(self.plane.hear, answer)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_many_who_want_the_status_ask_once() -> None:
    async def work() -> None:
        supervisor = Supervisor()
        told = await asyncio.gather(*(supervisor.plane.status() for _ in range(50)))
        assert [one["count"] for one in told] == [1] * 50
        await supervisor.plane.status()
        assert [one["ask"] for one in supervisor.asked] == ["status"]

    run(work())


def test_an_old_status_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        supervisor = Supervisor()
        await supervisor.plane.status()
        monkeypatch.setattr(module, "_FRESH", 0.0)
        assert (await supervisor.plane.status())["count"] == 2

    run(work())


def test_a_state_that_comes_by_itself_is_the_status() -> None:
    async def work() -> None:
        supervisor = Supervisor(answers=False)
        supervisor.plane.hear({"do": "state", "ready": False})
        assert await supervisor.plane.status() == {"ready": False}
        assert supervisor.asked == []

    run(work())


def test_a_supervisor_that_stands_still_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STATUS_TIMEOUT", 0.05)

    async def work() -> None:
        supervisor = Supervisor(answers=False)
        told = await asyncio.gather(*(supervisor.plane.status() for _ in range(5)), return_exceptions=True)
        assert all(isinstance(one, NoAnswer) for one in told)
        assert len(supervisor.asked) == 1
        supervisor.answers = True
        assert (await supervisor.plane.status())["ready"]

    run(work())


def test_questions_are_bounded_and_answers_to_nobody_are_ignored() -> None:
    async def work() -> None:
        supervisor = Supervisor(answers=False)
        tasks = [asyncio.create_task(supervisor.plane.ask("reload", 10)) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(NoAnswer, match="too many"):
            await supervisor.plane.ask("reload", 10)
        supervisor.plane.hear({"re": 10_000, "ok": True})
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        supervisor.answers = True
        assert (await supervisor.plane.ask("reload", 10))["ok"]

    run(work())


def test_one_who_goes_away_does_not_take_the_answer_from_others() -> None:
    async def work() -> None:
        supervisor = Supervisor(answers=False)
        first, second = (asyncio.create_task(supervisor.plane.status()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        supervisor.plane.hear({"re": supervisor.asked[0]["id"], "ready": True})
        assert (await second)["ready"]

    run(work())


def test_a_channel_that_is_full_is_no_answer() -> None:
    async def work() -> None:
        supervisor = Supervisor()

        def full(_message: object) -> None:
            raise BlockingIOError

        plane = Plane(supervisor.plane.settings, 1, None, full, Table.create(1))  # type: ignore[arg-type]
        with pytest.raises(NoAnswer, match="does not listen"):
            await plane.status()

    run(work())


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0", "*/*", "\0, ;q=x"])
def test_the_exposition_is_what_its_type_says(accept: str) -> None:
    from prometheus_client.openmetrics import parser as openmetrics
    from prometheus_client.parser import text_string_to_metric_families

    plane = Supervisor().plane
    plane.hear(
        {
            "do": "state",
            "ready": True,
            "degraded": ["x"],
            "workers": [{"number": 1, "state": "serving", "restarts": 2}, {"number": 2, "state": "down", "restarts": 0}],
            "reloads": {"accepted": 4, "refused": 1, "last": {"at": 1000.0, "ok": False, "detail": "x"}},
        }
    )
    kind, text = exposition(plane, accept)
    parse = openmetrics.text_string_to_metric_families if "openmetrics" in kind else text_string_to_metric_families
    assert ("openmetrics" in kind) == ("openmetrics" in accept)
    samples = {(one.name, tuple(one.labels.items())): one.value for family in parse(text.decode()) for one in family.samples}
    assert samples["edge_config_generation", ()] == 3
    assert samples["edge_ready", ()] == 1
    assert samples["edge_degraded", ()] == 1
    assert samples["edge_worker_up", (("worker", "1"),)] == 1
    assert samples["edge_worker_up", (("worker", "2"),)] == 0
    assert samples["edge_worker_restarts_total", (("worker", "1"),)] == 2
    assert samples["edge_reloads_total", (("result", "accepted"),)] == 4
    assert samples["edge_last_reload_success", ()] == 0
    (value,) = [value for (name, labels), value in samples.items() if name == "edge_certificate_not_after_seconds"]
    assert value == 50 * 86_400
