"""Loading settings: from a file's path to the model, or to every reason why not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge.settings.model import Settings
from edge.settings.problems import Problem, Severity
from edge.settings.resolve import Resolved, resolve
from edge.settings.shape import check_shape
from edge.settings.source import Source

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one load gave. `settings` is None when there is an error among the problems, which are sorted by place."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    texts: Mapping[str, str]  # of each file, by the name that problems use, for showing the line
    source: Source
    resolved: Resolved | None

    @property
    def documents(self) -> dict[str, str]:
        """The text of each settings file, by its absolute path."""
        return {document.file: document.text for document in self.source.documents}

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def load(
    path: str | Path,
    *,
    text: str | None = None,
    environ: Mapping[str, str],
    now: float | None = None,
    documents: Mapping[str, str] | None = None,
) -> Loaded:
    """Read and resolve the settings at `path`, or `text` as if it stood there. Never raises for what a file may hold.

    `now` (POSIX seconds, default: the clock) is what certificates' dates are held against. `documents`: the texts of an earlier
    load (`Loaded.documents`), so that only what the settings name (certificates, keys, authorities) is read anew.
    """
    source = Source(environ, documents)
    source.read(str(path), text)
    resolved: Resolved | None = None
    if source.documents and not source.failed_to_parse:
        check_shape(source)
        resolved = resolve(source, time.time() if now is None else now, environ)
    told = {
        replace(problem, message=source.redact(problem.message), mend=source.redact(problem.mend)) for problem in source.problems
    }
    problems = tuple(sorted(told, key=lambda problem: problem.order))
    settings = resolved.settings if resolved is not None and not source.failed else None
    texts = {document.name: document.text for document in source.documents}
    return Loaded(settings, problems, texts, source, resolved)
