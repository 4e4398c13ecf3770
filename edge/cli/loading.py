"""Loading settings for a command: problems become a report on stderr, and errors end the command with 1."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge.cli.locate import configuration
from edge.cli.terminal import Exit, Stop, colourful, note
from edge.settings.load import Loaded, load
from edge.settings.model import Settings
from edge.settings.problems import Problem, Reason, Severity
from edge.settings.report import render, summary

__all__ = ["load_settings", "load_shown", "read", "refusal", "report", "settings_for"]


def read(path: Path, text: str | None = None) -> Loaded:
    """Load `path`, or `text` as if it stood there. A file that cannot be opened raises OSError: that is no mistake in it."""
    if text is None:
        with open(path, "rb"):
            pass
    return load(path, text=text, environ=os.environ)


def report(loaded: Loaded, problems: tuple[Problem, ...]) -> None:
    """The problems, each with its line and caret, to stderr."""
    shown = render(problems, loaded.texts, colour=colourful(sys.stderr))
    if shown:
        note(shown.rstrip("\n"))


def load_settings(path: Path, text: str | None = None) -> Settings:
    """The settings at `path`. Raises Stop(NOT_FINE) after a report of the errors; warnings are not shown."""
    loaded = read(path, text)
    return _usable(path, loaded)


def load_shown(path: Path) -> Loaded:
    """What was loaded from `path`, with settings, after its warnings were shown. Raises Stop as `load_settings`."""
    loaded = read(path)
    if loaded.settings is not None:
        report(loaded, tuple(problem for problem in loaded.problems if problem.severity is Severity.WARNING))
    _usable(path, loaded)
    return loaded


def _usable(path: Path, loaded: Loaded) -> Settings:
    if loaded.settings is None:
        report(loaded, loaded.errors)
        raise Stop(refusal(loaded), f"{path}: {summary(loaded.errors) or 'cannot be used'}")
    return loaded.settings


def refusal(loaded: Loaded) -> Exit:
    """How to end when there are errors: NOT_PERMITTED when all that is wrong is files that this user may not read."""
    denied = all(problem.reason is Reason.NOT_PERMITTED for problem in loaded.errors)
    return Exit.NOT_PERMITTED if denied and loaded.errors else Exit.NOT_FINE


def settings_for(args: argparse.Namespace) -> Settings:
    """The settings that the command line names."""
    return load_settings(configuration(args))
