"""The load side of a handshake measurement: a loop over many connections on the binding's functions.

Run as ``-m …handshakes PORT SECONDS MODE CONNECTIONS`` with MODE one of "1.3-full", "1.3-resumed", "1.2-full",
"1.2-resumed" or "idle"; prints one JSON object. One thread, `CONNECTIONS` handshakes in flight over epoll, the group
X25519, certificates not verified (that would only cost the load side). A handshake counts when it is finished on both
sides: the client closes as soon as it is done (close_notify and FIN), and waits for the server to do the same. That holds
for servers that send their tickets only with the first answer (Envoy) as well. Sessions to resume are fetched before
the clock starts, with one request each, and offered again and again.

"idle" opens CONNECTIONS connections with TLS 1.3, prints a line, and holds them until its standard input closes.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

from OpenSSL import SSL

from edge.tls.binding import context_pointer, ffi, lib

__all__ = ["Loop", "main"]

_SOURCES = 50  # addresses of loopback to come from: each has ephemeral ports of its own


class _Slot:
    """One connection in flight."""

    __slots__ = ("established", "sock", "ssl")

    def __init__(self, sock: socket.socket, ssl: Any) -> None:
        self.sock = sock
        self.ssl = ssl
        self.established = False


class Loop:
    """Handshakes against `port` of loopback, again and again. `finished`, `resumed` and `failed` count."""

    def __init__(self, port: int, version: str) -> None:
        self._port = port
        self._context = SSL.Context(SSL.TLS_METHOD)
        number = SSL.TLS1_3_VERSION if version == "1.3" else SSL.TLS1_2_VERSION
        self._context.set_min_proto_version(number)
        self._context.set_max_proto_version(number)
        self._context.set_alpn_protos([b"http/1.1"])
        self._pointer = context_pointer(self._context)
        # with TLS 1.2 the list names the curves of certificates too, so P-256 has to be there
        if lib.SSL_CTX_set1_curves_list(self._pointer, b"X25519" if version == "1.3" else b"X25519:P-256") != 1:
            raise RuntimeError("this OpenSSL has no X25519")
        self._epoll = select.epoll()
        self._slots: dict[int, _Slot] = {}
        self._sessions: list[Any] = []
        self._turn = 0
        self.finished = self.resumed = self.failed = 0

    def _open(self) -> _Slot:
        self._turn += 1
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
        sock.bind((f"127.0.0.{1 + self._turn % _SOURCES}", 0))
        sock.connect(("127.0.0.1", self._port))
        ssl = lib.SSL_new(self._pointer)
        lib.SSL_set_fd(ssl, sock.fileno())
        lib.SSL_set_connect_state(ssl)
        lib.SSL_set_tlsext_host_name(ssl, b"localhost")
        return _Slot(sock, ssl)

    def fetch_sessions(self, count: int) -> None:
        """Make `count` connections with one request each and keep their sessions. Raises RuntimeError when there are none."""
        for _ in range(count):
            slot = self._open()
            slot.sock.settimeout(None)
            request = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n"
            if lib.SSL_do_handshake(slot.ssl) != 1 or lib.SSL_write(slot.ssl, request, len(request)) != len(request):
                raise RuntimeError("the first handshake failed")
            if lib.SSL_read(slot.ssl, _BUFFER, len(_BUFFER)) <= 0:
                raise RuntimeError("the first request was not answered")
            self._sessions.append(lib.SSL_get1_session(slot.ssl))
            lib.SSL_shutdown(slot.ssl)
            lib.SSL_free(slot.ssl)
            slot.sock.close()

    def begin(self) -> None:
        """Open one more connection and send its hello, with a session when there is one."""
        slot = self._open()
        slot.sock.setblocking(False)
        if self._sessions:
            lib.SSL_set_session(slot.ssl, self._sessions[self._turn % len(self._sessions)])
        lib.SSL_do_handshake(slot.ssl)
        lib.ERR_clear_error()
        self._slots[slot.sock.fileno()] = slot
        self._epoll.register(slot.sock.fileno(), select.EPOLLIN)

    def _handshake(self, slot: _Slot) -> bool | None:
        """Go on with the handshake after bytes came: True when it is done, False when it failed, None when more is to come."""
        result = lib.SSL_do_handshake(slot.ssl)
        if result == 1:
            slot.established = True
            return True
        waits: bool = lib.SSL_get_error(slot.ssl, result) == lib.SSL_ERROR_WANT_READ
        lib.ERR_clear_error()
        return None if waits else False

    def _end(self, slot: _Slot) -> None:
        self._epoll.unregister(slot.sock.fileno())
        del self._slots[slot.sock.fileno()]
        lib.SSL_free(slot.ssl)
        slot.sock.close()

    def turn(self, *, again: bool) -> None:
        """Wait for bytes and act on them; a connection that is over is followed by a new one when `again`."""
        for descriptor, _ in self._epoll.poll(1.0):
            slot = self._slots[descriptor]
            if slot.established:
                try:
                    if slot.sock.recv(65_536):
                        continue  # tickets, or the server's close_notify
                except BlockingIOError:
                    continue
                except ConnectionError:
                    pass  # closed without reading our close_notify to its end: over on both sides as well
                self.finished += 1
            else:
                done = self._handshake(slot)
                if done:
                    self.resumed += bool(lib.SSL_session_reused(slot.ssl))
                    lib.SSL_shutdown(slot.ssl)
                    slot.sock.shutdown(socket.SHUT_WR)
                if done is not False:
                    continue
                self.failed += 1
            self._end(slot)
            if again:
                self.begin()

    def establish(self, connections: int) -> list[_Slot]:
        """Open `connections` and keep them: every handshake is over when this returns."""
        for _ in range(connections):
            self.begin()
        ready: set[int] = set()
        while len(ready) < connections:
            for descriptor, _ in self._epoll.poll(5.0):
                slot = self._slots[descriptor]
                if slot.established:
                    lib.SSL_read(slot.ssl, _BUFFER, len(_BUFFER))
                    lib.ERR_clear_error()
                    continue
                done = self._handshake(slot)
                if done is False:
                    raise RuntimeError("a handshake failed")
                if done:
                    ready.add(descriptor)
        return list(self._slots.values())


_BUFFER = ffi.new("char[]", 4096)


def _measure(port: int, seconds: float, mode: str, connections: int) -> dict[str, float]:
    version, _, kind = mode.partition("-")
    loop = Loop(port, version)
    if kind == "resumed":
        loop.fetch_sessions(connections)
    for _ in range(connections):
        loop.begin()
    while loop.finished + loop.failed < connections:
        loop.turn(again=True)
    finished, resumed, began, used = loop.finished, loop.resumed, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        loop.turn(again=True)
    return {
        "count": loop.finished - finished,
        "resumed": loop.resumed - resumed,
        "failed": loop.failed,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
    }


def main(arguments: list[str]) -> None:
    """The command line of the module's description."""
    port, seconds, mode, connections = int(arguments[0]), float(arguments[1]), arguments[2], int(arguments[3])
    if mode == "idle":
        kept = Loop(port, "1.3").establish(connections)
        sys.stdout.write(f"{len(kept)}\n")
        sys.stdout.flush()
        sys.stdin.read()
        return
    sys.stdout.write(json.dumps(_measure(port, seconds, mode, connections)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
