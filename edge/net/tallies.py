"""Requests on their way to the shared counters: the cells of one route, and those of one endpoint.

Each hangs on what it is about, so that finding it is no look-up. The journal counts a batch at a time: requests in a row that
went the same way and came to the same are added together, which costs a third of adding each.
"""

from __future__ import annotations

from edge.observe.counters import Cell, Counters

__all__ = ["EndpointTally", "RouteTally"]

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_PROTOCOLS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}


def _status_class(status: int) -> str:
    """The class of an HTTP status as labels have it; "none" for 0."""
    return _CLASSES[min(status // 100, 5)]


class RouteTally:
    """The requests of one route."""

    __slots__ = ("_bytes_in", "_bytes_out", "_cells", "_counters", "_name", "_seconds")

    def __init__(self, counters: Counters, name: str) -> None:
        self._counters = counters
        self._name = name
        self._seconds = counters.histogram("edge_request_seconds", name)
        self._bytes_in = counters.counter("edge_request_body_bytes_total", name)
        self._bytes_out = counters.counter("edge_response_body_bytes_total", name)
        self._cells: dict[tuple[int, int], Cell] = {}

    def add(self, number: int, version: int, status: int, times: list[float], bytes_in: int, bytes_out: int) -> None:
        """`number` requests of one HTTP version were answered with `status`. `times` in seconds; tunnels have none."""
        cell = self._cells.get((version, status))
        if cell is None:
            labels = _status_class(status), _PROTOCOLS[version]
            cell = self._cells[version, status] = self._counters.counter("edge_requests_total", self._name, *labels)
        cell.add(number)
        self._seconds.observe_all(times)
        if bytes_in:
            self._bytes_in.add(bytes_in)
        if bytes_out:
            self._bytes_out.add(bytes_out)


class EndpointTally:
    """The requests that went to one endpoint of one upstream."""

    __slots__ = ("_cells", "_counters", "_endpoint", "_first_bytes", "_upstream")

    def __init__(self, counters: Counters, upstream: str, endpoint: str) -> None:
        self._counters = counters
        self._upstream = upstream
        self._endpoint = endpoint
        self._first_bytes = counters.histogram("edge_upstream_first_byte_seconds", upstream)
        self._cells: dict[int, Cell] = {}

    def add(self, number: int, status: int, waits: list[float]) -> None:
        """`number` requests came to `status`. `waits`: seconds until the head of an answer, of those that got one."""
        cell = self._cells.get(status)
        if cell is None:
            labels = self._upstream, self._endpoint, _status_class(status)
            cell = self._cells[status] = self._counters.counter("edge_upstream_requests_total", *labels)
        cell.add(number)
        self._first_bytes.observe_all(waits)
