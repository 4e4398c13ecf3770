"""Fields that travel on: what is dropped, replaced and added in both directions."""

from __future__ import annotations

import pytest

from edge.http.message import ConnectionInfo, Fields, ResponseHead
from edge.policy.forwarded import Forwarding
from edge.policy.headers import (
    RouteHeaders,
    compile_headers,
    hsts_value,
    write_reply_fields,
    write_request_fields,
    write_request_trailers,
    write_response_fields,
    write_response_trailers,
)
from edge.policy.reply import Reply
from edge.settings.model import HeaderRules, Hsts, Route
from tests.builders import connection, host, request, route, settings

ID = b"0123456789abcdef"
DATE = b"Sat, 21 Nov 2026 19:00:00 GMT"
FORWARDED = [(b"x-forwarded-for", b"192.0.2.7"), (b"via", b"1.1 edge"), (b"x-request-id", ID)]


def compiled(made: Route) -> RouteHeaders:
    return compile_headers(settings(made))[0][0]


def written(fields: Fields, made: Route | None = None) -> Fields:
    return write_request_fields(request(fields=fields), compiled(made or route()), FORWARDED)


def answered(fields: Fields, made: Route | None = None, conn: ConnectionInfo | None = None, version: int = 11) -> Fields:
    made = made or route(host="example.com")
    head = ResponseHead(200, fields, version=version)
    return write_response_fields(head, compiled(made), conn or connection(), date=DATE, request_id=ID)


# -- requests --------------------------------------------------------------------------------------------------------------


def test_a_request_is_passed_on_in_its_order() -> None:
    fields = [(b"accept", b"*/*"), (b"cookie", b"a=b"), (b"accept", b"text/html")]
    head = request(fields=fields)
    assert write_request_fields(head, compiled(route()), FORWARDED) == fields + FORWARDED
    assert head.fields == fields


@pytest.mark.parametrize(
    "name",
    [
        b"client-cert",
        b"client-cert-chain",
        b"x-real-ip",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"forwarded",
        b"x-request-id",
        b"via",
        b"x-original-url",
        b"true-client-ip",
    ],
)
def test_what_a_client_says_about_itself_is_dropped(name: bytes) -> None:
    assert written([(name, b"forged")]) == FORWARDED


def test_what_a_trusted_proxy_says_arrives_once() -> None:
    forwarding = Forwarding(settings(trusted_proxies=()))
    head = request(fields=[(b"via", b"1.1 cdn"), (b"x-a", b"b")])
    fields = write_request_fields(head, compiled(route()), forwarding.request_fields(head, forwarding.prepare(connection()), ID))
    assert [value for name, value in fields if name == b"via"] == [b"1.1 cdn, 1.1 edge"]


@pytest.mark.parametrize(
    ("method", "value", "sent"),
    [
        (b"OPTIONS", b"10", b"9"),
        (b"TRACE", b"1", b"0"),
        (b"OPTIONS", b"0010", b"9"),
        (b"OPTIONS", b"9" * 5000, b"999999998"),
        (b"GET", b"10", b"10"),
        (b"OPTIONS", b"x", b"x"),
    ],
)
def test_a_hop_is_counted(method: bytes, value: bytes, sent: bytes) -> None:
    head = request(fields=[(b"a", b"b"), (b"max-forwards", value)], method=method)
    assert write_request_fields(head, compiled(route()), []) == [(b"a", b"b"), (b"max-forwards", sent)]


def test_of_several_hops_the_smallest_counts_and_one_is_sent() -> None:
    head = request(fields=[(b"max-forwards", b"7"), (b"a", b"b"), (b"max-forwards", b"3")], method=b"TRACE")
    assert write_request_fields(head, compiled(route()), []) == [(b"a", b"b"), (b"max-forwards", b"2")]


def test_trailers_say_nothing_that_the_head_may_not_say() -> None:
    rules = HeaderRules(set=((b"x-env", b"prod"),), remove=frozenset({b"x-secret"}))
    sum_ = (b"x-sum", b"1")
    mine = (b"x-forwarded-for", b"true-client-ip", b"x-request-id", b"x_real_ip", b"client_cert", b"x-env", b"x-secret")
    told = [sum_, *((name, b"forged") for name in mine)]
    assert write_request_trailers(told, compiled(route(request_headers=rules))) == [sum_]
    told = [sum_, (b"x-env", b"dev"), (b"x-secret", b"1"), (b"x-request-id", b"2"), (b"x_real_ip", b"kept")]
    assert write_response_trailers(told, compiled(route(response_headers=rules))) == [sum_, (b"x_real_ip", b"kept")]


def test_request_rules() -> None:
    rules = HeaderRules(
        set=((b"x-env", b"prod"), (b"x-forwarded-for", b"hidden")), add=((b"x-tag", b"2"),), remove=frozenset({b"cookie", b"via"})
    )
    fields = written([(b"cookie", b"a"), (b"x-env", b"dev"), (b"x-tag", b"1")], route(request_headers=rules))
    assert fields == [
        (b"x-tag", b"1"),
        (b"x-request-id", ID),
        (b"x-env", b"prod"),
        (b"x-forwarded-for", b"hidden"),
        (b"x-tag", b"2"),
    ]


def test_rules_that_only_add() -> None:
    assert written([], route(request_headers=HeaderRules(add=((b"x-tag", b"2"),)))) == [*FORWARDED, (b"x-tag", b"2")]


# -- responses -------------------------------------------------------------------------------------------------------------


def test_a_response_is_passed_on_and_gets_what_it_lacks() -> None:
    assert answered([(b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]) == [
        (b"content-type", b"text/plain"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"date", DATE),
        (b"via", b"1.1 edge"),
        (b"x-request-id", ID),
    ]


def test_the_upstreams_date_and_via_stay() -> None:
    fields = answered([(b"date", b"then"), (b"via", b"1.1 cache"), (b"x-request-id", b"theirs"), (b"date", b"again")], version=20)
    assert fields == [(b"date", b"then"), (b"via", b"1.1 cache, 2.0 edge"), (b"x-request-id", ID)]


def test_response_rules() -> None:
    rules = HeaderRules(
        set=((b"x-content-type-options", b"nosniff"), (b"date", b"never")),
        add=((b"vary", b"accept"),),
        remove=frozenset({b"server", b"via"}),
    )
    fields = answered(
        [(b"server", b"app/1"), (b"via", b"1.1 x"), (b"vary", b"cookie"), (b"x-content-type-options", b"?")],
        route(response_headers=rules),
    )
    assert fields == [
        (b"vary", b"cookie"),
        (b"x-request-id", ID),
        (b"x-content-type-options", b"nosniff"),
        (b"date", b"never"),
        (b"vary", b"accept"),
    ]


def test_response_rules_that_only_add() -> None:
    made = route(host="example.com", response_headers=HeaderRules(add=((b"x-tag", b"2"),)))
    assert answered([(b"x-tag", b"1")], made)[-1] == (b"x-tag", b"2")
    assert hsts(answered([], made)) == []


# -- HSTS ------------------------------------------------------------------------------------------------------------------

HSTS = b"strict-transport-security"
YEAR = Hsts()


def hsts(fields: Fields) -> list[bytes]:
    return [value for name, value in fields if name == HSTS]


def test_hsts_on_tls_only() -> None:
    made = route(host="example.com", hsts=YEAR)
    assert hsts(answered([], made)) == [b"max-age=31536000"]
    assert hsts(answered([], made, connection(secure=False))) == []


def test_an_upstreams_own_value_wins_and_stands_once() -> None:
    made = route(host="example.com", hsts=YEAR)
    assert hsts(answered([(HSTS, b"max-age=0"), (HSTS, b"max-age=1")], made)) == [b"max-age=0"]
    assert hsts(answered([(HSTS, b"max-age=5")], route(host="example.com"))) == [b"max-age=5"]


def test_an_upstreams_value_never_leaves_in_the_clear() -> None:
    assert hsts(answered([(HSTS, b"max-age=5")], conn=connection(secure=False))) == []


def test_a_rule_has_the_last_word_about_hsts() -> None:
    removing = route(host="example.com", hsts=YEAR, response_headers=HeaderRules(remove=frozenset({HSTS})))
    assert hsts(answered([(HSTS, b"max-age=5")], removing)) == []
    setting = route(host="example.com", hsts=YEAR, response_headers=HeaderRules(set=((HSTS, b"max-age=9"),)))
    assert hsts(answered([(HSTS, b"max-age=5")], setting)) == [b"max-age=9"]


def test_a_route_without_a_host_takes_the_connections() -> None:
    made = route(hsts=YEAR)
    assert hsts(answered([], made, connection(host=host("localhost")))) == []
    assert hsts(answered([], made, connection(host=host("a.example.com", hsts=Hsts(max_age=7))))) == [b"max-age=7"]
    assert hsts(answered([], made)) == [b"max-age=31536000"]


def test_hsts_values() -> None:
    assert hsts_value(None) == b""
    assert hsts_value(Hsts(max_age=1, include_subdomains=True, preload=True)) == b"max-age=1; includeSubDomains; preload"


# -- replies ---------------------------------------------------------------------------------------------------------------


def test_a_reply_gets_the_same_treatment_without_via() -> None:
    rules = HeaderRules(set=((b"x-frame-options", b"DENY"),), remove=frozenset({b"cache-control"}))
    reply = Reply(404, [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")], b"")
    made = compiled(route(host="example.com", hsts=YEAR, response_headers=rules))
    assert write_reply_fields(reply, made, connection(), date=DATE, request_id=ID) == [
        (b"content-type", b"text/plain"),
        (b"date", DATE),
        (b"x-request-id", ID),
        (HSTS, b"max-age=31536000"),
        (b"x-frame-options", b"DENY"),
    ]


def test_a_reply_before_any_route_takes_the_connections_hsts() -> None:
    general = compile_headers(settings())[1]
    conn = connection(host=host("a.example.com", hsts=YEAR))
    assert hsts(write_reply_fields(Reply(421, []), general, conn, date=DATE, request_id=ID)) == [b"max-age=31536000"]
    assert hsts(write_reply_fields(Reply(421, []), general, connection(secure=False), date=DATE, request_id=ID)) == []
