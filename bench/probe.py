"""One handshake at a time, looked at closely: its phases, its bytes and its round trips.

The client works through memory BIOs on a blocking socket, so that it sees when each byte came and how many there were:

    connect ──► hello ──────► server's flight ──► finished ──► request ──► first byte of the answer
     tcp         hello_to_flight    flight_to_finished             to_first_byte

A round trip is counted whenever the client has sent something and cannot go on before it has read: one for TLS 1.3, two after
a HelloRetryRequest and for a full TLS 1.2 handshake. TCP can need more of them: what does not fit into the initial congestion
window (ten segments of 1,460 bytes, RFC 6928) waits for an acknowledgement, which a report says of a flight that is too long.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, replace
from typing import Any

from edge.tls.binding import BUFFER, BUFFER_SIZE, buffer, context_pointer, ffi, lib, new_bio, reasons, string

from .offer import Offer, context, group_name, kept_session, prepare, staple_of

__all__ = ["INITIAL_WINDOW", "Prober", "Refused", "Taken"]

INITIAL_WINDOW = 10 * 1460
"""Bytes that a server can send before the first acknowledgement (RFC 6928)."""

_LONGEST_ANSWER_WAIT = 5.0  # seconds
_TICKET_WAIT = 0.2  # seconds for tickets from a server that answers nothing


class Refused(Exception):
    """The handshake did not come about; the text says why."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One handshake: durations in seconds, the server's bytes until it was finished, and what was agreed."""

    tcp: float
    hello_to_flight: float
    flight_to_finished: float
    to_first_byte: float | None
    flight: int
    sent: int
    round_trips: int
    resumed: bool
    group: str
    suite: str
    alpn: str
    stapled: bool
    early_data: int  # bytes that the server lets the next connection send before its handshake is finished
    certificate: str  # "ecdsa", "rsa" or another word; "" when resumed

    @property
    def handshake(self) -> float:
        """Hello to finished, without TCP."""
        return self.hello_to_flight + self.flight_to_finished


class Prober:
    """Handshakes of one `Offer` with one server, each with a connection of its own.

    With `offer.resumed` every handshake offers the newest session; `take` makes a full one first when it has none.
    """

    def __init__(self, address: tuple[str, int], name: str, offer: Offer, path: str | None, seconds: float = 10.0) -> None:
        self.offer = offer
        self._address = address
        self._name = name
        head = f"GET {path} HTTP/1.1\r\nHost: {name or address[0]}\r\nUser-Agent: edge-bench\r\nConnection: close\r\n\r\n"
        self._request = None if path is None else head.encode()
        self._seconds = seconds
        self._context = context(offer)
        self._session: Any = None

    def take(self) -> Taken:
        """Raises Refused, or OSError when there is no connection."""
        if self.offer.early and self._request is None:
            raise Refused("early data is a request, and none is to be sent")
        if self.offer.resumed and self._session is None:
            self._one(None)
            if self._session is None:
                raise Refused("the server gives no session to resume")
        return self._one(self._session if self.offer.resumed else None)

    def _one(self, session: Any) -> Taken:
        began = time.perf_counter()
        with socket.create_connection(self._address, timeout=self._seconds) as sock:
            connected = time.perf_counter()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ssl = ffi.gc(lib.SSL_new(context_pointer(self._context)), lib.SSL_free)
            incoming, outgoing = new_bio(), new_bio()
            lib.SSL_set_bio(ssl, incoming, outgoing)
            prepare(ssl, self.offer, self._name, session)
            pipe = _Pipe(sock, ssl, incoming, outgoing)
            hello = time.perf_counter()
            if self.offer.early and self._request is not None and session is not None:
                pipe.early(self._request, session)
            pipe.handshake()
            finished = time.perf_counter()
            flight, sent, round_trips = pipe.received, pipe.sent, pipe.round_trips
            answered: float | None
            if self.offer.early and session is not None:
                answered = pipe.answer_to_early(session)
            else:
                answered = pipe.first_byte(self._request, self.offer.version)
            taken = Taken(
                tcp=connected - began,
                hello_to_flight=pipe.first - hello,
                flight_to_finished=finished - pipe.first,
                to_first_byte=None if answered is None else answered - finished,
                flight=flight,
                sent=sent,
                round_trips=round_trips,
                resumed=bool(lib.SSL_session_reused(ssl)),
                group=group_name(ssl),
                suite=string(lib.SSL_CIPHER_get_name(lib.SSL_get_current_cipher(ssl))),
                alpn=_alpn(ssl),
                stapled=bool(staple_of(ssl)),
                early_data=0,
                certificate="" if lib.SSL_session_reused(ssl) else _certificate(ssl),
            )
            self._session = kept_session(ssl)
            early_data = 0 if self._session is None else int(lib.SSL_SESSION_get_max_early_data(self._session))
            return replace(taken, early_data=early_data)


class _Pipe:
    """The connection between an `SSL *` and a blocking socket; `first` is when the server's first byte came."""

    def __init__(self, sock: socket.socket, ssl: Any, incoming: Any, outgoing: Any) -> None:
        self._sock = sock
        self._ssl = ssl
        self._incoming = incoming
        self._outgoing = outgoing
        self._unanswered = False
        self.first = 0.0
        self.received = self.sent = self.round_trips = 0

    def handshake(self) -> None:
        """Raises Refused, or OSError."""
        while True:
            result = lib.SSL_do_handshake(self._ssl)
            problem = 0 if result == 1 else lib.SSL_get_error(self._ssl, result)
            self._flush()
            if result == 1:
                return
            if problem != lib.SSL_ERROR_WANT_READ:
                raise Refused(reasons()[1] or "the handshake failed")
            lib.ERR_clear_error()
            if self._unanswered:
                self.round_trips += 1
            if not self._feed():
                raise Refused("the server closed the connection during the handshake")

    def early(self, request: bytes, session: Any) -> None:
        """Send `request` with the hello. Raises Refused when `session` allows no early data."""
        if lib.SSL_SESSION_get_max_early_data(session) < len(request):
            raise Refused("the server's tickets allow no early data")
        if lib.SSL_write_early_data(self._ssl, request, len(request), ffi.new("size_t *")) != 1:
            raise Refused(reasons()[1] or "early data cannot be sent")
        self._flush()

    def answer_to_early(self, session: Any) -> float:
        """When the answer's first byte came; then reads on, shortly, until there is another session than `session`.

        The answer proves that early data was accepted, for the request was sent in no other way. Raises Refused without one.
        """
        self._sock.settimeout(_LONGEST_ANSWER_WAIT)
        if not self._read():
            raise Refused("early data was not answered: the server did not take it")
        answered = time.perf_counter()
        self._sock.settimeout(_TICKET_WAIT)
        while lib.SSL_get_session(self._ssl) == session and self._read():
            pass
        return answered

    def first_byte(self, request: bytes | None, version: str) -> float | None:
        """Send `request`, and say when the answer's first byte came; without a request only wait for tickets, shortly."""
        self._sock.settimeout(_LONGEST_ANSWER_WAIT if request else _TICKET_WAIT)
        if request:
            lib.SSL_write(self._ssl, request, len(request))
            self._flush()
        elif version == "1.2":
            return None  # its ticket came with the handshake
        return time.perf_counter() if self._read() else None

    def _read(self) -> bool:
        """One byte of the answer. False when there is none any more, or none in time. Raises Refused."""
        try:
            while (result := lib.SSL_read(self._ssl, BUFFER, 1)) != 1:
                problem = lib.SSL_get_error(self._ssl, result)
                if problem == lib.SSL_ERROR_SSL:  # with TLS 1.3 a client certificate is refused only now
                    raise Refused(reasons()[1] or "the server ended the connection with an alert")
                lib.ERR_clear_error()
                if problem != lib.SSL_ERROR_WANT_READ or not self._feed():
                    return False
        except OSError:
            return False
        return True

    def _feed(self) -> bool:
        data = self._sock.recv(65_536)
        if not self.first:
            self.first = time.perf_counter()
        self._unanswered = False
        self.received += len(data)
        lib.BIO_write(self._incoming, data, len(data))
        return bool(data)

    def _flush(self) -> None:
        while (count := lib.BIO_read(self._outgoing, BUFFER, BUFFER_SIZE)) > 0:
            self._sock.sendall(buffer(BUFFER, count)[:])
            self.sent += count
            self._unanswered = True


def _alpn(ssl: Any) -> str:
    data, length = ffi.new("const unsigned char **"), ffi.new("unsigned int *")
    lib.SSL_get0_alpn_selected(ssl, data, length)
    return bytes(ffi.buffer(data[0], length[0])).decode("latin-1") if length[0] else ""


def _certificate(ssl: Any) -> str:
    leaf = lib.SSL_get_peer_certificate(ssl)
    if not leaf:
        return ""
    leaf = ffi.gc(leaf, lib.X509_free)
    key = ffi.gc(lib.X509_get_pubkey(leaf), lib.EVP_PKEY_free)
    kinds = {lib.EVP_PKEY_RSA: "rsa", lib.EVP_PKEY_EC: "ecdsa"}
    return kinds.get(lib.EVP_PKEY_id(key), "another")
