"""The floor: what no server can do without, so that a report can say how much of a handshake is the gateway's own.

* Crypto: the same handshake in memory, both sides on memory BIOs in one thread, and only the server's calls timed. No
socket, no loop,   no choice of a host. The TLS library is the one that `edge` uses; a peer with another library has another
floor. * Kernel: a server that accepts, reads, writes, reads the end and closes, with as many bytes as a handshake has, and a
client that does the   same from the other core. Its CPU per connection is the kernel's work, with the little that a bare
loop in Python adds (2 to 4 µs).

What a target spends beyond the two is its own: its event loop, choosing the host, its buffers, its accounting.

Run as ``-m …floor crypto JOB`` (prints JSON) or ``-m …floor echo PORT`` (serves until it is ended).
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from OpenSSL import SSL

from edge.tls.binding import BUFFER, BUFFER_SIZE, context_pointer, ffi, lib, new_bio

from .certificates import Set
from .offer import Offer, context, kept_session, prepare
from .processes import Child, free_ports, run_pinned

__all__ = ["crypto", "measure_floor", "parts"]

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


def _kernel(core: int, folder: Path, seconds: float) -> float:
    """CPU seconds of the server per connection."""
    (port,) = free_ports(1)
    folder.mkdir()
    with Child("the echo", [sys.executable, "-m", f"{__package__}.floor", "echo", str(port)], core, folder) as child:
        child.wait_port(port)
        before, end = child.cpu(), time.perf_counter() + seconds
        with ThreadPoolExecutor(_CALLERS) as pool:
            counts = list(pool.map(lambda _: _calls(port, end), range(_CALLERS)))
        return (child.cpu() - before) / sum(counts)


def _calls(port: int, end: float) -> int:
    count = 0
    while not count or time.perf_counter() < end:
        _call(port)
        count += 1
    return count


def measure_floor(
    rows: dict[str, tuple[Offer, str]],
    certificates: Set,
    core: int,
    folder: Path,
    seconds: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """The kernel's microseconds per connection, and those of crypto for each of `rows` (name: offer and variant)."""
    progress("the floor: the kernel")
    kernel = _kernel(core, folder, seconds) * 1e6
    found = {}
    for name, (offer, variant) in rows.items():
        if variant not in _SERVED:
            continue
        progress(f"the floor: {name} in memory")
        leaf = certificates.rsa if variant == "rsa" else certificates.leaf
        given = offer.facts()
        job = {"chain": str(leaf.chain), "key": str(leaf.key), "client_ca": "", "seconds": seconds, "offer": given}
        if variant == "mutual":
            job["client_ca"] = str(certificates.ca)
            given |= {"chain": str(certificates.client.chain), "key": str(certificates.client.key)}
        out, _ = run_pinned([sys.executable, "-m", f"{__package__}.floor", "crypto", json.dumps(job)], core, seconds + 30)
        found[name] = float(out) * 1e6
    return {"kernel": kernel, "crypto": found}


def parts(floor: dict[str, Any], scenarios: list[dict[str, Any]], subject: str) -> list[dict[str, Any]]:
    """What `subject` spends in each scenario, in microseconds, and how much of it is crypto, the kernel's, and its own."""
    found = []
    for scenario in scenarios:
        summary, crypto_part = scenario["summary"].get(subject), floor["crypto"].get(scenario["name"])
        if summary is None or crypto_part is None or scenario["loop"] != "closed":
            continue
        total = summary["value"]
        rest = total - crypto_part - floor["kernel"]
        what = scenario["what"].removeprefix("CPU per ")
        found.append(
            {
                "scenario": scenario["name"],
                "what": what,
                "total": total,
                "crypto": crypto_part,
                "kernel": floor["kernel"],
                "rest": rest,
            }
        )
    return found


def main(arguments: list[str]) -> None:
    """The command lines of the module's description."""
    if arguments[0] == "echo":
        _echo(int(arguments[1]))
    job = json.loads(arguments[1])
    job["offer"] = Offer(**job["offer"])
    sys.stdout.write(f"{crypto(**job)!r}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
