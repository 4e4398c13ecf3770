"""The order of the phases and what their verdicts do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.errors import Fault, Side
from edge.policy.authority import Authority
from edge.policy.phases import PASS, Drop, Pipeline, Reply, Stage, Verdict, Wait, authority_step, check_hops, check_size
from edge.settings.model import Limits
from tests.builders import connection, fault_of, host, listener, request, settings


class Exchange:
    """A subject that notes which phases saw it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answers: list[str] = []
        self.head = request()
        self.conn = connection(host=None)
        self.host = ""


def noting(name: str, verdict: Verdict = PASS) -> Callable[[Exchange], Verdict]:
    def step(exchange: Exchange) -> Verdict:
        exchange.seen.append(name)
        return verdict

    return step


def test_phases_run_in_the_order_of_their_stages() -> None:
    pipeline = Pipeline(
        [(Stage.ANSWER, noting("answer")), (Stage.AUTHORITY, noting("authority")), (Stage.LIMITS, noting("limits"))]
    )
    exchange = Exchange()
    assert pipeline.run(exchange) is PASS
    assert exchange.seen == ["authority", "limits", "answer"]
    assert sorted(Stage) == list(Stage)


def test_an_empty_pipeline_passes() -> None:
    assert Pipeline[Exchange]([]).run(Exchange()) is PASS


@pytest.mark.parametrize("verdict", [Reply(403, []), Drop(Fault(Side.CLIENT, "abuse"))])
def test_the_first_verdict_ends_the_run(verdict: Verdict) -> None:
    pipeline = Pipeline([(Stage.ROUTE, noting("route")), (Stage.WAF, noting("waf", verdict)), (Stage.ANSWER, noting("answer"))])
    exchange = Exchange()
    assert pipeline.run(exchange) is verdict
    assert exchange.seen == ["route", "waf"]


def test_a_wait_goes_on_at_the_same_phase() -> None:
    def asking(exchange: Exchange) -> Verdict:
        exchange.seen.append("ask")
        return PASS if exchange.answers else Wait()

    pipeline = Pipeline([(Stage.ROUTE, noting("route")), (Stage.AUTHENTICATION, asking), (Stage.ANSWER, noting("answer"))])
    exchange = Exchange()
    verdict = pipeline.run(exchange)
    assert isinstance(verdict, Wait)
    again = pipeline.run(exchange, verdict.resume_at)
    assert isinstance(again, Wait)
    exchange.answers.append("yes")
    assert pipeline.run(exchange, again.resume_at) is PASS
    assert exchange.seen == ["route", "ask", "ask", "ask", "answer"]


def test_the_authority_phase() -> None:
    made = host("example.com")
    step = authority_step(Authority(settings(hosts=(made,)), listener("tls")))
    exchange = Exchange()
    exchange.conn = connection(host=made, sni="example.com")
    assert step(exchange) is PASS
    assert exchange.host == "example.com"
    exchange.head = request(b"other.example.com")
    assert fault_of(step, exchange).status == 421


@pytest.mark.parametrize(
    ("method", "value", "status"),
    [
        (b"OPTIONS", b"0", 204),
        (b"TRACE", b"0", 405),
        (b"TRACE", b"1", None),
        (b"GET", b"0", None),
        (b"OPTIONS", b"-1", None),
        (b"OPTIONS", b"none", None),
    ],
)
def test_a_request_that_may_not_be_passed_on(method: bytes, value: bytes, status: int | None) -> None:
    verdict = check_hops(request(fields=[(b"accept", b"*/*"), (b"max-forwards", value)], method=method))
    assert verdict is PASS if status is None else isinstance(verdict, Reply) and verdict.status == status


def test_a_declared_body_that_is_too_long() -> None:
    limits = Limits(request_body=10)
    for length in (None, 0, 10):
        check_size(request(content_length=length), limits)
    check_size(request(content_length=1 << 60), Limits(request_body=None))
    fault = fault_of(check_size, request(content_length=11), limits)
    assert (fault.kind, fault.status) == ("body-too-large", 413)
