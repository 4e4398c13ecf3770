"""How cost grows: with workers, with open connections, with hosts, with routes.

Each is a family of scenarios along one axis. A scenario starts its target afresh, configured for its place on the axis, so that
nothing of the last one is left, and warms it up before its clock starts.

* **workers** (1, 2, 4): CPU per small request, and the memory of all processes. All workers share the one core that the server
  has, so this is what more of them cost, and not what more cores bring.
* **connections** (10 to 10,000 open ones): ten requests are under way, each on the connection that has been quiet longest, so
  every connection is used and idle nearly all the time. Opening them is not in the figure. The bench's own client does it,
  because wrk and h2load begin to count while they still connect. It takes a descriptor for each at both ends; ports are no
  limit, for the client comes from fifty addresses of loopback.
* **hosts** (1 to 1,000): CPU per full TLS 1.3 handshake, each host with a certificate of its own, asked for in turn by name.
* **routes** (1 to 1,000): CPU per small request on the last of them.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

from . import client, load
from .first import first_handshake
from .handshakes import Job
from .offer import Offer
from .processes import Child, environment
from .samples import Sample, Scenario, Site, Target

__all__ = ["HOSTS", "growth"]

HOSTS = 1000
"""The most hosts that are asked for."""

_IN_FLIGHT = 10
_ROOM = 12_288  # connections that a target is told to have room for
_OWN_DESCRIPTORS = 200
_WARM = 0.3  # seconds
_PATIENCE = 30.0  # seconds for a client that has failed to end


@contextlib.contextmanager
def _fresh(target: Target, axis: str, x: int, shown: int, site: Site) -> Iterator[tuple[Child, int]]:
    """The target with `x` on `axis`, ready for handshakes. The report keeps its configuration when x is `shown`."""
    child, port = target.start(
        workers=x if axis == "workers" else 1,
        hosts=site.many[:x] if axis == "hosts" else (),
        routes=x if axis == "routes" else 0,
        connections=_ROOM if axis == "connections" else 0,
        remember=f"{x:,} {axis}" if x == shown else "",
    )
    with child:
        child.wait_port(port, 60.0)
        first_handshake(port)
        yield child, port


def _requests(axis: str, x: int, shown: int) -> Callable[[Target, Site, float], Sample]:
    def take(target: Target, site: Site, seconds: float) -> Sample:
        path = f"/service-{x - 1:04}/small" if axis == "routes" else "/small"
        with _fresh(target, axis, x, shown, site) as (child, port):
            load.h1(port, site.core, _WARM, path=path)
            before, upstream = child.cpu(), site.upstream()
            seen = load.h1(port, site.core, seconds, path=path)
            used, upstream = child.cpu() - before, site.upstream() - upstream
            if not seen.count:
                raise RuntimeError("no request was completed")
            details = {"memory, MiB": child.memory() / (1 << 20)} if axis == "workers" else {}
        busy = min(1.0, (seen.cpu + upstream) / seen.seconds)
        return Sample(used / seen.count, seen.count, seen.seconds, min(1.0, used / seen.seconds), busy, seen.errors, details)

    return take


def _handshakes(x: int, shown: int) -> Callable[[Target, Site, float], Sample]:
    def take(target: Target, site: Site, seconds: float) -> Sample:
        with _fresh(target, "hosts", x, shown, site) as (child, port):
            job = Job("127.0.0.1", port, offer=Offer(), seconds=max(_WARM, seconds), hosts=x)
            load.drive(job, site.core)  # every host once at least, where its first handshake does more than the next
            before = child.cpu()
            seen = load.drive(job, site.core)
            used = child.cpu() - before
        found = load.load_of(seen, job)
        if not seen.count:
            raise RuntimeError("no handshake was completed")
        return Sample(used / found.count, seen.count, seen.seconds, min(1.0, used / seen.seconds), seen.busy, found.errors)

    return take


def _open(x: int, shown: int) -> Callable[[Target, Site, float], Sample]:
    def take(target: Target, site: Site, seconds: float) -> Sample:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if x + _OWN_DESCRIPTORS > limit:
            raise RuntimeError(f"{x:,} connections need more descriptors than the {limit:,} that a process may have here")
        with _fresh(target, "connections", x, shown, site) as (child, port):
            job = client.Job(port, seconds=seconds, connections=x, in_flight=_IN_FLIGHT, hold=True)
            command = ["taskset", "-c", str(site.core), sys.executable, "-m", f"{__package__}.client", job.text()]
            pipe = subprocess.PIPE
            with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment()) as process:
                try:
                    return _timed(process, child, site)
                finally:
                    process.kill()

    return take


def _timed(process: subprocess.Popen[bytes], child: Child, site: Site) -> Sample:
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError(_last_words(process))
    memory = child.memory()
    before, upstream = child.cpu(), site.upstream()
    process.stdin.write(b"go\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    used, upstream = child.cpu() - before, site.upstream() - upstream
    if not answer:
        raise RuntimeError(_last_words(process))
    seen = client.Seen(**json.loads(answer))
    if not seen.count:
        raise RuntimeError("no request was completed")
    details = {"memory, MiB": memory / (1 << 20)}
    busy = min(1.0, (seen.cpu + upstream) / seen.seconds)
    return Sample(used / seen.count, seen.count, seen.seconds, min(1.0, used / seen.seconds), busy, seen.errors, details)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    return process.communicate(timeout=_PATIENCE)[1].decode(errors="replace").strip()[-300:] or "the client ended"


def growth() -> Iterator[Scenario]:
    """Every scenario, by axis and x."""
    for x in (1, 2, 4):
        what = f"CPU per small HTTP/1.1 request, {x} worker{'s' if x > 1 else ''} on one core"
        yield _scenario("workers", x, what, _requests("workers", x, 2), relayed=True)
    for x in (10, 100, 1000, 10_000):
        what = f"CPU per small HTTP/1.1 request, {x:,} open connections"
        yield _scenario("connections", x, what, _open(x, 10), relayed=True)
    for x in (1, 10, 100, HOSTS):
        what = f"CPU per full TLS 1.3 handshake, {x:,} host{'s' if x > 1 else ''}"
        yield _scenario("hosts", x, what, _handshakes(x, 10), relayed=False)
    for x in (1, 10, 100, 1000):
        what = f"CPU per small HTTP/1.1 request, the last of {x:,} route{'s' if x > 1 else ''}"
        yield _scenario("routes", x, what, _requests("routes", x, 10), relayed=True)


def _scenario(axis: str, x: int, what: str, take: Callable[[Target, Site, float], Sample], *, relayed: bool) -> Scenario:
    return Scenario(f"{axis}-{x}", what, "µs", 1e6, take, core=False, axis=axis, x=x, fresh=True, relayed=relayed)
