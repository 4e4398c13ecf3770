"""Do clients that come back still resume when the keys of tickets change, and what does one of them cost meanwhile?

Clients keep coming back to a fresh target: each with the ticket that it got the last time, one request, and off with the next
ticket, if there is one. After a while the keys are rotated under that load (`bench.ticket_keys`). Some clients are away: they got
their tickets before the rotation and come back after it. Told are the shares of them and of the others, before, meanwhile and
after, that resumed, and the CPU of the server per connection, that of a reload among it. The value is the CPU afterwards: a
server that forgets its tickets pays for full handshakes then.

Run as ``-m …rotation JOB``, it is the clients: says ``ready``, goes on until its standard input ends, brings those back who were
away when a line comes in, and writes what it saw: for each connection the moment of its answer (monotonic seconds, the same in
all processes of a machine), whether it was resumed, and whether the client had been away.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from edge.tls.binding import lib

from .conclusions import RESUMED
from .handshakes import Job
from .loop import Slot
from .offer import Offer
from .processes import Child, environment
from .returning import Visits
from .samples import Sample, Scenario, Site, Target
from .ticket_keys import TARGETS, rotate

__all__ = ["ROTATION", "main"]

_CLIENTS = 100  # that keep coming, and as many that were away
_IN_FLIGHT = 8
_LOOK = 0.01  # seconds between two looks at the processes while they may change
_SETTLED = 0.3  # seconds that still count as meanwhile, so that there is a meanwhile where it takes no time


class _Meter:
    """The CPU seconds of a target; those of processes that have ended count as far as they were seen."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._seen: dict[int, float] = {}
        self._over = threading.Event()

    def read(self) -> float:
        for pid, used in self._child.cpu_by_process().items():
            self._seen[pid] = max(used, self._seen.get(pid, 0.0))
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            self.read()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Processes may come and go in the block."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def _take(target: Target, site: Site, seconds: float) -> Sample:
    child, port = target.start(ticket_keys=True, remember="rotation")
    with child:
        child.wait_port(port)
        job = Job("127.0.0.1", port, offer=Offer(resumed=True, request=True), connections=_IN_FLIGHT)
        command = ["taskset", "-c", str(site.core), sys.executable, "-m", f"{__package__}.rotation", job.text()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as clients:
            try:
                return _measured(clients, child, site.core, seconds)
            finally:
                clients.kill()


ROTATION = Scenario(
    "rotation",
    "CPU per returning client (TLS 1.3, with a request) after the keys of tickets were rotated",
    "µs",
    1e6,
    _take,
    only=TARGETS,
    core=False,
    fresh=True,
)


def _measured(clients: subprocess.Popen[bytes], child: Child, core: int, seconds: float) -> Sample:
    said: IO[bytes] | None = clients.stdout
    told: IO[bytes] | None = clients.stdin
    assert said is not None
    assert told is not None
    if said.readline() != b"ready\n":
        raise RuntimeError("the clients could not get their first tickets")
    meter = _Meter(child)
    marks = [(time.monotonic(), meter.read())]
    time.sleep(seconds)
    marks.append((time.monotonic(), meter.read()))
    with meter.watching():
        rotate(child, core)
        time.sleep(_SETTLED)
    marks.append((time.monotonic(), meter.read()))
    told.write(b"back\n")
    told.flush()
    time.sleep(seconds)
    marks.append((time.monotonic(), meter.read()))
    seen = json.loads(clients.communicate()[0] or b"{}")
    if not seen:
        raise RuntimeError("the clients came to no end")
    if seen["failed"]:
        raise RuntimeError(f"{seen['failed']} clients were not served ({seen['problem'] or 'no connection'})")
    details: dict[str, float] = {}
    costs = []
    kept = [(moment, resumed) for moment, resumed, away in seen["visits"] if not away]
    back = [resumed for _, resumed, away in seen["visits"] if away]
    for phase, (began, before), (ended, after) in zip(RESUMED, marks, marks[1:], strict=False):
        found = [resumed for moment, resumed in kept if began <= moment < ended]
        came = sum(began <= moment < ended for moment, _, _ in seen["visits"])
        if not found:
            raise RuntimeError(f"no client came back {phase} the rotation")
        details[RESUMED[phase]] = 100 * sum(found) / len(found)
        costs.append((after - before) / came)
    if len(back) < _CLIENTS:
        raise RuntimeError(f"only {len(back)} of {_CLIENTS} clients that were away came back")
    details[RESUMED["away"]] = 100 * sum(back) / len(back)
    details |= {"CPU before, µs": costs[0] * 1e6, "CPU meanwhile, µs": costs[1] * 1e6}
    total = marks[-1][0] - marks[0][0]
    used = marks[-1][1] - marks[0][1]
    return Sample(costs[2], len(seen["visits"]), total, used / total, 0, 0, details)


class _Coming(Visits):
    """`visits` has what is noted of each connection; `away` are the tickets of those who are."""

    MOST_SESSIONS = 2 * _CLIENTS

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.visits: list[tuple[float, bool, bool]] = []
        self.away: list[Any] = []
        self._back: list[Any] = []

    def part(self) -> None:
        """Half of the clients are away from now on."""
        self.away = [self.tickets.popleft() for _ in range(_CLIENTS)]

    def come_back(self) -> None:
        """Those who were away are the next to come."""
        self.tickets.extendleft(self.away)
        self._back, self.away = self.away, []

    def _done(self, slot: Slot) -> bool:
        """Who was given no other ticket shows the old one again: HAProxy renews none that is under its newest key."""
        return True

    def _advance(self, slot: Slot, *, keep: bool = False) -> bool | None:
        before = len(self.durations)
        result = super()._advance(slot, keep=keep)
        if len(self.durations) > before:
            resumed = bool(lib.SSL_session_reused(slot.ssl))
            self.visits.append((time.monotonic(), resumed, any(slot.session is each for each in self._back)))
        return result


def main(arguments: list[str]) -> None:
    """The command line of the module's description."""
    job = Job.read(arguments[0])
    loop = _Coming(job)
    try:
        loop.fetch_sessions(loop.MOST_SESSIONS)
        loop.part()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while loop.in_flight or loop.tickets:
            while loop.room:
                loop.begin()
            loop.turn(again=False, wait=0.05)
            if select.select([0], [], [], 0)[0]:
                if not os.read(0, 64):
                    break
                loop.come_back()
    except RuntimeError as error:
        sys.exit(str(error))
    finally:
        loop.end()
    sys.stdout.write(json.dumps({"visits": loop.visits, "failed": loop.failed, "problem": loop.problem}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
