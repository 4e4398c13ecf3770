"""Dialogues over an HTTP/1.1 client and an HTTP/1.1 upstream."""

from __future__ import annotations

import pytest

from edge.errors import Fault, Retry, Side
from edge.policy.phases import PASS, Drop, Pipeline, Verdict, Wait
from edge.policy.phases import Stage as Stage_
from edge.relay.exchange import Exchange
from edge.relay.ports import HIGH
from edge.settings.model import Limits, Redirect, Respond
from tests.builders import endpoint, route, upstream
from tests.relay.stage import Stage

GET = b"GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def test_a_get_is_relayed_and_logged() -> None:
    stage = Stage()
    assert stage.client(GET) == b""
    head = stage.sent()
    assert head.startswith(b"GET /x?y=1 HTTP/1.1\r\nhost: a.test\r\n")
    assert b"x-forwarded-for: 192.0.2.7\r\n" in head and b"via: 1.1 edge\r\n" in head
    answer = stage.upstream(OK)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and body_of(answer) == b"hi"
    [line] = stage.log_lines
    assert (line.status, line.body_out, line.tries, line.fault) == (200, 2, 1, None)


def test_connections_to_client_and_upstream_are_kept() -> None:
    stage = Stage()
    for _ in range(3):
        stage.client(GET)
        assert stage.upstream(OK).endswith(b"hi")
    assert len(stage.lines) == 1
    assert stage.line.alive()


def test_pipelined_requests_wait_for_their_turn() -> None:
    stage = Stage()
    stage.client(GET * 3)
    assert stage.sent().count(b"GET ") == 1
    assert stage.upstream(OK).count(b"HTTP/1.1 200") == 1
    assert stage.sent().count(b"GET ") == 1
    stage.upstream(OK)
    stage.upstream(OK)
    assert len(stage.log_lines) == 3


def test_reading_stops_when_too_much_is_pipelined() -> None:
    stage = Stage()
    stage.client(GET * 2000)
    assert stage.line.paused


def test_a_chunked_upload_is_passed_on_as_it_comes_with_its_trailers() -> None:
    stage = Stage()
    stage.client(b"POST /u HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n")
    head = stage.sent()
    assert b"transfer-encoding: chunked\r\n" in head and head.endswith(b"\r\n\r\n3\r\nabc\r\n")
    stage.client(b"2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert stage.sent().endswith(b"2\r\nde\r\n0\r\nx-sum: 7\r\n\r\n")
    assert stage.upstream(OK).endswith(b"hi")


def test_expect_100_continue_is_answered_when_the_upstream_is_there() -> None:
    stage = Stage()
    stage.hold_dials = True
    request = b"POST /u HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    assert stage.client(request) == b""
    stage.dial_done()
    assert stage.line.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    stage.client(b"abc")
    sent = stage.sent()
    assert sent.endswith(b"\r\n\r\nabc") and b"expect" not in sent


def test_an_announced_body_beyond_the_limit_never_reaches_the_upstream() -> None:
    stage = Stage(route("/", limits=Limits(request_body=10)))
    answer = stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer
    assert stage.lines == [] and stage.line.closed


def test_a_chunked_body_is_cut_where_it_passes_the_limit() -> None:
    stage = Stage(route("/", limits=Limits(request_body=10)))
    answer = stage.client(
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert stage.lines[0].aborted


def test_informational_responses_pass_and_100_does_not() -> None:
    stage = Stage()
    stage.client(GET)
    early = stage.upstream(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert early == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    assert stage.upstream(OK).endswith(b"hi")


def test_head_and_304_have_no_body() -> None:
    stage = Stage()
    stage.client(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    answer = stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert b"content-length: 500\r\n" in answer and body_of(answer) == b""
    stage.client(GET)
    assert body_of(stage.upstream(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')) == b""
    assert len(stage.lines) == 1


@pytest.mark.parametrize(
    "cut",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
)
def test_a_response_that_is_cut_short_breaks_the_connection(cut: bytes) -> None:
    stage = Stage()
    stage.client(GET)
    stage.upstream(cut)
    stage.lines[0].session.on_eof(True)
    stage.settle()
    assert stage.line.aborted
    [line] = stage.log_lines
    assert line.fault is not None and line.fault.side is Side.UPSTREAM


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno size\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_answer_that_breaks_before_any_of_it_has_left_becomes_a_502(broken: bytes, version: bytes) -> None:
    stage = Stage()
    stage.client(GET.replace(b"1.1", version))
    answer = stage.upstream(broken)
    assert answer.startswith(b"HTTP/1.1 502 ") and answer.count(b"x-request-id: id\r\n") == 1 and b"abc" not in answer
    assert stage.line.alive() is (version == b"1.1") and stage.lines[0].aborted
    [line] = stage.log_lines
    assert (line.status, line.body_out) == (502, len(body_of(answer)))
    if stage.line.alive():
        stage.client(GET)
        assert stage.upstream(OK).endswith(b"hi")


def test_only_what_has_not_left_is_taken_back() -> None:
    stage = Stage(route("/fixed", respond=Respond(status=200, body=b"ok")), route("/"))
    stage.session.on_data(GET.replace(b"/x", b"/fixed", 1) + GET)
    assert stage.line.written == b""
    stage.settle()
    answer = stage.line.take() + stage.upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 1 and answer.count(b"HTTP/1.1 502 ") == 1
    stage.client(GET)
    assert stage.upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc").endswith(b"abc\r\n")
    assert stage.upstream(b"no end") == b"" and stage.line.aborted


def test_a_body_until_close_ends_with_the_connection() -> None:
    stage = Stage()
    stage.client(GET)
    stage.upstream(b"HTTP/1.0 200 OK\r\n\r\nabc")
    stage.lines[0].session.on_eof(True)
    stage.settle()
    assert stage.line.take().endswith(b"0\r\n\r\n")
    assert stage.pool == []


def test_bad_framing_from_the_upstream_is_a_502() -> None:
    stage = Stage()
    stage.client(GET)
    answer = stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert stage.lines[0].aborted


def test_a_stale_connection_is_replaced_once() -> None:
    stage = Stage()
    stage.client(GET)
    stage.upstream(OK)
    stage.client(GET)
    stage.lines[0].session.on_eof(True)
    stage.settle()
    assert len(stage.lines) == 2
    assert stage.upstream(OK).endswith(b"hi")
    assert stage.log_lines[-1].tries == 2


@pytest.mark.parametrize(("request_", "again"), [(GET, True), (GET.replace(b"GET", b"POST"), False)])
def test_a_408_for_the_idle_connection_is_no_answer_to_the_request_that_crosses_it(request_: bytes, again: bool) -> None:
    late = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    stage = Stage()
    stage.client(GET)
    stage.upstream(OK)
    stage.client(request_)
    answer = stage.upstream(late)
    if again:
        assert answer == b"" and stage.lines[0].aborted and len(stage.lines) == 2
        assert stage.upstream(late).startswith(b"HTTP/1.1 408 ")  # a new connection was asked nothing else
    else:
        assert answer.startswith(b"HTTP/1.1 408 ") and len(stage.lines) == 1


def test_a_post_that_was_sent_is_never_repeated() -> None:
    stage = Stage()
    stage.client(GET)
    stage.upstream(OK)
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")
    stage.lines[0].session.on_eof(True)
    stage.settle()
    assert len(stage.lines) == 1
    assert stage.line.take().startswith(b"HTTP/1.1 502 ")


def test_another_endpoint_is_tried_when_one_cannot_be_reached() -> None:
    stage = Stage(target=upstream("app", endpoint("http://127.0.0.1:1"), endpoint("http://127.0.0.1:2")))
    stage.refuse_dials = Fault(Side.UPSTREAM, "connect-failed", retry=Retry.YES, status=502)
    stage.client(GET)
    [line] = stage.log_lines
    assert (line.status, line.tries) == (502, 2)
    assert line.fault is not None and line.fault.kind == "connect-failed"


def test_an_early_answer_ends_the_upload() -> None:
    stage = Stage()
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nabc")
    assert stage.upstream(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    assert stage.line.closed and stage.lines[0].closed


def test_a_slow_client_stops_the_upstream() -> None:
    stage = Stage()
    stage.client(GET)
    stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    stage.line.pending = HIGH
    stage.upstream(b"x" * 1000)
    assert stage.lines[0].paused
    stage.line.pending = 0
    stage.session.on_writable()
    assert not stage.lines[0].paused


def test_a_slow_upstream_stops_the_client() -> None:
    stage = Stage()
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9999999\r\n\r\n")
    stage.lines[0].pending = HIGH
    stage.client(b"x" * 200_000)
    stage.client(b"x" * 200_000)
    assert stage.line.paused
    stage.lines[0].pending = 0
    stage.lines[0].session.on_writable()
    assert not stage.line.paused


def test_the_work_of_a_client_that_went_away_is_cancelled() -> None:
    stage = Stage()
    stage.client(GET)
    stage.session.on_lost(Fault(Side.CLIENT, "client-reset"))
    assert stage.lines[0].aborted
    assert stage.log_lines[0].status == 499


def test_a_client_that_only_closed_its_half_gets_an_answer_that_comes_soon() -> None:
    stage = Stage()
    stage.client(GET)
    stage.session.on_eof(True)
    assert stage.upstream(OK).endswith(b"hi")
    assert stage.line.closed


def test_and_is_given_up_later() -> None:
    stage = Stage()
    stage.client(GET)
    stage.session.on_eof(True)
    stage.pass_time(3)
    assert stage.lines[0].aborted and stage.log_lines[0].status == 499


def test_a_websocket_becomes_a_tunnel() -> None:
    stage = Stage()
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    stage.client(
        b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: %b\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n" % key
    )
    assert b"upgrade: websocket" in stage.sent()
    answer = stage.upstream(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nearly"
    )
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"\r\n\r\nearly")
    stage.client(b"\x81\x00")
    assert stage.sent() == b"\x81\x00"
    assert stage.upstream(b"\x81\x01a") == b"\x81\x01a"
    stage.lines[0].session.on_eof(True)
    stage.settle()
    assert stage.line.half_closed and stage.line.alive()
    stage.client(b"\x88\x00")
    assert stage.sent() == b"\x88\x00", "the other direction goes on"
    stage.session.on_eof(True)
    stage.settle()
    assert stage.line.closed and stage.lines[0].closed


def tunnel() -> Stage:
    stage = Stage()
    stage.client(
        b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    stage.upstream(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    stage.sent()
    return stage


def test_a_client_that_closes_its_half_of_a_tunnel_still_hears_the_rest() -> None:
    stage = tunnel()
    stage.client(b"last words")
    stage.session.on_eof(True)
    stage.settle()
    assert stage.sent() == b"last words"
    assert stage.lines[0].half_closed and stage.lines[0].alive()
    assert stage.upstream(b"answer") == b"answer"
    stage.lines[0].session.on_eof(True)
    stage.settle()
    assert stage.line.closed and stage.lines[0].closed
    assert [(each.status, each.body_in, each.body_out, each.fault) for each in stage.log_lines] == [(101, 10, 6, None)]


def test_a_tunnel_that_is_cut_without_close_notify_is_broken_off() -> None:
    stage = tunnel()
    stage.session.on_eof(False)
    stage.settle()
    assert stage.lines[0].aborted
    assert stage.log_lines[0].fault is not None


def test_half_a_tunnel_does_not_outlive_its_quiet() -> None:
    stage = tunnel()
    stage.session.on_eof(True)
    stage.settle()
    stage.pass_time(3700)
    assert stage.line.closed and stage.lines[0].aborted


def test_pipelined_requests_before_a_fin_are_all_answered() -> None:
    stage = Stage()
    stage.client(b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n")
    stage.session.on_eof(True)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    stage.pass_time(1.5)
    assert body_of(stage.upstream(answer + b"1")) == b"1"
    assert stage.line.alive()
    stage.pass_time(1.5)
    assert stage.sent().count(b"GET /") == 2
    assert body_of(stage.upstream(answer + b"2")) == b"2"
    assert stage.line.closed


def test_requests_that_wait_for_room_are_bounded() -> None:
    stage = Stage()
    stage.line.pending = 1 << 20
    for _ in range(200):
        stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\nx: " + b"x" * 1000 + b"\r\n\r\n")
        if stage.line.paused:
            break
    assert stage.line.paused
    assert stage.log_lines == [] and stage.lines == []
    stage.line.pending = 0
    stage.session.on_writable()
    stage.settle()
    assert len(stage.lines) == 1


def test_a_client_that_reads_slowly_is_not_one_that_takes_nothing() -> None:
    stage = Stage()
    stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    stage.line.pending = 200_000
    stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
    for _ in range(10):
        stage.line.pending -= 1000
        stage.pass_time(20)
    assert stage.line.alive()
    stage.pass_time(65)
    assert stage.line.aborted
    assert stage.log_lines[0].fault is not None and stage.log_lines[0].fault.kind == "client-write-timeout"


def test_a_wrong_websocket_accept_is_no_tunnel() -> None:
    stage = Stage()
    stage.client(
        b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = stage.upstream(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: nonsense\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 502 ")


def test_first_byte_timeout_is_a_504() -> None:
    stage = Stage(route("/", first_byte_timeout=5.0))
    stage.client(GET)
    assert stage.pass_time(4.9) == b""
    assert stage.pass_time(0.2).startswith(b"HTTP/1.1 504 ")
    assert stage.log_lines[0].fault.kind == "first-byte-timeout"  # type: ignore[union-attr]


def test_an_answer_that_stops_breaks_the_connection() -> None:
    stage = Stage(route("/", between_bytes_timeout=5.0))
    stage.client(GET)
    stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    stage.pass_time(5.1)
    assert stage.line.aborted


def test_event_streams_outlive_totals_and_gaps() -> None:
    stage = Stage(route("/", timeout=10.0, between_bytes_timeout=5.0))
    stage.client(GET)
    stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    stage.pass_time(600)
    assert stage.upstream(b"data: 1\n\n").endswith(b"data: 1\n\n\r\n")


def test_a_body_that_stops_is_a_408() -> None:
    stage = Stage(route("/", limits=Limits(body_timeout=5.0)))
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
    assert stage.pass_time(5.1).startswith(b"HTTP/1.1 408 ")


def test_a_dribbled_body_is_cut_by_its_rate() -> None:
    stage = Stage(route("/", limits=Limits(body_timeout=5.0, body_min_rate=100.0)))
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10000\r\n\r\n")
    answer = b""
    for _ in range(20):
        stage.client(b"x")
        answer = stage.pass_time(1)
        if answer:
            break
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_unfinished_head_is_a_408() -> None:
    stage = Stage()
    stage.client(b"GET / HTTP/1.1\r\nHo")
    assert stage.pass_time(10.1).startswith(b"HTTP/1.1 408 ")
    assert stage.line.closed


def test_an_idle_connection_is_closed_silently() -> None:
    stage = Stage()
    assert stage.pass_time(61) == b""
    assert stage.line.closed and stage.log_lines == []


def test_fixed_answers_and_redirects_need_no_upstream() -> None:
    stage = Stage(
        route("/ping", respond=Respond(status=200, body=b"ok\n")),
        route("/old/", redirect=Redirect(to="https://b.test{path_and_query}", status=301)),
    )
    assert body_of(stage.client(b"GET /ping HTTP/1.1\r\nHost: a.test\r\n\r\n")) == b"ok\n"
    assert b"location: https://b.test/old/x?q\r\n" in stage.client(b"GET /old/x?q HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert body_of(stage.client(b"HEAD /ping HTTP/1.1\r\nHost: a.test\r\n\r\n")) == b""
    assert stage.lines == []


def test_many_pipelined_requests_leave_the_loop_to_others() -> None:
    stage = Stage(route("/", respond=Respond(status=200, body=b"ok")))
    stage.session.on_data(GET * 100)
    stage.line.flush()
    assert 0 < stage.line.written.count(b"HTTP/1.1 200") < 100
    stage.settle()
    assert stage.line.take().count(b"HTTP/1.1 200") == 100


def test_a_malformed_request_is_answered_and_the_connection_closed() -> None:
    stage = Stage()
    answer = stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n" + GET)
    assert answer.startswith(b"HTTP/1.1 400 ") and stage.line.closed
    assert len(stage.log_lines) == 1 and stage.lines == []


def test_a_refused_request_is_logged_by_its_first_line_and_a_refused_head_gets_no_body() -> None:
    stage = Stage()
    answer = stage.client(b"\r\nHEAD /a?b HTTP/1.1\r\nHost: a.test\r\nBad Name: 1\r\n\r\n" + GET)
    assert answer.startswith(b"HTTP/1.1 400 ") and body_of(answer) == b"" and stage.line.closed
    [line] = stage.log_lines
    assert (line.head.method, line.head.target, line.body_out) == (b"HEAD", b"/a?b", 0)
    for nonsense in (b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", b"\0\r\n\r\n", b"GET /" + b"a" * 20_000):
        stage = Stage()
        assert body_of(stage.client(nonsense))
        assert stage.log_lines[0].head.method == b"-"


def test_a_head_that_never_ends_is_logged_by_its_first_line() -> None:
    stage = Stage()
    stage.client(b"POST /slow HTTP/1.1\r\nHost: a.t")
    assert stage.pass_time(20.0).startswith(b"HTTP/1.1 408 ")
    assert stage.log_lines[0].head.target == b"/slow"


def test_an_http10_request_without_host_is_the_connections() -> None:
    stage = Stage()
    stage.client(b"GET / HTTP/1.0\r\n\r\n")
    assert stage.sent().startswith(b"GET / HTTP/1.1\r\nhost: a.test\r\n")


def test_trailers_forge_nothing() -> None:
    stage = Stage()
    stage.client(
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nX-Sum: 1\r\nX_Forwarded_For: ::1\r\nTrue-Client-IP: ::1\r\nX-Request-Id: forged\r\n\r\n"
    )
    assert stage.sent().endswith(b"\r\n\r\n0\r\nx-sum: 1\r\n\r\n")
    answer = stage.upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 2\r\nX-Request-Id: forged\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n0\r\nx-sum: 2\r\n\r\n")


@pytest.mark.parametrize("body", [b"", b"speak WebSocket\n"])
def test_426_says_what_to_upgrade_to(body: bytes) -> None:
    stage = Stage()
    for _ in range(2):
        stage.client(GET)
        answer = stage.upstream(
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in answer and answer.endswith(b"\r\n\r\n" + body)
    assert stage.line.alive()


def test_draining_closes_after_the_answer() -> None:
    stage = Stage()
    stage.client(GET)
    stage.session.drain()
    assert stage.line.alive()
    assert b"connection: close\r\n" in stage.upstream(OK)
    assert stage.line.closed


def test_a_request_that_disagrees_with_the_connection_is_misdirected() -> None:
    stage = Stage()
    assert stage.client(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").startswith(b"HTTP/1.1 421 ")


def test_a_phase_may_wait_for_an_answer_and_may_drop() -> None:
    stage = Stage(route("/", respond=Respond(status=200, body=b"ok")))
    waiting: list[Exchange] = []

    def ask(exchange: Exchange) -> Verdict:
        if exchange in waiting:
            return PASS
        waiting.append(exchange)
        return Wait()

    stage.front._pipeline = Pipeline([(Stage_.AUTHENTICATION, ask), (Stage_.ANSWER, lambda _: Drop(Fault(Side.CLIENT, "abuse")))])
    assert stage.client(GET) == b"" and stage.line.alive()
    waiting[0].resumed()
    assert stage.line.aborted
    assert stage.log_lines[0].fault.kind == "abuse"  # type: ignore[union-attr]


def test_a_trace_that_may_not_be_passed_on_is_not() -> None:
    stage = Stage()
    assert stage.client(b"OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    assert stage.lines == []
