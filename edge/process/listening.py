"""All listening sockets: one for each address and worker, held by the supervisor as long as the address is listened on.

A worker that dies leaves its sockets behind, and with them the connections that wait there; its siblings, or its successor,
accept them. A reload changes the set in three steps: what is new is bound (so that a port that is taken refuses the reload),
then it listens, then the new set is the one; until the second step nothing can be lost by giving up. An address that stays keeps
its sockets, under whatever listener it stands.

Sockets of one address form a group, in which the kernel numbers them in the order in which they began to listen; closing one
moves the last into its place. Only steering needs these numbers.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterable, Sequence

from edge.process import steering
from edge.process.errors import StartError
from edge.process.inherited import Inherited, spread
from edge.process.sockets import BACKLOG, Bound, bind_address, explained, family_is_missing, is_unix
from edge.settings.model import Address, Listener

__all__ = ["Change", "Group", "Sockets"]


class Group:
    """The sockets of one address, by the number of their worker."""

    __slots__ = ("_order", "activated", "address", "by_worker", "claim", "shared")

    def __init__(
        self,
        address: Address,
        claim: tuple[str, Address],
        by_worker: dict[int, list[socket.socket]],
        *,
        shared: bool,
        order: Sequence[socket.socket] = (),
        activated: bool = False,
    ) -> None:
        """`shared`: some are copies of one socket, from which several workers accept; there is nothing to steer. `order`: those
        that listen already, as the kernel numbers them. `activated`: systemd has bound them."""
        self.address = address
        self.claim = claim
        self.by_worker = by_worker
        self.shared = shared
        self.activated = activated
        self._order = list(order)

    @property
    def port(self) -> int:
        """The TCP port; 0 for a unix socket."""
        sock = self.first
        return 0 if sock is None or is_unix(sock) else int(sock.getsockname()[1])

    @property
    def first(self) -> socket.socket | None:
        """Any of the sockets. None: another address's socket serves this one too."""
        return next((sock for own in self.by_worker.values() for sock in own), None)

    @property
    def listening(self) -> list[socket.socket]:
        """Those that listen, in the kernel's order; where they are shared, one of each."""
        return list(self._order)

    def listen(self, numbers: Iterable[int]) -> None:
        """Raises OSError: somebody was faster."""
        for number in numbers:
            for sock in self.by_worker[number]:
                if sock not in self._order:
                    sock.listen(BACKLOG)
                    self._order.append(sock)

    def steer(self, away_from: Collection[int]) -> None:
        """New connections go to the others, if there are any. Raises OSError."""
        avoided = [sock for number in away_from for sock in self.by_worker.get(number, ())]
        indices = [index for index, sock in enumerate(self._order) if sock not in avoided]
        if indices and not self.shared and steering.available():
            steering.steer(self._order[indices[0]], indices)

    def unsteer(self) -> None:
        if self._order and not self.shared and steering.available():
            with contextlib.suppress(OSError):
                steering.release(self._order[0])

    def remove(self, number: int) -> None:
        """Close one. Idempotent."""
        for sock in self.by_worker.pop(number, ()):
            if sock in self._order:
                at = self._order.index(sock)
                last = self._order.pop()
                if last is not sock:
                    self._order[at] = last
            sock.close()

    def close(self, *, unlink: bool = False) -> None:
        """Close all. `unlink`: take the name of a unix socket away too."""
        for number in list(self.by_worker):
            self.remove(number)
        if unlink and self.address.path:
            with contextlib.suppress(OSError):
                os.unlink(self.address.path)


class Sockets:
    """What is listened on now."""

    def __init__(self) -> None:
        self.by_listener: dict[str, tuple[Group, ...]] = {}
        self._pending: Change | None = None

    @classmethod
    def bind(cls, listeners: Sequence[Listener], numbers: Sequence[int], inherited: Inherited | None = None) -> Sockets:
        """The first set, listening. Raises StartError; then nothing stays open. What is in `inherited` is used, not bound."""
        made = cls()
        inherited = inherited or Inherited()
        try:
            change = made._pending = Change(made, listeners, numbers, inherited)
            try:
                inherited.settle(listeners)
                change.listen()
            except BaseException:
                change.abandon()
                raise
        except BaseException:
            inherited.close()
            raise
        change.commit()
        return made

    def groups(self) -> list[Group]:
        return [group for groups in self.by_listener.values() for group in groups]

    def of(self, number: int) -> Bound:
        """One worker's sockets with the names of their listeners."""
        return [
            (name, sock)
            for name, groups in self.by_listener.items()
            for group in groups
            for sock in group.by_worker.get(number, ())
        ]

    def change(self, listeners: Iterable[Listener], numbers: Sequence[int]) -> Change:
        """Bind what these listeners and workers need beyond what there is. Raises StartError; then nothing has changed."""
        self._pending = Change(self, listeners, numbers, Inherited())
        return self._pending

    def steer_away(self, numbers: Collection[int]) -> None:
        """No new connections to these workers. Raises OSError."""
        for group in self.groups():
            group.steer(numbers)

    def unsteer(self) -> None:
        """New connections to all again."""
        for group in self.groups():
            group.unsteer()

    def remove(self, number: int) -> None:
        """Close the sockets of a worker that is no more."""
        for group in self.groups():
            group.remove(number)

    def close(self) -> None:
        """Close everything. Idempotent."""
        for group in self.groups():
            group.close()

    def close_others(self, number: int = 0) -> None:
        """In a child: close what is not this worker's: copies would take connections after the others closed theirs."""
        pending = self._pending.groups() if self._pending is not None else []
        for group in [*self.groups(), *pending]:
            for other, own in group.by_worker.items():
                for sock in own if other != number or group in pending else ():
                    sock.close()

    def settled(self, by_listener: dict[str, tuple[Group, ...]]) -> None:
        """What a change ends with."""
        self.by_listener = by_listener
        self._pending = None


class Change:
    """A set of sockets that may follow the present one."""

    def __init__(self, current: Sockets, listeners: Iterable[Listener], numbers: Sequence[int], inherited: Inherited) -> None:
        self._current = current
        self._inherited = inherited
        self._numbers = list(numbers)
        self._known = {group.claim: group for group in current.groups()}
        self._ports = {(":" in group.address.host, group.port) for group in self._known.values() if not group.address.path}
        self._following: dict[str, tuple[Group, ...]] = {}
        self._new: list[Group] = []
        self._added: list[tuple[Group, int]] = []  # to groups that stay
        try:
            for listener in listeners:
                self._following[listener.name] = self._groups(listener)
        except BaseException:
            self.abandon()
            raise
        self.changed = {name for name, groups in self._following.items() if groups != current.by_listener.get(name)}

    def _groups(self, listener: Listener) -> tuple[Group, ...]:
        groups: list[Group] = []
        for nth, address in enumerate(listener.addresses):
            try:
                groups.append(self._group(listener, address))
            except OSError as error:
                others = len(groups) + len(listener.addresses) - nth - 1
                if not (family_is_missing(address, error) and others):
                    raise explained(listener, address, error) from error
        return tuple(groups)

    def _group(self, listener: Listener, address: Address) -> Group:
        """The group of an address, found or made. Raises OSError."""
        is_open = bool(address.host) and address.port == 0
        claim = (listener.name if is_open else "", address)
        group = self._known.get(claim)
        if group is None:
            group = self._made(address, claim)
            self._new.append(group)
            self._known[claim] = group
            return group
        for number in self._numbers:
            if number not in group.by_worker:
                group.by_worker[number] = self._another(group)
                self._added.append((group, number))
        return group

    def _made(self, address: Address, claim: tuple[str, Address]) -> Group:
        passed = self._inherited.claim(address)
        if passed is not None:
            parts = dict(zip(self._numbers, spread(passed, len(self._numbers)), strict=True))
            shared = len(passed) < len(self._numbers)
            return Group(address, claim, parts, shared=shared, order=passed, activated=self._inherited.is_activated(passed))
        # a wider or narrower address of our own on this port is no obstacle
        probe = (":" in address.host, address.port) not in self._ports
        made = bind_address(address, len(self._numbers), probe=probe)
        return Group(address, claim, {n: [sock] for n, sock in zip(self._numbers, made, strict=True)}, shared=bool(address.path))

    def _another(self, group: Group) -> list[socket.socket]:
        if group.first is None:
            return []
        if group.shared:
            return [group.first.dup()]
        return bind_address(group.address, 1, port=group.port, probe=False)

    @property
    def listeners(self) -> list[str]:
        """The names of all listeners that will be."""
        return list(self._following)

    def groups(self) -> list[Group]:
        """Those that were made for it."""
        return list(self._new)

    def sockets_for(self, number: int) -> Bound:
        """For a worker that runs: all sockets of the listeners that are new or have other addresses."""
        return [
            (name, sock)
            for name in sorted(self.changed)
            for group in self._following[name]
            for sock in group.by_worker.get(number, ())
        ]

    def listen(self) -> None:
        """Let the new sockets listen. Raises StartError; then `abandon` is what is left to do."""
        for group, numbers in [*((group, self._numbers) for group in self._new), *((group, [one]) for group, one in self._added)]:
            try:
                group.listen(numbers)
            except OSError as error:
                raise StartError(f"cannot listen on {group.address.path or group.address.text}: {error.strerror}") from error

    def commit(self) -> None:
        """This is the set from now on. Addresses that are gone are closed here; workers accept what waits there."""
        kept = {id(group) for groups in self._following.values() for group in groups}
        gone = [group for group in self._current.groups() if id(group) not in kept]
        self._current.settled(self._following)
        for group in gone:
            group.close(unlink=True)

    def abandon(self) -> None:
        """Close what was bound."""
        self._current.settled(self._current.by_listener)
        for group in self._new:
            group.close(unlink=True)
        for group, number in self._added:
            group.remove(number)
