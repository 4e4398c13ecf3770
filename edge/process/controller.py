"""The controller's process: one asyncio loop, unprivileged, beside the data path and never needed by it.

It is forked once the workers serve, so that what it imports (aiohttp takes a quarter of a second) delays no handshake; started
again with the same back-off as a worker; and ends when its channel does. Here is what touches processes: descriptors,
privileges, orders. What it does with them is the room `edge.control`, which is imported in this process alone.

Orders: ``settings`` (a parcel without private keys, then the log files that ``logs`` names, then new sockets when the admin
listener has ``moved``), ``staples`` (a parcel with settings that are about to come in force: their certificates need staples),
``state`` (what the gateway is like), ``logs``, ``stop``, ``open`` (an order in a parcel). Answers to what it asked carry ``re``.
What it has fetched for stapling goes to the supervisor as ``staples``, in a parcel.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import sys
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from edge.control.expiry import Expiry
from edge.control.plane import Plane
from edge.observe.counters import Table
from edge.observe.log import Log
from edge.process import privileges
from edge.process.channel import Channel, Message
from edge.process.errors import StartError
from edge.process.logs import Destinations
from edge.process.parcel import pack, unpack
from edge.process.staple_files import StapleFiles
from edge.settings.model import Address, Settings
from edge.settings.ocsp import stapled
from edge.settings.transfer import decode

if TYPE_CHECKING:
    from edge.control.admin import AdminServer
    from edge.control.ocsp import Fetcher, Report

__all__ = ["ControllerWork", "run_controller"]

_BEAT = 0.25  # seconds


@dataclass(slots=True)
class ControllerWork:
    """What a controller is made of; the supervisor keeps it up to date for the next one."""

    settings: Settings
    destinations: Destinations
    identity: privileges.Identity | None
    counters: Table  # to be read
    generation: int = 1
    sockets: list[socket.socket] = field(default_factory=list)  # of the admin listener
    bound_for: tuple[Address, ...] = ()  # the addresses of `sockets`, of which the default one may be lacking
    staple_files: StapleFiles | None = None
    staples: dict[str, bytes] = field(default_factory=dict)  # OCSP responses that were verified, by certID


def run_controller(work: ControllerWork, channel: Channel) -> int:
    """Work until told otherwise; returns the exit status. Called in the forked child."""
    log = work.destinations.log()
    server = _admin_server() if work.sockets else None  # now: whom we become may not be allowed to read where packages lie
    fetcher = _fetcher() if any(one.responders for one in stapled(work.settings).values()) else None
    try:
        privileges.drop(work.identity)
    except OSError as error:
        log.event("privileges-not-dropped", level="error", detail=str(error))
        log.close()
        return 1
    privileges.name_process("edge-controller")
    controller = _Controller(work, channel, log, server, fetcher)
    try:
        asyncio.run(controller.run())
    except Exception:
        detail = "".join(traceback.format_exception(*sys.exc_info())[-6:])
        controller.log.event("controller-failed", level="error", detail=detail)
        return 1
    finally:
        controller.log.close()
    return 0


def _admin_server() -> type[AdminServer]:
    """Imported where there is an admin listener alone: aiohttp takes 25 MiB."""
    from edge.control.admin import AdminServer

    return AdminServer


def _fetcher() -> type[Fetcher]:
    """Imported where there is something to fetch."""
    from edge.control.ocsp import Fetcher

    return Fetcher


class _Controller:
    def __init__(
        self, work: ControllerWork, channel: Channel, log: Log, server: type[AdminServer] | None, fetcher: type[Fetcher] | None
    ) -> None:
        self._server = server
        self._fetching = fetcher
        self._fetcher: Fetcher | None = None
        self._keeps = True  # what was fetched could be written
        self._work = work
        self._channel = channel
        self.log = log
        self._admin: AdminServer | None = None
        self._turns = asyncio.Lock()
        self._moving: asyncio.Task[None] | None = None  # to other sockets; kept, for the loop does not keep it
        self._plane: Plane = Plane(work.settings, work.generation, log, channel.send, work.counters)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.sock.fileno(), self._on_orders)
        await self._listen()
        expiry = asyncio.create_task(Expiry(self._plane).run())
        self._fetch(self._work.settings)
        with contextlib.suppress(OSError):  # the supervisor has gone: that is told by the end of the channel
            self._channel.send({"is": "ready"})
        self._beat()
        await self._plane.stopping.wait()
        loop.remove_reader(self._channel.sock.fileno())
        expiry.cancel()
        if self._fetcher is not None:
            await self._fetcher.close()
        if self._admin is not None:
            await self._admin.close()

    async def _listen(self) -> None:
        """Serve the admin listener, if there is one."""
        async with self._turns:
            if self._admin is None and self._work.sockets:
                self._admin = (self._server or _admin_server())(self._plane)
            if self._admin is not None:
                await self._admin.listen(self._work.sockets)

    def _on_orders(self) -> None:
        for order, descriptors in self._channel.receive():
            self._obey(order, descriptors)
        if self._channel.ended:
            self._plane.stopping.set()

    def _obey(self, order: Message, descriptors: list[int]) -> None:
        what = order.get("do")
        if what == "open":
            self._obey(orjson.loads(unpack(descriptors[0])), [])
        elif what == "settings":
            self._take(order, descriptors)
        elif what == "staples":
            self._stage(decode(unpack(descriptors[0])))
        elif what == "stop":
            self._plane.stopping.set()
        elif what == "logs":
            for to, descriptor in zip(order["to"], descriptors, strict=True):
                self._work.destinations.replace(to, descriptor)
        else:
            self._plane.hear(order)

    def _take(self, order: Message, descriptors: list[int]) -> None:
        """Go on with other settings."""
        settings, names = decode(unpack(descriptors[0])), order["logs"]
        files, sockets = descriptors[1 : 1 + len(names)], descriptors[1 + len(names) :]
        self._follow_logs(settings, dict(zip(names, files, strict=True)))
        if order["moved"]:
            self._work.sockets = [socket.socket(fileno=descriptor) for descriptor in sockets]
            self._moving = asyncio.create_task(self._listen())
            self._moving.add_done_callback(self._on_moved)
        self._work.settings = settings
        self._plane.apply(settings, order["generation"])
        self._fetch(settings)

    def _on_moved(self, moving: asyncio.Task[None]) -> None:
        """What cannot be done here (packages that may not be read any more) can be done by the next one, from its beginning."""
        error = None if moving.cancelled() else moving.exception()
        if error is not None:
            self.log.event("controller-failed", level="error", detail="".join(traceback.format_exception(error)[-6:]))
            self._plane.stopping.set()

    # staples

    def _fetch(self, settings: Settings) -> None:
        """Begin to fetch, if there is something to be fetched; a fetcher that there is follows the settings by itself."""
        if self._fetcher is not None or not any(one.responders for one in stapled(settings).values()):
            return
        try:
            kind = self._fetching or _fetcher()
        except ImportError as error:  # whom we have become may not read where packages lie: the next one does it in time
            self.log.event("controller-failed", level="error", detail=str(error))
            self._plane.stopping.set()
            return
        self._fetcher = kind(self._plane, self._work.staples, self._tell_staple, self._keep)
        files = self._work.staple_files
        if files is not None:
            files.sweep(self._work.staples)
        self._fetcher.look()

    def _stage(self, settings: Settings) -> None:
        self._fetch(settings)
        if self._fetcher is not None:
            self._fetcher.stage(settings)

    def _tell_staple(self, report: Report) -> None:
        """What came of an attempt, to the supervisor."""
        told = {
            "key": report.key,
            "result": report.result,
            "detail": report.detail,
            "response": base64.b64encode(report.response).decode(),
        }
        descriptor = pack(orjson.dumps(told))
        try:
            with contextlib.suppress(OSError):
                self._channel.send({"is": "staples"}, [descriptor])
        finally:
            os.close(descriptor)

    async def _keep(self, key: str, response: bytes) -> None:
        """Write an answer down, for the next start. Without that it is fetched again then."""
        files = self._work.staple_files
        if files is None:
            return
        try:
            await asyncio.to_thread(files.write, key, response)
        except OSError as error:
            if self._keeps:
                self.log.event("staples-not-kept", level="warning", detail=error.strerror or str(error))
            self._keeps = False
        else:
            self._keeps = True

    def _follow_logs(self, settings: Settings, files: dict[str, int]) -> None:
        """Write events where `settings` want them; `files` are open for it."""
        if settings.log == self._work.settings.log:
            for descriptor in files.values():
                os.close(descriptor)
            return
        destinations = self._work.destinations
        try:
            following = destinations.prepare(settings.log, files)
        except StartError as error:
            self._plane.log.event("log-not-reopened", level="error", detail=str(error))
        else:
            self.log = self._plane.log = destinations.follow(following)

    def _beat(self) -> None:
        """Tell the supervisor that the loop turns."""
        with contextlib.suppress(OSError):
            self._channel.send({"is": "beat"})
        asyncio.get_running_loop().call_later(_BEAT, self._beat)
