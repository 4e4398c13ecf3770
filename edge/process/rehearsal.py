"""Rehearsal: what a reload does first, in a child of the supervisor that may fail as it likes.

The child reads the settings anew, builds the TLS contexts that a worker would build, and tries each host that has changed with
handshakes in memory (`edge.tls.rehearsal`). Only what has passed here is offered to the workers. It runs with the supervisor's
rights, because it reads private keys, and talks to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edge.settings.files import State
from edge.settings.identity import upstreams_of
from edge.settings.load import Loaded
from edge.settings.model import Host, Settings
from edge.settings.problems import Severity
from edge.settings.report import render
from edge.tls.choice import ServerContext, build_table
from edge.tls.client import ClientContext
from edge.tls.rehearsal import rehearse as rehearse_host
from edge.tls.trust import TrustError

__all__ = ["Origin", "Rehearsed", "rehearse"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings come from: the file's absolute path, and how to read it again, the command line's overrides included.

    `read` may be given texts that stand for the settings files (`edge.settings.load.load`); `documents` are those of the start,
    and `states` what stat said then of each file before it was read.
    """

    path: str
    read: Callable[[Mapping[str, str] | None], Loaded]
    documents: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)


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
    failures, unused = _try_hosts(loaded.settings, current)
    failures += _try_upstreams(loaded.settings, current)
    warnings += tuple(unused)
    if failures:
        return Rehearsed(error="rehearsal-failed", problems=tuple(failures), warnings=warnings)
    return Rehearsed(settings=loaded.settings, warnings=warnings)


def _try_hosts(settings: Settings, current: Settings) -> tuple[list[str], list[str]]:
    """Problems and warnings of the hosts that are not among those of `current`."""
    known = set(current.hosts)
    new = replace(settings, hosts=tuple(host for host in settings.hosts if host not in known))
    cache: dict[Host, ServerContext] = {}
    problems: list[str] = []
    warnings: list[str] = []
    tried: set[Host] = set()
    for listener in settings.listeners:
        if not listener.tls:
            continue
        try:
            table = build_table(new, listener, cache)
        except TrustError as error:
            return [str(error)], []
        for context in table.contexts:
            if context.host not in tried:
                tried.add(context.host)
                found = rehearse_host(table, context.host)
                problems += found.problems
                warnings += found.warnings
    return problems, warnings


def _try_upstreams(settings: Settings, current: Settings) -> list[str]:
    """Problems of the upstreams' TLS, as far as they can be known without talking to anybody."""
    before = upstreams_of(current)
    problems: list[str] = []
    for name, upstream in upstreams_of(settings).items():
        if upstream.tls is None or upstream == before.get(name):
            continue
        for server in {each.address.host for each in upstream.endpoints if each.scheme.over_tls}:
            try:
                ClientContext(upstream.tls, server)
            except TrustError as error:
                problems.append(f"upstream {name}: {error}")
    return problems
