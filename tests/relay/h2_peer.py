"""The other end of a stage's lines where they speak HTTP/2: the h2 library, which is not ours."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

from tests.relay.stage import Stage

__all__ = ["HEAD", "OK", "POST", "Peer", "client_of", "exchange", "push", "server_of"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/x")]
POST = [(":method", "POST"), *HEAD[1:]]


class Peer:
    """The other end of one of the stage's lines."""

    def __init__(self, *, client: bool, settings: dict[Any, int] | None = None) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding=None))
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=client, initial_values=settings)
        self.h2.initiate_connection()
        self.events: list[Any] = []

    def take(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def body(self, sid: int) -> bytes:
        return b"".join(event.data for event in self.of(h2.events.DataReceived) if event.stream_id == sid)


def client_of(stage: Stage) -> Peer:
    peer = Peer(client=True)
    peer.take(stage.line.take())
    return peer


def exchange(stage: Stage, peer: Peer) -> None:
    """What the client has to say goes to the gateway, and the answer back."""
    for _ in range(4):
        data = peer.h2.data_to_send()
        if not data:
            return
        peer.take(stage.client(data))


def server_of(stage: Stage) -> Peer:
    peer = Peer(client=False, settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    stage.lines[0].session.on_data(peer.h2.data_to_send())
    stage.settle()
    peer.take(stage.sent(0))
    return peer


def push(stage: Stage, peer: Peer) -> bytes:
    got = b""
    for _ in range(4):
        data = peer.h2.data_to_send()
        if data:
            got += stage.upstream(data, 0)
        peer.take(stage.sent(0))
    return got
