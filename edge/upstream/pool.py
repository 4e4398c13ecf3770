"""Which connection to an upstream carries a request. Decisions only: connections are opaque, the caller opens and closes.

A connection belongs to one key (`PeerKey`). It is *exclusive* (HTTP/1.1: one request at a time, idle or in use) or *shared*
(HTTP/2: as many requests as it has room for). For every key the pool knows how many there are, those being opened
included, so that `may_open` can keep a limit.

The life of a connection: `begin` when opening starts; `opened` (or `share`) when it stands, `failed` when it does not;
`take` and `give` around each request; `remove` when it is gone for whatever reason. `remove` is idempotent and may come at
any time.

Invariants: `take` never returns a connection whose idle time has passed, nor one that was removed or retired; the idle
connection used last is taken first, so that those not needed grow old and go; at most `keepalive` exclusive connections of
a key are idle.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from edge.upstream.identity import PeerKey

__all__ = ["Pool"]

Conn = TypeVar("Conn")


class _Shared(Generic[Conn]):
    """A connection for many requests at once."""

    __slots__ = ("conn", "deadline", "room", "used")

    def __init__(self, conn: Conn, room: int, deadline: float) -> None:
        self.conn = conn
        self.room = room  # requests at a time; 0: retired
        self.used = 0
        self.deadline = deadline  # while `used` is 0


class _Slot(Generic[Conn]):
    """One key's connections."""

    __slots__ = ("idle", "members", "opening", "shared", "stale")

    def __init__(self) -> None:
        self.idle: list[tuple[Conn, float]] = []  # with its deadline; the one used last stands last
        self.shared: list[_Shared[Conn]] = []
        self.members: set[Conn] = set()  # all connections that stand
        self.opening = 0
        self.stale: list[Conn] = []  # found too old by `take`; `expire` hands them out


class Pool(Generic[Conn]):
    """The connections of one upstream. `keepalive`: idle ones for each key; `keepalive_timeout`: seconds that one may be idle."""

    __slots__ = ("_keepalive", "_slots", "_timeout")

    def __init__(self, *, keepalive: int = 64, keepalive_timeout: float = 55.0) -> None:
        self._keepalive = keepalive
        self._timeout = keepalive_timeout
        self._slots: dict[PeerKey, _Slot[Conn]] = {}

    def take(self, key: PeerKey, now: float) -> Conn | None:
        """A connection for one request, or None when one has to be opened. `give` or `remove` follows."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        for shared in slot.shared:
            if shared.used < shared.room and (shared.used or shared.deadline > now):
                shared.used += 1
                return shared.conn
        idle = slot.idle
        while idle:
            conn, deadline = idle.pop()
            if deadline > now:
                return conn
            slot.stale.append(conn)
        return None

    def give(self, key: PeerKey, conn: Conn, now: float, timeout: float | None = None) -> Conn | None:
        """One request on `conn` is over and the connection is fit for another one.

        `timeout` is the idle time that the upstream itself announced (seconds), where that is shorter. Returns a connection
        that is to be closed because there are enough idle ones (it is no longer in the pool), or None.
        """
        slot = self._slots.get(key)
        if slot is None or conn not in slot.members:
            return conn
        deadline = now + (self._timeout if timeout is None else min(self._timeout, timeout))
        for shared in slot.shared:
            if shared.conn is conn:
                shared.used -= 1
                shared.deadline = deadline
                if not shared.used and not shared.room:
                    self.remove(key, conn)
                    return conn
                return None
        idle = slot.idle
        idle.append((conn, deadline))
        if len(idle) <= self._keepalive:
            return None
        oldest = idle.pop(0)[0]
        self.remove(key, oldest)
        return oldest

    def begin(self, key: PeerKey) -> None:
        """A connection is being opened."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot()
        slot.opening += 1

    def failed(self, key: PeerKey) -> None:
        """A connection that was being opened did not come to be."""
        slot = self._slots[key]
        slot.opening -= 1
        self._forget_if_empty(key, slot)

    def opened(self, key: PeerKey, conn: Conn) -> None:
        """A connection that was being opened stands, for one request at a time. It counts as taken."""
        slot = self._slots[key]
        slot.opening -= 1
        slot.members.add(conn)

    def share(self, key: PeerKey, conn: Conn, room: int, now: float) -> None:
        """A connection that was being opened stands, for `room` requests at a time. One of them counts as taken."""
        self.opened(key, conn)
        shared = _Shared(conn, room, now + self._timeout)
        shared.used = 1
        self._slots[key].shared.append(shared)

    def resize(self, key: PeerKey, conn: Conn, room: int) -> None:
        """How many requests a shared connection may carry now (its peer's SETTINGS). 0 retires it (GOAWAY): no new ones."""
        slot = self._slots.get(key)
        for shared in slot.shared if slot is not None else ():
            if shared.conn is conn:
                shared.room = room

    def remove(self, key: PeerKey, conn: Conn) -> None:
        """A connection is gone, idle or in use. No effect on one that is not in the pool."""
        slot = self._slots.get(key)
        if slot is None or conn not in slot.members:
            return
        slot.members.discard(conn)
        if slot.idle:
            slot.idle = [entry for entry in slot.idle if entry[0] is not conn]
        if slot.shared:
            slot.shared = [shared for shared in slot.shared if shared.conn is not conn]
        if slot.stale:
            slot.stale = [stale for stale in slot.stale if stale is not conn]
        self._forget_if_empty(key, slot)

    def expire(self, now: float) -> list[Conn]:
        """Takes out the connections whose idle time has passed; the caller closes them."""
        expired: list[Conn] = []
        for key, slot in list(self._slots.items()):
            gone = slot.stale
            gone += [conn for conn, deadline in slot.idle if deadline <= now]
            gone += [shared.conn for shared in slot.shared if not shared.used and (shared.deadline <= now or not shared.room)]
            if gone:
                slot.stale = []
                for conn in gone:
                    self.remove(key, conn)
                expired += gone
        return expired

    def retire(self) -> list[Conn]:
        """Nothing is kept idle from now on: the upstream is no longer in the settings. What carries requests goes on.

        Takes out what is idle now; `give` and `expire` hand out the rest as it becomes idle.
        """
        self._keepalive = 0
        self._timeout = 0.0
        return self.clear()

    @property
    def is_empty(self) -> bool:
        return not self._slots

    def clear(self) -> list[Conn]:
        """Takes out every connection that carries no request (the worker drains, or the upstream is gone)."""
        return self.expire(float("inf"))

    def may_open(self, key: PeerKey, limit: int | None) -> bool:
        """Whether another connection may be opened; `limit` counts all of the key's, None is no limit."""
        return limit is None or self.total(key) < limit

    def total(self, key: PeerKey) -> int:
        """The connections of a key: idle, in use and being opened."""
        slot = self._slots.get(key)
        return len(slot.members) + slot.opening if slot is not None else 0

    def active(self, key: PeerKey) -> int:
        """The connections of a key that carry requests or are being opened."""
        slot = self._slots.get(key)
        if slot is None:
            return 0
        unused = len(slot.idle) + len(slot.stale) + sum(1 for shared in slot.shared if not shared.used)
        return len(slot.members) + slot.opening - unused

    def _forget_if_empty(self, key: PeerKey, slot: _Slot[Conn]) -> None:
        if not slot.members and not slot.opening:
            self._slots.pop(key, None)
