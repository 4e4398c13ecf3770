"""Messages arrive whole, with their descriptors, and the end of the other side is seen."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from edge.process.channel import Channel, pair


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = pair()
    yield one, other
    one.close()
    other.close()


def test_messages_and_descriptors(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    reader, writer = os.pipe()
    one.send({"do": "drain", "seconds": 1.5})
    one.send({"do": "logs", "to": ["a"]}, (writer,))
    one.send({"do": "stop"})
    received = other.receive()
    assert [message for message, _ in received] == [{"do": "drain", "seconds": 1.5}, {"do": "logs", "to": ["a"]}, {"do": "stop"}]
    assert [len(descriptors) for _, descriptors in received] == [0, 1, 0]
    passed = received[1][1][0]
    assert passed != writer
    assert not os.get_inheritable(passed)
    os.write(passed, b"x")
    assert os.read(reader, 1) == b"x"
    for descriptor in (reader, writer, passed):
        os.close(descriptor)
    assert other.receive() == []
    assert not other.ended


def test_a_message_in_pieces(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    body = b'{"is":"ready"}'
    for byte in (len(body).to_bytes(4, "big") + body)[:-1]:
        one.sock.send(bytes([byte]))
        assert other.receive() == []
    one.sock.send(body[-1:])
    assert other.receive() == [({"is": "ready"}, [])]


def test_the_end_is_seen_after_the_last_message(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send({"is": "ready"})
    one.close()
    assert other.receive() == [({"is": "ready"}, [])]
    assert other.ended
    with pytest.raises(BrokenPipeError):
        other.send({"do": "stop"})


def test_an_endless_message_ends_the_channel(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.sock.send(b"\xff\xff\xff\xff")
    assert other.receive() == []
    assert other.ended


def test_a_reader_that_does_not_read_is_an_error_and_no_wait(ends: tuple[Channel, Channel]) -> None:
    one, _ = ends

    def send_much() -> None:
        for _ in range(100_000):
            one.send({"do": "x" * 1000})

    with pytest.raises(BlockingIOError):
        send_much()
