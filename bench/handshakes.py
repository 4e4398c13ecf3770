"""The load side of a handshake measurement: one thread over epoll that drives the binding's functions, C-speed but for the loop.

Run as ``-m …handshakes JOB`` with JOB a `Job` as JSON; prints one JSON object (`Seen`). Modes:

* "closed": `connections` handshakes in flight, the next begins when one is over. For the server's cost and its greatest rate.
* "open": a handshake is due every 1 / `rate` seconds, whatever became of those before it; its duration counts from when it
  was due, so a stall is charged to everybody who would have come meanwhile (coordinated omission). At most `connections` are in
  flight; those that had to wait for that are late, and their wait counts.
* "idle": opens `connections`, prints their number, and holds them until its standard input closes.

A duration ends when the client is finished, or with the first byte of the answer when it brings a request.

The client says how it was itself: `busy` is the share of its core that it used in a closed loop, and `late` how long after its
time it began a handshake in an open loop while it was not held up by `connections`. Either can make the client the limit.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass

from .loop import Job, Loop
from .returning import Visits

__all__ = ["Job", "Seen", "main", "run"]

_PATIENCE = 5.0  # seconds for what is in flight at the end of an open loop


@dataclass(slots=True)
class Seen:
    """What came of it. `begun` counts every handshake that was started, the first ones before the clock too."""

    begun: int
    count: int
    resumed: int
    failed: int
    seconds: float
    cpu: float
    busy: float
    durations: list[float]
    late: list[float]

    def text(self) -> str:
        """JSON with durations in whole microseconds."""
        facts = {name: getattr(self, name) for name in ("begun", "count", "resumed", "failed", "seconds", "cpu", "busy")}
        return json.dumps(facts | {name: [round(each * 1e6) for each in getattr(self, name)] for name in ("durations", "late")})

    @classmethod
    def read(cls, text: str) -> Seen:
        facts = json.loads(text)
        return cls(**(facts | {name: [each / 1e6 for each in facts[name]] for name in ("durations", "late")}))


def _closed(loop: Loop, job: Job) -> Seen:
    for _ in range(job.connections):
        loop.begin()
    while loop.finished + loop.failed < job.connections and loop.in_flight:
        loop.turn(again=True)
    finished, resumed, durations = loop.finished, loop.resumed, len(loop.durations)
    began, used = time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - began) < job.seconds:
        if not loop.in_flight:
            raise RuntimeError(loop.problem or "no connection comes about any more")
        loop.turn(again=True)
    cpu = time.process_time() - used
    return Seen(
        loop.begun,
        loop.finished - finished,
        loop.resumed - resumed,
        loop.failed,
        passed,
        cpu,
        cpu / passed,
        loop.durations[durations:],
        [],
    )


def _open(loop: Loop, job: Job) -> Seen:
    """Raises ValueError for a rate that is none."""
    if job.rate <= 0:
        raise ValueError("an open loop needs a rate")
    step, total = 1 / job.rate, int(job.rate * job.seconds)
    late: list[float] = []
    before = loop.begun
    began, used = time.perf_counter() + 0.01, time.process_time()
    number, held_up = 0, False
    while number < total or loop.in_flight:
        now = time.perf_counter()
        while number < total and (due := began + number * step) <= now:
            if not loop.room:
                held_up = True
                break
            if not held_up:
                late.append(now - due)
            loop.begin(due)
            number += 1
            now = time.perf_counter()
        else:
            held_up = False
        if now > began + job.seconds + _PATIENCE:
            break
        wait = began + number * step - now if number < total and loop.room else 0.5
        loop.turn(again=False, wait=min(0.5, max(0.0, wait)))
    passed, cpu = time.perf_counter() - began, time.process_time() - used
    unfinished = loop.in_flight + total - number
    return Seen(
        loop.begun - before,
        len(loop.durations),
        loop.resumed,
        loop.failed + unfinished,
        passed,
        cpu,
        cpu / passed,
        loop.durations,
        late,
    )


def run(job: Job) -> Seen:
    """Do `job` in this process, which is to do nothing else. Raises RuntimeError or ValueError with a sentence."""
    loop = Visits(job) if job.offer.request else Loop(job)
    try:
        if job.offer.resumed:
            loop.fetch_sessions(min(job.connections, loop.MOST_SESSIONS))
        gc.collect()
        gc.freeze()
        gc.disable()
        seen = {"closed": _closed, "open": _open}[job.mode](loop, job)
        if loop.problem and not seen.count:
            raise RuntimeError(loop.problem)
        return seen
    finally:
        loop.end()


def main(arguments: list[str]) -> None:
    """The command line of the module's description."""
    job = Job.read(arguments[0])
    if job.mode == "idle":
        loop = Loop(job)
        sys.stdout.write(f"{loop.establish()}\n")
        sys.stdout.flush()
        sys.stdin.read()
        return
    try:
        sys.stdout.write(run(job).text() + "\n")
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
