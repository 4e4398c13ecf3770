"""The shared table: no count is lost, a successor goes on, nothing runs full, and readers see no half of anything."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.observe.counters import CONTROLLER, SUPERVISOR, Sample, Table, totals
from edge.observe.metrics import METRICS, OTHER, Kind, Metric

SMALL = {
    metric.name: metric
    for metric in [
        Metric("hits_total", Kind.COUNTER, "Hits.", ("who", "how"), series=3),
        Metric("open", Kind.GAUGE, "Open.", ("who",), series=2),
        Metric("seconds", Kind.HISTOGRAM, "Seconds.", ("who",), (0.1, 1.0, 10.0), series=2),
        Metric("starts_total", Kind.COUNTER, "Starts."),
    ]
}


def values(table: Table) -> dict[tuple[str, ...], float]:
    return {(sample.metric.name, *sample.labels): sample.value for sample in table.read()}


def sample(table: Table, name: str) -> Sample:
    (found,) = [sample for sample in table.read() if sample.metric.name == name]
    return found


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_is_counted_is_read() -> None:
    table = Table.create(2, metrics=SMALL)
    counters = table.part(1)
    counters.counter("hits_total", "a", "fast").add()
    counters.counter("hits_total", "a", "fast").add(2)
    counters.gauge("open", "a").set(7)
    counters.counter("starts_total").add()
    histogram = counters.histogram("seconds", "a")
    for seconds in (0.05, 0.1, 0.5, 100.0):
        histogram.observe(seconds)
    assert values(table) == {
        ("hits_total", "a", "fast"): 3,
        ("open", "a"): 7,
        ("seconds", "a"): 4,
        ("starts_total",): 1,
    }
    observed = sample(table, "seconds")
    assert observed.buckets == [2, 1, 0, 1], "a bound belongs to its bucket"
    assert observed.sum == pytest.approx(100.65)


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from([0.1, 1.0, 10.0]))))
def test_many_observations_at_once_are_the_same_as_one_by_one(seconds: list[float]) -> None:
    table = Table.create(1, metrics=SMALL)
    counters = table.part(1)
    counters.histogram("seconds", "together").observe_all(seconds)
    single = counters.histogram("seconds", "single")
    for value in seconds:
        single.observe(value)
    one, other = (sample for sample in table.read() if sample.metric.name == "seconds")
    assert one.buckets == other.buckets
    assert one.sum == pytest.approx(other.sum)
    assert one.value == len(seconds)


def test_a_series_is_there_and_zero_as_soon_as_it_is_asked_for() -> None:
    table = Table.create(1, metrics=SMALL)
    counters = table.part(SUPERVISOR)
    counters.counter("starts_total")
    counters.gauge("open", "a")
    assert values(table) == {("open", "a"): 0, ("starts_total",): 0}


def test_parts_are_summed() -> None:
    table = Table.create(3, metrics=SMALL)
    for index in (SUPERVISOR, 1, 2, CONTROLLER):
        counters = table.part(index)
        counters.counter("hits_total", "a", "fast").add(index + 2)
        counters.gauge("open", "a").set(1)
        counters.histogram("seconds", "a").observe(0.01)
    assert values(table)["hits_total", "a", "fast"] == 2 + 3 + 4 + 1
    assert values(table)["open", "a"] == 4
    assert sample(table, "seconds").buckets == [4, 0, 0, 0]


def test_what_is_not_in_the_catalogue_is_an_error() -> None:
    counters = Table.create(1, metrics=SMALL).part(1)
    with pytest.raises(KeyError):
        counters.counter("misses_total")
    with pytest.raises(TypeError, match=r"hits_total is a counter with the labels \('who', 'how'\)"):
        counters.counter("hits_total", "a")
    with pytest.raises(TypeError):
        counters.gauge("hits_total", "a", "fast")
    with pytest.raises(TypeError):
        counters.histogram("open", "a")


def test_beyond_the_bound_everything_goes_to_one_series() -> None:
    table = Table.create(1, metrics=SMALL)
    counters = table.part(1)
    for number in range(100):
        counters.counter("hits_total", f"w{number}", "fast").add()
        counters.gauge("open", f"w{number}").set(number)
        counters.histogram("seconds", f"w{number}").observe(1.0)
    counters.counter("hits_total", "w0", "fast").add()
    found = values(table)
    assert {key for key in found if key[0] == "hits_total"} == {
        ("hits_total", "w0", "fast"),
        ("hits_total", "w1", "fast"),
        ("hits_total", "w2", "fast"),
        ("hits_total", OTHER, OTHER),
    }
    assert found["hits_total", OTHER, OTHER] == 97
    assert found["hits_total", "w0", "fast"] == 2
    assert found["seconds", OTHER] == 98


def test_a_part_has_room_for_all_that_the_catalogue_allows() -> None:
    table = Table.create(1)
    counters = table.part(1)
    for metric in METRICS.values():
        for number in range(metric.series + 2):
            labels = [f"{number:03}" + "ä" * 200 for _ in metric.labels]
            if metric.kind is Kind.COUNTER:
                counters.counter(metric.name, *labels).add()
            elif metric.kind is Kind.GAUGE:
                counters.gauge(metric.name, *labels).set(1)
            else:
                counters.histogram(metric.name, *labels).observe(1)
    read = table.read()
    for metric in METRICS.values():
        found = [sample for sample in read if sample.metric is metric]
        expected = metric.series + 1 if metric.labels else 1
        assert len(found) == expected, metric.name
    neighbour = table.part(2)
    neighbour.counter("edge_log_lines_dropped_total").add()
    assert values(table)["edge_log_lines_dropped_total",] > 1, "nothing ran over into the next part"


def test_a_label_is_cut_to_a_bound_and_holds_no_separator() -> None:
    table = Table.create(1, metrics=SMALL)
    table.part(1).counter("hits_total", "ä" * 1000, "a\0b").add()
    ((_, who, how),) = values(table)
    assert who == "ä" * 64
    assert how == "ab"


def test_a_successor_goes_on_with_counters_and_begins_with_gauges() -> None:
    table = Table.create(1, metrics=SMALL)

    def first() -> None:
        counters = table.part(1)
        counters.counter("hits_total", "a", "fast").add(5)
        counters.gauge("open", "a").set(3)
        counters.gauge("open", "b").set(2)
        counters.histogram("seconds", "a").observe(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(in_child(first)) == -signal.SIGKILL
    assert values(table)["hits_total", "a", "fast"] == 5
    assert values(table)["open", "a"] == 3
    table.clear(1)
    assert ("open", "a") not in values(table), "a dead process has nothing open"

    def second() -> None:
        counters = table.part(1)
        counters.counter("hits_total", "a", "fast").add(5)
        counters.counter("hits_total", "a", "slow").add()
        counters.gauge("open", "a")
        counters.histogram("seconds", "a").observe(0.5)

    assert wait(in_child(second)) == 0
    assert values(table) == {
        ("hits_total", "a", "fast"): 10,
        ("hits_total", "a", "slow"): 1,
        ("open", "a"): 0,
        ("seconds", "a"): 2,
    }
    assert sample(table, "seconds").sum == 1.0


def test_a_gauge_may_be_unset() -> None:
    table = Table.create(1, metrics=SMALL)
    one, other = table.part(1).gauge("open", "a"), table.part(2).gauge("open", "a")
    one.set(1)
    other.set(2)
    one.clear()
    assert values(table) == {("open", "a"): 2}
    other.clear()
    assert values(table) == {}
    one.set(5)
    one.add(-1)
    assert values(table) == {("open", "a"): 4}


def test_processes_that_hammer_lose_nothing() -> None:
    """Eight writers of the same series and of their own, while a reader looks: counts never fall, and in the end all are
    there."""
    table = Table.create(8, metrics=SMALL)
    rounds, workers = 20_000, 8
    start_reading, start = os.pipe()

    def work(index: int) -> None:
        os.read(start_reading, 1)
        counters = table.part(index)
        hits = counters.counter("hits_total", "a", "fast")
        histogram = counters.histogram("seconds", "a")
        for number in range(rounds):
            hits.add()
            histogram.observe(0.5)
            if number % 1000 == 0:
                counters.counter("hits_total", f"w{index % 2}", "slow").add()

    children = [in_child(lambda index=index: work(index)) for index in range(1, workers + 1)]  # type: ignore[misc]
    os.write(start, bytes(workers))
    last: dict[tuple[str, ...], float] = {}
    while children:
        if os.waitpid(children[-1], os.WNOHANG)[0]:
            children.pop()
        now = values(table)
        assert all(now[key] >= value for key, value in last.items()), "a counter fell"
        assert now.get(("hits_total", "a", "fast"), 0) <= rounds * workers
        last = now
    assert values(table) == {
        ("hits_total", "a", "fast"): rounds * workers,
        ("hits_total", "w0", "slow"): 20 * workers / 2,
        ("hits_total", "w1", "slow"): 20 * workers / 2,
        ("seconds", "a"): rounds * workers,
    }
    assert sample(table, "seconds").sum == rounds * workers * 0.5


def test_a_store_is_never_seen_half_done() -> None:
    """A gauge jumps between two values that share no byte; whoever reads meanwhile sees one or the other."""
    table = Table.create(1, metrics=SMALL)
    low, high = float.fromhex("0x1.0101010101010p-511"), float.fromhex("0x1.fefefefefefefp+511")
    table.part(1).gauge("open", "a").set(low)
    ready, tell = os.pipe()

    def jump() -> None:
        gauge = table.part(1).gauge("open", "a")
        gauge.set(low)
        os.write(tell, b"x")
        for _ in range(300_000):
            gauge.set(high)
            gauge.set(low)

    child = in_child(jump)
    os.read(ready, 1)
    seen = set()
    while not os.waitpid(child, os.WNOHANG)[0]:
        seen.update(values(table).values())
    assert seen <= {low, high}
    assert low in seen


def test_an_entry_that_is_not_yet_visible_is_read_the_next_time() -> None:
    """As another processor may see it: the size is there, the entry is not."""
    table = Table.create(1, metrics=SMALL)
    counters = table.part(1)
    counters.counter("hits_total", "a", "fast").add()
    assert len(values(table)) == 1
    directory, start = table._parts[1].directory, int(table._parts[1].used[0])
    counters.counter("hits_total", "b", "fast").add()
    entry = bytes(directory[start : start + 40])
    directory[start : start + 40] = bytes(40)
    assert len(values(table)) == 1
    directory[start : start + 40] = entry
    assert len(values(table)) == 2


def test_what_a_killed_process_did_not_publish_is_written_over() -> None:
    table = Table.create(1, metrics=SMALL)
    counters = table.part(1)
    counters.counter("hits_total", "a", "fast").add(3)
    published = table._parts[1].used[0]
    counters.counter("hits_total", "never published", "fast")
    table._parts[1].used[0] = published  # killed just before
    successor = table.part(1)
    successor.counter("hits_total", "b", "fast").add(4)
    assert values(table) == {("hits_total", "a", "fast"): 3, ("hits_total", "b", "fast"): 4}


def test_series_come_in_the_order_of_the_catalogue_and_then_by_label() -> None:
    table = Table.create(1, metrics=SMALL)
    counters = table.part(1)
    counters.counter("starts_total")
    counters.counter("hits_total", "b", "fast")
    counters.counter("hits_total", "a", "fast")
    assert list(values(table)) == [("hits_total", "a", "fast"), ("hits_total", "b", "fast"), ("starts_total",)]


def test_the_totals_are_plain_data() -> None:
    table = Table.create(1, metrics=SMALL)
    counters = table.part(1)
    counters.counter("hits_total", "a", "fast").add()
    counters.histogram("seconds", "a").observe(0.5)
    assert totals(table) == {
        "hits_total": [[["a", "fast"], 1.0]],
        "seconds": [[["a"], {"count": 1.0, "sum": 0.5, "buckets": [0.0, 1.0, 0.0, 0.0]}]],
    }


def test_there_is_room_for_workers_that_come_later() -> None:
    table = Table.create(2, metrics=SMALL)
    table.part(64).counter("starts_total").add()
    assert values(table) == {("starts_total",): 1}
    large = Table.create(100, metrics=SMALL)
    large.part(200).counter("starts_total").add()
    large.part(CONTROLLER).counter("starts_total").add()
    assert values(large) == {("starts_total",): 2}


def test_a_worker_for_which_there_is_no_room_works_and_is_not_counted() -> None:
    table = Table.create(2, metrics=SMALL)
    table.part(65).counter("starts_total").add()
    table.clear(65)
    assert values(table) == {}


def test_reading_takes_memory_only_for_parts_that_are_used() -> None:
    table = Table.create(64)
    table.part(1).counter("edge_log_lines_dropped_total").add()
    before = _shared_kib()
    table.read()
    assert _shared_kib() - before < 64


def _shared_kib() -> int:
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("RssShmem")).split()[1])
