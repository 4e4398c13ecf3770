"""What a worker tells: handshakes that failed, counted and bounded whatever strangers send; endpoints with their state."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.net.tell import MOST, Failures, gather, tell
from edge.observe.access import HandshakeFailure
from edge.upstream.balance import EndpointState
from edge.upstream.identity import key_for
from edge.upstream.pool import Pool
from tests.builders import endpoint, upstream


def failure(
    time: float, kind: str = "unknown-sni", sni: str | None = "a.example", peer: str = "192.0.2.1", detail: str = ""
) -> Any:
    record = HandshakeFailure()
    record.time, record.kind, record.sni, record.peer, record.detail = time, kind, sni, peer, detail
    record.blame, record.stage, record.listener = "client", "choose", "https"
    return record


def test_equal_failures_are_one_entry_with_a_count() -> None:
    failures = Failures()
    for time in (1.0, 2.0, 5.0):
        failures.add(failure(time, detail=f"at {time}"))
    failures.add(failure(3.0, sni=None, kind="no-sni"))
    failures.add(failure(6.0))
    told = failures.told()
    assert told["total"] == 5
    first, second = told["failures"]
    assert (first["sni"], first["count"], first["first"], first["last"]) == ("a.example", 4, 1.0, 6.0)
    assert (second["kind"], second["sni"]) == ("no-sni", None)


def test_strangers_push_out_the_oldest_and_nothing_grows() -> None:
    failures = Failures()
    for number in range(3 * MOST):
        failures.add(failure(float(number), peer=f"192.0.2.{number % 256}", sni=f"{number}." + "x" * 400))
    told = failures.told()
    assert told["failures"][0]["last"] == 3 * MOST - 1
    assert len(told["failures"]) + told["left_out"] == MOST
    assert len(json.dumps(told)) < 60 * 1024


@pytest.mark.parametrize("letter", ['"', "\\", "é", "\x00", "€", "\U0001f600"])
def test_an_answer_fits_a_message_whatever_the_names_hold(letter: str) -> None:
    failures = Failures()
    for number in range(MOST):
        failures.add(failure(float(number), sni=f"{number}" + letter * 253, detail=letter * 1000))
    told = failures.told()
    assert told["failures"]
    assert len(json.dumps(told, ensure_ascii=False).encode()) < 60 * 1024
    assert "\x00" not in str(told)


def test_workers_are_put_together() -> None:
    one, two = Failures(), Failures()
    one.add(failure(1.0, detail="old"))
    two.add(failure(4.0, detail="new"))
    two.add(failure(2.0, kind="no-sni", sni=None))
    told = gather("failures", [one.told(), two.told()])
    assert told["total"] == 3
    assert [(entry["kind"], entry["count"], entry["detail"]) for entry in told["failures"]] == [
        ("unknown-sni", 2, "new"),
        ("no-sni", 1, ""),
    ]
    assert gather("failures", []) == {"total": 0, "failures": [], "left_out": 0}


def place(url: str, *, healthy: bool = True, ejected_until: float = 0.0, failures: int = 0, trouble: str = "") -> Any:
    of = upstream()
    state = EndpointState(endpoint(url), key_for(endpoint(url), of))
    state.healthy, state.ejected_until, state.failures = healthy, ejected_until, failures
    pool: Pool[object] = Pool()
    idle = object()
    pool.begin(state.key)
    pool.opened(state.key, idle)
    pool.give(state.key, idle, 0.0)
    pool.begin(state.key)
    return SimpleNamespace(state=state, upstream=of, pool=pool, trouble=trouble, waiting=2)


def server(*places: Any) -> Any:
    return cast("Any", SimpleNamespace(hub=SimpleNamespace(now=100.0), places=lambda: list(places)))


def test_endpoints_with_their_state() -> None:
    down = place("http://b:80", ejected_until=112.34, failures=4, trouble="connect-failed (Connection refused)")
    told = tell(server(place("http://a:80", trouble="long ago"), down), "upstreams")
    first, second = told["endpoints"]
    assert (first["endpoint"], first["ejected_for"], first["trouble"]) == (
        "http://b:80",
        12.3,
        "connect-failed (Connection refused)",
    )
    assert (second["connections"], second["idle"], second["waiting"], second["trouble"]) == (2, 1, 2, "")
    well = tell(server(place("http://a:80"), place("http://b:80")), "upstreams")
    both = gather("upstreams", [told, well])["endpoints"]
    assert [(one["endpoint"], one["workers"], one["unwell_in"], one["connections"]) for one in both] == [
        ("http://a:80", 2, 0, 4),
        ("http://b:80", 2, 1, 4),
    ]
    assert both[1]["trouble"] == "connect-failed (Connection refused)"


def test_what_nobody_knows() -> None:
    with pytest.raises(KeyError):
        tell(server(), "secrets")
    with pytest.raises(KeyError):
        gather("secrets", [])
