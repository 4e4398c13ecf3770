"""A worker: one uvloop loop that is the whole data path.

It is forked with everything it needs (settings, its sockets, TLS contexts, log descriptors) and takes orders only over its
channel: ``drain``, ``stop``, ``logs``, ``state``, ``tickets``. Signals of the terminal and of service managers go to every
process of a group; only the supervisor answers them, so that there is one drain with one deadline. When the channel ends, so
does the worker.

The garbage collector: what exists at the start lives as long as the process, so it is frozen out of every collection. Young
objects die by reference counts; cycles are rare on the data path, hence the high threshold.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop

from edge.net.server import Server
from edge.observe.counters import Table
from edge.observe.log import Log
from edge.process import parcel, privileges
from edge.process.channel import Channel, Message
from edge.process.logs import Destinations
from edge.process.memory import Tidy
from edge.settings.model import Settings
from edge.tls import ticket_keys

if TYPE_CHECKING:
    from edge.tls.choice import HostTable

__all__ = ["Work", "run_worker"]

_GC_THRESHOLD = (20_000, 20, 50)
_TIDY_INTERVAL = 1.0  # seconds
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is made of."""

    number: int  # from 1
    settings: Settings
    sockets: list[tuple[str, socket.socket]]
    tables: Mapping[str, HostTable]
    destinations: Destinations
    identity: privileges.Identity | None
    counters: Table  # a worker's part has its number


def ignore_signals() -> None:
    """In a child: leave signals to the supervisor. SIGCHLD and the wake-up descriptor are its business too."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


def run_worker(work: Work, channel: Channel) -> int:
    """Serve until told otherwise; returns the exit status. Called in the forked child."""
    ignore_signals()
    log = work.destinations.log()
    try:
        privileges.drop(work.identity)
    except OSError as error:
        log.event("privileges-not-dropped", level="error", detail=str(error), worker=work.number)
        log.close()
        return 1
    privileges.name_process(f"edge-worker-{work.number}")
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        worker = _Worker(work, channel, log, loop)
        worker.start()
        loop.run_forever()
    except Exception:
        log.event("worker-failed", level="error", worker=work.number, detail=_trace())
        return 1
    finally:
        log.close()
    return 0


class _Worker:
    __slots__ = ("_channel", "_destinations", "_log", "_loop", "_number", "_server", "_tidy")

    def __init__(self, work: Work, channel: Channel, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._destinations = work.destinations
        self._log = log
        self._loop = loop
        self._number = work.number
        self._server = Server(work.settings, work.sockets, work.tables, log, loop, work.counters.part(work.number))
        self._tidy = Tidy()

    def start(self) -> None:
        self._loop.set_exception_handler(self._on_exception)
        self._loop.add_reader(self._channel.sock.fileno(), self._on_orders)
        self._server.start()
        self._loop.call_later(_TIDY_INTERVAL, self._look_at_memory)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)
        self._channel.send({"is": "ready"})

    def _look_at_memory(self) -> None:
        self._tidy.look(self._server.accepted, self._server.connections)
        self._loop.call_later(_TIDY_INTERVAL, self._look_at_memory)

    def _on_orders(self) -> None:
        for order, descriptors in self._channel.receive():
            self._obey(order, descriptors)
        if self._channel.ended:
            self._log.event("supervisor-gone", level="error", worker=self._number, pid=os.getpid())
            self._stop()

    def _obey(self, order: Message, descriptors: list[int]) -> None:
        what = order["do"]
        if what == "drain":
            self._server.drain(order["seconds"], self._stop)
        elif what == "logs":
            for to, descriptor in zip(order["to"], descriptors, strict=True):
                self._destinations.replace(to, descriptor)
        elif what == "state":
            self._server.ready = order["ready"]
        elif what == "tickets":
            ticket_keys.PROCESS.update(*ticket_keys.unpack(parcel.unpack(descriptors[0])))
        elif what == "stop":
            self._stop()

    def _stop(self) -> None:
        self._loop.remove_reader(self._channel.sock.fileno())
        self._server.stop()
        self._loop.stop()

    def _on_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A defect of ours in a callback: written down, and the loop goes on."""
        error = context.get("exception")
        detail = "".join(traceback.format_exception(error)[-6:]) if isinstance(error, BaseException) else ""
        self._log.event("internal-error", level="error", worker=self._number, message=str(context.get("message")), detail=detail)


def _trace() -> str:
    return "".join(traceback.format_exception(*sys.exc_info())[-6:])
