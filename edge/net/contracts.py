"""What a transport asks of the two that it stands between: an engine towards the network, a session towards the gateway."""

from __future__ import annotations

from typing import Protocol

from edge.errors import Fault

__all__ = ["GONE", "Engine", "Session"]


class Engine(Protocol):
    @property
    def established(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def disturbances(self) -> int: ...
    @property
    def empty_records(self) -> int: ...

    unsettled: bool

    def receive(self, data: bytes | memoryview) -> bytes: ...
    def send(self, data: bytes) -> None: ...
    def seal(self, data: bytes) -> bytes: ...
    def drain(self) -> bytes: ...
    def idle(self) -> None: ...
    def shutdown(self) -> None: ...
    def close(self) -> None: ...


class Session(Protocol):
    """What runs over a transport: a client's HTTP connection, an upstream's, a tunnel."""

    def on_data(self, data: bytes) -> None: ...

    def on_eof(self, clean: bool) -> None:
        """The peer sends no more. `clean`: it said so (FIN; with TLS, close_notify)."""

    def on_lost(self, fault: Fault) -> None:
        """The connection is gone; nothing may be written any more."""

    def on_writable(self) -> None: ...

    def on_deadline(self, now: float) -> None: ...

    def output(self) -> list[bytes]: ...


class _Gone:
    """The session of a transport that is disposed of. It breaks the circle of the two, so that both are freed at once."""

    __slots__ = ()

    def on_data(self, data: bytes) -> None:
        pass

    def on_eof(self, clean: bool) -> None:
        pass

    def on_lost(self, fault: Fault) -> None:
        pass

    def on_writable(self) -> None:
        pass

    def on_deadline(self, now: float) -> None:
        pass

    def output(self) -> list[bytes]:
        return []


GONE = _Gone()
