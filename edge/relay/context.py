"""What a worker offers to its exchanges; `net` implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from edge.relay.ports import Clock, UpstreamConnection

if TYPE_CHECKING:
    from edge.errors import Fault
    from edge.http.message import ConnectionInfo
    from edge.relay.exchange import Exchange
    from edge.relay.pipe import Pipe
    from edge.settings.model import Upstream
    from edge.upstream.balance import EndpointState

__all__ = ["Context", "Source", "Ticket", "Waiter"]


class Waiter(Protocol):
    """Who waits for a connection."""

    @property
    def conn(self) -> ConnectionInfo | None:
        """The client for whom; None: for nobody but ourselves."""

    def connection_ready(self, connection: UpstreamConnection) -> None: ...

    def connection_failed(self, fault: Fault) -> None: ...


class Ticket:
    """A place in the queue for a connection."""

    __slots__ = ()

    def cancel(self) -> None:
        """The waiter hears nothing any more."""
        raise NotImplementedError


class Source(Protocol):
    """The connections to one upstream."""

    def pick(self, tried: frozenset[EndpointState], first: bool) -> EndpointState | None:
        """An endpoint that is well and not in `tried`; None when there is none. `first`: not a repetition."""

    def take(self, endpoint: EndpointState, fresh: bool) -> UpstreamConnection | None:
        """An open connection, or None when there is none at hand. `fresh`: not one that was idle."""

    def queue(self, endpoint: EndpointState, waiter: Waiter) -> Ticket:
        """A place in the queue for a connection. The waiter is called later, never before this returns."""


class Context(Protocol):
    @property
    def clock(self) -> Clock: ...

    @property
    def ready(self) -> bool:
        """Whether the gateway as a whole may be sent clients: what routes with ``health = "ready"`` answer."""

    def source(self, upstream: Upstream) -> Source:
        """Where connections to an upstream come from; asked for once, when routes are compiled."""

    def may_retry(self, exchange: Exchange, upstream: Upstream, fault: Fault, *, sent: bool, body_gone: bool) -> bool:
        """Whether to try again. `sent`: the head went out; `body_gone`: body bytes did."""

    def new_request_id(self) -> bytes: ...

    def nonce(self) -> bytes:
        """16 unpredictable bytes."""

    def date(self) -> bytes: ...

    def later(self, callback: Callable[[], None]) -> None:
        """Call back in another turn of the loop."""

    def random(self) -> float:
        """Between 0 and 1."""

    def log_refused(self, conn: ConnectionInfo, fault: Fault) -> None:
        """A client broke the protocol in a way that no exchange can tell of."""

    def log_stream(self, pipe: Pipe) -> None:
        """The stream is over."""

    def log(self, exchange: Exchange) -> None:
        """The exchange is over."""
