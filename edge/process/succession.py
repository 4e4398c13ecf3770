"""The start of a program that takes over from another one: when it is the one, and what becomes of the old one's children.

Without a predecessor, a gateway is the one as soon as it serves. Beside a predecessor it says that it serves and waits for the
answer: until then the control socket and the service manager are the old program's. If the old program dies in that moment,
nobody else is there. In place there is nobody to ask; the old workers serve until ours do, and are then told to drain.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.process.channel import Channel
from edge.process.children import Child
from edge.process.handover import Heir, Mode, Predecessor

if TYPE_CHECKING:
    from edge.process.supervisor import Supervisor

__all__ = ["Succession"]

_GRACE = 1.0  # seconds between the end of the drain and the kill


class Succession:
    def __init__(self, supervisor: Supervisor, predecessor: Predecessor | None) -> None:
        self._supervisor = supervisor
        self._predecessor = predecessor
        self._then: Callable[[], None] = lambda: None
        self._heirs = [self._adopted(heir) for heir in predecessor.estate.children] if predecessor is not None else []
        if predecessor is not None and predecessor.mode is Mode.SUCCEED:
            supervisor.loop.watch(predecessor.channel.sock, self._on_channel)

    def serving(self, then: Callable[[], None]) -> None:
        """All workers accept connections. `then` is called once we are the one."""
        predecessor = self._predecessor
        if predecessor is None:
            then()
        elif predecessor.mode is Mode.SUCCEED:
            self._then = then
            predecessor.ready()
        else:
            self._finish()
            then()
            seconds = self._supervisor.settings.server.drain
            for heir in self._heirs:
                self._supervisor.children.send(heir, {"do": "drain", "seconds": seconds})
            self._supervisor.loop.later(seconds + _GRACE, self._kill_heirs)

    def refuse(self, why: str) -> None:
        """We cannot start."""
        if self._predecessor is not None:
            self._predecessor.refuse(why)

    def close_copies(self) -> None:
        """In a child: close what belongs to the supervisor."""
        if self._predecessor is not None:
            self._predecessor.channel.close()

    def _on_channel(self) -> None:
        predecessor, supervisor = self._predecessor, self._supervisor
        if predecessor is None:
            return
        answers = [message.get("is") for message, _ in predecessor.channel.receive()]
        if "yours" not in answers and not predecessor.channel.ended:
            return
        supervisor.loop.forget(predecessor.channel.sock)
        if "yours" not in answers and supervisor.state is supervisor.state.STARTING:
            supervisor.log.event("takeover-abandoned", level="error", detail="the program before this one has ended")
            supervisor.end()
            return
        self._finish()
        self._then()

    def _finish(self) -> None:
        if self._predecessor is not None:
            facts = self._predecessor.estate.facts
            self._supervisor.log.event("took-over", pid=facts.get("pid"), mode=self._predecessor.mode)
            self._predecessor.close()
            self._predecessor = None

    # in place: the children that were here before

    def _adopted(self, heir: Heir) -> Child:
        child = Child(f"{heir.name} (before the upgrade)", _never, lambda *_: None, kept=False)
        self._supervisor.children.adopt(child, heir.pid, Channel(socket.socket(fileno=heir.channel)))
        child.since = time.time()
        if not heir.name.startswith("worker"):
            self._supervisor.children.hang_up(child)
        return child

    def _kill_heirs(self) -> None:
        for heir in self._heirs:
            self._supervisor.children.kill(heir)


def _never(_channel: Channel) -> int:
    raise AssertionError("it is not ours to start again")
