"""What is looked at from time to time: growth is added once, levels are summed and unset when their object is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from edge.net.meters import Meters
from edge.observe.counters import Table


class _Listener:
    def __init__(self, name: str) -> None:
        self.listener = SimpleNamespace(name=name)
        self.accepted = 0
        self.disturbances = 0
        self.empty_records = 0
        self.transports: set[object] = set()


class _Place:
    def __init__(self, upstream: str, url: str, *, connections: int = 0, active: int = 0, up: bool = True) -> None:
        self.upstream = SimpleNamespace(name=upstream)
        self.state = SimpleNamespace(endpoint=SimpleNamespace(url=url), key=url, active=active, is_available=lambda _now: up)
        self.pool = SimpleNamespace(total=lambda _key: connections)
        self.hits = self.misses = self.waiting = 0


class _Log:
    def __init__(self, dropped: int) -> None:
        self.dropped = dropped


class _Worker:
    def __init__(self) -> None:
        self.table = Table.create(1)
        self.meters = Meters(self.table.part(1))
        self.log: Any = _Log(0)

    def listeners(self, *listeners: Any) -> None:
        self.meters.look_at_listeners(listeners)

    def places(self, *places: Any) -> None:
        self.meters.look(places, self.log, 0.0)

    def value(self, name: str, *labels: str) -> float | None:
        found = [sample.value for sample in self.table.read() if sample.metric.name == name and sample.labels == labels]
        return found[0] if found else None


def test_growth_is_added_once() -> None:
    worker, main = _Worker(), _Listener("main")
    main.accepted, main.disturbances, main.empty_records = 3, 1, 2
    worker.listeners(main)
    worker.listeners(main)
    main.accepted = 5
    worker.listeners(main)
    assert worker.value("edge_connections_accepted_total", "main") == 5
    assert worker.value("edge_tls_disturbances_total", "main") == 1
    assert worker.value("edge_tls_empty_records_total", "main") == 2


def test_a_listener_that_follows_another_of_its_name_counts_on() -> None:
    """After a reload the old one lives on with its connections, beside the new one."""
    worker, old, new = _Worker(), _Listener("main"), _Listener("main")
    old.accepted, old.transports = 4, {1, 2}
    worker.listeners(old)
    new.accepted, new.transports = 1, {3}
    worker.listeners(new, old)
    assert worker.value("edge_connections_accepted_total", "main") == 5
    assert worker.value("edge_connections", "main") == 3
    worker.listeners(new)
    assert worker.value("edge_connections", "main") == 1
    worker.listeners()
    assert worker.value("edge_connections", "main") is None
    assert worker.value("edge_connections_accepted_total", "main") == 5


def test_endpoints_are_measured_as_long_as_they_are_there() -> None:
    worker = _Worker()
    a, b = _Place("app", "http://a", connections=4, active=2), _Place("app", "http://b", up=False)
    a.hits, a.misses, b.waiting = 10, 1, 7
    worker.places(a, b)
    a.hits = 12
    worker.places(a, b)
    assert worker.value("edge_upstream_pool_total", "app", "http://a", "hit") == 12
    assert worker.value("edge_upstream_pool_total", "app", "http://a", "miss") == 1
    assert worker.value("edge_upstream_connections", "app", "http://a") == 4
    assert worker.value("edge_upstream_requests_active", "app", "http://a") == 2
    assert worker.value("edge_upstream_requests_waiting", "app", "http://b") == 7
    assert worker.value("edge_upstream_endpoint_up", "app", "http://a") == 1
    assert worker.value("edge_upstream_endpoint_up", "app", "http://b") == 0
    worker.places(b)
    for name in ("connections", "requests_active", "requests_waiting", "endpoint_up"):
        assert worker.value(f"edge_upstream_{name}", "app", "http://a") is None
        assert worker.value(f"edge_upstream_{name}", "app", "http://b") is not None
    worker.places(_Place("app", "http://a", connections=1), b)
    assert worker.value("edge_upstream_connections", "app", "http://a") == 1


def test_lines_dropped_are_counted_over_all_logs_that_there_were() -> None:
    worker = _Worker()
    worker.log = _Log(2)
    worker.places()
    worker.log.dropped = 3
    worker.places()
    worker.log = _Log(10)
    worker.places()
    assert worker.value("edge_log_lines_dropped_total") == 13


def test_lateness_is_never_negative() -> None:
    worker = _Worker()
    worker.meters.late(-0.001)
    worker.meters.late(0.2)
    (sample,) = [sample for sample in worker.table.read() if sample.metric.name == "edge_loop_lag_seconds"]
    assert sample.sum == 0.2
    assert sample.value == 2
