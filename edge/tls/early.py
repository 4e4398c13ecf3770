"""The connection of a client whose first flight brings early data (0-RTT: RFC 8446 sections 2.3 and 4.2.10).

Theory. Early data is readable as soon as the ClientHello is: the client's Finished, which alone proves that the hello is no
copy and that somebody is there, comes a round trip later. So an engine of this kind has three states instead of two. It is
`established` from the first byte of early data on: plaintext comes out, and what is sent goes out under the keys that the
handshake is about to confirm (0.5-RTT data). It is `confirmed` when the Finished was right, and from then on like any other
engine. What was read before is early and may be acted on only by those who can stand it twice.

Such an engine is made only for a hello that the replay filter let in (`edge.tls.replay`). Any other hello with early data gets a
usual engine, which refuses the early data, skips it and goes on with the handshake: the client sends it again. OpenSSL itself
refuses early data of a ticket whose age is wrong by more than ten seconds, of another protocol (ALPN) or suite, beyond
`MAX_EARLY_DATA` bytes, and after a HelloRetryRequest. Its own memory of tickets that were used is switched off
(`SSL_OP_NO_ANTI_REPLAY`): it needs a session cache in each process.

Invariants
* The name is compared before the first early byte is given out, and again at the end.
* Until `confirmed` there is no close_notify, and the BIOs stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.tls.binding import (
    BUFFER,
    BUFFER_SIZE,
    CHUNK,
    NULL,
    SSL_READ_EARLY_DATA_FINISH,
    SSL_READ_EARLY_DATA_SUCCESS,
    buffer,
    ffi,
    from_buffer,
    lib,
)
from edge.tls.server_engine import ServerEngine

__all__ = ["MAX_EARLY_DATA", "EarlyEngine"]

MAX_EARLY_DATA = 16_384
"""Bytes of early data that a ticket allows: what a server that refuses it skips, too."""

_count: Any = ffi.new("size_t *")


class EarlyEngine(ServerEngine):
    __slots__ = ("_finished", "accepted", "confirmed", "muted", "on_confirmed")

    def __init__(self, pointer: Any, owner: object, sni: str | None, on_confirmed: Callable[[], None]) -> None:
        """`on_confirmed` is called once, by the `receive` that ends the handshake, before it returns."""
        super().__init__(pointer, owner, sni, check=None)
        self.on_confirmed = on_confirmed
        self._finished = False  # the early data has ended, or OpenSSL refused it
        self.accepted = False  # early data came and was taken
        self.confirmed = False
        self.muted = False  # early data is taken off the wire and given to nobody

    def receive(self, data: bytes | memoryview) -> bytes:
        if self.confirmed:
            return ServerEngine.receive(self, data)
        pieces: list[bytes] = []
        source, size = from_buffer(data), len(data)
        confirmed = False
        for start in range(0, size, CHUNK):
            length = min(CHUNK, size - start)
            lib.BIO_write(self._rbio, source + start, length)
            if confirmed or self._advance(pieces):
                left = lib.BIO_get_mem_data(self._rbio, NULL)
                if not confirmed:
                    confirmed = True
                    self._skip, self._reads = start + length - left, 1
                if left and (self._begun or self._begin(0)):
                    filled = self._read_on(lib.SSL_read(self._ssl, BUFFER, BUFFER_SIZE), 0, pieces)
                    if filled:
                        pieces.append(buffer(BUFFER, filled)[:])
                if self.closed:
                    break
        if confirmed:
            self._weigh(data)
        return b"" if self.muted else b"".join(pieces)

    def _advance(self, early: list[bytes]) -> bool:
        """Read early data, then go on with the handshake; whether it is confirmed now."""
        while not self._finished:
            result = lib.SSL_read_early_data(self._ssl, BUFFER, BUFFER_SIZE, _count)
            if result == SSL_READ_EARLY_DATA_SUCCESS:
                if not self.established:
                    self._check_name()
                    self.accepted = self.established = True
                early.append(buffer(BUFFER, _count[0])[:])
                if not lib.BIO_get_mem_data(self._rbio, NULL):
                    return False
            elif result == SSL_READ_EARLY_DATA_FINISH:
                self._finished = True
            elif lib.SSL_get_error(self._ssl, 0) != lib.SSL_ERROR_WANT_READ:
                raise self._fault()
            else:
                return False
        if not self._handshake():
            return False
        self.confirmed = True
        on_confirmed, self.on_confirmed = self.on_confirmed, _nothing
        on_confirmed()
        return True

    def send(self, data: bytes | bytearray | memoryview) -> None:
        if self.confirmed:
            ServerEngine.send(self, data)
            return
        source, size = from_buffer(data), len(data)
        if self._pending + size <= CHUNK:
            if size and (lib.SSL_write_early_data(self._ssl, source, size, _count) != 1 or _count[0] != size):
                raise self._fault()
            self._pending += size
            return
        for start in range(0, size, CHUNK):
            length = min(CHUNK, size - start)
            if lib.SSL_write_early_data(self._ssl, source + start, length, _count) != 1 or _count[0] != length:
                raise self._fault()
            got = lib.BIO_read(self._wbio, BUFFER, BUFFER_SIZE)
            if got > 0:
                self._out.append(buffer(BUFFER, got)[:])

    def seal(self, data: bytes) -> bytes:
        if self.confirmed:
            return ServerEngine.seal(self, data)
        self.send(data)
        return self.drain()

    def idle(self) -> None:
        if self.confirmed:
            ServerEngine.idle(self)

    def shutdown(self) -> None:
        if self.confirmed:
            ServerEngine.shutdown(self)


def _nothing() -> None:
    """Has been called."""
