"""A worker's data path in a thread of the test's process, with real sockets, for tests that take it from settings to settings."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from edge.net.server import Server
from edge.observe.counters import Table
from edge.observe.log import Log
from edge.settings.load import load
from edge.settings.model import Log as LogSettings
from edge.settings.model import Settings
from edge.settings.transfer import encode
from edge.tls.choice import build_table
from edge.tls.replay import ReplayFilter

__all__ = ["Running", "listening"]

_T = TypeVar("_T")
_PATIENCE = 60.0


def listening() -> socket.socket:
    """A listening socket of loopback."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    return sock


class Running:
    """A server on the TOML of hosts, routes and upstreams. Its listeners "main" (TLS) and "plain" are put after it."""

    def __init__(self, folder: Path, toml: str) -> None:
        self.folder = folder
        main, plain = listening(), listening()
        self.port, self.plain_port = main.getsockname()[1], plain.getsockname()[1]
        self.ports = {"main": self.port, "plain": self.plain_port}
        settings = self.settings(toml)
        tables = {listener.name: build_table(settings, listener) for listener in settings.listeners if listener.tls}
        self.loop = uvloop.new_event_loop()
        self.log = Log(LogSettings(), None, None)
        replays = ReplayFilter(time.time(), window_passed=True)
        self.server = Server(
            settings, [("main", main), ("plain", plain)], tables, self.log, self.loop, Table.create(1).part(1), replays
        )
        self.bugs: list[object] = []
        self.server.hub.on_bug = lambda error, where: self.bugs.append((error, where))
        self.loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        self.loop.call_soon(self.server.start)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def settings(self, toml: str) -> Settings:
        parts = [toml]
        for name in self.ports:
            if f'name = "{name}"' not in toml and f"# no {name}" not in toml:
                off = "" if name == "main" else 'tls = "off"\n'
                parts.append(f'[[listener]]\nname = "{name}"\naddress = "127.0.0.1:{self.ports[name]}"\n{off}')
        text = "\n".join([*parts, f'[server]\nworkers = 1\nstate_dir = "{self.folder}"\nruntime_dir = "{self.folder}"\n'])
        loaded = load(self.folder / "edge.toml", text=text, environ={})
        assert loaded.settings is not None, loaded.problems
        return loaded.settings

    def call(self, function: Callable[[], _T]) -> _T:
        """The function's result, from the server's thread."""
        done = threading.Event()
        found: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(function())
            except BaseException as error:
                failed.append(error)
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(_PATIENCE)
        if failed:
            raise failed[0]
        return found[0]

    def prepare(self, parcel: bytes, sockets: Sequence[tuple[str, socket.socket]] = ()) -> Exception | None:
        """What was in the way of other settings."""
        done = threading.Event()
        found: list[Exception | None] = []

        def finished(error: Exception | None) -> None:
            found.append(error)
            done.set()

        self.call(lambda: self.server.prepare(parcel, sockets, finished))
        assert done.wait(_PATIENCE)
        return found[0]

    def commit(self) -> None:
        """Put what was prepared in force, and wait until every connection knows."""
        self.call(lambda: self.server.commit(lambda: self.log))
        told = threading.Event()

        def look() -> None:
            if self.server._renewing is not None:
                self.loop.call_later(0.001, look)
            else:
                told.set()

        self.loop.call_soon_threadsafe(look)
        assert told.wait(_PATIENCE)

    def reload(self, toml: str, sockets: Sequence[tuple[str, socket.socket]] = ()) -> None:
        assert self.prepare(encode(self.settings(toml)), sockets) is None
        self.commit()

    def end(self) -> None:
        self.call(self.server.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE)
        self.loop.close()
        assert self.bugs == []
