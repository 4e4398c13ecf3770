"""`edge run`: the gateway in the foreground, until a signal ends it."""

from __future__ import annotations

import argparse
from dataclasses import replace

from edge.cli.loading import load_settings
from edge.cli.locate import configuration
from edge.cli.terminal import note
from edge.settings.model import Settings

__all__ = ["overridden", "run"]


def run(args: argparse.Namespace) -> int:
    """Load, start, wait. Warnings of the settings are shown, but do not keep the gateway from starting."""
    path = configuration(args)
    settings = overridden(load_settings(path, warnings=True), workers=args.workers, log=args.log)
    note(f"edge: settings from {path}")
    from edge.process import run as run_gateway

    return run_gateway(settings)


def overridden(settings: Settings, *, workers: int | None, log: str | None) -> Settings:
    """`settings` with what the command line says instead."""
    if workers is not None:
        settings = replace(settings, server=replace(settings.server, workers=workers))
    if log is not None:
        access, events = replace(settings.log.access, format=log), replace(settings.log.events, format=log)
        settings = replace(settings, log=replace(settings.log, access=access, events=events))
    return settings
