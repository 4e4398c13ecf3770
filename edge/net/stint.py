"""Long work in short turns of the loop, so that traffic goes on beside it.

The work is an iterator whose steps are short; a turn does as many as fit into `BUDGET` and leaves the loop alone for as long
again. A step that is itself longer than that delays what comes meanwhile by its length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic

__all__ = ["BUDGET", "Stint"]

BUDGET = 0.002  # seconds of one turn


class Stint:
    """Runs `steps` to their end and then calls `done`, with the exception that ended them or None."""

    __slots__ = ("_done", "_handle", "_loop", "_steps")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, steps: Iterator[object], done: Callable[[Exception | None], None]
    ) -> None:
        self._loop = loop
        self._steps: Iterator[object] | None = steps
        self._done = done
        self._handle: asyncio.Handle | None = loop.call_soon(self._turn)

    def _turn(self) -> None:
        steps = self._steps
        if steps is None:
            return
        until = monotonic() + BUDGET
        try:
            while monotonic() < until:
                next(steps)
        except StopIteration:
            self._end(None)
        except Exception as error:
            self._end(error)
        else:
            self._handle = self._loop.call_later(BUDGET, self._turn)

    def _end(self, error: Exception | None) -> None:
        self._steps = self._handle = None  # which knows us
        self._done(error)

    def cancel(self) -> None:
        """Leave it at what is done; `done` is not called. Idempotent."""
        self._steps = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
