"""Names of upstreams, resolved off the path of requests and again when their TTL runs out.

Every name that the settings mention is resolved at start and refreshed for as long as the worker lives; a request
only reads what is known. While nothing is known yet its dial waits for the first answer. A name that stops resolving
keeps its last addresses: an unreachable name server must not take working upstreams down.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.net.hub import Hub

if TYPE_CHECKING:
    from edge.net.listener import Journal

__all__ = ["Resolver"]

_LEAST_TTL = 2.0
_MOST_TTL = 300.0
_RETRY = 2.0  # seconds after a failure

Found = Callable[[list[tuple[int, str]] | None], None]


class _Name:
    __slots__ = ("addresses", "failed", "waiting")

    def __init__(self) -> None:
        self.addresses: list[tuple[int, str]] = []  # (family, address)
        self.failed = False
        self.waiting: list[Found] = []


class Resolver:
    __slots__ = ("_hub", "_journal", "_names", "_resolver", "_servers", "_stopped", "_tasks")

    def __init__(self, hub: Hub, servers: tuple[str, ...], journal: Journal) -> None:
        self._hub = hub
        self._journal = journal
        self._names: dict[str, _Name] = {}
        self._servers = servers
        self._resolver: Any = None
        self._stopped = False
        self._tasks: set[asyncio.Future[Any]] = set()

    def watch(self, name: str) -> None:
        """Resolve a name now and keep it fresh. Addresses need no watching."""
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

    def _query(self, name: str) -> None:
        if self._stopped:
            return
        if self._resolver is None:
            import aiodns

            self._resolver = aiodns.DNSResolver(
                nameservers=list(self._servers) or None, loop=self._hub.loop, timeout=3.0, tries=2
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
        self._hub.loop.call_later(again, self._query, name)

    def stop(self) -> None:
        self._stopped = True
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
