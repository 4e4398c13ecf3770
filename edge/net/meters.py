"""What is not counted as it happens but looked at: how many there are, how late the loop is, what it has cost.

Numbers that the data path keeps anyway are added to the shared counters from here, by the difference to the last time. What
concerns listeners is looked at ten times a second, the rest once.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from edge.tls.staples import PROCESS

if TYPE_CHECKING:
    from edge.net.endpoint import Place
    from edge.net.listener import ListenerState
    from edge.observe.counters import Cell, Counters, Gauge
    from edge.observe.log import Log

__all__ = ["Meters"]


class _Growth:
    """A number that only grows, and the counter that follows it."""

    __slots__ = ("_cell", "_last")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._last = 0.0

    def follow(self, now: float) -> None:
        if now != self._last:
            self._cell.add(now - self._last)
            self._last = now


class _ListenerMeter:
    """What one listener has grown by."""

    __slots__ = ("_accepted", "_disturbances", "_empty_records")

    def __init__(self, counters: Counters, name: str) -> None:
        self._accepted = _Growth(counters.counter("edge_connections_accepted_total", name))
        self._disturbances = _Growth(counters.counter("edge_tls_disturbances_total", name))
        self._empty_records = _Growth(counters.counter("edge_tls_empty_records_total", name))

    def follow(self, listener: ListenerState) -> None:
        self._accepted.follow(listener.accepted)
        self._disturbances.follow(listener.disturbances)
        self._empty_records.follow(listener.empty_records)


class _PlaceMeter:
    """What one endpoint has grown by."""

    __slots__ = ("_hits", "_misses")

    def __init__(self, counters: Counters, upstream: str, endpoint: str) -> None:
        self._hits = _Growth(counters.counter("edge_upstream_pool_total", upstream, endpoint, "hit"))
        self._misses = _Growth(counters.counter("edge_upstream_pool_total", upstream, endpoint, "miss"))
        counters.counter("edge_upstream_retries_total", upstream)  # 0, before there is one

    def follow(self, place: Place) -> None:
        self._hits.follow(place.hits)
        self._misses.follow(place.misses)


class _Levels:
    """Gauges of one kind, by labels. What several objects of the same labels measure is summed; what is measured no more is
    unset.
    """

    __slots__ = ("_counters", "_gauges", "_name", "_now")

    def __init__(self, counters: Counters, name: str) -> None:
        self._counters = counters
        self._name = name
        self._gauges: dict[tuple[str, ...], Gauge] = {}
        self._now: dict[tuple[str, ...], float] = {}

    def add(self, value: float, *labels: str) -> None:
        self._now[labels] = self._now.get(labels, 0.0) + value

    def set(self) -> None:
        """Write down what was added since the last time."""
        now, self._now = self._now, {}
        for labels in self._gauges.keys() - now.keys():
            self._gauges.pop(labels).clear()
        for labels, value in now.items():
            gauge = self._gauges.get(labels)
            if gauge is None:
                gauge = self._gauges[labels] = self._counters.gauge(self._name, *labels)
            gauge.set(value)


class Meters:
    """The meters of one worker. It is handed what there is at present: listeners and endpoints may come and go."""

    __slots__ = ("_connections", "_counters", "_cpu", "_dropped", "_lag", "_listeners", "_places", "_stapled", "_upstreams")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lag = counters.histogram("edge_loop_lag_seconds")
        self._cpu = _Growth(counters.counter("edge_worker_cpu_seconds_total", counters.index))
        self._stapled = _Growth(counters.counter("edge_handshakes_stapled_total"))
        self._dropped: dict[Log, _Growth] = {}
        self._listeners: dict[ListenerState, _ListenerMeter] = {}
        self._places: dict[Place, _PlaceMeter] = {}
        self._connections = _Levels(counters, "edge_connections")
        self._upstreams = tuple(
            _Levels(counters, f"edge_upstream_{what}")
            for what in ("connections", "requests_active", "requests_waiting", "endpoint_up")
        )

    def late(self, seconds: float) -> None:
        """A timer of the loop came so much later than it was due."""
        self._lag.observe(max(0.0, seconds))

    def look_at_listeners(self, listeners: Collection[ListenerState]) -> None:
        meters = self._listeners
        for listener in listeners:
            name = listener.listener.name
            meter = meters.get(listener)
            if meter is None:
                meter = meters[listener] = _ListenerMeter(self._counters, name)
            meter.follow(listener)
            self._connections.add(len(listener.transports), name)
        self._connections.set()
        if len(meters) > len(listeners):
            self._listeners = {listener: meters[listener] for listener in listeners}

    def look(self, places: Collection[Place], log: Log, now: float) -> None:
        """`now`: the loop's clock."""
        self._cpu.follow(time.process_time())
        self._stapled.follow(PROCESS.sent)
        self._follow_log(log)
        connections, active, waiting, up = self._upstreams
        meters = self._places
        for place in places:
            state = place.state
            labels = place.upstream.name, state.endpoint.url
            meter = meters.get(place)
            if meter is None:
                meter = meters[place] = _PlaceMeter(self._counters, *labels)
            meter.follow(place)
            connections.add(place.pool.total(state.key), *labels)
            active.add(state.active, *labels)
            waiting.add(place.waiting, *labels)
            up.add(state.is_available(now), *labels)
        for levels in self._upstreams:
            levels.set()
        if len(meters) > len(places):
            self._places = {place: meters[place] for place in places}

    def _follow_log(self, log: Log) -> None:
        growth = self._dropped.get(log)
        if growth is None:
            self._dropped = {log: (growth := _Growth(self._counters.counter("edge_log_lines_dropped_total")))}
        growth.follow(log.dropped)
