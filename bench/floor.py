"""The floor: what no server can do without, so that a report can say how much of a handshake is the gateway's own.

* Crypto: the same handshake in memory, both sides on memory BIOs in one thread, and only the server's calls timed. No
  socket, no loop, no choice of a host. The TLS library is the one that `edge` uses; a peer with another library has another
  floor.
* Kernel: a server that accepts, reads, writes, reads the end and closes, with as many bytes as a handshake has, and a client
  that does the same from the other core. Its CPU per connection is the kernel's work, with the little that a bare loop in
  Python adds (2 to 4 µs).

What a target spends beyond the two is its own: its event loop, choosing the host, its buffers, its accounting. Both are
measured in every round, right before the scenario that they belong to, so that what the machine does to one it does to the
other and the difference has a range.

Run as ``-m …floor crypto`` (for each line with a job as JSON a line of seconds comes back) or ``-m …floor echo PORT`` (serves
until it is ended).
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from OpenSSL import SSL

from edge.tls.binding import BUFFER, BUFFER_SIZE, context_pointer, ffi, lib, new_bio

from .certificates import Set
from .offer import Offer, context, kept_session, prepare
from .processes import Child, environment, free_ports

__all__ = ["Floor", "crypto", "part"]

HELLO, FLIGHT, FINISHED = 320, 900, 80
"""Bytes of a full TLS 1.3 handshake with an ECDSA certificate: the client's hello, the server's flight, the client's end."""

_SERVED = ("", "rsa", "mutual")
_CALLERS = 8  # connections in flight, so that the server finds the next one waiting
_TURNS = 8  # of both sides; a handshake takes two or three


def _server(chain: str, key: str, client_ca: str) -> SSL.Context:
    made = SSL.Context(SSL.TLS_METHOD)
    made.use_certificate_chain_file(chain)
    made.use_privatekey_file(key)
    made.set_session_id(b"floor")
    if client_ca:
        made.load_verify_locations(client_ca)
        made.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return made


def _pump(source: Any, sink: Any) -> None:
    while (count := lib.BIO_read(source, BUFFER, BUFFER_SIZE)) > 0:
        lib.BIO_write(sink, BUFFER, count)


def _one(server: SSL.Context, client: SSL.Context, offer: Offer, session: Any) -> tuple[float, bool, Any]:
    """One handshake: CPU seconds of the server's side, whether it was resumed, and the client's session afterwards."""
    ends, bios = [], []
    began = time.thread_time_ns()
    ends.append(ffi.gc(lib.SSL_new(context_pointer(server)), lib.SSL_free))
    bios.append((new_bio(), new_bio()))
    lib.SSL_set_bio(ends[0], *bios[0])
    lib.SSL_set_accept_state(ends[0])
    used = time.thread_time_ns() - began
    ends.append(ffi.gc(lib.SSL_new(context_pointer(client)), lib.SSL_free))
    bios.append((new_bio(), new_bio()))
    lib.SSL_set_bio(ends[1], *bios[1])
    prepare(ends[1], offer, "localhost", session)
    done = [False, False]
    for _ in range(_TURNS):
        done[1] = lib.SSL_do_handshake(ends[1]) == 1
        _pump(bios[1][1], bios[0][0])
        began = time.thread_time_ns()
        done[0] = lib.SSL_do_handshake(ends[0]) == 1
        used += time.thread_time_ns() - began
        _pump(bios[0][1], bios[1][0])
        lib.ERR_clear_error()
        if all(done):
            break
    else:
        raise RuntimeError("the handshake in memory came to no end")
    resumed = bool(lib.SSL_session_reused(ends[0]))
    lib.SSL_read(ends[1], BUFFER, 1)  # the tickets
    lib.ERR_clear_error()
    kept = kept_session(ends[1])
    began = time.thread_time_ns()
    lib.SSL_set_shutdown(ends[0], 3)
    lib.SSL_shutdown(ends[0])
    used += time.thread_time_ns() - began
    return used / 1e9, resumed, kept


def crypto(offer: Offer, chain: str, key: str, client_ca: str, seconds: float) -> float:
    """The median CPU seconds of the server's side of a handshake in memory. Raises RuntimeError when it "
    "is not resumed as asked."""
    server, client = _server(chain, key, client_ca), context(offer)
    _, _, session = _one(server, client, offer.full(), None)
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 20:
        used, resumed, _ = _one(server, client, offer, session if offer.resumed else None)
        if resumed != offer.resumed:
            raise RuntimeError(f"{offer.label} in memory was {'' if resumed else 'not '}resumed")
        samples.append(used)
    return median(samples)


def _echo(port: int) -> None:
    flight = bytes(FLIGHT)
    with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
        while True:
            sock, _ = listening.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if sock.recv(65_536):
                    sock.sendall(flight)
                while sock.recv(65_536):
                    pass


def _call(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(bytes(HELLO))
        left = FLIGHT
        while left and (part := sock.recv(left)):
            left -= len(part)
        sock.sendall(bytes(FINISHED))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)


def _calls(port: int, end: float) -> int:
    count = 0
    while not count or time.perf_counter() < end:
        _call(port)
        count += 1
    return count


class Floor:
    """The floor's two processes, on the server's `core`. A context manager: they have ended when the block is left."""

    def __init__(self, certificates: Set, core: int, folder: Path, seconds: float) -> None:
        """`seconds` is how long each of the two parts of a sample takes. Raises RuntimeError or OSError."""
        self._certificates = certificates
        self._seconds = seconds
        (self._port,) = free_ports(1)
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            module = f"{__package__}.floor"
            self._echo = stack.enter_context(
                Child("the echo", [sys.executable, "-m", module, "echo", str(self._port)], core, folder)
            )
            self._echo.wait_port(self._port)
            self._crypto = subprocess.Popen(
                ["taskset", "-c", str(core), sys.executable, "-m", module, "crypto"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(),
                text=True,
            )
            stack.callback(self._end_crypto)
            self._stack = stack.pop_all()

    def _end_crypto(self) -> None:
        self._crypto.kill()
        self._crypto.communicate()

    def __enter__(self) -> Floor:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sample(self, offer: Offer, variant: str) -> dict[str, float] | None:
        """Microseconds of ``crypto`` and ``kernel`` for one handshake of `offer`; None where there is no floor.

        Raises RuntimeError or OSError.
        """
        if variant not in _SERVED or offer.request:
            return None
        given = offer.facts()
        leaf = self._certificates.rsa if variant == "rsa" else self._certificates.leaf
        job = {"chain": str(leaf.chain), "key": str(leaf.key), "client_ca": "", "seconds": self._seconds, "offer": given}
        if variant == "mutual":
            job["client_ca"] = str(self._certificates.ca)
            given |= {"chain": str(self._certificates.client.chain), "key": str(self._certificates.client.key)}
        return {"crypto": self._in_memory(job) * 1e6, "kernel": self._kernel() * 1e6}

    def _in_memory(self, job: dict[str, Any]) -> float:
        assert self._crypto.stdin is not None
        assert self._crypto.stdout is not None
        self._crypto.stdin.write(json.dumps(job) + "\n")
        self._crypto.stdin.flush()
        answer = self._crypto.stdout.readline()
        if not answer:
            raise RuntimeError("the handshake in memory failed")
        return float(answer)

    def _kernel(self) -> float:
        """CPU seconds of the echo per connection."""
        before, end = self._echo.cpu(), time.perf_counter() + self._seconds
        with ThreadPoolExecutor(_CALLERS) as pool:
            counts = list(pool.map(lambda _: _calls(self._port, end), range(_CALLERS)))
        return (self._echo.cpu() - before) / sum(counts)


def part(pairs: Sequence[tuple[float, dict[str, float]]]) -> dict[str, Any]:
    """What a target spends in microseconds, and how much of it is crypto, the kernel's, and its own (``rest``).

    `pairs` has its cost and the floor of each round. Medians over the rounds; ranges of what is left, and of the share that
    is not crypto (0 to 1).
    """
    rests = sorted(total - floor["crypto"] - floor["kernel"] for total, floor in pairs)
    others = sorted(1 - floor["crypto"] / total for total, floor in pairs)
    return {
        "total": median(total for total, _ in pairs),
        "crypto": median(floor["crypto"] for _, floor in pairs),
        "kernel": median(floor["kernel"] for _, floor in pairs),
        "rest": median(rests),
        "rest_low": rests[0],
        "rest_high": rests[-1],
        "other": median(others),
        "other_low": others[0],
        "other_high": others[-1],
        "rounds": len(pairs),
    }


def main(arguments: list[str]) -> None:
    """The command lines of the module's description."""
    if arguments[0] == "echo":
        _echo(int(arguments[1]))
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.write(f"{crypto(**job | {'offer': Offer(**job['offer'])})!r}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
