"""A worker's whole data path: listeners, upstreams, health checks, log, and how it all begins and ends.

`Server` is what the worker process starts. It is also the context in which exchanges work (`edge.relay.context.Context`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from edge.errors import Fault
from edge.http.message import ConnectionInfo
from edge.net.health import Checker
from edge.net.hub import Hub
from edge.net.journal import Journal
from edge.net.listener import ListenerState
from edge.net.resolver import Resolver
from edge.net.upstreams import Place, Upstreams
from edge.relay.context import Source
from edge.relay.front import Front
from edge.settings.model import Settings, Upstream
from edge.upstream.retry import may_retry

if TYPE_CHECKING:
    from edge.observe.log import Log
    from edge.relay.exchange import Exchange
    from edge.tls.choice import HostTable

__all__ = ["Server"]

_LOG_INTERVAL = 0.1  # seconds
_HOUSEKEEPING = 1.0  # seconds
_DRAIN_LOOK = 0.05  # seconds


class Server:
    """The data path of one worker. All methods are called on its loop."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[tuple[str, socket.socket]],
        tables: Mapping[str, HostTable],
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._log = log
        self.hub = Hub(loop)
        self.clock = self.hub
        self.journal = Journal(self.hub, log)
        self.hub.on_bug = self._bug
        self._resolver = Resolver(self.hub, settings.server.resolver, self.journal)
        self._upstreams = Upstreams(self.hub, self._resolver, self.journal, settings)
        self._timers: list[asyncio.TimerHandle] = []
        self._stopped = False
        self.ready = False  # what the supervisor last said of the whole gateway
        self._checkers = [
            Checker(self.hub, place, place.upstream.health, self.journal)
            for place in self._upstreams.places()
            if place.upstream.health is not None
        ]
        self.listeners = [
            ListenerState(
                self.hub,
                listener,
                [sock for name, sock in sockets if name == listener.name],
                tables.get(listener.name),
                Front(settings, listener, self),
                self,
                self.journal,
                most=settings.limits.connections,
                wants_ja4=settings.log.access.to is not None,
            )
            for listener in settings.listeners
        ]

    # --- life ---

    def start(self) -> None:
        """Accept connections."""
        self.hub.start()
        for listener in self.listeners:
            listener.start()
        self._loop.call_later(_LOG_INTERVAL, self._flush_log)
        self._loop.call_later(_HOUSEKEEPING, self._housekeep)

    @property
    def connections(self) -> int:
        return sum(len(listener.transports) for listener in self.listeners)

    @property
    def accepted(self) -> int:
        """Connections taken since the start."""
        return sum(listener.accepted for listener in self.listeners)

    def places(self) -> list[Place]:
        """The endpoints of all upstreams."""
        return self._upstreams.places()

    def drain(self, deadline: float, done: Callable[[], None]) -> None:
        """Take no new connections, finish what is under way for at most `deadline` seconds, then call `done`."""
        self.hub.turn()
        self.ready = False
        for listener in self.listeners:
            listener.stop()
            listener.drain()
        self._await_drained(monotonic() + deadline, done)

    def _await_drained(self, until: float, done: Callable[[], None]) -> None:
        if self.connections and monotonic() < until:
            self._loop.call_later(_DRAIN_LOOK, self._await_drained, until, done)
            return
        if not self._stopped:
            done()

    def stop(self) -> None:
        """End at once: what is still open is broken off."""
        if self._stopped:
            return
        self._stopped = True
        self.hub.turn()
        for listener in self.listeners:
            listener.stop()
            for transport in list(listener.transports):
                transport.abort()
        self._upstreams.close()
        self._resolver.stop()
        self.hub.stop()
        self.journal.flush()
        self._log.flush()

    def _flush_log(self) -> None:
        self.journal.flush()
        self._log.flush()
        if not self._stopped:
            self._loop.call_later(_LOG_INTERVAL, self._flush_log)

    def _housekeep(self) -> None:
        if self._stopped:
            return
        self._upstreams.expire(self.hub.turn())
        self._loop.call_later(_HOUSEKEEPING, self._housekeep)

    def _bug(self, error: str, where: str) -> None:
        self.journal.event("internal-error", error=error, where=where)

    # --- as the context of exchanges ---

    def source(self, upstream: Upstream) -> Source:
        return self._upstreams.group(upstream)

    def may_retry(self, exchange: Exchange, upstream: Upstream, fault: Fault, *, sent: bool, body_gone: bool) -> bool:
        return may_retry(
            fault,
            exchange.head.method,
            sent=sent,
            body_gone=body_gone,
            reused=True,
            attempts=exchange.tries,
            limit=upstream.retry.attempts,
            budget=self._upstreams.budget(upstream),
            now=self.hub.now,
        )

    def new_request_id(self) -> bytes:
        return self.hub.request_id()

    def nonce(self) -> bytes:
        return os.urandom(16)

    def date(self) -> bytes:
        return self.hub.date()

    def random(self) -> float:
        return self.hub.random.random()

    def later(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(self._turn, callback)

    def _turn(self, callback: Callable[[], None]) -> None:
        self.hub.turn()
        callback()

    def log(self, exchange: Exchange) -> None:
        self.journal.exchange(exchange)

    def log_refused(self, conn: ConnectionInfo, fault: Fault) -> None:
        self.journal.event("protocol-error", peer=conn.peer, listener=conn.listener.name, fault=fault.kind, detail=fault.detail)
