"""Whether a failed request may be sent once more (RFC 9110 section 9.2.2)."""

from __future__ import annotations

from typing import Any

import pytest

from edge.errors import Fault, H2Code, Retry, Side
from edge.upstream.budget import RetryBudget
from edge.upstream.retry import is_idempotent, may_retry

CONNECT = Fault(Side.UPSTREAM, "connect-refused", retry=Retry.YES, status=502)
STALE = Fault(Side.UPSTREAM, "upstream-closed", retry=Retry.IF_REUSED, status=502)
FINAL = Fault(Side.UPSTREAM, "upstream-bad-response", retry=Retry.NO, status=502)
REFUSED_STREAM = Fault(Side.UPSTREAM, "stream-reset", retry=Retry.YES, status=502, h2_code=H2Code.REFUSED_STREAM)
CLIENT = Fault(Side.CLIENT, "client-gone", retry=Retry.YES)


def asked(fault: Fault, method: bytes = b"GET", **changes: Any) -> bool:
    values: dict[str, Any] = {
        "sent": True,
        "body_gone": False,
        "reused": True,
        "attempts": 1,
        "limit": 2,
        "budget": RetryBudget(0.2),
        "now": 1.0,
    }
    return may_retry(fault, method, **{**values, **changes})


@pytest.mark.parametrize(
    ("fault", "method", "changes", "expected"),
    [
        # not connected: nothing was sent
        (CONNECT, b"GET", {"sent": False, "reused": False}, True),
        (CONNECT, b"POST", {"sent": False, "reused": False}, True),
        (CONNECT, b"POST", {"sent": False, "body_gone": True}, False),
        # a connection from the pool that was closed
        (STALE, b"GET", {}, True),
        (STALE, b"PUT", {}, True),
        (STALE, b"POST", {}, False),
        (STALE, b"PATCH", {}, False),
        (STALE, b"POST", {"sent": False}, True),
        (STALE, b"PUT", {"body_gone": True}, False),
        (STALE, b"GET", {"reused": False}, False),
        (STALE, b"GET", {"reused": False, "sent": False}, False),
        # the upstream says that it did nothing
        (REFUSED_STREAM, b"POST", {"reused": False}, True),
        (REFUSED_STREAM, b"POST", {"body_gone": True}, False),
        # said to be repeatable, but sent
        (CONNECT, b"POST", {}, False),
        (CONNECT, b"DELETE", {}, True),
        # never
        (FINAL, b"GET", {}, False),
        (CLIENT, b"GET", {}, False),
        # tries
        (CONNECT, b"GET", {"attempts": 2}, False),
        (CONNECT, b"GET", {"attempts": 2, "limit": 3}, True),
        (CONNECT, b"GET", {"limit": 1}, False),
    ],
)
def test_the_decision(fault: Fault, method: bytes, changes: dict[str, Any], expected: bool) -> None:
    assert asked(fault, method, **changes) is expected


def test_the_budget_bounds_what_is_allowed_and_pays_for_nothing_else() -> None:
    budget = RetryBudget(0.2)
    assert not any(asked(FINAL, budget=budget) for _ in range(50))
    assert sum(asked(CONNECT, budget=budget) for _ in range(50)) == 10


def test_idempotent_methods() -> None:
    assert all(map(is_idempotent, (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE")))
    assert not any(map(is_idempotent, (b"POST", b"PATCH", b"CONNECT", b"get", b"PURGE")))
