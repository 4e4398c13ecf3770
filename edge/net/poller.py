"""Readiness of connected sockets, from one epoll of our own beneath the loop.

Theory. The loop's own way to watch a descriptor costs six system calls and two objects for each connection (it tests the
descriptor, and forgets it more than once), more than a resumed handshake spends in Python. An epoll descriptor can itself be
watched: the loop watches this one, once and for ever, and a turn of all connections is one callback. Closing a
descriptor takes it out of the epoll, so that a connection that ends says nothing to anybody.

Invariants
* Events are level-triggered: what is not served now is told again. At most `_BATCH` are served in a turn, so that the
  loop's other descriptors and timers are never starved.
* A descriptor that was closed and given out again in one batch may bring its new owner an event of its old one. Owners
  therefore take a readiness that is none (EAGAIN) for nothing.
* A hang-up or an error goes to whoever watches for reading, else to whoever watches for writing; who watches for neither is
  not registered, and hears of it when watching begins again.
"""

from __future__ import annotations

import select
import selectors
from typing import Protocol

__all__ = ["READ", "WRITE", "Poller", "Selected", "Watcher"]

READ = 0x001  # EPOLLIN
WRITE = 0x004  # EPOLLOUT
_BATCH = 256


class Selected:
    """What a Poller needs of `select.epoll`, where there is none (macOS: kqueue, which can itself be watched as well)."""

    __slots__ = ("_selector", "fileno")

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.fileno = self._selector.fileno

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, _selected(events))

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, _selected(events))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        ready = self._selector.select(timeout)[:most]
        return [
            (key.fd, READ * bool(mask & selectors.EVENT_READ) | WRITE * bool(mask & selectors.EVENT_WRITE)) for key, mask in ready
        ]


def _selected(events: int) -> int:
    return selectors.EVENT_READ * bool(events & READ) | selectors.EVENT_WRITE * bool(events & WRITE)


class Watcher(Protocol):
    def readable(self) -> None: ...
    def writable(self) -> None: ...


class Poller:
    __slots__ = ("_both", "_epoll", "_readers", "_tells", "fileno", "poll")

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else Selected()
        self._tells = isinstance(self._epoll, Selected)  # what is to be closed has to be said
        self.poll = self._epoll.poll
        self.fileno = self._epoll.fileno
        self._readers: dict[int, Watcher] = {}  # those that watch for reading alone: nearly all
        self._both: dict[int, tuple[Watcher, int]] = {}  # the others

    def watch(self, fd: int, watcher: Watcher, events: int) -> None:
        """From now on tell `watcher` of `events` (`READ`, `WRITE`, both or 0) of `fd`, instead of what was told before."""
        known = self._readers.pop(fd, None) is not None or self._both.pop(fd, None) is not None
        if events == READ:
            self._readers[fd] = watcher
        elif events:
            self._both[fd] = watcher, events
        elif known:
            self._epoll.unregister(fd)
            return
        else:
            return
        if known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """`fd` is about to be closed, and not shared with another process."""
        known = self._readers.pop(fd, None) is not None or self._both.pop(fd, None) is not None
        if known and self._tells:
            self._epoll.unregister(fd)  # which an epoll does by itself

    def serve(self) -> None:
        """Call whoever has something to do, without waiting."""
        reader = self._readers.get
        for fd, happened in self.poll(0, _BATCH):
            watcher = reader(fd)
            if watcher is not None:
                watcher.readable()
            else:
                self._serve(fd, happened)

    def _serve(self, fd: int, happened: int) -> None:
        """Whatever happened to one that does not watch for reading alone."""
        found = self._both.get(fd)
        if found is None:
            return
        watcher, wanted = found
        if happened & ~WRITE and wanted & READ:
            watcher.readable()
            if happened & WRITE and wanted & WRITE and self._both.get(fd) is found:
                watcher.writable()
        else:
            watcher.writable()
