"""A rehearsal's process: a child of a moment that reads and tries new settings, and a deadline for it.

Nothing that goes wrong there reaches the supervisor but as a sentence: a crash of a library on a strange certificate, a file
system that hangs, a file of many megabytes. What it found comes back as parcels, because settings hold private keys.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from edge.process import parcel
from edge.process.channel import Channel, Message
from edge.process.children import Child, Children
from edge.process.loop import Loop
from edge.process.rehearsal import Origin, rehearse
from edge.settings.difference import compare
from edge.settings.files import State
from edge.settings.load import Loaded
from edge.settings.model import Server, Settings
from edge.settings.outline import outline
from edge.settings.transfer import decode, encode

__all__ = ["Found", "Rehearsing"]

_DEADLINE = 60.0  # seconds
_FIXED = ("user", "group", "state_dir", "runtime_dir", "pid_file")  # of [server]: in force at the next start


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a rehearsal. `error` is empty when `settings` can be used."""

    error: str = ""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[dict[str, Any], ...] = ()  # `edge.settings.difference.Change`, as objects
    documents: Mapping[str, str] | None = None  # the settings files that were read, by path
    states: Mapping[str, State] = field(default_factory=dict)  # what stat said of each file before it was read
    settings: Settings | None = None


class Rehearsing:
    """One rehearsal. `done` is called once, unless it is cancelled."""

    def __init__(
        self,
        children: Children,
        loop: Loop,
        origin: Origin,
        current: Settings,
        documents: Mapping[str, str] | None,
        done: Callable[[Found], None],
    ) -> None:
        """`documents`: texts that stand for the settings files. Raises OSError: no more processes."""
        self._children = children
        self._done = done
        self._found: Found | None = None
        self._late = False
        self._child = Child(
            "rehearsal",
            lambda channel: _work(channel, origin, current, documents),
            lambda message: None,
            on_parcels=self._on_message,
            on_exit=self._on_exit,
            kept=False,
        )
        self._timer = loop.later(_DEADLINE, self._kill)
        try:
            children.start(self._child)
        except OSError:
            self._timer.cancel()
            raise

    def cancel(self) -> None:
        """It is of no interest any more."""
        self._done = lambda found: None
        self._kill()

    def _kill(self) -> None:
        self._late = True
        self._children.kill(self._child)

    def _on_message(self, message: Message, descriptors: list[int]) -> None:
        told = orjson.loads(parcel.unpack(descriptors[0]))
        settings = decode(parcel.unpack(descriptors[1])) if len(descriptors) > 1 else None
        self._found = Found(
            error=told["error"],
            problems=tuple(told["problems"]),
            warnings=tuple(told["warnings"]),
            changes=tuple(told["changes"]),
            documents=told["documents"],
            states={
                file: tuple(state)
                for file, state in zip(settings.files if settings is not None else (), told["states"], strict=True)
                if state is not None
            },
            settings=settings,
        )

    def _on_exit(self, how: str) -> None:
        self._timer.cancel()
        why = f"took longer than {_DEADLINE:g} s" if self._late else f"ended with {how or 'nothing to say'}"
        self._done(self._found or Found(error="rehearsal-failed", problems=(f"the rehearsal {why}",)))


def _work(channel: Channel, origin: Origin, current: Settings, documents: Mapping[str, str] | None) -> int:
    """In the child."""
    signal.alarm(int(_DEADLINE) + 5)  # should the supervisor be gone by then
    with contextlib.suppress(OSError):
        os.nice(5)  # traffic comes first
    read: list[Loaded] = []

    def reading(_documents: Mapping[str, str] | None = None) -> Loaded:
        read.append(origin.read(documents))
        return read[-1]

    result = rehearse(Origin(origin.path, reading), current)
    settings, warnings = result.settings, list(result.warnings)
    changes: list[dict[str, Any]] = []
    if settings is not None:
        settings, later = _with_what_is_fixed(settings, current)
        warnings += later
        changes = [asdict(change) for change in compare(outline(current), outline(settings))]
    told = {
        "error": result.error,
        "problems": result.problems,
        "warnings": warnings,
        "changes": changes,
        "documents": read[-1].documents if read else None,
        # in the order of the files: a path need not be text that JSON can carry
        "states": [read[-1].source.states.get(file) for file in settings.files] if settings is not None else [],
    }
    parcels = [parcel.pack(orjson.dumps(told))]
    if settings is not None:
        parcels.append(parcel.pack(encode(settings)))
    channel.sock.setblocking(True)
    channel.send({"is": "rehearsed"}, parcels)
    return 0


def _with_what_is_fixed(settings: Settings, current: Settings) -> tuple[Settings, list[str]]:
    """The settings with what only a start can change as it is, and a sentence for each such key."""
    new, old = settings.server, current.server
    differ = [name for name in _FIXED if getattr(new, name) != getattr(old, name)]
    kept: dict[str, Any] = {name: getattr(old, name) for name in differ}
    server: Server = replace(new, **kept)
    warnings = [f"server.{name} has changed: that takes effect when the gateway is started again" for name in differ]
    return replace(settings, server=server), warnings
