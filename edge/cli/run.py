"""`edge run`: the gateway in the foreground, until a signal ends it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace

from edge.cli.loading import load_shown
from edge.cli.locate import configuration
from edge.cli.terminal import note
from edge.settings.load import Loaded, load
from edge.settings.model import Settings

__all__ = ["overridden", "run"]


def run(args: argparse.Namespace) -> int:
    """Load, start, wait. Warnings of the settings are shown, but do not keep the gateway from starting."""
    path = configuration(args)
    loaded = load_shown(path)
    note(f"edge: settings from {path}")
    from edge.process import Origin
    from edge.process import run as run_gateway

    def read(documents: Mapping[str, str] | None) -> Loaded:
        again = load(file, environ=os.environ, documents=documents)
        return replace(again, settings=changed(again.settings)) if again.settings is not None else again

    def changed(settings: Settings) -> Settings:
        return overridden(settings, workers=args.workers, log=args.log)

    file = os.path.abspath(path)
    assert loaded.settings is not None
    return run_gateway(changed(loaded.settings), origin=Origin(file, read, loaded.documents, loaded.source.states))


def overridden(settings: Settings, *, workers: int | None, log: str | None) -> Settings:
    """`settings` with what the command line says instead."""
    if workers is not None:
        settings = replace(settings, server=replace(settings.server, workers=workers))
    if log is not None:
        access, events = replace(settings.log.access, format=log), replace(settings.log.events, format=log)
        settings = replace(settings, log=replace(settings.log, access=access, events=events))
    return settings
