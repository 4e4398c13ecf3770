"""The controller's state: the settings in force, what the supervisor last said, and the questions that wait for its answer.

Nothing here is needed for a request to be served: the supervisor starts this process again when it dies, with the settings of
that moment, and everything is rebuilt from them. What comes from the supervisor comes by `hear` and `apply`; what goes there goes
by `send`, which the process room provides, because descriptors and channels are its business.

A status is trusted for half a second. Older, and it is asked for again, once for all who want it: so a supervisor that stands
still is seen within the deadline of an answer, and a flood of health checks costs it two questions a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from edge.observe.counters import Table
from edge.observe.log import Log
from edge.settings.model import Settings

__all__ = ["Message", "NoAnswer", "Plane"]

Message = dict[str, Any]

_FRESH = 0.5  # seconds
_STATUS_TIMEOUT = 1.5  # seconds; less than what probes usually wait
_MOST_QUESTIONS = 64  # under way at a time


class NoAnswer(Exception):
    """The supervisor did not answer in time, or cannot be asked."""


class Plane:
    """All methods are called on its loop."""

    def __init__(self, settings: Settings, generation: int, log: Log, send: Callable[[Message], None], counters: Table) -> None:
        self.settings = settings
        self.generation = generation
        self.log = log
        self.counters = counters  # what all processes have counted
        self.started = time.time()
        self.stopping = asyncio.Event()
        self._send = send
        self._questions: dict[int, asyncio.Future[Message]] = {}
        self._count = 0
        self._status: Message = {}
        self._status_at = float("-inf")
        self._asking: asyncio.Task[Message] | None = None
        self._on_settings: list[Callable[[], None]] = []

    # what comes

    def hear(self, message: Message) -> None:
        """Take a message of the supervisor: a state, or the answer to a question."""
        if "re" in message:
            question = self._questions.pop(message.pop("re"), None)
            if question is not None and not question.done():
                question.set_result(message)
        elif message.get("do") == "state":
            self._remember(message)

    def apply(self, settings: Settings, generation: int) -> None:
        """Go on with new settings."""
        self.settings = settings
        self.generation = generation
        for callback in self._on_settings:
            callback()

    def on_settings(self, callback: Callable[[], None]) -> None:
        """Call back whenever the settings have changed."""
        self._on_settings.append(callback)

    # what is asked

    async def ask(self, operation: str, within: float, **more: object) -> Message:
        """The supervisor's answer `within` seconds. Raises NoAnswer."""
        if len(self._questions) >= _MOST_QUESTIONS:
            raise NoAnswer("too many questions at a time")
        self._count += 1
        number = self._count
        question = self._questions[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"ask": operation, "id": number, **more})
            return await asyncio.wait_for(question, within)
        except TimeoutError as error:  # which is an OSError too
            raise NoAnswer(f"the supervisor did not answer within {within:g} s") from error
        except OSError as error:
            raise NoAnswer("the supervisor does not listen") from error
        finally:
            self._questions.pop(number, None)

    async def status(self) -> Message:
        """The gateway's status, not older than `_FRESH` seconds. Raises NoAnswer."""
        if time.monotonic() - self._status_at < _FRESH:
            return self._status
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = asyncio.create_task(self._ask_status())
        try:
            return await asyncio.shield(asking)
        finally:
            if asking.done():
                self._asking = None

    @property
    def last_status(self) -> Message:
        """What was said last, however old; empty before the first time."""
        return self._status

    async def _ask_status(self) -> Message:
        self._remember(await self.ask("status", _STATUS_TIMEOUT))
        return self._status

    def _remember(self, status: Message) -> None:
        status.pop("do", None)
        self._status = status
        self._status_at = time.monotonic()
