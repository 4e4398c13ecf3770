"""Messages arrive whole, with their descriptors, and the end of the other side is seen."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

from edge.process.channel import MOST_DESCRIPTORS, Channel, pair
from edge.process.parcel import pack, unpack


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


def test_what_does_not_fit_waits_in_order_with_its_descriptors(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    waiting: list[bool] = []
    one.on_waiting = waiting.append
    reader, writer = os.pipe()
    count = 0
    while not one.waiting:
        one.send({"n": count, "pad": "x" * 5000})
        count += 1
    one.send({"n": count}, (writer,))
    os.close(writer)  # the queue has a copy
    assert waiting == [True]
    received = []
    while one.waiting or not received or received[-1][0]["n"] < count:
        received += other.receive()
        one.flush()
    assert [message["n"] for message, _ in received] == list(range(count + 1))
    assert waiting[-1] is False
    passed = received[-1][1][0]
    os.write(passed, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(passed)
    assert os.read(reader, 1) == b""  # nobody else holds the other end
    os.close(reader)


def test_many_descriptors_in_one_message(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    reader, writer = os.pipe()
    one.send({"do": "x"}, [writer] * MOST_DESCRIPTORS)
    [(message, received)] = other.receive()
    assert message == {"do": "x"}
    assert len(received) == MOST_DESCRIPTORS
    for descriptor in (reader, writer, *received):
        os.close(descriptor)


def test_a_reader_that_does_not_read_is_an_error_and_no_wait(ends: tuple[Channel, Channel]) -> None:
    one, _ = ends

    def send_much() -> None:
        for _ in range(100_000):
            one.send({"do": "x" * 1000})

    with pytest.raises(BlockingIOError):
        send_much()


def test_a_parcel_is_read_by_each_who_gets_it_and_changed_by_none() -> None:
    data = os.urandom(3_000_000)
    parcel = pack(data)
    with pytest.raises(PermissionError):
        os.write(parcel, b"x")
    copy = os.dup(parcel)
    assert unpack(parcel) == data
    assert unpack(copy) == data
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(copy)
    assert unpack(pack(b"")) == b""


def test_another_program_can_go_on_with_an_end_once_no_message_is_cut_in_two() -> None:
    ours, theirs = pair()
    null = os.open(os.devnull, os.O_RDONLY)
    theirs.send({"is": "beat"}, [null])
    os.close(null)
    assert ours.settle()
    theirs.sock.send(b"\x00\x00\x00\x05{")
    assert not ours.settle()
    ours.close()
    theirs.close()
    ours, theirs = pair()
    theirs.close()
    assert not ours.settle()
    ours.close()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process cannot open anything."""
    lowest = os.open(os.devnull, os.O_RDONLY)  # all below are taken
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(lowest)


def test_descriptors_without_room_are_lost_and_those_of_others_are_not(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    with open(os.devnull) as file:
        with no_descriptors():
            one.send({"first": 1}, [file.fileno()] * 3)
            assert other.receive() == [({"first": 1}, [])]
        one.send({"second": 2}, [file.fileno()])
        [(message, descriptors)] = other.receive()
    assert (message, len(descriptors)) == ({"second": 2}, 1)
    os.close(descriptors[0])


def test_a_reserve_makes_room(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.reserve(3)
    with open(os.devnull) as file, no_descriptors():
        one.send({"first": 1}, [file.fileno()] * 3)
        [(_, descriptors)] = other.receive()
        assert len(descriptors) == 3
        other.reserve(3)  # there is no room for it now
    for descriptor in descriptors:
        os.close(descriptor)
