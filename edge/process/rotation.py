"""The clock of ticket keys: which generations there are now, which of them issues, and when that changes.

Time is cut into epochs of one rotation each, counted from 1970, so that machines which know nothing of each other agree. The
generation of an epoch issues during it and is accepted for the longest lifetime of a ticket more.

* Without a shared secret a generation's secret is random and made when its epoch has come. It lives in the memory of the
  supervisor and its children, and ends with them.
* With one, the secrets of all epochs derive from it. Then the next epoch's generation is accepted too, because another
  machine's clock may be ahead; one that is behind issues under a generation that is accepted anyway.

A changed secret or rotation begins anew; what was issued before is accepted until it is over. A clock that was set back makes
no generation issue for longer than its epoch: those of a future beyond the next epoch are dropped.

Everything is told the time (POSIX seconds), nothing reads a clock. Secrets go to workers by `pack`, and never to a disk.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from edge.settings.model import Tickets
from edge.settings.tickets import read_secret
from edge.tls import ticket_keys
from edge.tls.layout import LayoutError
from edge.tls.ticket_keys import Generation, KeyRing

__all__ = ["Rotation"]

_FOREVER = math.inf


class Rotation:
    """Keeps the ring of this process up to date. `problem` says why it cannot (then every context keeps OpenSSL's own keys)."""

    def __init__(self, ring: KeyRing = ticket_keys.PROCESS) -> None:
        self._ring = ring
        self._tickets = Tickets()
        self._secret = b""
        self._own: dict[int, Generation] = {}  # by epoch
        self._earlier: list[Generation] = []  # from other settings, or another process
        self.problem = ""

    def configure(self, tickets: Tickets, now: float) -> bool:
        """Go by these settings from now on. Returns whether the ring has changed, as `turn`.

        Raises `SecretError` and `Unreadable` for the shared secret's file: then the settings of before hold on.
        """
        secret = read_secret(Path(tickets.file)) if tickets.file else b""
        if (tickets.rotation, secret) != (self._tickets.rotation, self._secret):
            self._earlier += self._own.values()
            self._own = {}
        self._tickets, self._secret = tickets, secret
        self._own = {epoch: self._generation(epoch, one.secret) for epoch, one in self._own.items()}
        return self.turn(now)

    def turn(self, now: float) -> bool:
        """Make and end what is due. Returns whether the ring has changed and is to be told to the workers."""
        if self.problem:
            return False
        rotation, epoch = self._tickets.rotation, math.floor(now / self._tickets.rotation)
        first = math.floor((now - self._tickets.lifetime) / rotation)
        self._own = {number: one for number, one in self._own.items() if first <= number <= epoch + 1}
        for number in range(first, epoch + 2) if self._secret else (epoch,):
            if number not in self._own:
                self._own[number] = self._generation(number, self._new_secret(number))
        own = {one.secret for one in self._own.values()}
        self._earlier = [
            one for one in self._earlier if one.since <= now + rotation and now < one.until and one.secret not in own
        ]
        self._earlier = self._earlier[-(ticket_keys.MOST - len(self._own)) :]
        generations = (*self._earlier, *self._own.values())
        newest = self._own[epoch]
        if generations == self._ring.generations and newest == self._ring.newest:
            return False
        try:
            self._ring.update(generations, newest)
        except LayoutError as error:
            self.problem = str(error)
            return False
        return True

    def wait(self, now: float) -> float:
        """Seconds until `turn` has something to do."""
        if self.problem:
            return _FOREVER
        next_epoch = (math.floor(now / self._tickets.rotation) + 1) * self._tickets.rotation
        return max(0.001, min([next_epoch, *(one.until for one in self._ring.generations)]) - now)

    def _generation(self, epoch: int, secret: bytes) -> Generation:
        since = epoch * self._tickets.rotation
        return Generation(secret, since, since + self._tickets.rotation + self._tickets.lifetime)

    def _new_secret(self, epoch: int) -> bytes:
        if not self._secret:
            return os.urandom(ticket_keys.SECRET)
        return ticket_keys.derived(self._secret, self._tickets.rotation, epoch)

    def pack(self) -> bytes:
        """The generations for a worker, or for the process that takes over. Secret. Only when there is no `problem`."""
        assert self._ring.newest is not None
        return ticket_keys.pack(self._ring.generations, self._ring.newest)

    def adopt(self, data: bytes) -> None:
        """Accept also what another supervisor packed: before `configure`. Raises ValueError."""
        self._earlier += ticket_keys.unpack(data)[0]

    @property
    def held(self) -> int:
        """How many generations are accepted."""
        return 0 if self.problem else len(self._ring.generations)

    @property
    def since(self) -> float:
        """Since when the newest one issues (POSIX seconds); 0: there is none."""
        return self._ring.newest.since if self._ring.newest is not None else 0.0

    def describe(self, now: float) -> str:
        """How resumption is doing, in a sentence for `edge status`."""
        if self.problem:
            return f"per worker after the next reload: ticket keys cannot be set ({self.problem})"
        newest = self._ring.newest
        if newest is None:
            return "not begun"
        age = max(0.0, now - newest.since)
        held = "1 ticket key" if len(self._ring.generations) == 1 else f"{len(self._ring.generations)} ticket keys"
        shared = "from the shared secret" if self._secret else "random"
        return f"{held}, {shared}, the newest for {age / 60:.0f} of {self._tickets.rotation / 60:.0f} minutes"
