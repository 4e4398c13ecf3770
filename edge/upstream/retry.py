"""Whether a failed request may be sent once more.

A request that the upstream may have acted upon is repeated only when doing it twice is the same as doing it once (RFC 9110
section 9.2.2: a proxy MUST NOT automatically retry non-idempotent requests). What was certainly not processed may always be
repeated: nothing of it was written, or the upstream said so (REFUSED_STREAM, RFC 9113 section 8.7).

A body that streamed through is gone and cannot be sent again. A connection that was used before may have been closed
by the upstream while the request was under way (RFC 9112 section 9.3.1): that is what `Retry.IF_REUSED` means.
The next try after it should open a new connection, for the others in the pool are likely to be as stale.
"""

from __future__ import annotations

from edge.errors import Fault, H2Code, Retry, Side
from edge.upstream.budget import RetryBudget

__all__ = ["is_idempotent", "may_retry"]

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})


def is_idempotent(method: bytes) -> bool:
    """Whether the method is defined as idempotent (RFC 9110 section 9.2.2); unknown methods are not."""
    return method in _IDEMPOTENT


def may_retry(
    fault: Fault,
    method: bytes,
    *,
    sent: bool,
    body_gone: bool,
    reused: bool,
    attempts: int,
    limit: int,
    budget: RetryBudget,
    now: float,
) -> bool:
    """Whether to try again; a True has been taken from the budget.

    `sent`: something of the request was written to the connection. `body_gone`: body bytes were passed on and not kept.
    `reused`: the connection had carried a request before. `attempts`: tries so far; `limit`: tries in all. Nothing of a
    response may have reached the client: the caller sees to that.
    """
    if fault.side is Side.CLIENT or fault.retry is Retry.NO or body_gone or attempts >= limit:
        return False
    if fault.retry is Retry.IF_REUSED and not reused:
        return False
    if sent and method not in _IDEMPOTENT and fault.h2_code is not H2Code.REFUSED_STREAM:
        return False
    return budget.take(now)
