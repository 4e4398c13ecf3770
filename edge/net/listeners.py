"""All listeners of a worker: those of the settings in force, those that have left them, and whose sockets they accept from.

A listener that stays under other settings keeps its sockets and its connections, one that has left the settings keeps its
connections and is over with the last of them. Sockets come from the supervisor with the name of their listener. Those of a
sibling that does not live are lent: this worker accepts from descriptors of its own on the same sockets until it gives them back.
What waits in a socket that is to be closed is accepted first, except where another descriptor of the same socket goes on.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from edge.net.admission import Admission
from edge.net.capacity import Capacity
from edge.net.listener import ListenerState

if TYPE_CHECKING:
    from edge.net.generation import Generation
    from edge.net.hub import Hub
    from edge.net.listener import Journal
    from edge.relay.context import Context
    from edge.settings.model import Settings
    from edge.tls.replay import ReplayFilter

__all__ = ["Listeners", "Sockets", "close_all"]

Sockets = Sequence[tuple[str, socket.socket]]
"""With the names of their listeners."""


class Listeners:
    """`admission` and `capacity` bound what they take all together."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hub: Hub,
        context: Context,
        journal: Journal,
        settings: Settings,
        replays: ReplayFilter,
    ) -> None:
        self._loop = loop
        self._hub = hub
        self._context = context
        self._journal = journal
        self._replays = replays
        self.admission = Admission(hub, settings.handshakes, self._handshakes_refused)
        self.capacity = Capacity(settings.limits.connections)
        self._started = False
        self._accepted_before = 0  # by listeners that are no more
        self.in_force: list[ListenerState] = []
        self.ended: list[ListenerState] = []  # of earlier settings, as long as they have connections
        self._lent: dict[int, Sockets] = {}  # sockets of siblings that are accepted from here at present

    @property
    def all(self) -> tuple[ListenerState, ...]:
        return (*self.in_force, *self.ended)

    @property
    def connections(self) -> int:
        return sum(len(listener.transports) for listener in self.all)

    @property
    def accepted(self) -> int:
        """Connections taken since the start."""
        return self._accepted_before + sum(listener.accepted for listener in self.all)

    # --- life ---

    def start(self) -> None:
        """Accept connections."""
        self._started = True
        for listener in self.in_force:
            listener.start()

    def drain(self) -> None:
        """Take what waits and no more, and have every connection end after what is under way."""
        self._give_back(list(self._lent))
        for listener in self.in_force:
            listener.end()
        for listener in self.all:
            listener.drain()

    @property
    def are_over(self) -> bool:
        """Whether no connection is left, nor any that waits."""
        return all(listener.is_over for listener in self.all)

    def stop(self) -> None:
        """End at once: what is still open is broken off."""
        self._give_back(list(self._lent))
        for listener in self.all:
            listener.stop()
            for transport in list(listener.transports):
                transport.abort()

    def over(self) -> list[ListenerState]:
        """Those that have left the settings and have no connection any more, for `forget`."""
        return [state for state in self.ended if state.is_over]

    def forget(self, over: list[ListenerState]) -> None:
        """Keep only the number of the connections that they took."""
        self._accepted_before += sum(state.accepted for state in over)
        self.ended = [state for state in self.ended if state not in over]

    # --- generations ---

    def put_in_force(self, generation: Generation, sockets: Sockets) -> None:
        """The listeners of a generation. `sockets` replace those of the listeners that they name."""
        settings = generation.settings
        self.admission.renew(settings.handshakes)
        self.capacity.most = settings.limits.connections
        before = {(state.listener.name, state.listener.tls): state for state in self.in_force}
        wants_ja4 = settings.log.access.to is not None
        wants_local = any(upstream.send_proxy for upstream in settings.upstreams.values())
        self.in_force = []
        for listener in settings.listeners:
            table, front = generation.tables.get(listener.name), generation.fronts[listener.name]
            state = before.pop((listener.name, listener.tls), None)
            if state is None:
                state = ListenerState(
                    self._hub, listener, table, front, self._context, self._journal, self.admission, self.capacity, self._replays,
                    wants_ja4=wants_ja4, wants_local=wants_local,
                )  # fmt: skip
                if self._started:
                    state.start()
            else:
                state.renew(listener, table, front, wants_ja4=wants_ja4, wants_local=wants_local)
            self.in_force.append(state)
        gone = list(before.values())
        self._distribute(sockets, gone)
        for state in gone:
            state.end()
        self.ended += gone

    def _distribute(self, sockets: Sockets, gone: Iterable[ListenerState]) -> None:
        """Give sockets to their listeners. One that is replaced by another descriptor of itself is let go as it is."""
        by_name = {state.listener.name: state for state in self.in_force}
        arriving = {os.fstat(sock.fileno()).st_ino for _, sock in sockets}
        replaced = {name for name, _ in sockets}
        kept_from_ended = {state.listener.name: state for state in gone if state.listener.name in by_name}
        for state in (*[by_name[name] for name in replaced], *gone):
            own = [sock for sock in state.sockets if not self._is_lent(sock)]
            if state.listener.name in kept_from_ended and state.listener.name not in replaced:
                for sock in own:  # the same addresses, with TLS instead of without or the other way round
                    state.remove(sock)
                    by_name[state.listener.name].add(sock)
                continue
            for sock in own:
                if os.fstat(sock.fileno()).st_ino in arriving:
                    state.remove(sock)
                    sock.close()
            state.close_sockets([sock for sock in own if sock.fileno() >= 0])
        for name, sock in sockets:
            by_name[name].add(sock)

    # --- sockets of others, and away with ours ---

    def adopt(self, worker: int, sockets: Sockets) -> None:
        """Accept from the sockets of a sibling too, until `release` closes them: they are descriptors of our own.

        They take the place of what was adopted from the same sibling before. Names of listeners that are no more are passed over.
        """
        self.release(worker)
        by_name = {state.listener.name: state for state in self.in_force}
        self._lent[worker] = sockets
        for name, sock in sockets:
            if name in by_name:
                by_name[name].add(sock)

    def release(self, worker: int) -> None:
        """Leave a sibling's sockets to it. What waits in them is for its own descriptors. Idempotent."""
        self._give_back([worker])

    def _give_back(self, workers: Iterable[int]) -> None:
        for worker in workers:
            for _, sock in self._lent.pop(worker, ()):
                for state in self.all:
                    state.remove(sock)
                sock.close()

    def _is_lent(self, sock: socket.socket) -> bool:
        return any(sock is lent for sockets in self._lent.values() for _, lent in sockets)

    def take_away(self, listener: str | None, done: Callable[[], None]) -> None:
        """Accept what waits in our sockets of a listener (None: of all), close them, call `done`. Connections go on."""
        states = [state for state in self.in_force if listener is None or state.listener.name == listener]
        for state in states:
            state.close_sockets([sock for sock in state.sockets if not self._is_lent(sock)])
        self._await_closed(states, done)

    def _await_closed(self, states: list[ListenerState], done: Callable[[], None]) -> None:
        if any(state.is_closing for state in states):
            self._loop.call_soon(self._await_closed, states, done)
        else:
            done()

    def _handshakes_refused(self, reason: str, count: int, peer: str) -> None:
        self._journal.event("handshakes-refused", reason=reason, count=count, peer=peer)


def close_all(sockets: Sockets) -> None:
    """Close sockets that are nobody's yet."""
    for _, sock in sockets:
        sock.close()
