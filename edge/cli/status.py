"""`edge status`: how the running gateway is: generation, workers, connections, since when, and what is degraded."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from edge.cli.ask import Answer, ask, said
from edge.cli.moments import ago, clock
from edge.cli.terminal import Exit, Stop, answer, paint, plural, print_json, printable, table
from edge.cli.watching import watch

__all__ = ["headline", "run"]

_LOOK = 0.1  # seconds between two looks


def run(args: argparse.Namespace) -> int:
    """0 when it serves and nothing is degraded, else 1; 3 when there is none. With `--wait`: 0 as soon as it is ready."""
    if args.wait:
        _wait(args)
        if not args.watch:
            _once(args)
            return Exit.FINE
    return watch(lambda: _once(args), args.interval) if args.watch else _once(args)


def _wait(args: argparse.Namespace) -> None:
    """Until the gateway is ready. Raises Stop with what was wrong last, after `--timeout` seconds."""
    until = time.monotonic() + args.timeout
    while True:
        try:
            if ask(args, "status").get("ready"):
                return
            last = Stop(Exit.NOT_FINE, "the gateway is not ready yet", "edge status says what it waits for")
        except Stop as stop:
            if stop.code is Exit.NOT_PERMITTED:
                raise
            last = stop
        if time.monotonic() > until:
            raise last
        time.sleep(_LOOK)


def _once(args: argparse.Namespace) -> int:
    got = ask(args, "status")
    code = Exit.FINE if got.get("ready") and not got.get("degraded") else Exit.NOT_FINE
    if getattr(args, "json", False):
        print_json(said(got))
        return code
    _show(got, time.time())
    return code


def headline(got: Answer, now: float) -> str:
    """``serving, generation 3 (1a2b3c4d5e6f) since 2026-10-02 14:03:07, 2 h ago``."""
    return (
        f"{got['state']}, generation {got['generation']} ({str(got['digest'])[:12]}) "
        f"since {clock(got['since'])}, {ago(got['since'], now)}"
    )


def _show(got: Answer, now: float) -> None:
    style = "green" if got.get("ready") and not got.get("degraded") else "yellow"
    state, _, rest = headline(got, now).partition(",")
    answer(f"{paint(state, style, sys.stdout)},{rest}")
    workers: list[dict[str, Any]] = got.get("workers", [])
    connections = sum(int(worker.get("connections", 0)) for worker in workers)
    lines = [
        ("process", f"pid {got['pid']}, started {clock(got['started'])}, {ago(got['started'], now)}"),
        ("settings", got.get("config") or "not from a file"),
        *(("listener", _listener(one)) for one in got.get("listeners", [])),
        ("clients", f"{plural(connections, 'connection')} in {plural(len(workers), 'worker')}"),
        *_reloads(got.get("reloads"), now),
        *_controller(got.get("controller"), now),
    ]
    if got.get("resumption"):
        lines.append(("resumption", str(got["resumption"])))
    for name, text in lines:
        answer(f"{name:<12}{printable(text)}")
    answer("")
    table(("worker", "pid", "state", "since", "clients", "accepted", "lag", "restarts"), [_worker(one, now) for one in workers])
    for text in got.get("degraded", []):
        answer(f"{paint('degraded', 'yellow', sys.stdout)}: {printable(str(text))}")
    if not got.get("degraded"):
        answer("degraded: nothing")


def _listener(one: dict[str, Any]) -> str:
    address = one.get("address", [])
    places = ", ".join(one.get("urls") or ([address] if isinstance(address, str) else address))
    return f"{one['name']}: {places}" if places else str(one["name"])


def _reloads(reloads: dict[str, Any] | None, now: float) -> list[tuple[str, str]]:
    if not reloads:
        return []
    text = f"{reloads.get('accepted', 0)} accepted, {reloads.get('refused', 0)} refused"
    last = reloads.get("last")
    if last:
        text += f"; the last one {ago(last['at'], now)}: {'accepted' if last.get('ok') else 'refused'}"
        text += f", {str(last['detail']).partition(chr(10))[0]}" if last.get("detail") else ""
    return [("reloads", text)]


def _controller(controller: dict[str, Any] | None, now: float) -> list[tuple[str, str]]:
    if not controller:
        return []
    since = f", {ago(controller['since'], now)}" if controller.get("since") else ""
    return [("controller", f"{controller.get('state', 'unknown')}, pid {controller.get('pid') or '-'}{since}")]


def _worker(one: dict[str, Any], now: float) -> list[str]:
    return [
        str(one["number"]),
        str(one.get("pid") or "-"),
        str(one.get("state", "")),
        ago(one["since"], now) if one.get("since") else "-",
        str(one.get("connections", 0)),
        str(one.get("accepted", 0)),
        f"{float(one.get('lag_ms') or 0.0):.1f} ms",
        str(one.get("restarts", 0)),
    ]
