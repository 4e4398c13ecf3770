"""A worker is judged by its silence, unless the judge was away himself."""

from __future__ import annotations

from edge.process.children import Child
from edge.process.heartbeat import HUNG, INTERVAL, Heartbeats, Verdict


def worker(number: int, beat_at: float) -> Child:
    child = Child(f"worker {number}", lambda _: 0, lambda *_: None, number=number)
    child.pid, child.beat_at = 1000 + number, beat_at
    return child


def judged(heartbeats: Heartbeats, workers: list[Child], start: float, end: float) -> list[tuple[int, Verdict]]:
    """What is said from `start` to `end`, with a look each interval."""
    found = []
    now = start
    while now <= end:
        found += [(child.number, verdict) for child, verdict in heartbeats.judge(workers, now)]
        now += INTERVAL
    return found


def test_who_beats_is_well_and_who_never_did_is_not_judged() -> None:
    heartbeats, one, other = Heartbeats(), worker(1, 100.0), worker(2, 0.0)
    for at in (100.0, 100.25, 100.5, 100.75, 101.0, 101.25):
        one.beat_at = at
        assert list(heartbeats.judge([one, other], at)) == []


def test_silence_is_a_stall_then_a_hang_and_a_beat_ends_it() -> None:
    heartbeats, one = Heartbeats(), worker(1, 100.0)
    assert judged(heartbeats, [one], 100.0, 105.0) == [(1, Verdict.STALLED)]
    one.beat_at = 105.0
    assert judged(heartbeats, [one], 105.25, 105.5) == [(1, Verdict.RECOVERED)]
    assert judged(heartbeats, [one], 105.75, 105.0 + HUNG) == [(1, Verdict.STALLED), (1, Verdict.HUNG)]


def test_after_a_pause_of_the_whole_machine_nobody_is_blamed() -> None:
    heartbeats, one, other = Heartbeats(), worker(1, 100.0), worker(2, 98.0)
    assert judged(heartbeats, [one, other], 100.0, 100.25) == [(2, Verdict.STALLED)]
    assert judged(heartbeats, [one, other], 160.0, 160.75) == []
    assert judged(heartbeats, [one, other], 161.0, 161.0) == [(1, Verdict.STALLED)]


def test_a_successor_does_not_inherit_the_verdict() -> None:
    heartbeats, one = Heartbeats(), worker(1, 100.0)
    judged(heartbeats, [one], 100.0, 102.0)
    one.pid, one.beat_at = 2000, 0.0
    assert judged(heartbeats, [one], 102.25, 103.0) == []
    assert heartbeats.stalled == set()
