"""The server engine against a client that is not ours."""

from __future__ import annotations

import pytest

from edge.tls.choice import ServerContext
from tests.tls.peers import TLS12, TLS13, Client, connect, host, meet, pump


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_handshake_and_data_both_ways(version: int) -> None:
    context = ServerContext(host())
    meeting = meet(context, Client(version=version))
    assert meeting.ok
    assert meeting.client.plain == b"hello"
    assert meeting.engine.receive(meeting.client.send(b"question")) == b"question"


def test_ten_mebibytes() -> None:
    ours, theirs = connect(ServerContext(host()))
    data = bytes(range(256)) * 4096 * 10
    ours.send(data)
    cipher = ours.drain()
    assert theirs.receive(memoryview(cipher)) == data
    for start in range(0, len(data), 100_000):
        theirs.send(memoryview(data)[start : start + 100_000])
    assert ours.receive(theirs.drain()) == data
