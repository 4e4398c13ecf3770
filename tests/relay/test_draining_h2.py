"""How an HTTP/2 connection of a client ends when the gateway drains: nothing lost, everything told."""

from __future__ import annotations

from tests.relay.h2_peer import HEAD, OK, Peer, client_of, exchange, push, server_of
from tests.relay.stage import Stage


def draining() -> tuple[Stage, Peer]:
    """A connection that has been told to drain with one request under way."""
    stage = Stage(http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    exchange(stage, peer)
    stage.session.drain()
    return stage, peer


def test_draining_finishes_the_open_streams() -> None:
    stage, _ = draining()
    stage.settle()
    data = stage.line.take()
    assert data[3] == 7 and not stage.line.closed
    answer = stage.upstream(OK)
    assert b"hi" in answer
    stage.pass_time(2)
    assert stage.line.closed


def test_draining_ends_as_soon_as_the_client_has_heard_of_it() -> None:
    stage = Stage(http2=True)
    peer = client_of(stage)
    exchange(stage, peer)
    stage.session.drain()
    stage.settle()
    said = stage.line.take()
    assert stage.line.alive()
    stage.client(said[-17:-13] + b"\1" + said[-12:])  # the PING, acknowledged
    assert stage.line.closed and not stage.line.linger


def test_draining_waits_for_a_client_that_may_not_have_its_answers_yet() -> None:
    """A client that credits what it reads must not meet a reset, which would take the unread rest."""
    stage, _ = draining()
    stage.settle()
    ping = stage.line.take()[-17:]
    assert ping[3] == 6
    assert b"hi" in stage.upstream(OK)
    stage.client(ping[:4] + b"\1" + ping[5:])
    assert stage.line.closed and stage.line.linger


def test_draining_serves_what_crosses_its_goaway_and_names_the_last_at_the_end() -> None:
    """The client has not seen it: neither the end of the last stream nor the time may close the connection without a word."""
    stage, peer = draining()
    stage.settle()
    assert b"hi" in stage.upstream(OK)
    assert stage.line.alive()
    peer.h2.send_headers(3, HEAD, end_stream=True)
    stage.client(peer.h2.data_to_send())
    assert b"hi" in stage.upstream(OK)
    said = stage.pass_time(2)
    assert b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00" in said  # GOAWAY, the last is 3
    assert stage.line.closed


def test_a_request_that_crosses_the_last_goaway_is_refused_and_no_mistake_of_the_client() -> None:
    stage, peer = draining()
    stage.pass_time(6)
    peer.h2.send_headers(3, HEAD, end_stream=True)
    said = stage.client(peer.h2.data_to_send())
    assert said.endswith(b"\x00\x00\x04\x03\x00\x00\x00\x00\x03\x00\x00\x00\x07")  # RST_STREAM, REFUSED_STREAM
    assert stage.refused == [] and stage.line.alive()


def test_a_connection_that_breaks_while_it_drains_cancels_everything() -> None:
    stage, peer = draining()
    stage.settle()
    peer.h2.reset_stream(1)
    peer.h2.send_headers(3, HEAD, end_stream=True)
    stage.client(peer.h2.data_to_send() + b"\0\0\0\x06\0\0\0\0\1")  # and a PING on a stream
    assert stage.line.closed and not stage.session.streams
    assert [line.status for line in stage.log_lines] == [499, 499]
    assert [fault.kind for fault in stage.refused] == ["h2-stream-id"]


def test_a_drain_waits_for_an_upstream_that_is_slow_to_end_an_answer_without_content() -> None:
    stage = Stage(http2=True, upstream_http2=True)
    peer = client_of(stage)
    peer.h2.send_headers(1, HEAD, end_stream=True)
    exchange(stage, peer)
    server = server_of(stage)
    server.h2.send_headers(1, [(":status", "304")])
    peer.take(push(stage, server))
    stage.session.drain()
    stage.pass_time(30)
    assert stage.line.alive() and stage.session.streams
    server.h2.end_stream(1)
    push(stage, server)
    stage.pass_time(5)
    assert stage.line.closed and [line.status for line in stage.log_lines] == [304]
