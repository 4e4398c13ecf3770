"""Names of upstreams, resolved off the path of requests and again when their TTL runs out.

Every name that the settings mention is resolved at start and refreshed for as long as the worker lives; a request
only reads what is known. While nothing is known yet its dial waits for the first answer. A name that stops resolving
keeps its last addresses: an unreachable name server must not take working upstreams down. A name that the settings no
longer mention is forgotten when its next refresh is due.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from edge.net.hub import Hub

if TYPE_CHECKING:
    from edge.net.listener import Journal

__all__ = ["Resolver"]

_LEAST_TTL = 2.0
_MOST_TTL = 300.0
_RETRY = 2.0  # seconds after a failure
_TIMEOUT = 3.0
_TRIES = 2
_PATIENCE = 4 * _TIMEOUT * _TRIES  # until the last answer of servers that are asked no more

Found = Callable[[list[tuple[int, str]] | None], None]


class _Name:
    __slots__ = ("addresses", "failed", "waiting")

    def __init__(self) -> None:
        self.addresses: list[tuple[int, str]] = []  # (family, address)
        self.failed = False
        self.waiting: list[Found] = []


class Resolver:
    __slots__ = ("_hub", "_journal", "_names", "_resolver", "_servers", "_stopped", "_tasks", "_timers", "_wanted")

    def __init__(self, hub: Hub, servers: tuple[str, ...], journal: Journal) -> None:
        self._hub = hub
        self._journal = journal
        self._names: dict[str, _Name] = {}
        self._servers = servers
        self._resolver: Any = None
        self._stopped = False
        self._tasks: set[asyncio.Future[Any]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}  # when each name is asked for again
        self._wanted: frozenset[str] = frozenset()

    def want(self, names: Iterable[str]) -> None:
        """Keep these names fresh, and no others."""
        self._wanted = frozenset(names)
        for name in self._wanted:
            self.watch(name)

    def ask(self, servers: tuple[str, ...]) -> None:
        """Ask these servers from now on. Queries under way still get their answers."""
        if servers == self._servers:
            return
        self._servers = servers
        old, self._resolver = self._resolver, None
        if old is not None:
            loop = self._hub.loop
            loop.call_later(_PATIENCE, lambda: asyncio.ensure_future(old.close(), loop=loop))

    def watch(self, name: str) -> None:
        """Resolve a name now. Addresses need no watching."""
        if name not in self._names and _literal(name) is None:
            self._names[name] = _Name()
            self._query(name)

    def addresses(self, name: str, then: Found) -> list[tuple[int, str]] | None:
        """(family, address) pairs for a watched name or an address; None: `then` is called once, with None when it failed."""
        literal = _literal(name)
        if literal is not None:
            return [literal]
        entry = self._names.get(name)
        if entry is None:
            self.watch(name)
            entry = self._names[name]
        if entry.addresses:
            return entry.addresses
        if entry.failed:
            return []
        entry.waiting.append(then)
        return None

    def _refresh(self, name: str) -> None:
        del self._timers[name]
        if name in self._wanted:
            self._query(name)
        else:
            del self._names[name]

    def _query(self, name: str) -> None:
        if self._stopped:
            return
        if self._resolver is None:
            import aiodns

            self._resolver = aiodns.DNSResolver(
                nameservers=list(self._servers) or None, loop=self._hub.loop, timeout=_TIMEOUT, tries=_TRIES
            )
        future = asyncio.ensure_future(
            self._resolver.getaddrinfo(name, socket.AF_UNSPEC, type=socket.SOCK_STREAM), loop=self._hub.loop
        )
        self._tasks.add(future)
        future.add_done_callback(lambda done: self._answered(name, done))

    def _answered(self, name: str, done: asyncio.Future[Any]) -> None:
        self._tasks.discard(done)
        if self._stopped or done.cancelled():
            return
        entry = self._names[name]
        error = done.exception()
        again = _RETRY
        if error is None:
            nodes = done.result().nodes
            pairs = [(node.family, _text(node.addr[0])) for node in nodes]
            if pairs:
                if entry.addresses and set(pairs) != set(entry.addresses):
                    self._journal.event("upstream-addresses-changed", host=name, addresses=[address for _, address in pairs])
                entry.addresses = pairs
                entry.failed = False
                again = min(max(min((float(node.ttl) for node in nodes), default=_MOST_TTL), _LEAST_TTL), _MOST_TTL)
        if error is not None or not entry.addresses:
            if not entry.failed:
                self._journal.event("upstream-name-unresolved", host=name, detail=str(error), kept=len(entry.addresses))
            entry.failed = True
        waiting, entry.waiting = entry.waiting, []
        self._hub.turn()
        for then in waiting:
            then(entry.addresses or None)
        self._timers[name] = self._hub.loop.call_later(again, self._refresh, name)

    def stop(self) -> None:
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        if self._resolver is not None:
            self._resolver.cancel()


def _text(address: bytes | str) -> str:
    return address.decode() if isinstance(address, bytes) else address


def _literal(name: str) -> tuple[int, str] | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
        return (family, name)
    return None
