"""What one set of settings makes of a worker's data path: contexts, host tables, fronts. Built beside what runs.

Theory. A generation is made in steps (`edge.net.stint`), is complete before anything uses it, and is dropped without a trace
when it is not wanted. Contexts of hosts that did not change are taken over, and with them the very `Host` objects: what a
connection was admitted under is compared by identity on the way of each request.

Whatever can fail, fails here: after a generation is built, putting it in force cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.relay.context import Context
from edge.relay.front import Front
from edge.settings.model import Host, Settings
from edge.settings.transfer import decode_steps
from edge.tls.choice import HostTable, ServerContext, build_table

if TYPE_CHECKING:
    from edge.net.upstreams import Upstreams

__all__ = ["Generation"]


class Generation:
    """`settings` with what was compiled from them, by the names of listeners."""

    __slots__ = ("fronts", "settings", "tables")

    def __init__(self, settings: Settings, tables: Mapping[str, HostTable], context: Context) -> None:
        """The first one, whose contexts were made before the fork."""
        self.settings = _with_hosts_of(settings, tables.values())
        self.tables = dict(tables)
        self.fronts = {listener.name: Front(self.settings, listener, context) for listener in settings.listeners}

    def follow(self, parcel: bytes, context: Context, upstreams: Upstreams) -> Iterator[Generation | None]:
        """Make the generation after this one, in steps: None after each, and the generation at the end.

        `parcel` is what `edge.settings.transfer.encode` gave. The groups of upstreams are left staged. Raises `TransferError`,
        `edge.tls.trust.TrustError`.
        """
        decoded: Settings | None = None
        for step in decode_steps(parcel):
            decoded = step
            yield None
        assert decoded is not None
        settings = decoded
        contexts = {context.host: context for table in self.tables.values() for context in table.contexts}
        yield None
        yield from _make_contexts(settings, contexts)
        tables = {listener.name: build_table(settings, listener, contexts) for listener in settings.listeners if listener.tls}
        yield None
        settings = _with_hosts_of(settings, tables.values())
        yield from upstreams.stage(settings)
        fronts = {}
        for listener in settings.listeners:
            fronts[listener.name] = Front(settings, listener, context)
            yield None
        made = Generation.__new__(Generation)
        made.settings, made.tables, made.fronts = settings, tables, fronts
        yield made


def _make_contexts(settings: Settings, contexts: dict[Host, ServerContext]) -> Iterator[None]:
    """Put into `contexts` what the hosts of TLS listeners need; one a step, half a millisecond each."""
    over_tls = {listener.name for listener in settings.listeners if listener.tls}
    for host in settings.hosts:
        passthrough = host.stream is not None and host.stream.passthrough
        if host not in contexts and not passthrough and not over_tls.isdisjoint(host.listeners):
            contexts[host] = ServerContext(host)
            yield None


def _with_hosts_of(settings: Settings, tables: Iterable[HostTable]) -> Settings:
    """The same settings with the hosts that the tables' contexts were made for, which are equal."""
    known = {context.host: context.host for table in tables for context in table.contexts}
    return replace(settings, hosts=tuple([known.get(host, host) for host in settings.hosts]))
