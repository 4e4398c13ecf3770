"""`edge stop`: the running gateway drains and ends. With `--wait` the command ends when the gateway has."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edge.cli.ask import TIMEOUT, find, refusal, said
from edge.cli.moments import span
from edge.cli.terminal import Exit, Stop, answer, note, print_json
from edge.control.client import ask as ask_at

__all__ = ["run"]

_LOOK = 0.1  # seconds between two looks
_SLACK = 10.0  # seconds beyond the drain


def run(args: argparse.Namespace) -> int:
    """0 when the stop began, or with `--wait` when the gateway is gone; 1 when it is still there after `--timeout`."""
    path, got = find(args, {"op": "stop"}, TIMEOUT)
    if not got.get("ok"):
        raise refusal(got)
    pid, drain = got.get("pid"), float(got.get("drain") or 0.0) + float(got.get("drain_delay") or 0.0)
    as_json = getattr(args, "json", False)
    if not args.wait:
        if as_json:
            print_json({"gone": False, **said(got)})
        else:
            answer(f"stopping: pid {pid} takes no new connections, open ones have {span(drain)} to finish")
        return Exit.FINE
    if not as_json:
        note(f"pid {pid} drains, at most {span(drain)}")
    began = time.monotonic()
    patience = args.timeout if args.timeout is not None else drain + _SLACK
    while _answers(path, pid):
        if time.monotonic() - began > patience:
            raise Stop(
                Exit.NOT_FINE, f"pid {pid} still runs after {span(patience)}", f"At once: kill -TERM {pid} (a second time)"
            )
        time.sleep(_LOOK)
    if as_json:
        print_json({"gone": True, **said(got)})
    else:
        answer(f"stopped after {span(time.monotonic() - began)}")
    return Exit.FINE


def _answers(path: Path, pid: object) -> bool:
    """Whether the gateway that was told to stop still exists. Who answers now may be its successor."""
    try:
        return ask_at(path, {"op": "status"}, 2.0).get("pid") == pid
    except TimeoutError:
        return True
    except OSError:
        return _alive(pid)


def _alive(pid: object) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
