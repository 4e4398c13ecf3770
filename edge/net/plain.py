"""The engine of a connection without TLS: the same contract as the TLS engines, and no work."""

from __future__ import annotations

__all__ = ["PlainEngine"]


class PlainEngine:
    """What comes in is what is read, what is sent is what goes out."""

    __slots__ = ("_out",)

    established = True
    closed = False
    disturbances = 0
    empty_records = 0
    unsettled = False

    def __init__(self) -> None:
        self._out: list[bytes] = []

    def receive(self, data: bytes | memoryview) -> bytes:
        return data if isinstance(data, bytes) else bytes(data)

    def send(self, data: bytes) -> None:
        self._out.append(data)

    def seal(self, data: bytes) -> bytes:
        self._out.append(data)
        return self.drain()

    def drain(self) -> bytes:
        out = self._out
        if len(out) == 1:
            data = out[0]
        elif out:
            data = b"".join(out)
        else:
            return b""
        out.clear()
        return data

    def idle(self) -> None:
        pass

    def shutdown(self) -> None:
        pass

    def close(self) -> None:
        self._out.clear()
