"""The fixed order of what happens to a request, and the four verdicts.

Each phase looks at a request and returns `PASS`, a `Reply` (answered here, the upstream never sees it), a `Drop` (the
stream or connection breaks without an answer) or a `Wait` (somebody outside has to be asked; the request goes on at the same
phase when the answer is there). A phase may also raise a `Fault`, which becomes an error reply. The first verdict that is not
`PASS` ends the run; the access line is written all the same.

The order is that of `Stage`, whatever the order in which phases are added. Authority comes first, for nothing may be decided
about a request that is not this connection's; the route next, because everything after it may differ by route and finding it
has no effect; then what costs least and refuses most.

The pipeline is compiled at load into one tuple of bound functions. It keeps nothing about a request.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from edge.errors import Fault, Side
from edge.http.message import ConnectionInfo, RequestHead
from edge.policy.authority import Authority
from edge.policy.headers import max_forwards
from edge.policy.reply import Reply
from edge.settings.model import Limits

__all__ = [
    "PASS",
    "Drop",
    "Pass",
    "Pipeline",
    "Reply",
    "Stage",
    "Subject",
    "Verdict",
    "Wait",
    "authority_step",
    "check_size",
    "check_hops",
]


class Pass(enum.Enum):
    """The request goes on. One value, so that comparing is an identity test."""

    PASS = "pass"


PASS = Pass.PASS


class Drop:
    """The stream or connection is broken without an answer; `fault` is for the log."""

    __slots__ = ("fault",)

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class Wait:
    """An answer from outside is needed. The phase has arranged for it; `resume_at` is set by the pipeline."""

    __slots__ = ("resume_at",)

    def __init__(self) -> None:
        self.resume_at = 0  # for `Pipeline.run`


Verdict = Pass | Reply | Drop | Wait


class Stage(enum.IntEnum):
    """The order of the phases."""

    AUTHORITY = 0
    ROUTE = 1
    CLIENT = 2  # what the route demands of the client's certificate
    LIMITS = 3
    WAF = 4
    AUTHENTICATION = 5
    RATE_LIMIT = 6
    VALIDATION = 7
    ANSWER = 8  # redirects and fixed responses; what passes goes to an upstream


_SETTLED = frozenset(
    {Stage.AUTHORITY, Stage.ROUTE, Stage.CLIENT, Stage.LIMITS, Stage.ANSWER}
)  # decide by settings, head and connection alone

S = TypeVar("S")


class Pipeline(Generic[S]):
    """Phases over one kind of subject, in the order of their stages."""

    __slots__ = ("_from", "settled")

    def __init__(self, steps: Iterable[tuple[Stage, Callable[[S], Verdict]]]) -> None:
        steps = sorted(steps, key=lambda entry: entry[0])
        ordered = tuple(step for _, step in steps)
        self._from = tuple(ordered[at:] for at in range(len(ordered) + 1))
        self.settled = all(stage in _SETTLED for stage, _ in steps)  # an equal request gets the verdict of the first one

    def run(self, subject: S, start: int = 0) -> Verdict:
        """The first verdict that is not `PASS`, or `PASS`. `start` is the `resume_at` of an earlier `Wait`. Raises `Fault`."""
        for step in self._from[start]:
            verdict = step(subject)
            if verdict is not PASS:
                if isinstance(verdict, Wait):
                    verdict.resume_at = self._from[0].index(step)
                return verdict
        return PASS


class Subject(Protocol):
    """What the phases of this room need to know of an exchange."""

    head: RequestHead
    conn: ConnectionInfo
    host: str


def authority_step(authority: Authority) -> Callable[[Subject], Verdict]:
    """The first phase: sets the subject's `host`, or raises what `Authority.check` raises."""
    check = authority.check

    def step(subject: Subject) -> Verdict:
        subject.host = check(subject.head, subject.conn)
        return PASS

    return step


def check_hops(head: RequestHead) -> Verdict:
    """Answers an OPTIONS or TRACE request that may not be passed on any more (RFC 9110 section 7.6.2).

    OPTIONS asks what this recipient can do: nothing in particular. TRACE is not reflected: a request's fields hold credentials.
    """
    if max_forwards(head) != 0:
        return PASS
    return Reply(204, []) if head.method == b"OPTIONS" else Reply(405, [(b"allow", b"")])


def check_size(head: RequestHead, limits: Limits) -> None:
    """Refuses a body that is declared to be too long, before the upstream sees anything of it.

    Raises `Fault` ``body-too-large`` with status 413 (RFC 9110 section 15.5.14).
    """
    length = head.content_length
    if length is not None and limits.request_body is not None and length > limits.request_body:
        raise Fault(Side.CLIENT, "body-too-large", detail=f"{length} bytes declared", status=413)
