"""The seams of the relay: what an exchange sees of its two sides, and what they see of a socket.

An `Exchange` joins one client port and one upstream port. Either may be an HTTP/1.1 connection or one stream of an HTTP/2
connection; the exchange does not know which. All calls are plain method calls on one stack; none of them blocks, and none
calls back into its caller, except `Exchange` methods, which are called by the sessions only at the end of a step.

Backpressure: `blocked()` says that this side has enough; the exchange then stops the other side, and the port calls
`client_writable` or `upstream_writable` once when there is room again. `credit(n)` says that n body bytes which
the port delivered have gone out of our hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge.errors import Fault
    from edge.http.message import Fields, RequestHead, ResponseHead

__all__ = [
    "HIGH", "LOW", "NOBODY", "ClientPort", "Clock", "Keeper", "Receiver", "Transport", "UpstreamConnection", "UpstreamPort",
]  # fmt: skip

HIGH = 128 * 1024  # bytes waiting for a socket or a window beyond which a side is blocked
LOW = 32 * 1024  # and below which it is writable again


class Clock(Protocol):
    """The time of the present turn, in seconds of the loop's clock."""

    now: float


class Transport(Protocol):
    """A connected socket and its engine, as its session sees it."""

    pending: int  # bytes that the socket has not taken yet
    session_deadline: float  # what `arm_session` set last, `inf` when it has passed
    linger: bool  # whether `close` waits a little for the client, because a reset would take the last answer with it

    def mark(self) -> None:
        """There is output: `session.output()` is called when the turn ends."""

    def pause(self) -> None:
        """Stop reading. Idempotent."""

    def resume(self) -> None:
        """Read again. Idempotent."""

    def close(self) -> None:
        """Write what there is, say goodbye, and close."""

    def half_close(self) -> None:
        """Write what there is and say that no more comes; reading goes on."""

    def abort(self) -> None:
        """Close at once; what was not written is lost, so that nothing looks complete."""

    def arm_session(self, deadline: float) -> None:
        """When to call `session.on_deadline` (seconds of the loop's clock; `inf`: never)."""

    def arm_session_earlier(self, deadline: float) -> None:
        """The same, only if it is earlier than what is set."""

    def idle(self) -> None:
        """Nothing is under way: give memory back."""


class ClientPort(Protocol):
    """The client's side of one exchange."""

    def informational(self, status: int, fields: Fields) -> None: ...

    def continue_100(self) -> None: ...

    def head(self, status: int, fields: Fields, length: int | None, end: bool, close: bool, body: bytes = b"") -> None:
        """The final response. `end`: it is complete, with `body`. `close`: the connection ends after it (HTTP/1.1)."""

    def data(self, data: bytes) -> None: ...

    def end(self, trailers: Fields) -> None:
        """The response is complete."""

    def tunnel(self, fields: Fields) -> None:
        """Agree to the tunnel that the request asked for; `data` and `end` are raw bytes and end of file from now on.

        The client's own end of file is `Exchange.request_end`. Each ends one direction.
        """

    def retract(self) -> bool:
        """Take the response's head and what there is of its body back, if nothing has been sent; whether it was so."""

    def abort(self, fault: Fault) -> None:
        """Break the response so that it cannot look complete."""

    def blocked(self) -> bool: ...

    def credit(self, size: int) -> None: ...

    def resume(self) -> None:
        """The exchange takes body bytes again."""

    def finished(self) -> None:
        """The exchange is over on all sides; the port may go on with the next one."""

    def unsent(self) -> int:
        """Bytes of the response that wait for the client: the same number twice means that it took nothing in between."""

    def arm(self, deadline: float) -> None:
        """Look at the exchange's deadline at this time at the latest."""

    def limit_body(self, limit: int | None) -> None:
        """Bound the request's body, of an exchange that was decided late. Raises Fault when more has come already."""


class Nobody:
    """The client port of an exchange that is over, so that it holds on to nothing of a client's connection."""

    __slots__ = ()

    def informational(self, status: int, fields: Fields) -> None:
        pass

    def continue_100(self) -> None:
        pass

    def head(self, status: int, fields: Fields, length: int | None, end: bool, close: bool, body: bytes = b"") -> None:
        pass

    def data(self, data: bytes) -> None:
        pass

    def end(self, trailers: Fields) -> None:
        pass

    def tunnel(self, fields: Fields) -> None:
        pass

    def retract(self) -> bool:
        return False

    def abort(self, fault: Fault) -> None:
        pass

    def blocked(self) -> bool:
        return False

    def credit(self, size: int) -> None:
        pass

    def resume(self) -> None:
        pass

    def finished(self) -> None:
        pass

    def unsent(self) -> int:
        return 0

    def limit_body(self, limit: int | None) -> None:
        pass

    def arm(self, deadline: float) -> None:
        pass


NOBODY: ClientPort = Nobody()


class Receiver(Protocol):
    """Who gets what an upstream says: an exchange, or a health probe. After `response_end` or `upstream_failed`: nothing more.

    In a tunnel `response_end` ends one direction only: the port stays, and may still fail, until `send_end` or `cancel`.
    """

    def response_informational(self, status: int, fields: Fields) -> None: ...

    def response_head(self, head: ResponseHead) -> None: ...

    def response_data(self, data: bytes) -> None: ...

    def response_end(self, trailers: Fields) -> None: ...

    def upstream_writable(self) -> None: ...

    def upstream_failed(self, fault: Fault) -> None: ...


class UpstreamPort(Protocol):
    """The upstream's side of one exchange: an HTTP/1.1 connection or one stream."""

    reused: bool  # the connection had served a request before

    def send_data(self, data: bytes) -> None: ...

    def send_end(self, trailers: Fields) -> None: ...

    def cancel(self) -> None:
        """Nobody wants the answer any more; the receiver hears nothing further."""

    def blocked(self) -> bool: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def credit(self, size: int) -> None: ...


class UpstreamConnection(Protocol):
    """An open connection to an endpoint."""

    multiplexed: bool

    @property
    def room(self) -> int:
        """How many exchanges it carries at a time."""

    def open(self, receiver: Receiver, request: RequestHead, request_id: bytes = b"") -> UpstreamPort:
        """Send a request's head. `request.authority`, `target` and `fields` are what the upstream sees, and `request_id` as
        X-Request-Id beside them.
        """

    def has_room(self) -> bool: ...

    def close(self) -> None: ...


class Keeper(Protocol):
    """Who keeps the connections to upstreams."""

    def released(self, connection: UpstreamConnection) -> None:
        """It can take another request."""

    def resized(self, connection: UpstreamConnection, room: int) -> None:
        """How many exchanges it carries at a time has changed."""

    def gone(self, connection: UpstreamConnection) -> None:
        """It takes no more requests."""
