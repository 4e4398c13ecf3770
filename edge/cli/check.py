"""`edge check`: every mistake in the settings at once, and with `--effective` what is in force and why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge.cli.loading import read, refusal, report
from edge.cli.locate import configuration
from edge.cli.terminal import Exit, Stop, note, page, paint, plural, print_json
from edge.settings.load import Loaded
from edge.settings.model import Settings
from edge.settings.problems import Severity
from edge.settings.report import problems_json, summary

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """0 when the settings can be used (with `--strict`: and nothing is doubtful), else 1, or 4 when files may not be read."""
    loaded, name = _load(args)
    counted = {Severity.ERROR, Severity.WARNING} if args.strict else {Severity.ERROR}
    fine = loaded.settings is not None and not any(problem.severity in counted for problem in loaded.problems)
    code = Exit.FINE if fine else refusal(loaded)
    as_json = getattr(args, "json", False)
    if args.effective and loaded.settings is not None:
        _print_effective(loaded, as_json=as_json)
    elif as_json:
        why = _not_resumed(loaded.settings) if loaded.settings is not None else ""
        print_json({**problems_json(loaded.problems), "ok": fine, "files": list(loaded.texts), "resumption": why or "shared"})
        return code
    report(loaded, loaded.problems)
    if loaded.settings is not None and (why := _not_resumed(loaded.settings)):
        note(f"{paint('warning', 'yellow', sys.stderr)}: resumption will be per worker after the next reload: {why}")
    found = summary(loaded.problems)
    if fine and loaded.settings is not None:
        settings = loaded.settings
        counts = [
            plural(len(settings.hosts), "host"),
            plural(len(settings.routes), "route"),
            plural(len(settings.listeners), "listener"),
        ]
        note(f"{name}: {paint('fine', 'green', sys.stderr)} ({', '.join(counts)}{'; ' + found if found else ''})")
    else:
        strictly = " (--strict)" if loaded.settings is not None else ""
        note(f"{name}: {paint(found or 'cannot be used', 'red', sys.stderr)}{strictly}")
    return code


def _not_resumed(settings: Settings) -> str:
    """Why ticket keys cannot be set in the TLS library that is installed; empty when they can, or when there are no tickets."""
    from edge.tls.layout import LayoutError, layout

    if any(host.tls.tickets for host in settings.hosts):
        try:
            layout()
        except LayoutError as error:
            return f"ticket keys cannot be set in the TLS library that is installed ({error})"
    return ""


def _print_effective(loaded: Loaded, *, as_json: bool) -> None:
    from edge.cli.effective import lines
    from edge.settings.effective import effective

    found = effective(loaded)
    if as_json:
        print_json(found)
        return
    shown = lines(found["settings"])
    page("\n".join(paint(line, "dim", sys.stdout) if line.endswith("# default") else line for line in shown))


def _load(args: argparse.Namespace) -> tuple[Loaded, str]:
    named = getattr(args, "config", None)
    if args.file is not None and named is not None:
        raise Stop(Exit.USAGE, "a FILE and --config both name a file", "edge check FILE")
    if args.file == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Stop(Exit.NOT_FINE, f"stdin is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
        return read(Path("stdin"), text), "stdin"
    path = Path(args.file) if args.file is not None else configuration(args)
    return read(path), str(path)
