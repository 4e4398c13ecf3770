"""Dialogues over HTTP/2: on the client's side, on the upstream's, on both. The other end is the h2 library."""

from __future__ import annotations

import gc

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from edge.errors import Fault, Side
from edge.relay.client_h2 import H2ClientStream
from edge.relay.exchange import Exchange
from edge.relay.ports import HIGH
from edge.relay.websocket import accept_for
from edge.settings.model import Limits
from tests.builders import route
from tests.relay.h2_peer import HEAD, OK, POST, Peer, client_of, exchange, push, server_of
from tests.relay.stage import Stage


def test_streams_of_one_connection_use_upstream_connections_of_their_own() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    for sid in (1, 3, 5):
        peer.h2.send_headers(sid, HEAD, end_stream=True)
    exchange(stage, peer)
    assert len(stage.lines) == 3
    for at in (2, 0, 1):
        peer.take(stage.upstream(OK, at))
    assert [peer.body(sid) for sid in (1, 3, 5)] == [b"hi"] * 3
    assert len(peer.of(h2.events.StreamEnded)) == 3 and len(stage.log_lines) == 3


def test_a_reset_stream_cancels_its_upstream_and_no_other() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    peer.h2.send_headers(3, HEAD, end_stream=True)
    exchange(stage, peer)
    peer.h2.reset_stream(1, 8)
    exchange(stage, peer)
    assert stage.lines[0].aborted and not stage.lines[1].aborted
    peer.take(stage.upstream(OK, 1))
    assert peer.body(3) == b"hi"
    assert [line.status for line in stage.log_lines] == [499, 200]


def test_a_cut_response_resets_its_stream() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    exchange(stage, peer)
    peer.take(stage.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))
    stage.lines[0].session.on_eof(True)
    stage.settle()
    peer.take(stage.line.take())
    assert peer.of(h2.events.StreamReset) and not peer.of(h2.events.StreamEnded)
    assert stage.line.alive()


def test_upload_windows_are_given_back_only_as_the_upstream_takes_the_bytes() -> None:
    stage = Stage(route("/", limits=Limits(request_body=None)), http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, POST)
    exchange(stage, peer)
    stage.lines[0].pending = 10**9
    sent = 0
    while (room := min(peer.h2.local_flow_control_window(1), 16_384)) > 0:
        peer.h2.send_data(1, b"x" * room)
        sent += room
        exchange(stage, peer)
    assert sent <= 1 << 20
    stage.lines[0].pending = 0
    stage.lines[0].session.on_writable()
    stage.settle()
    peer.take(stage.line.take())
    assert peer.h2.local_flow_control_window(1) > 0


def test_a_body_beyond_the_limit_is_answered_413() -> None:
    stage = Stage(route("/", limits=Limits(request_body=10)), http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, POST)
    peer.h2.send_data(1, b"x" * 11)
    exchange(stage, peer)
    [head] = peer.of(h2.events.ResponseReceived)
    assert dict(head.headers)[b":status"] == b"413"
    assert stage.line.alive()


def test_a_malformed_request_does_not_harm_the_others() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.config.validate_outbound_headers = False
    peer.h2.config.normalize_outbound_headers = False
    peer.h2.send_headers(1, HEAD, end_stream=True)
    peer.h2.send_headers(3, [*HEAD, ("Upper", "x")], end_stream=True)
    exchange(stage, peer)
    [reset] = peer.of(h2.events.StreamReset)
    assert reset.stream_id == 3
    peer.take(stage.upstream(OK, 0))
    assert peer.body(1) == b"hi"


def test_a_misdirected_request_is_answered_421_on_its_stream() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, [*HEAD[:2], (":authority", "other.test"), HEAD[3]], end_stream=True)
    exchange(stage, peer)
    assert dict(peer.of(h2.events.ResponseReceived)[0].headers)[b":status"] == b"421"


def test_a_connection_error_says_goaway_and_cancels_everything() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    exchange(stage, peer)
    peer.take(stage.client(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
    assert peer.of(h2.events.ConnectionTerminated)
    assert stage.line.closed and stage.lines[0].aborted and stage.refused


def test_extended_connect_becomes_an_upgrade() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    head = [(":method", "CONNECT"), (":protocol", "websocket"), *HEAD[1:], ("sec-websocket-version", "13")]
    peer.h2.send_headers(1, head)
    exchange(stage, peer)
    asked = stage.sent()
    assert asked.startswith(b"GET /x HTTP/1.1\r\n") and b"upgrade: websocket\r\n" in asked
    key = next(line.split(b": ")[1] for line in asked.split(b"\r\n") if line.startswith(b"sec-websocket-key"))
    answer = b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept_for(key)
    peer.take(stage.upstream(answer + b"\x81\x01a"))
    head_got = dict(peer.of(h2.events.ResponseReceived)[0].headers)
    assert head_got[b":status"] == b"200" and b"sec-websocket-accept" not in head_got
    assert peer.body(1) == b"\x81\x01a"
    peer.h2.send_data(1, b"\x81\x01b")
    exchange(stage, peer)
    assert stage.sent() == b"\x81\x01b"
    stage.lines[0].session.on_eof(True)
    stage.settle()
    peer.take(stage.line.take())
    assert peer.of(h2.events.StreamEnded)


def test_a_refused_upgrade_never_looks_like_a_tunnel() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), *HEAD[1:]])
    exchange(stage, peer)
    peer.take(stage.upstream(OK))
    assert dict(peer.of(h2.events.ResponseReceived)[0].headers)[b":status"] == b"502"


# --- HTTP/2 to the upstream ---


def test_http1_requests_become_streams_of_one_upstream_connection() -> None:
    stage = Stage(upstream_http2=True)
    stage.client(b"POST /u HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc")
    server = server_of(stage)
    [request] = server.of(h2.events.RequestReceived)
    fields = dict(request.headers)
    assert fields[b":path"] == b"/u" and fields[b":authority"] == b"a.test" and fields[b"content-length"] == b"3"
    assert server.body(1) == b"abc"
    server.h2.send_headers(1, [(":status", "200")])
    server.h2.send_data(1, b"hi")
    server.h2.send_headers(1, [("x-sum", "7")], end_stream=True)
    answer = push(stage, server)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")
    stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert len(stage.lines) == 1


def test_a_stream_that_the_upstream_refused_is_tried_again() -> None:
    stage = Stage(upstream_http2=True)
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")
    server = server_of(stage)
    server.h2.reset_stream(1, 7)
    push(stage, server)
    assert stage.log_lines == [] and len(server.of(h2.events.RequestReceived)) == 2


def test_streams_above_the_last_of_a_goaway_fail_for_another_try() -> None:
    stage = Stage(upstream_http2=True)
    stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    server = server_of(stage)
    server.h2.close_connection(last_stream_id=0)
    push(stage, server)
    assert len(stage.lines) == 2


def test_a_dead_upstream_connection_breaks_what_had_begun() -> None:
    stage = Stage(upstream_http2=True)
    stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    server = server_of(stage)
    server.h2.send_headers(1, [(":status", "200")])
    server.h2.send_data(1, b"abc")
    push(stage, server)
    stage.lines[0].session.on_lost(Fault(Side.UPSTREAM, "upstream-reset"))
    stage.settle()
    assert stage.line.aborted


def test_grpc_trailers_travel_over_both_sides() -> None:
    stage = Stage(http2=True, upstream_http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, [*POST, ("content-type", "application/grpc"), ("te", "trailers")])
    peer.h2.send_data(1, b"\0\0\0\0\x01a")
    exchange(stage, peer)
    server = server_of(stage)
    assert (b"te", b"trailers") in server.of(h2.events.RequestReceived)[0].headers
    server.h2.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    server.h2.send_data(1, b"\0\0\0\0\x01b")
    peer.take(push(stage, server))
    stage.pass_time(600)  # a quiet stream is a stream
    peer.h2.send_data(1, b"\0\0\0\0\x01c", end_stream=True)
    exchange(stage, peer)
    server.take(stage.sent(0))
    server.h2.send_headers(1, [("grpc-status", "0")], end_stream=True)
    peer.take(push(stage, server))
    [trailers] = peer.of(h2.events.TrailersReceived)
    assert dict(trailers.headers) == {b"grpc-status": b"0"}
    assert stage.log_lines[0].fault is None


def test_an_http1_websocket_becomes_extended_connect() -> None:
    stage = Stage(upstream_http2=True)
    stage.client(b"GET /warm HTTP/1.1\r\nHost: a.test\r\n\r\n")
    server = server_of(stage)
    server.h2.send_headers(1, [(":status", "204")], end_stream=True)
    assert push(stage, server).startswith(b"HTTP/1.1 204 ")
    stage.client(
        b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    server.take(stage.sent(0))
    request = dict(server.of(h2.events.RequestReceived)[1].headers)
    assert request[b":method"] == b"CONNECT" and request[b":protocol"] == b"websocket" and b"sec-websocket-key" not in request
    server.h2.send_headers(3, [(":status", "200")])
    answer = push(stage, server)
    assert answer.startswith(b"HTTP/1.1 101 ") and b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    stage.client(b"\x81\x00")
    server.take(stage.sent(0))
    assert server.body(3) == b"\x81\x00"


WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_an_upstream_that_allows_no_extended_connect_serves_others_afterwards() -> None:
    stage = Stage(upstream_http2=True)
    assert stage.client(WEBSOCKET).startswith(b"HTTP/1.1 502 ")
    assert stage.connections[0] in stage.pool and not stage.connections[0].streams
    assert [str(line.fault) for line in stage.log_lines] == [
        "edge: h2-cannot-open (the upstream does not allow extended CONNECT)"
    ]


def test_a_connection_that_was_silent_until_its_stream_was_given_up_gets_no_more() -> None:
    stage = Stage(http2=True, upstream_http2=True)
    peer = client_of(stage)
    for sid, seconds, dialled in ((1, 1, 1), (3, 9, 1), (5, 0, 2)):
        peer.h2.send_headers(sid, HEAD, end_stream=True)
        exchange(stage, peer)
        assert len(stage.lines) == dialled
        stage.pass_time(seconds)
        peer.h2.reset_stream(sid)
        exchange(stage, peer)
    assert stage.lines[0].closed and not stage.lines[1].closed


def test_requests_that_were_read_wait_while_the_client_does_not_take_its_answers() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    stage.client(peer.h2.data_to_send())
    requests = []
    for sid in range(1, 201, 2):
        peer.h2.send_headers(sid, [*HEAD[:2], (":authority", "b.test"), (":path", "/")], end_stream=True)
        requests.append(peer.h2.data_to_send())
    stage.line.pending = HIGH
    more = b"\0\0\4\x08\0\0\0\0\0\0\0\0\1" * 600  # WINDOW_UPDATEs: more than one turn acts on
    stage.client(b"".join(requests[:90]) + more + b"".join(requests[90:]))
    assert len(stage.log_lines) == 90 and stage.line.paused
    stage.line.pending = 0
    stage.session.on_writable()
    stage.settle()
    assert len(stage.log_lines) == 100 and not stage.line.paused


def test_a_body_that_comes_before_the_upstream_is_there_waits_for_it() -> None:
    stage = Stage(http2=True)
    stage.hold_dials = True
    peer = client_of(stage)
    peer.h2.send_headers(1, POST)
    peer.h2.send_data(1, b"abc")
    exchange(stage, peer)
    peer.h2.send_data(1, b"de", end_stream=True)
    exchange(stage, peer)
    stage.dial_done()
    assert stage.sent().endswith(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    peer.take(stage.upstream(OK))
    assert peer.body(1) == b"hi"


def test_a_client_that_never_acknowledges_our_settings_is_left() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.clear_outbound_data_buffer()  # the acknowledgement is lost
    stage.client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
    assert stage.line.alive()
    peer.take(stage.pass_time(11))
    assert stage.line.closed
    assert [fault.kind for fault in stage.refused] == ["h2-settings-timeout"]
    assert [event.error_code for event in peer.of(h2.events.ConnectionTerminated)] == [4]


def test_what_a_client_does_not_take_is_dropped_whatever_its_other_streams_do() -> None:
    stage = Stage(http2=True)
    peer = Peer(client=True, settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    peer.take(stage.line.take())
    peer.h2.send_headers(1, HEAD, end_stream=True)
    exchange(stage, peer)
    peer.take(stage.upstream(OK))  # the client takes none of it; the exchange is over
    assert len(stage.log_lines) == 1 and stage.session.codec.open_streams == 1
    for sid in range(3, 23, 2):
        peer.h2.send_headers(sid, HEAD, end_stream=True)
        exchange(stage, peer)
        peer.h2.increment_flow_control_window(10, sid)
        exchange(stage, peer)
        peer.take(stage.upstream(OK))
        exchange(stage, peer)
        assert peer.body(sid) == b"hi"
        peer.take(stage.pass_time(4))
        exchange(stage, peer)
    assert [event.stream_id for event in peer.of(h2.events.StreamReset)] == [1]
    assert stage.session.codec.open_streams == 0 and not stage.line.closed


def h2_tunnel() -> tuple[Stage, Peer]:
    """An HTTP/1.1 client in a tunnel over an HTTP/2 upstream."""
    stage = Stage(upstream_http2=True)
    peer = Peer(client=False, settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    stage.client(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    peer.take(stage.sent())
    push(stage, peer)
    peer.h2.send_headers(1, [(":status", "204")], end_stream=True)
    push(stage, peer)
    stage.client(
        b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    peer.take(stage.sent())
    peer.h2.send_headers(3, [(":status", "200")])
    assert push(stage, peer).startswith(b"HTTP/1.1 101 ")
    return stage, peer


def test_a_connection_that_breaks_while_it_takes_nothing_cancels_everything() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    stage.line.pending = HIGH
    stage.client(peer.h2.data_to_send() + b"\0\0\0\x06\0\0\0\0\1")
    assert stage.line.closed and [line.status for line in stage.log_lines] == [499]


def test_either_half_of_a_tunnel_over_http2_ends_by_itself() -> None:
    stage, peer = h2_tunnel()
    stage.session.on_eof(True)
    stage.settle()
    peer.take(stage.sent())
    assert [event.stream_id for event in peer.of(h2.events.StreamEnded)] == [1, 3]
    peer.h2.send_data(3, b"rest")
    assert push(stage, peer) == b"rest"
    peer.h2.end_stream(3)
    push(stage, peer)
    assert stage.line.closed and stage.connections[0].codec.open_streams == 0

    stage, peer = h2_tunnel()
    peer.h2.end_stream(3)
    push(stage, peer)
    assert stage.line.half_closed and stage.line.alive()
    stage.client(b"more")
    peer.take(stage.sent())
    assert peer.body(3) == b"more"
    stage.session.on_eof(True)
    stage.settle()
    assert stage.line.closed and stage.connections[0].codec.open_streams == 0 and not stage.connections[0].streams


def test_a_finished_exchange_leaves_no_cycle_behind() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    gc.collect()
    before = left()
    gc.disable()
    try:
        for sid in (1, 3):
            peer.h2.send_headers(sid, HEAD, end_stream=True)
            exchange(stage, peer)
            peer.take(stage.upstream(OK))
        stage.log_lines.clear()
        assert left() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("http2", [False, True])
def test_a_refused_exchange_leaves_no_cycle_behind(http2: bool) -> None:
    stage = Stage(http2=http2)
    peer = client_of(stage) if http2 else None
    gc.collect()
    before = left()
    gc.disable()
    try:
        for sid, (authority, path) in enumerate([("b.test", "/"), ("a.test", "/../x"), ("a.test", "/%00")]):
            if peer is None:
                stage.client(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            else:
                peer.h2.send_headers(2 * sid + 1, [*HEAD[:2], (":authority", authority), (":path", path)], end_stream=True)
                exchange(stage, peer)
        assert [line.status for line in stage.log_lines] == [421, 400, 400]
        stage.log_lines.clear()
        assert left() == before
    finally:
        gc.enable()


def left() -> int:
    """How many exchanges and their ports exist."""
    return sum(isinstance(each, Exchange | H2ClientStream) for each in gc.get_objects())


def test_a_field_block_that_does_not_end_has_the_time_of_a_head() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    exchange(stage, peer)
    stage.client(b"\0\0\1\1\0\0\0\0\3\x82")  # HEADERS without END_HEADERS
    stage.pass_time(6)
    stage.client(b"\0\0\0\x09\0\0\0\0\3")  # CONTINUATION
    assert stage.line.alive()
    peer.take(stage.pass_time(5))
    assert stage.line.closed and stage.lines[0].aborted
    assert [fault.kind for fault in stage.refused] == ["header-timeout"]


def test_an_answer_before_the_end_of_the_request_closes_http1() -> None:
    stage = Stage()
    stage.client(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc")
    assert b"\r\nconnection: close\r\n" in stage.upstream(OK)
    assert stage.line.closed


def test_a_request_that_cannot_be_read_has_an_id_too() -> None:
    stage = Stage()
    answer = stage.client(b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n")
    assert b'"request_id":"id"' in answer and b"x-request-id: id" in answer.lower()
