"""The controller may ask for what the admin listener offers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge.process.steward import Steward


@pytest.mark.parametrize(
    ("operation", "answered"), [("status", True), ("reload", True), ("stop", False), ("upgrade", False), (["stop"], False)]
)
def test_what_it_may_ask(operation: object, answered: bool) -> None:
    asked: list[object] = []
    sent: list[dict[str, Any]] = []

    def handle(request: dict[str, Any], _by: str, answer: Any) -> None:
        asked.append(request["op"])
        answer({"ok": True})

    supervisor: Any = SimpleNamespace(
        on_committed=[],
        on_state=[],
        operations=SimpleNamespace(handle=handle),
        children=SimpleNamespace(send=lambda _child, message: sent.append(message)),
    )
    Steward(supervisor, None, "")._on_message({"ask": operation, "id": 7})  # type: ignore[arg-type]
    assert asked == ([operation] if answered else [])
    assert [(one["re"], one["ok"]) for one in sent] == [(7, answered)]
