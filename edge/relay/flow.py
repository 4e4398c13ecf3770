"""What passes through an exchange once it is decided: bodies both ways, their ends, and the pressure of whoever is slow.

Theory. Each side is credited what the other one has taken (`edge.relay.ports`): bytes that a blocked side got when it says that
it is writable again, all others at once. So neither side sends more than the other one takes, and nothing is queued here but
what came before there was an upstream.

Invariants
* Body bytes are credited to their sender only when the other side was not blocked as they were passed on.
* A body that the upstream cut short never looks complete to the client.
* The two directions of a tunnel end apart; with the second end the exchange is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import Fault, Side
from edge.policy.headers import write_request_trailers, write_response_trailers
from edge.relay.timing import DONE, REPLYING, TUNNEL, WAITING, Timing

if TYPE_CHECKING:
    from edge.http.message import Fields, RequestHead
    from edge.relay.front import Plan
    from edge.relay.ports import Clock, UpstreamPort

__all__ = ["Flow"]


class Flow(Timing):
    """The part of an exchange that hands on what comes."""

    __slots__ = (
        "_half", "_held", "_held_end", "_sent_body", "_uncredited_down", "_uncredited_up", "body_in", "body_out", "request_done",
        "response_done", "upstream",
    )  # fmt: skip

    _clock: Clock
    _half: bool  # one direction of the tunnel has ended
    _held: list[bytes] | None  # of the request's body, while there is no upstream yet
    _held_end: Fields | None
    _sent_body: bool  # body bytes of the request have gone to an upstream
    body_out: int
    head: RequestHead
    plan: Plan | None
    response_done: bool
    upstream: UpstreamPort | None

    # --- what it needs of the exchange ---

    def client_lost(self, fault: Fault) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def _abort(self, fault: Fault) -> None:
        raise NotImplementedError

    # --- from the client ---

    def wants_body(self) -> bool:
        """Whether body bytes of the request can be taken now."""
        upstream = self.upstream
        return upstream is not None and not upstream.blocked()

    def request_data(self, data: bytes) -> None:
        size = len(data)
        self.body_in += size
        self._upload_since = self._clock.now
        if self.upstream is not None:
            self._pass_on(data)
        elif self.state < WAITING and self.state != REPLYING:
            if self._held is None:
                self._held = []
            self._held.append(data)
        else:
            self._client.credit(size)

    def _pass_on(self, data: bytes) -> None:
        upstream = self.upstream
        if upstream is None:
            return
        if self.head.protocol and self.state != TUNNEL:
            self.refuse(Fault(Side.CLIENT, "early-tunnel-data", status=400))
            return
        self._sent_body = True
        try:
            upstream.send_data(data)
        except Fault as fault:
            self.refuse(fault)
            return
        if upstream.blocked():
            self._uncredited_up += len(data)
        else:
            self._client.credit(len(data))

    def request_end(self, trailers: Fields) -> None:
        self.request_done = True
        upstream = self.upstream
        if upstream is None:
            self._held_end = trailers
            return
        if trailers and self.plan is not None:
            trailers = write_request_trailers(trailers, self.plan.headers)
        self._progress = self._clock.now
        if self.head.protocol and self.state != TUNNEL:
            self.client_lost(Fault(Side.CLIENT, "client-closed", detail="before the tunnel stood"))
            return
        try:
            upstream.send_end(trailers)
        except Fault as fault:
            self.refuse(fault)
            return
        if self.state == TUNNEL:
            self._half_ended()

    def _half_ended(self) -> None:
        """One direction of a tunnel is over; the other one goes on until its own end, or until it is quiet for too long."""
        if self._half:
            self.upstream = None
            self.finish()
        self._half = True

    def client_writable(self) -> None:
        upstream = self.upstream
        self._progress = self._clock.now
        if upstream is not None:
            if self._uncredited_down:
                size, self._uncredited_down = self._uncredited_down, 0
                upstream.credit(size)
            upstream.resume()

    # --- from the upstream ---

    def upstream_writable(self) -> None:
        if self._uncredited_up:
            size, self._uncredited_up = self._uncredited_up, 0
            self._client.credit(size)
        self._upload_since = self._clock.now
        self._client.resume()

    def response_informational(self, status: int, fields: Fields) -> None:
        self._progress = self._clock.now
        if status != 100 and self.head.version >= 11:
            self._client.informational(status, fields)

    def response_data(self, data: bytes) -> None:
        size = len(data)
        self.body_out += size
        self._progress = self._clock.now
        client = self._client
        try:
            client.data(data)
        except Fault as fault:
            self._abort(fault)
            return
        upstream = self.upstream
        if upstream is not None:
            if client.blocked():
                self._uncredited_down += size
                upstream.pause()
            else:
                upstream.credit(size)

    def response_end(self, trailers: Fields) -> None:
        if self.state == TUNNEL:
            self.response_done = True
            self._client.end([])
            self._half_ended()
            return
        self.upstream = None
        if self.state == DONE:
            return
        if not self.response_done:
            self.response_done = True
            if trailers and self.plan is not None:
                trailers = write_response_trailers(trailers, self.plan.headers)
            try:
                self._client.end(trailers)
            except Fault as fault:
                self._abort(fault)
                return
        self.finish()
