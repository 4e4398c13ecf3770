"""Rehearsal: what a reload does first, in a child of the supervisor that may fail as it likes.

The child reads the settings anew and builds everything that a worker would build. Only what has been built here once is
offered to the workers. It runs with the supervisor's rights, because it reads private keys, and talks to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge.settings.load import Loaded
from edge.settings.model import Host, Settings
from edge.settings.problems import Severity
from edge.settings.report import render
from edge.tls.choice import ServerContext, build_table
from edge.tls.trust import TrustError

__all__ = ["Origin", "Rehearsed", "rehearse"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings come from: the file's absolute path, and how to read it again, the command line's overrides included.

    `read` may be given texts that stand for the settings files (`edge.settings.load.load`); `documents` are those of the start.
    """

    path: str
    read: Callable[[Mapping[str, str] | None], Loaded]
    documents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What came of it: settings that can be used, or why not. `error` is ``invalid-settings`` or ``rehearsal-failed``."""

    settings: Settings | None = None
    error: str = ""
    problems: tuple[str, ...] = ()  # rendered: with file, line, caret and mend, as `edge check` shows them
    warnings: tuple[str, ...] = ()


def rehearse(origin: Origin, current: Settings) -> Rehearsed:
    """Read and build. `current` is what runs: what did not change against it need not be tried again."""
    loaded = origin.read(None)
    told = [(problem.severity, render((problem,), loaded.texts).rstrip()) for problem in loaded.problems]
    warnings = tuple(text for severity, text in told if severity is Severity.WARNING)
    if loaded.settings is None:
        problems = tuple(text for severity, text in told if severity is Severity.ERROR)
        return Rehearsed(error="invalid-settings", problems=problems, warnings=warnings)
    cache: dict[Host, ServerContext] = {}
    try:
        for listener in loaded.settings.listeners:
            if listener.tls:
                build_table(loaded.settings, listener, cache)
    except TrustError as error:
        return Rehearsed(error="rehearsal-failed", problems=(str(error),), warnings=warnings)
    return Rehearsed(settings=loaded.settings, warnings=warnings)
