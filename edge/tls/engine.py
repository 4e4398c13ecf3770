"""TLS over memory BIOs: ciphertext in, plaintext out, and the other way; no socket is seen here.

Theory. An `SSL` object reads records from one memory BIO and writes records to another. `receive` puts what the socket
gave into the first one and takes the plaintext out; `send` turns plaintext into records; `drain` takes from the second one
whatever is to be written: handshake flights, records, alerts. After every call of `receive`, a failed one included,
and after `send` and `shutdown`, `drain` has to be asked, because each of them may have produced output.

Memory. A BIO keeps the largest size that it ever had, so never more than `CHUNK` bytes of plaintext or ciphertext lie in
one: longer input is fed in pieces, longer output is moved on into the thread's one buffer as it comes about. A
connection that goes idle gets fresh BIOs. The buffer's contents never outlive a call.

Speed. A handshake's crypto takes 30 to 200 microseconds, and every call into the binding 0.15 to 0.3, so the paths that
each request takes make as few as possible: a request costs BIO_write, SSL_read and one look whether the BIO is empty,
which spares the second SSL_read that would only say "want read".

Invariants
* A Fault is final: after it only `drain` (for the alert) and `close` are called.
* After `close` nothing is called any more. An upstream's session is marked as properly ended before that; otherwise it could
  not be resumed. A client's is in its ticket alone.
* `closed` is set by the peer's close_notify alone. An end of the stream without one is for the transport to judge. After a
  user_canceled, which Java sends before each close_notify, OpenSSL calls a close_notify an error of the system without an errno.
* What comes after the handshake, costs us work and brings no data is counted: `disturbances` (KeyUpdates and attempts to
  renegotiate, both refused or answered by OpenSSL) and a client's `empty_records` (all other records without data: empty ones,
  padding, warning alerts but the goodbye). `unsettled` says that there are new ones: the caller holds them against a budget per
  second.
* A client's certificate that was not judged in the handshake (its session is resumed, and TLS 1.3 renews tickets for ever) is
  judged when it is complete: see `edge.tls.clients`.
* The thread has one buffer and one counter for the callback: engines must not be used by two threads at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from edge.errors import Fault, Side
from edge.settings.client_rules import ClientLeaf
from edge.tls.binding import (
    BUFFER,
    BUFFER_SIZE,
    CHUNK,
    NULL,
    buffer,
    ffi,
    from_buffer,
    lib,
    new_bio,
    string,
)
from edge.tls.clients import leaf_of
from edge.tls.faults import handshake_fault

__all__ = ["NOISE", "Engine", "TlsInfo"]

_contents = buffer(BUFFER, BUFFER_SIZE)  # a slice of it is bytes, and five times cheaper than another buffer
_in_memory = lib.BIO_s_mem()
_bio_new = lib.BIO_new
_bio_read = lib.BIO_read
_bio_write = lib.BIO_write
_bio_holds = lib.BIO_get_mem_data  # with NULL: the number of bytes that lie in a memory BIO
_do_handshake = lib.SSL_do_handshake
_read = lib.SSL_read
_write = lib.SSL_write
_get_error = lib.SSL_get_error
_get_shutdown = lib.SSL_get_shutdown
_new = lib.SSL_new
_set_bio = lib.SSL_set_bio
_session_reused = lib.SSL_session_reused
_version = lib.SSL_version
_current_cipher = lib.SSL_get_current_cipher
_alpn_selected = lib.SSL_get0_alpn_selected
_shutdown = lib.SSL_shutdown
_free = lib.SSL_free

_WANT_READ: int = lib.SSL_ERROR_WANT_READ
_ZERO_RETURN: int = lib.SSL_ERROR_ZERO_RETURN
_SYSCALL: int = lib.SSL_ERROR_SYSCALL
_RECEIVED: int = lib.SSL_RECEIVED_SHUTDOWN
_GOODBYE = 31  # bytes of a close_notify with the suites that clients have; two KeyUpdates are longer
_ONE_RECORD = 40  # bytes that the encryption of one record adds at most; two add more (with CBC suites one does, too)
_RECORD_ROOM = BUFFER_SIZE - CHUNK - 1024  # beyond this mark the buffer may not take one more record

NOISE = [0]
"""What the callback of a watched connection counted during the call under way."""


_name_out: Any = ffi.new("unsigned char **")
_size_out: Any = ffi.new("unsigned int *")


class TlsInfo:
    """What was negotiated. Names are OpenSSL's, which are IANA's; `group` is ``""`` when there was no key exchange."""

    __slots__ = ("alpn", "group", "peer", "resumed", "server_name", "suite", "version")

    def __init__(self, ssl: Any, server_name: str | None, alpn: bytes, peer: ClientLeaf | None) -> None:
        self.version = _version_names[_version(ssl)]
        self.suite = _suite_name(_current_cipher(ssl))
        self.resumed = _session_reused(ssl) == 1
        self.group = "" if self.resumed and self.version == "TLSv1.2" else string(lib.SSL_get0_group_name(ssl))
        self.alpn = alpn
        self.server_name = server_name
        self.peer = peer  # the leaf; that of a client was verified


_version_names = {lib.TLS1_2_VERSION: "TLSv1.2", lib.TLS1_3_VERSION: "TLSv1.3"}


@cache
def _suite_name(cipher: Any) -> str:
    """The name of an `SSL_CIPHER`; they stand in a table of OpenSSL's, so a pointer means the same for ever."""
    return string(lib.SSL_CIPHER_get_name(cipher))


class Engine:
    """One TLS connection. `side` is the peer's."""

    __slots__ = (
        "_begun", "_out", "_owner", "_pending", "_rbio", "_reads", "_skip", "_ssl", "_wbio", "closed", "disturbances",
        "empty_records", "established", "server_name", "unsettled",
    )  # fmt: skip

    side: Side

    def __init__(self, pointer: Any, owner: object, server_name: str | None) -> None:
        self._ssl = ssl = _new(pointer)
        if not ssl:
            raise handshake_fault(NULL, Side.EDGE)
        self._rbio = rbio = _bio_new(_in_memory)
        self._wbio = wbio = _bio_new(_in_memory)
        _set_bio(ssl, rbio, wbio)
        self.server_name = server_name  # canonical; None for addresses and for clients that sent no name
        self._owner = owner  # keeps alive what the context's callbacks point to
        self._out: list[bytes] = []  # ciphertext that had to leave the BIO before it was asked for
        self._pending = 0  # bytes of plaintext whose records lie in the BIO
        self.established = False
        self._begun = False  # what comes after the handshake has begun, and is watched
        self.closed = False
        self._skip = 0  # bytes of what comes next that belong to a record whose header has come; -1: a header is in pieces
        self._reads = 0  # records that brought data, of those that come under `_skip` and behind
        self.disturbances = 0
        self.empty_records = 0
        self.unsettled = False  # set with either of them, and taken back by whoever judges them

    # --- in ---

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take ciphertext; go on with the handshake; all the plaintext that there is.

        Raises Fault when TLS fails. ``b""`` is no end: `closed` says whether the peer has said goodbye.
        """
        size = len(data)
        if size > CHUNK:
            return self._receive_long(data)
        NOISE[0] = 0
        rbio = self._rbio
        _bio_write(rbio, data if type(data) is bytes else from_buffer(data), size)
        if not self._begun and not self._begin(size):
            self._skip = self._reads = 0
            return b""
        got = _read(self._ssl, BUFFER, BUFFER_SIZE)
        if got > 0 and not _bio_holds(rbio, NULL):
            if size - got > _ONE_RECORD or NOISE[0]:
                self._reads += 1
                self._weigh(data)
            self._skip = 0  # what came ended with a record
            return _contents[:got]  # type: ignore[no-any-return]
        pieces: list[bytes] = []
        filled = self._read_on(got, 0, pieces)
        self._weigh(data)
        return self._gathered(filled, pieces)

    def _receive_long(self, data: bytes | memoryview) -> bytes:
        """`receive` of more than a BIO may hold. The plaintext gathers in the buffer and leaves it in one piece."""
        NOISE[0] = 0
        source = from_buffer(data)
        size = len(data)
        pieces: list[bytes] = []
        filled = 0
        for start in range(0, size, CHUNK):
            _bio_write(self._rbio, source + start, min(CHUNK, size - start))
            if self._begun or self._begin(min(size, start + CHUNK)):
                filled = self._read_on(_read(self._ssl, BUFFER + filled, BUFFER_SIZE - filled), filled, pieces)
                if self.closed:
                    break
        if self.established:
            self._weigh(data)
        return self._gathered(filled, pieces)

    def _read_on(self, got: int, filled: int, pieces: list[bytes]) -> int:
        """Read until OpenSSL wants more ciphertext; how much plaintext is in the buffer then.

        `got` is what the first SSL_read returned, `filled` what was there before it. What does not fit goes to `pieces`.
        """
        ssl = self._ssl
        reads = 0
        while got > 0:
            reads += 1
            filled += got
            if filled > _RECORD_ROOM:
                pieces.append(_contents[:filled])
                filled = 0
            got = _read(ssl, BUFFER + filled, BUFFER_SIZE - filled)
        self._reads += reads
        error = _get_error(ssl, got)
        if error == _ZERO_RETURN or (error == _SYSCALL and _get_shutdown(ssl) & _RECEIVED):
            self.closed = True
        elif error != _WANT_READ:
            raise self._fault()
        return filled

    def _gathered(self, filled: int, pieces: list[bytes]) -> bytes:
        if filled:
            pieces.append(_contents[:filled])
        elif not pieces:
            return b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _begin(self, end: int) -> bool:
        """Go on with the handshake, or with what comes first after it: whether there may be something to read.

        `end` is how much of what came lies in the BIO or was read from it.

        Many connections end at once, with a goodbye in the same bytes as the end of their handshake. Watching such a one costs
        more than the one message that could hide there.
        """
        if not self.established:
            if not self._handshake():
                return False
            left = _bio_holds(self._rbio, NULL)
            self._skip, self._reads = end - left, 1  # the end of the handshake is no record without use
            if left <= _GOODBYE:
                return left > 0  # type: ignore[no-any-return]
        self._begun = True
        self._watch()
        return True

    def _watch(self) -> None:
        """Count from now on what disturbs."""

    def _handshake(self) -> bool:
        result = _do_handshake(self._ssl)
        if result == 1:
            self._complete()
            self.established = True
            return True
        if _get_error(self._ssl, result) != _WANT_READ:
            raise self._fault()
        return False

    def _complete(self) -> None:
        """What there is to do when the handshake is done. Raises Fault to refuse."""

    def _weigh(self, data: bytes | memoryview) -> None:
        """Count what brought no data, of what came and was read."""
        if NOISE[0]:
            self._count_noise()

    def _count_noise(self) -> None:
        self.disturbances += NOISE[0]
        self.unsettled = True
        NOISE[0] = 0

    def _fault(self) -> Fault:
        if NOISE[0]:
            self._count_noise()
        return handshake_fault(self._ssl, self.side)

    # --- out ---

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt plaintext. Only after `established`. Raises Fault when TLS fails."""
        size = len(data)
        if self._pending + size > CHUNK:
            self._send_long(data, size)
        elif size:
            if _write(self._ssl, data if type(data) is bytes else from_buffer(data), size) != size:
                raise self._fault()
            self._pending += size

    def _send_long(self, data: bytes | bytearray | memoryview, size: int) -> None:
        """`send` of more than a BIO may hold: the records gather in the buffer and leave it in as few pieces as possible."""
        ssl, wbio, out = self._ssl, self._wbio, self._out
        source = from_buffer(data)
        filled = max(0, _bio_read(wbio, BUFFER, BUFFER_SIZE))
        self._pending = 0
        for start in range(0, size, CHUNK):
            length = min(CHUNK, size - start)
            if _write(ssl, source + start, length) != length:
                raise self._fault()
            filled += _bio_read(wbio, BUFFER + filled, BUFFER_SIZE - filled)
            if filled > _RECORD_ROOM:
                out.append(_contents[:filled])
                filled = 0
        if filled:
            out.append(_contents[:filled])

    def seal(self, data: bytes) -> bytes:
        """`send` and `drain` in one."""
        size = len(data)
        if self._out or not 0 < self._pending + size <= CHUNK:
            self.send(data)
            return self.drain()
        if _write(self._ssl, data, size) != size:
            raise self._fault()
        self._pending = 0
        got = _bio_read(self._wbio, BUFFER, BUFFER_SIZE)
        return _contents[:got] if got > 0 else b""

    def drain(self) -> bytes:
        """What is to be written to the peer, in one piece; ``b""`` when there is nothing."""
        self._pending = 0
        got = _bio_read(self._wbio, BUFFER, BUFFER_SIZE)
        if not self._out:
            return _contents[:got] if got > 0 else b""
        out, self._out = self._out, []
        if got > 0:
            out.append(_contents[:got])
        return out[0] if len(out) == 1 else b"".join(out)

    # --- life ---

    def info(self) -> TlsInfo:
        """What was negotiated. Only after `established`."""
        return TlsInfo(self._ssl, self.server_name, self.alpn(), self._peer_leaf())

    def idle(self) -> None:
        """Give back the memory of the BIOs, when nothing lies in them."""
        if self.established and not self._pending and not _bio_holds(self._rbio, NULL) and not _bio_holds(self._wbio, NULL):
            self._rbio = rbio = new_bio()
            self._wbio = wbio = new_bio()
            _set_bio(self._ssl, rbio, wbio)  # which frees the old ones

    def shutdown(self) -> None:
        """Queue close_notify. Before the handshake is done there is nothing to close, and nothing happens."""
        if self.established and _shutdown(self._ssl) < 0:
            lib.ERR_clear_error()

    def close(self) -> None:
        """Free the connection. Idempotent."""
        ssl, self._ssl = self._ssl, None
        if ssl:
            _free(ssl)

    def __del__(self) -> None:
        if self._ssl:
            self.close()

    def alpn(self) -> bytes:
        """The protocol agreed on, or ``b""``. Only after `established`."""
        _alpn_selected(self._ssl, _name_out, _size_out)
        size = _size_out[0]
        return buffer(_name_out[0], size)[:] if size else b""

    def _peer_leaf(self) -> ClientLeaf | None:
        return leaf_of(self._ssl)
