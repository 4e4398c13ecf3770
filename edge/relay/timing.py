"""When an exchange has taken too long, and which of its sides is to blame.

Nothing here is called for an exchange that is quick: it notes when bytes moved, and the port of its client asks `tick` when the
shortest of all its gaps has passed. The gaps: the whole (`timeout`), the first byte and between bytes of the response, the
request body's gap and its least rate, the client that takes nothing, and the quiet of tunnels and streams.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from edge.errors import Fault, Side

if TYPE_CHECKING:
    from edge.relay.front import Forward
    from edge.relay.ports import ClientPort

__all__ = ["CONNECTING", "DECIDING", "DONE", "REPLYING", "RESPONDING", "TUNNEL", "WAITING", "Timing"]

# the states of an exchange; plain numbers, for they are asked for a dozen times in an exchange
DECIDING, REPLYING, CONNECTING, WAITING, RESPONDING, TUNNEL, DONE = range(7)

_RATE_CHECK = 5.0  # seconds between looks at a slow body


class Timing:
    """The part of an exchange that acts on time."""

    __slots__ = ("_progress", "_unsent", "_upload_since")

    _progress: float  # when a byte of the response last moved
    _upload_since: float  # when a byte of the request last moved
    _unsent: int  # what the client had not taken when it was last looked at; -1: not yet
    _client: ClientPort
    _streaming: bool
    _uncredited_down: int
    _uncredited_up: int
    body_in: int
    connected_at: float
    forward: Forward | None
    request_done: bool
    started: float
    state: int

    def refuse(self, fault: Fault) -> None:
        """Answer with this fault, or break the response."""
        raise NotImplementedError

    def wants_body(self) -> bool:
        """Whether body bytes of the request can be taken now."""
        raise NotImplementedError

    def tick(self, now: float) -> float:
        """Act on what is overdue; return when to look again (seconds of the loop's clock), `inf` for never."""
        if self._stalled():
            unsent = self._client.unsent()
            if unsent != self._unsent:
                self._unsent, self._progress = unsent, now
        if self._due(now) <= now:
            self._overdue(now)
        if self.state == DONE:
            return inf
        forward = self.forward
        return self._due(now) if forward is None else min(self._due(now), now + forward.terms.patience)

    def _stalled(self) -> bool:
        """Whether the response waits for its client."""
        return self.state in {RESPONDING, TUNNEL} and (self._uncredited_down > 0 or self._client.blocked())

    def _due(self, now: float) -> float:
        forward = self.forward
        if forward is None:
            return inf
        state = self.state
        due = inf
        if forward.terms.timeout is not None and not (self._streaming and state >= RESPONDING):
            due = self.started + forward.terms.timeout
        if state in {CONNECTING, DONE}:
            return due  # the dial and the queue for connections have deadlines of their own
        stalled = self._stalled()
        if stalled:
            due = min(due, self._progress + forward.terms.limits.write_timeout)
        if self._streaming and (state >= RESPONDING or forward.grpc):
            quiet = forward.terms.tunnel_idle
            if quiet is not None:
                due = min(due, max(self._progress, self._upload_since) + quiet)
            if not self.request_done and not self._streaming_upload():
                due = min(due, self._upload_due(forward, now))
            return due
        if state == RESPONDING and not stalled and forward.terms.between_bytes is not None:
            due = min(due, self._progress + forward.terms.between_bytes)
        if not self.request_done:
            due = min(due, self._upload_due(forward, now))
        elif state == WAITING and forward.terms.first_byte is not None:
            due = min(due, self._progress + forward.terms.first_byte)
        return due

    def _streaming_upload(self) -> bool:
        return self.state == TUNNEL or (self.forward is not None and self.forward.grpc)

    def _upload_due(self, forward: Forward, now: float) -> float:
        """When the body's gap runs out, or when its rate is to be looked at."""
        if self._uncredited_up or not self.wants_body():
            self._upload_since = now  # the upstream is slow, not the client
            return now + _RATE_CHECK
        limits = forward.terms.limits
        due = self._upload_since + limits.body_timeout
        rate = limits.body_min_rate
        if rate is None:
            return due
        elapsed = now - self.connected_at
        if elapsed > limits.body_timeout and self.body_in < rate * elapsed:
            return now
        return min(due, max(now, self.connected_at + limits.body_timeout) + _RATE_CHECK)

    def _overdue(self, now: float) -> None:
        forward, state = self.forward, self.state
        assert forward is not None
        if (
            forward.terms.timeout is not None
            and now >= self.started + forward.terms.timeout
            and not (self._streaming and state >= RESPONDING)
        ):
            fault = Fault(Side.UPSTREAM, "timeout", detail=f"not done after {forward.terms.timeout:g} s", status=504)
        elif self._stalled() and now >= self._progress + forward.terms.limits.write_timeout:
            fault = Fault(Side.CLIENT, "client-write-timeout", detail="the client takes nothing")
        elif state == TUNNEL:
            fault = Fault(Side.EDGE, "tunnel-idle")
        elif not self.request_done and not self._streaming_upload() and self._upload_due(forward, now) <= now:
            fault = Fault(Side.CLIENT, "body-timeout", detail="the request body came too slowly", status=408)
        elif state == WAITING:
            fault = Fault(Side.UPSTREAM, "first-byte-timeout", detail="no answer in time", status=504)
        else:
            fault = Fault(Side.UPSTREAM, "between-bytes-timeout", detail="the answer stopped", status=504)
        self.refuse(fault)
