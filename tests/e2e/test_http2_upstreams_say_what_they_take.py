"""What an upstream says in its SETTINGS holds from the first request on: how many streams it takes, and whether WebSockets."""

from __future__ import annotations

from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import h2.settings

from .conftest import StartGateway, StartUpstream
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn

STREAMS = 3


def server(conn: Conn) -> None:
    """Takes few streams at a time, and a connection with one more is broken."""
    codes = h2.settings.SettingCodes
    values = {codes.MAX_CONCURRENT_STREAMS: STREAMS, codes.ENABLE_CONNECT_PROTOCOL: 1}
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    peer.local_settings = h2.settings.Settings(client=False, initial_values=values)
    while data := conn.some():
        if peer.state_machine.state is h2.connection.ConnectionState.IDLE:
            peer.initiate_connection()
        for event in peer.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                fields = dict(event.headers)
                assert event.stream_id is not None
                peer.send_headers(event.stream_id, [(":status", "200")], end_stream=b":protocol" not in fields)
        conn.send(peer.data_to_send())


def test_more_requests_than_a_fresh_connection_takes_wait_for_others(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h2: Callable[..., H2Client]
) -> None:
    upstream = start_upstream(server)
    client = h2(start_gateway(pki.host(upstream.url.replace("http://", "h2c://"))))
    client.ping()
    sids = [client.request("/") for _ in range(60)]
    assert {client.response(sid).status for sid in sids} == {200}


def test_the_first_request_of_a_fresh_connection_may_be_a_websocket(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h2: Callable[..., H2Client]
) -> None:
    upstream = start_upstream(server)
    client = h2(start_gateway(pki.host(upstream.url.replace("http://", "h2c://"))))
    sid = client.new_stream()
    head = [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "localhost"), (":path", "/"),
        ("sec-websocket-version", "13"),
    ]  # fmt: skip
    client.headers(sid, head, end=False)
    client.until(lambda: client.streams[sid].fields)
    assert client.streams[sid].status == 200
