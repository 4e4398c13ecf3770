"""A worker: one uvloop loop that is the whole data path.

It is forked with everything it needs (settings, its sockets, TLS contexts, log descriptors) and takes orders only over its
channel (`edge.process.channel` lists them). Signals of the terminal and of service managers go to every process of a group; only
the supervisor answers them, so that there is one drain with one deadline. When the channel ends, so does the worker.

New settings come as a transaction: ``prepare`` is answered when everything of them is built, or with what is in the way, and
changes nothing; ``commit`` cannot fail. An order that cannot be obeyed is a refusal and an event, never the end of the worker.

The worker beats: several reports a second, from the loop, with how late the loop was. Their absence is how the supervisor
learns that it is stuck.

The garbage collector: what exists at the start lives as long as the process, so it is frozen out of every collection. Young
objects die by reference counts; cycles are rare on the data path, hence the high threshold.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop

from edge.net.server import Server
from edge.net.tell import tell
from edge.observe.counters import Table
from edge.observe.log import Log
from edge.process import parcel, privileges
from edge.process.channel import Channel, Message
from edge.process.errors import StartError
from edge.process.logs import Destinations, Following
from edge.process.memory import Tidy
from edge.settings.model import Settings
from edge.settings.transfer import TransferError
from edge.tls import staples, ticket_keys
from edge.tls.trust import TrustError

if TYPE_CHECKING:
    from edge.tls.choice import HostTable
    from edge.tls.replay import ReplayFilter

__all__ = ["Work", "run_worker"]

_GC_THRESHOLD = (20_000, 20, 50)
_TIDY_INTERVAL = 1.0  # seconds
_BEAT_INTERVAL = 0.2  # seconds
_RESERVE = 32  # descriptors that connections cannot take: those of new settings, of a dead sibling's sockets, of ticket keys
_TOLD = (TransferError, TrustError, StartError)  # their text is a sentence for people


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
    replays: ReplayFilter
    ready: bool = False  # the gateway as a whole, at the fork


def run_worker(work: Work, channel: Channel) -> int:
    """Serve until told otherwise; returns the exit status. Called in the forked child."""
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
    worker: _Worker | None = None
    try:
        worker = _Worker(work, channel, log, loop)
        worker.start()
        loop.run_forever()
    except Exception:
        (worker.log if worker is not None else log).event("worker-failed", level="error", worker=work.number, detail=_trace())
        return 1
    finally:
        (worker.log if worker is not None else log).close()
    return 0


class _Worker:
    __slots__ = (
        "_beat_due", "_channel", "_destinations", "_files", "_following", "_generation", "_loop", "_number", "_orders", "_server",
        "_tidy", "log",
    )  # fmt: skip

    def __init__(self, work: Work, channel: Channel, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._destinations = work.destinations
        self.log = log
        self._loop = loop
        self._number = work.number
        self._server = Server(work.settings, work.sockets, work.tables, log, loop, work.counters.part(work.number), work.replays)
        self._server.ready = work.ready
        self._tidy = Tidy()
        self._files: dict[str, int] = {}  # log files that came with the settings that are being prepared
        self._following: Following | None = None  # the logs of the settings that are prepared
        self._generation = 0  # the one that is being prepared, or waits for its commit; 0: none
        self._beat_due = 0.0
        self._orders: dict[str, Callable[[Message, list[int]], None]] = {
            "drain": self._drain,
            "stop": lambda _order, _descriptors: self._stop(),
            "logs": self._reopen_logs,
            "state": self._take_note,
            "tickets": self._take_tickets,
            "staples": self._take_staples,
            "prepare": self._prepare,
            "commit": self._commit,
            "abandon": self._abandon,
            "adopt": self._adopt,
            "release": lambda order, _: self._server.listeners.release(order["worker"]),
            "take-away": lambda order, _: self._server.listeners.take_away(
                order.get("listener"), lambda: self._report({"is": "taken-away"})
            ),
            "tell": self._tell,
        }

    def start(self) -> None:
        self._loop.set_exception_handler(self._on_exception)
        self._loop.add_reader(self._channel.sock.fileno(), self._on_orders)
        self._channel.reserve(_RESERVE)
        self._server.start()
        self._loop.call_later(_TIDY_INTERVAL, self._look_at_memory)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)
        self._report({"is": "ready"})
        self._beat_due = self._loop.time()
        self._beat()

    def _look_at_memory(self) -> None:
        self._tidy.look(self._server.listeners.accepted, self._server.listeners.connections)
        self._loop.call_later(_TIDY_INTERVAL, self._look_at_memory)

    def _beat(self) -> None:
        now = self._loop.time()
        lag = max(0.0, now - self._beat_due)
        listeners = self._server.listeners
        self._report(
            {"is": "beat", "connections": listeners.connections, "accepted": listeners.accepted, "lag_ms": round(lag * 1000, 1)}
        )  # fmt: skip
        self._beat_due = now + _BEAT_INTERVAL
        self._loop.call_later(_BEAT_INTERVAL, self._beat)

    def _report(self, message: Message) -> None:
        """To the supervisor; one that does not read is as good as dead, and that it is dead is heard by reading."""
        with contextlib.suppress(OSError):
            self._channel.send(message)

    # orders

    def _on_orders(self) -> None:
        for order, descriptors in self._channel.receive():
            try:
                self._orders[order["do"]](order, descriptors)
            except Exception:
                self.log.event("internal-error", level="error", worker=self._number, message=f"order {order}", detail=_trace())
        if not self._generation:  # while one is prepared, what is built for it may need them
            self._channel.reserve(_RESERVE)
        if self._channel.ended:
            self.log.event("supervisor-gone", level="error", worker=self._number, pid=os.getpid())
            self._stop()

    def _drain(self, order: Message, _descriptors: list[int]) -> None:
        self._forget_prepared()
        self._server.drain(order["seconds"], self._stop)

    def _reopen_logs(self, order: Message, descriptors: list[int]) -> None:
        for to, descriptor in zip(order["to"], descriptors, strict=True):
            self._destinations.replace(to, descriptor)

    def _take_note(self, order: Message, _descriptors: list[int]) -> None:
        self._server.ready = order["ready"]

    def _take_tickets(self, _order: Message, descriptors: list[int]) -> None:
        ticket_keys.PROCESS.update(*ticket_keys.unpack(parcel.unpack(descriptors[0])))

    def _take_staples(self, _order: Message, descriptors: list[int]) -> None:
        staples.PROCESS.replace(staples.unpack(parcel.unpack(descriptors[0])))

    def _adopt(self, order: Message, descriptors: list[int]) -> None:
        self._server.listeners.adopt(order["worker"], _sockets(order["sockets"], descriptors))

    def _tell(self, order: Message, _descriptors: list[int]) -> None:
        try:
            value: object = tell(self._server, order["what"])
        except KeyError:
            value = None
        self._report({"is": "told", "id": order["id"], "value": value})

    # new settings

    def _prepare(self, order: Message, descriptors: list[int]) -> None:
        self._forget_prepared()
        generation = self._generation = order["generation"]
        if not descriptors:
            self._prepared(generation, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            return
        names = order["sockets"]
        sockets = _sockets(names, descriptors[1 : 1 + len(names)])
        self._files = dict(zip(order.get("logs", []), descriptors[1 + len(names) :], strict=True))
        try:
            settings = parcel.unpack(descriptors[0])
        except OSError as error:
            for _, sock in sockets:
                sock.close()
            self._prepared(generation, error)
            return
        self._server.prepare(settings, sockets, lambda error: self._prepared(generation, error))

    def _prepared(self, generation: int, error: Exception | None) -> None:
        settings = self._server.prepared
        if error is None and settings is not None:
            files, self._files = self._files, {}
            try:
                self._following = self._destinations.prepare(settings.log, files)
            except (StartError, OSError) as refused:
                error = refused
        if error is None:
            self._report({"is": "prepared", "generation": generation})
            return
        self._forget_prepared()
        why = str(error) if isinstance(error, _TOLD) else f"{type(error).__name__}: {error}"
        self._report({"is": "refused", "generation": generation, "why": why})

    def _commit(self, order: Message, _descriptors: list[int]) -> None:
        following = self._following
        if following is None or order["generation"] != self._generation:
            why = f"generation {order['generation']} was not prepared"
            self._report({"is": "refused", "generation": order["generation"], "why": why})
            return
        self._following, generation, self._generation = None, self._generation, 0
        self._server.commit(lambda: self._follow(following))
        self._report({"is": "committed", "generation": generation})

    def _follow(self, following: Following) -> Log:
        self.log = self._destinations.follow(following)
        return self.log

    def _abandon(self, order: Message, _descriptors: list[int]) -> None:
        if order["generation"] == self._generation:
            self._forget_prepared()

    def _forget_prepared(self) -> None:
        self._generation = 0
        self._server.abandon()
        if self._following is not None:
            self._following.close()
            self._following = None
        files, self._files = self._files, {}
        for descriptor in files.values():
            os.close(descriptor)

    def _stop(self) -> None:
        self._loop.remove_reader(self._channel.sock.fileno())
        self._server.stop()
        self._loop.stop()

    def _on_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A defect of ours in a callback: written down, and the loop goes on."""
        error = context.get("exception")
        detail = "".join(traceback.format_exception(error)[-6:]) if isinstance(error, BaseException) else ""
        self.log.event("internal-error", level="error", worker=self._number, message=str(context.get("message")), detail=detail)


def _sockets(names: list[str], descriptors: list[int]) -> list[tuple[str, socket.socket]]:
    return [(name, socket.socket(fileno=descriptor)) for name, descriptor in zip(names, descriptors, strict=True)]


def _trace() -> str:
    return "".join(traceback.format_exception(*sys.exc_info())[-6:])
