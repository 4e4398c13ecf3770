"""Records without data are counted one by one, however they come, and records with data never."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from edge.errors import Fault
from edge.tls.choice import ServerContext
from edge.tls.server_engine import ServerEngine
from tests.records import ALERT, RecordWriter

from .peers import TLS12, TLS13, Client, host, meet

BOTH = pytest.mark.parametrize("version", [TLS12, TLS13])
CLOSE_NOTIFY = b"\x01\x00"
WARNING = b"\x01\x5a"  # user_canceled: ignored


def connected(version: int) -> tuple[ServerEngine, RecordWriter]:
    client = Client(version=version, secrets=[])
    meeting = meet(ServerContext(host()), client)
    assert meeting.ok
    return meeting.engine, client.records()


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 22, 64, 1000, 16_384, 100_000])
def test_they_are_counted_among_records_with_data(version: int, size: int) -> None:
    engine, writer = connected(version)
    stream = b"".join(b"".join(writer.record() for _ in range(20)) + writer.record(b"data") for _ in range(10))
    got = b"".join(map(engine.receive, in_pieces(stream, size)))
    assert got == b"data" * 10
    # in a read that ends one record and holds no more, nobody looks for others
    assert 190 <= engine.empty_records <= 200 if size < 64 else engine.empty_records == 200
    assert engine.unsettled


@BOTH
@pytest.mark.parametrize("size", [1, 4, 5, 6, 100, 1448, 16_384, 16_406, 50_000, 131_072])
def test_records_with_data_are_none_of_them(version: int, size: int) -> None:
    engine, writer = connected(version)
    lengths = [1, 2, 16_384, 5, 300, 16_000, 16_384, 16_384, 1] * (1 if size < 100 else 4)
    stream = b"".join(writer.record(bytes(length)) for length in lengths)
    assert sum(len(engine.receive(piece)) for piece in in_pieces(stream, size)) == sum(lengths)
    assert (engine.empty_records, engine.unsettled) == (0, False)


def test_pieces_of_any_length() -> None:
    engine, writer = connected(TLS13)
    chance = random.Random(7)
    lengths = [chance.choice((1, 3, 700, 9000, 16_384)) for _ in range(300)]
    stream = b"".join(writer.record(bytes(length), padding=chance.choice((0, 0, 9))) for length in lengths)
    at = got = 0
    while at < len(stream):
        size = chance.choice((1, 5, 23, 1448, 16_384, 60_000))
        got += len(engine.receive(stream[at : at + size]))
        at += size
    assert got == sum(lengths)
    assert engine.empty_records == 0


def test_padding_around_data_is_free_and_padding_alone_is_not() -> None:
    engine, writer = connected(TLS13)
    for _ in range(50):
        assert engine.receive(writer.record(b"x", padding=4000)) == b"x"
    assert engine.empty_records == 0
    assert engine.receive(writer.record(padding=16_000)) == b""
    assert engine.empty_records == 1


@BOTH
def test_warning_alerts_are_some_of_them(version: int) -> None:
    engine, writer = connected(version)
    for count in itertools.count(1):
        try:
            assert engine.receive(writer.record(WARNING, ALERT) + writer.record(b"x")) == b"x"
        except Fault as fault:
            assert fault.kind == "alert-flood"  # noqa: PT017 -- OpenSSL counts them, too
            break
        assert engine.empty_records == count
        if count == 40:
            break
    assert engine.empty_records >= 4


@BOTH
@pytest.mark.parametrize("before", [0, 3])
def test_the_goodbye_is_none_of_them(version: int, before: int) -> None:
    engine, writer = connected(version)
    assert engine.receive(b"".join(writer.record() for _ in range(before)) + writer.record(CLOSE_NOTIFY, ALERT)) == b""
    assert engine.closed
    assert (engine.empty_records, engine.unsettled) == (before, before > 0)


@BOTH
def test_a_long_row_is_cut_by_the_library(version: int) -> None:
    engine, writer = connected(version)
    with pytest.raises(Fault) as caught:
        engine.receive(b"".join(writer.record() for _ in range(33)))
    assert caught.value.kind == "empty-records"


@BOTH
def test_what_comes_with_the_end_of_the_handshake_counts(version: int) -> None:
    client = Client(version=version, secrets=[])
    first = client.step()
    engine = ServerContext(host()).engine("a.test")
    assert engine.receive(first) == b""
    last = client.step(engine.drain())
    if version == TLS12:
        assert engine.receive(last) == b""
        client.step(engine.drain())
        last = b""
    writer = client.records()
    stream = last + writer.record() + writer.record(b"x") + writer.record()[:9]
    assert engine.receive(stream) == b"x"
    assert engine.empty_records == 1
