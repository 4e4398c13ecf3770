"""What a batch of requests comes to, before it is added to the shared counters.

A counter costs a tenth of a microsecond and a request touches seven, so the journal notes them in plain numbers here, one tally
for a route and one for an endpoint, and adds them once for each batch. A tally hangs on what it is about, so that finding
it is no look-up.
"""

from __future__ import annotations

from edge.observe.counters import Cell, Counters

__all__ = ["EndpointTally", "RouteTally", "status_class"]

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_PROTOCOLS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}


def status_class(status: int) -> str:
    """The class of an HTTP status as labels have it; "none" for 0."""
    return _CLASSES[min(status // 100, 5)]


class RouteTally:
    """The requests of one route. `codes`: how many for each ``version * 1000 + status``."""

    __slots__ = ("_bytes_in", "_bytes_out", "_cells", "_counters", "_name", "_seconds", "bytes_in", "bytes_out", "codes", "times")

    def __init__(self, counters: Counters, name: str) -> None:
        self._counters = counters
        self._name = name
        self._seconds = counters.histogram("edge_request_seconds", name)
        self._bytes_in = counters.counter("edge_request_body_bytes_total", name)
        self._bytes_out = counters.counter("edge_response_body_bytes_total", name)
        self._cells: dict[int, Cell] = {}
        self.codes: dict[int, int] = {}
        self.times: list[float] = []
        self.bytes_in = 0
        self.bytes_out = 0

    def publish(self) -> None:
        """Add what there is to the counters."""
        for code, number in self.codes.items():
            cell = self._cells.get(code)
            if cell is None:
                version, status = divmod(code, 1000)
                cell = self._cells[code] = self._counters.counter(
                    "edge_requests_total", self._name, status_class(status), _PROTOCOLS[version]
                )
            cell.add(number)
        self.codes.clear()
        self._seconds.observe_all(self.times)
        self.times.clear()
        if self.bytes_in:
            self._bytes_in.add(self.bytes_in)
            self.bytes_in = 0
        if self.bytes_out:
            self._bytes_out.add(self.bytes_out)
            self.bytes_out = 0


class EndpointTally:
    """The requests that went to one endpoint of one upstream. `codes`: how many for each status."""

    __slots__ = ("_cells", "_counters", "_endpoint", "_first_bytes", "_retries", "_upstream", "codes", "retries", "times")

    def __init__(self, counters: Counters, upstream: str, endpoint: str) -> None:
        self._counters = counters
        self._upstream = upstream
        self._endpoint = endpoint
        self._first_bytes = counters.histogram("edge_upstream_first_byte_seconds", upstream)
        self._retries = counters.counter("edge_upstream_retries_total", upstream)
        self._cells: dict[int, Cell] = {}
        self.codes: dict[int, int] = {}
        self.times: list[float] = []
        self.retries = 0

    def publish(self) -> None:
        """Add what there is to the counters."""
        for status, number in self.codes.items():
            cell = self._cells.get(status)
            if cell is None:
                cell = self._cells[status] = self._counters.counter(
                    "edge_upstream_requests_total", self._upstream, self._endpoint, status_class(status)
                )
            cell.add(number)
        self.codes.clear()
        self._first_bytes.observe_all(self.times)
        self.times.clear()
        if self.retries:
            self._retries.add(self.retries)
            self.retries = 0
