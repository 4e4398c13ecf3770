"""However requests are mixed in a batch, they are counted as if they had come one by one."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault, Side
from edge.net.journal import Journal
from edge.observe.access import AccessRecord
from edge.observe.counters import Table

ROUTES: list[Any] = [None, "a.test/", "b.test/x"]
ENDPOINTS: list[Any] = [None, ("app", "http://1"), ("app", "http://2")]
PROTOCOLS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}

exchanges = st.fixed_dictionaries(
    {
        "route": st.sampled_from(range(3)),
        "endpoint": st.sampled_from(range(3)),
        "status": st.sampled_from([0, 101, 200, 204, 404, 499, 502]),
        "version": st.sampled_from([10, 11, 20]),
        "protocol": st.sampled_from([b"", b"", b"websocket"]),
        "seconds": st.floats(0, 70),
        "first": st.sampled_from([0.0, 0.25]),
        "body_in": st.integers(0, 1000),
        "body_out": st.integers(0, 1000),
        "tries": st.integers(1, 3),
        "fault": st.sampled_from([None, "stream-reset", "connect-failed"]),
    }
)


def exchange(one: dict[str, Any], plans: list[Any], states: list[Any]) -> Any:
    state = states[one["endpoint"]]
    upstream = ENDPOINTS[one["endpoint"]][0] if state is not None else ""
    return SimpleNamespace(
        head=SimpleNamespace(
            version=one["version"], protocol=one["protocol"], method=b"GET", authority=b"a.test", target=b"/", fields=[]
        ),
        conn=SimpleNamespace(record=AccessRecord(), prepared=None),
        request_id=b"",
        status=one["status"],
        plan=plans[one["route"]],
        endpoint=state,
        forward=SimpleNamespace(terms=SimpleNamespace(target=SimpleNamespace(name=upstream))),
        started=100.0,
        decided_at=100.0,
        ended_at=100.0 + one["seconds"],
        connected_at=100.0 if one["first"] else 0.0,
        first_byte_at=100.0 + one["first"] if one["first"] else 0.0,
        body_in=one["body_in"],
        body_out=one["body_out"],
        tries=one["tries"],
        fault=Fault(Side.CLIENT, one["fault"]) if one["fault"] else None,
    )


@given(st.lists(exchanges, min_size=1, max_size=80))
def test_a_batch_is_counted_as_its_requests_one_by_one(mixed: list[dict[str, Any]]) -> None:
    table = Table.create(1)
    lines: list[AccessRecord] = []
    hub: Any = SimpleNamespace(now=100.0, posix_offset=lambda: 0.0)
    log: Any = SimpleNamespace(access=lines.append)
    journal = Journal(hub, log, table.part(1))
    plans = [SimpleNamespace(name=name, tally=None) if name is not None else None for name in ROUTES]
    states = [SimpleNamespace(endpoint=SimpleNamespace(url=pair[1]), tally=None) if pair else None for pair in ENDPOINTS]
    for one in mixed:
        hub.now = 100.0 + one["seconds"]
        journal.exchange(exchange(one, plans, states))
    journal.flush()
    assert len(lines) == len(mixed)

    expected: Counter[tuple[str, ...]] = Counter()
    seconds: Counter[str] = Counter()
    for one in mixed:
        route, endpoint = ROUTES[one["route"]] or "", ENDPOINTS[one["endpoint"]]
        status = f"{one['status'] // 100}xx" if one["status"] else "none"
        expected["edge_requests_total", route, status, PROTOCOLS[one["version"]]] += 1
        expected["edge_request_body_bytes_total", route] += one["body_in"]
        expected["edge_response_body_bytes_total", route] += one["body_out"]
        if not one["protocol"]:
            expected["edge_request_seconds", route] += 1
            seconds[route] += one["seconds"]
        if endpoint:
            expected["edge_upstream_requests_total", *endpoint, status] += 1
            expected["edge_upstream_first_byte_seconds", endpoint[0]] += bool(one["first"])
        if one["fault"]:
            expected["edge_faults_total", one["fault"], "client"] += 1
    found = {(sample.metric.name, *sample.labels): sample for sample in table.read()}
    assert {key: sample.value for key, sample in found.items() if sample.value} == {
        key: value for key, value in expected.items() if value
    }
    for route, total in seconds.items():
        assert found["edge_request_seconds", route].sum == pytest.approx(total)
