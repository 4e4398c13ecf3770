"""The supervisor's loop: descriptors and timers in one thread, each handled by a callback that never waits.

A defect in one callback must not take the gateway down, so whatever a callback raises is handed to `on_error`, and the loop
goes on. Callbacks of one turn run in this order: what became readable or writable, then the timers that are due, so that what
a timer judges (a heartbeat) has been read before.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Loop", "Timer"]

Callback = Callable[[], object]


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Timer:
    """Something that will be done once, unless it is cancelled."""

    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callback | None) -> None:
        self.at = at  # monotonic seconds
        self.callback = callback

    def cancel(self) -> None:
        """Idempotent; also after it was done."""
        self.callback = None


class _Watched:
    __slots__ = ("read", "write")

    def __init__(self) -> None:
        self.read: Callback | None = None
        self.write: Callback | None = None


class Loop:
    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, file: HasDescriptor, read: Callback | None, write: Callback | None = None) -> None:
        """Call `read` whenever `file` is readable and `write` whenever it is writable. Replaces what was said before."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        known = self._selector.get_map().get(file)
        if known is None:
            if events:
                watched = _Watched()
                watched.read, watched.write = read, write
                self._selector.register(file, events, watched)
            return
        if not events:
            self._selector.unregister(file)
            return
        known.data.read, known.data.write = read, write
        if known.events != events:
            self._selector.modify(file, events, known.data)

    def forget(self, file: HasDescriptor) -> None:
        """Watch it no longer; call before it is closed. Idempotent."""
        if file.fileno() >= 0 and file in self._selector.get_map():
            self._selector.unregister(file)

    def later(self, seconds: float, callback: Callback) -> Timer:
        """Call once, `seconds` from now."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    def every(self, seconds: float, callback: Callback) -> None:
        """Call again and again, with `seconds` between the calls, as long as the loop is run."""

        def again() -> None:
            self.later(seconds, again)
            callback()

        self.later(seconds, again)

    def turn(self) -> None:
        """Wait until something is due, and do all of it."""
        for key, events in self._selector.select(self._patience()):
            watched: _Watched = key.data
            if events & selectors.EVENT_READ and watched.read is not None:
                self.call(watched.read)
            if events & selectors.EVENT_WRITE and watched.write is not None and key.fd in self._selector.get_map():
                self.call(watched.write)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback, self._timers[0][2].callback = self._timers[0][2].callback, None
            heapq.heappop(self._timers)
            if callback is not None:
                self.call(callback)

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def call(self, callback: Callback) -> None:
        """Call now; what it raises goes to `on_error`."""
        try:
            callback()
        except Exception as error:
            self._on_error(error)

    def close(self) -> None:
        """Forget everything. In a forked child too: it shares nothing that this would take from the parent."""
        self._selector.close()
        self._timers.clear()
