"""Who may begin a handshake, and when: budgets by address, and order under load.

The hello has been read and its context chosen; nothing has been computed yet. Here it is decided whether to go on:

* An address outside of the exempt networks has budgets (`edge.policy.admission`) of full, resumed and abandoned handshakes.
  What is beyond them is closed without a word: there is no alert for it, and an answer is work.
* One turn of the loop begins at most `at_once` full handshakes, so that those who are connected are served in between. What
  came beside waits in a short queue, first come first served; resumed handshakes, told by a ticket whose HMAC is ours, do not
  wait. Who has waited for too long, or finds the queue full, is refused: that client tries again later or elsewhere, and all
  others are served.

A ticket whose HMAC is ours proves that its bearer was here, not that it will resume: an expired one, or a good one in a hello
that cannot use it, ends in a full handshake that was let through as a resumed one. What turns out so is charged to the address;
beyond that budget its tickets are not believed, and it counts as new. The charge comes late, by the handshakes under way.

Refusals are counted one by one and logged in sum, once a second: a flood must not become a flood of lines.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from edge.policy.admission import Budget, address_key

if TYPE_CHECKING:
    from edge.net.hub import Hub
    from edge.settings.model import Handshakes

__all__ = ["Admission", "Applicant", "beyond_budget"]

_FALSE = 1.0, 10.0  # a second, and seconds


class Applicant(Protocol):
    """A connection that wants its handshake begun."""

    disposed: bool

    def admitted(self) -> None:
        """Go on now."""

    def waits(self) -> None:
        """Be quiet until then."""

    def refused(self, reason: str) -> None:
        """Close."""


class Admission:
    """The decisions of one worker. `tell` gets, once a second, a reason, how many were refused for it, and one's address."""

    __slots__ = (
        "_abandoned", "_began", "_exempt", "_false", "_full", "_hub", "_refusals", "_resumed", "_serving", "_settings",
        "_tell", "_turn_at", "_waiting",
    )  # fmt: skip

    def __init__(self, hub: Hub, settings: Handshakes, tell: Callable[[str, int, str], None]) -> None:
        self._hub = hub
        self._tell = tell
        self._waiting: deque[tuple[Applicant, float]] = deque()
        self._serving = False
        self._turn_at = 0.0
        self._began = 0  # full handshakes, in the turn that began at `_turn_at`
        self._refusals: dict[str, tuple[int, str]] = {}
        self.renew(settings)

    def renew(self, settings: Handshakes) -> None:
        """Go by other settings. Budgets that stay the same keep what was spent."""
        before = getattr(self, "_settings", None)
        if before is None or (before.full, before.burst) != (settings.full, settings.burst):
            self._full = _budget(settings.full, settings.burst)
            self._false = self._full_again(settings)  # of those that looked as if they would resume, and did not
        if before is None or (before.resumed, before.burst) != (settings.resumed, settings.burst):
            self._resumed = _budget(settings.resumed, settings.burst)
        if before is None or (before.abandoned, before.burst) != (settings.abandoned, settings.burst):
            self._abandoned = _budget(settings.abandoned, settings.burst)
        self._settings = settings
        self._exempt: dict[str, bool] = {}

    # --- asked by connections ---

    def may_connect(self, peer: str) -> bool:
        """Whether an address may connect at all. Counts the refusal."""
        budget = self._abandoned
        if budget is None or self._is_exempt(peer) or budget.has(_key(peer), self._hub.now):
            return True
        self._refuse("abandoned", peer)
        return False

    def apply(self, applicant: Applicant, peer: str, resumed: Callable[[], bool]) -> None:
        """Have `applicant` admitted, now or soon, or refused. `resumed` is asked only where the answer matters."""
        now = self._hub.now
        full, resuming = self._full, self._resumed
        is_resumed: bool | None = None
        if (full is not None or resuming is not None) and not self._is_exempt(peer):
            is_resumed = self._will_resume(peer, resumed)
            budget = resuming if is_resumed else full
            if budget is not None and not budget.spend(_key(peer), now):
                self._refuse("resumed" if is_resumed else "full", peer)
                applicant.refused("resumed" if is_resumed else "full")
                return
        at_once = self._settings.at_once
        if at_once is None:
            applicant.admitted()
            return
        if self._turn_at != now:
            self._turn_at, self._began = now, 0
        if self._began < at_once and not self._waiting:
            self._began += 1
            applicant.admitted()
        elif is_resumed or (is_resumed is None and self._will_resume(peer, resumed)):
            applicant.admitted()
        elif len(self._waiting) < self._settings.waiting:
            self._waiting.append((applicant, now + self._settings.wait))
            applicant.waits()
            if not self._serving:
                self._serving = True
                self._hub.loop.call_soon(self._serve)
        else:
            self._refuse("overload", peer)
            applicant.refused("overload")

    def _will_resume(self, peer: str, resumed: Callable[[], bool]) -> bool:
        false = self._false
        return resumed() and (not len(false) or self._is_exempt(peer) or false.has(_key(peer), self._hub.now))

    def did_not_resume(self, peer: str) -> None:
        """A hello from this address had a ticket that is ours, and its handshake was full, or was not finished."""
        if not self._is_exempt(peer):
            self._false.charge(_key(peer), self._hub.now)

    def abandoned(self, peer: str) -> None:
        """A handshake from this address was begun and not finished, by the client's fault."""
        if self._abandoned is not None and not self._is_exempt(peer):
            self._abandoned.charge(_key(peer), self._hub.now)

    # --- in time ---

    def _serve(self) -> None:
        """One turn's share of those who wait."""
        now = self._hub.turn()
        self._turn_at, self._began = now, 0
        waiting, at_once = self._waiting, self._settings.at_once or len(self._waiting)
        while waiting and self._began < at_once:
            applicant, until = waiting.popleft()
            if applicant.disposed:
                continue
            if now > until:
                self._refuse("overload", "")
                applicant.refused("overload")
                continue
            self._began += 1
            applicant.admitted()
        if waiting:
            self._hub.loop.call_soon(self._serve)
        else:
            self._serving = False

    def look(self, now: float) -> None:
        """Once a second: say what was refused, and forget addresses that have nothing spent."""
        refusals, self._refusals = self._refusals, {}
        for reason, (count, peer) in refusals.items():
            self._tell(reason, count, peer)
        for budget in (self._full, self._false, self._resumed, self._abandoned):
            if budget is not None:
                budget.forget(now)

    @staticmethod
    def _full_again(settings: Handshakes) -> Budget:
        """As much as of full handshakes; where these have no bound, a little."""
        return Budget(*_FALSE) if settings.full is None else Budget(settings.full, settings.burst)

    def _refuse(self, reason: str, peer: str) -> None:
        count, first = self._refusals.get(reason, (0, peer))
        self._refusals[reason] = count + 1, first

    def _is_exempt(self, peer: str) -> bool:
        networks = self._settings.exempt
        if not networks:
            return False
        known = self._exempt.get(peer)
        if known is None:
            try:
                address = ip_address(peer.partition("%")[0])
                known = any(address in network for network in networks)
            except ValueError:
                known = True  # a unix socket
            if len(self._exempt) >= 4096:
                self._exempt.clear()
            self._exempt[peer] = known
        return known


def beyond_budget(reason: str) -> str:
    """What the counter of refused connections calls it."""
    return f"handshakes-{reason}"


def _budget(rate: float | None, burst: float) -> Budget | None:
    return Budget(rate, burst) if rate is not None else None


def _key(peer: str) -> bytes:
    """What an address counts as. All clients of a unix socket are one."""
    try:
        return address_key(socket.inet_pton(socket.AF_INET6 if ":" in peer else socket.AF_INET, peer.partition("%")[0]))
    except OSError:
        return b"unix"
