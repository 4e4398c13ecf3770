"""A worker's whole data path: listeners, upstreams, health checks, log, and how it all begins and ends.

`Server` is what the worker process starts. It is also the context in which exchanges work (`edge.relay.context.Context`).

New settings come in two steps. `prepare` builds everything beside what runs, in short turns, and may fail; `commit` exchanges
it in one step, which cannot. What a new connection gets is new from then on; open connections are told one after the other, again
in short turns (`ClientTransport.renew`). What has left the settings lives on as long as a connection or an exchange needs it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING

from edge.errors import Fault
from edge.http.message import ConnectionInfo
from edge.net.client import ClientTransport
from edge.net.endpoint import Place
from edge.net.generation import Generation
from edge.net.hub import Hub
from edge.net.journal import Journal
from edge.net.listeners import Listeners, Sockets, close_all
from edge.net.meters import Meters
from edge.net.resolver import Resolver
from edge.net.stint import Stint
from edge.net.upstreams import Group, Upstreams
from edge.relay.context import Source
from edge.settings.model import Settings, Upstream
from edge.upstream.retry import may_retry

if TYPE_CHECKING:
    from edge.observe.counters import Counters
    from edge.observe.log import Log
    from edge.relay.exchange import Exchange
    from edge.relay.pipe import Pipe
    from edge.tls.choice import HostTable
    from edge.tls.replay import ReplayFilter

__all__ = ["Server"]

_LOG_INTERVAL = 0.1  # seconds
_HOUSEKEEPING = 1.0  # seconds
_DRAIN_LOOK = 0.05  # seconds
_RENEWED_AT_ONCE = 16  # connections, in one step


class Server:
    """The data path of one worker. All methods are called on its loop."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sockets,
        tables: Mapping[str, HostTable],
        log: Log,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        replays: ReplayFilter,
    ) -> None:
        """`replays` is shared with the other workers."""
        self._loop = loop
        self._log = log
        self.hub = Hub(loop)
        self.clock = self.hub
        self.journal = Journal(self.hub, log, counters)
        self.log = self.journal.exchange
        self.new_request_id = self.hub.request_id
        self._meters = Meters(counters)
        self.hub.on_bug = self._bug
        self._resolver = Resolver(self.hub, settings.server.resolver, self.journal)
        self.listeners = Listeners(loop, self.hub, self, self.journal, settings, replays)
        self._upstreams = Upstreams(self.hub, self._resolver, self.journal, settings)
        self._stopped = False
        self.ready = False  # what the supervisor last said of the whole gateway
        self._drain_until: float | None = None
        self._generation = Generation(settings, tables, self)
        self._next: tuple[Generation, Sockets] | None = None
        self._next_sockets: Sockets = ()
        self._preparing: Stint | None = None
        self._renewing: Stint | None = None
        self.listeners.put_in_force(self._generation, sockets)

    # --- life ---

    def start(self) -> None:
        """Accept connections."""
        self.hub.start()
        self.listeners.start()
        self._loop.call_later(_LOG_INTERVAL, self._flush_log, monotonic() + _LOG_INTERVAL)
        self._loop.call_later(_HOUSEKEEPING, self._housekeep)

    @property
    def settings(self) -> Settings:
        return self._generation.settings

    def places(self) -> list[Place]:
        """The endpoints of all upstreams."""
        return self._upstreams.places()

    def drain(self, deadline: float, done: Callable[[], None]) -> None:
        """Take what waits and no more, finish what is under way for at most `deadline` seconds, then call `done`, once.

        Asked again, the earlier deadline holds.
        """
        until = monotonic() + deadline
        if self._drain_until is not None:
            self._drain_until = min(until, self._drain_until)
            return
        self._drain_until = until
        self.ready = False
        self.abandon()
        self.hub.turn()
        self.listeners.drain()
        self._await_drained(done)

    def _await_drained(self, done: Callable[[], None]) -> None:
        if self._stopped:
            return
        assert self._drain_until is not None
        if self.listeners.are_over or monotonic() >= self._drain_until:
            done()
        else:
            self._loop.call_later(_DRAIN_LOOK, self._await_drained, done)

    def stop(self) -> None:
        """End at once: what is still open is broken off."""
        if self._stopped:
            return
        self._stopped = True
        self.hub.turn()
        self.abandon()
        if self._renewing is not None:
            self._renewing.cancel()
        self.listeners.stop()
        self._upstreams.close()
        self._resolver.stop()
        self.hub.stop()
        self._flush_all()
        self._look()

    # --- generations ---

    @property
    def prepared(self) -> Settings | None:
        """The settings that wait for their `commit`."""
        return None if self._next is None else self._next[0].settings

    def prepare(self, parcel: bytes, sockets: Sockets, done: Callable[[Exception | None], None]) -> None:
        """Build the data path of other settings (`edge.settings.transfer.encode`) beside this one, then call `done`.

        `sockets` are all those of the listeners that are new or have other addresses; they are the server's from now on. What
        is being prepared or waits for its `commit` is abandoned. `done` gets what was in the way; with None `commit` may come.
        """
        self.abandon()
        found: list[Generation] = []

        def steps() -> Iterator[None]:
            for made in self._generation.follow(parcel, self, self._upstreams):
                if made is not None:
                    found.append(made)
                yield

        def built(error: Exception | None) -> None:
            self._preparing = None
            if error is None:
                strangers = {name for name, _ in sockets} - set(found[0].fronts)
                if strangers:
                    error = ValueError(f"sockets of listeners that are not in the settings: {', '.join(strangers)}")
            if error is None:
                self._next = found[0], sockets
            else:
                self._next_sockets = ()
                self._upstreams.abandon()
                close_all(sockets)
            done(error)

        self._next_sockets = sockets
        self._preparing = Stint(self._loop, steps(), built)

    def abandon(self) -> None:
        """Forget what was prepared. Idempotent."""
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None
        elif self._next is None:
            return
        self._next = None
        self._upstreams.abandon()
        close_all(self._next_sockets)
        self._next_sockets = ()

    def commit(self, follow_log: Callable[[], Log]) -> None:
        """Put what was prepared in force, and write to the log that `follow_log` gives when all is said in the present one.

        Raises RuntimeError when nothing was prepared.
        """
        if self._next is None:
            raise RuntimeError("nothing was prepared")
        (generation, sockets), self._next, self._next_sockets = self._next, None, ()
        self.hub.turn()
        self.journal.flush()
        self._look()
        self._log = log = follow_log()
        self.journal.use(log)
        self._generation = generation
        self._upstreams.commit(generation.settings)
        self.listeners.put_in_force(generation, sockets)
        self._renew_connections()

    def _renew_connections(self) -> None:
        """Tell all open connections, in short turns. Those that are told by an earlier round are told by this one too."""
        if self._renewing is not None:
            self._renewing.cancel()
        waiting = [transport for state in self.listeners.all for transport in state.transports]
        self._renewing = Stint(self._loop, self._renew_all(waiting), self._renewed)

    def _renew_all(self, waiting: list[ClientTransport]) -> Iterator[None]:
        while waiting:
            self.hub.turn()
            for transport in waiting[-_RENEWED_AT_ONCE:]:
                transport.renew_or_end()
            del waiting[-_RENEWED_AT_ONCE:]
            yield

    def _renewed(self, error: Exception | None) -> None:
        self._renewing = None
        if error is not None:
            self.hub.bug(error)

    # --- from time to time ---

    def _flush_log(self, due: float) -> None:
        self._meters.late(monotonic() - due)
        self._flush_all()
        if not self._stopped:
            self._loop.call_later(_LOG_INTERVAL, self._flush_log, monotonic() + _LOG_INTERVAL)

    def _flush_all(self) -> None:
        self.journal.flush()
        self._log.flush()
        self._meters.look_at_listeners(self.listeners.all)

    def _look(self) -> None:
        self._meters.look(self._upstreams.places(), self._log, self.hub.now)

    def _housekeep(self) -> None:
        if self._stopped:
            return
        self._upstreams.expire(self.hub.turn())
        self.listeners.admission.look(self.hub.now)
        for name, count in self.listeners.capacity.refused().items():
            self.journal.event("connection-refused", listener=name, reason="limits.connections", count=count)
        over = self.listeners.over()
        if over:
            self._flush_all()
            self.listeners.forget(over)
        self._look()
        self._loop.call_later(_HOUSEKEEPING, self._housekeep)

    def _bug(self, error: str, where: str) -> None:
        self.journal.event("internal-error", error=error, where=where)

    # --- as the context of exchanges ---

    def source(self, upstream: Upstream) -> Source:
        return self._upstreams.group(upstream)

    def may_retry(self, exchange: Exchange, upstream: Upstream, fault: Fault, *, sent: bool, body_gone: bool) -> bool:
        assert exchange.forward is not None
        source = exchange.forward.terms.source  # the upstream may have left the settings since
        assert isinstance(source, Group)
        again = may_retry(
            fault,
            exchange.head.method,
            sent=sent,
            body_gone=body_gone,
            reused=True,
            attempts=exchange.tries,
            limit=upstream.retry.attempts,
            budget=source.budget,
            now=self.hub.now,
        )
        if again:
            self.journal.retried(upstream)
        return again

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

    def log_stream(self, pipe: Pipe) -> None:
        self.journal.stream(pipe)

    def log_refused(self, conn: ConnectionInfo, fault: Fault) -> None:
        self.journal.protocol_error(conn, fault)
