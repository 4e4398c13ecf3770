"""Orphans: sockets whose worker does not accept, because it died, is not ready yet, or does not turn its loop.

What the kernel queues on them would wait, and time out. So the siblings accept from them too until the worker is well;
they get the sockets with the order, so that it does not matter when these were bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edge.process.channel import MOST_DESCRIPTORS
from edge.process.children import Child, Children
from edge.process.listening import Sockets

__all__ = ["Orphans"]


class Orphans:
    __slots__ = ("_children", "_sockets", "adopted")

    def __init__(self, children: Children, sockets: Sockets) -> None:
        self._children = children
        self._sockets = sockets
        self.adopted: set[int] = set()  # numbers of workers

    def look(self, workers: Iterable[Child], unwell: Collection[int]) -> None:
        """Have the sockets of the unwell served by the others, and by nobody else those of the well."""
        workers = list(workers)
        for number in self.adopted.difference(unwell):
            self.adopted.discard(number)
            for worker in workers:
                if worker.ready and worker.number != number:
                    self._children.send(worker, {"do": "release", "worker": number})
        for number in set(unwell).difference(self.adopted):
            self.adopted.add(number)
            for worker in workers:
                if worker.number not in unwell:
                    self._adopt(worker, number)

    def tell(self, worker: Child) -> None:
        """A worker that is well again, or that got new settings, learns what is to be adopted now."""
        for number in self.adopted:
            self._adopt(worker, number)

    def _adopt(self, worker: Child, number: int) -> None:
        bound = self._sockets.of(number)[:MOST_DESCRIPTORS]
        if not worker.ready or worker.number == number or not bound:
            return
        order = {"do": "adopt", "worker": number, "sockets": [name for name, _ in bound]}
        self._children.send(worker, order, [sock.fileno() for _, sock in bound])
