"""HPACK: our decoder against the library's on legal and mutated blocks, the encoder read back by the library."""

from __future__ import annotations

import random

import pytest
from hpack import Decoder, Encoder, huffman_table
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.struct import HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from edge.http.h2_hpack import FieldDecoder, FieldEncoder, HPACKError, OversizedError, decode_huffman

NAMES = [b":method", b":path", b"cookie", b"x-a", b"x-" + b"long" * 20, b"accept", b"te"]
VALUES = [b"", b"GET", b"/", b"a=1", b"\xff\x00", b"v" * 200, b"w" * 5000]
fields = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(VALUES), st.binary(max_size=40))), max_size=8)


def decoder(max_bytes: int = 1 << 20, max_count: int = 1000) -> FieldDecoder:
    return FieldDecoder(max_bytes, max_count)


@given(st.lists(st.tuples(fields, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=8), st.randoms())
def test_blocks_of_the_librarys_encoder_read_the_same(
    dialogue: list[tuple[list[tuple[bytes, bytes]], bool, int | None]], rng: random.Random
) -> None:
    encoder, ours = Encoder(), decoder()
    for section, huffman, size in dialogue:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode([rng.choice((HeaderTuple, NeverIndexedHeaderTuple))(*field) for field in section], huffman=huffman)
        assert ours.read(block) == section


@given(st.lists(st.tuples(fields, st.integers(0, 3)), min_size=1, max_size=6), st.randoms())
def test_mutated_blocks_read_or_fail_as_in_the_library(
    dialogue: list[tuple[list[tuple[bytes, bytes]], int]], rng: random.Random
) -> None:
    encoder, ours, theirs = Encoder(), decoder(), Decoder(1 << 20)
    for section, mutations in dialogue:
        block = bytearray(encoder.encode([HeaderTuple(*field) for field in section]))
        for _ in range(mutations):
            if block:
                block[rng.randrange(len(block))] = rng.choice((0x80, 0x20, 0x3F, 0xFF, 0x40, 0x7F, 0x0F, rng.randrange(256)))
        expected: list[tuple[bytes, bytes]] | None = None
        try:
            expected = [tuple(each) for each in theirs.decode(bytes(block), raw=True)]  # type: ignore[misc]
        except (HPACKError, IndexError):
            with pytest.raises(HPACKError):
                ours.read(bytes(block))
            return
        assert ours.read(bytes(block)) == expected
        assert list(ours.header_table.dynamic_entries) == list(theirs.header_table.dynamic_entries)


@given(st.lists(st.tuples(fields, st.lists(st.integers(0, 10_000), max_size=4)), max_size=6))
def test_the_library_reads_what_our_encoder_writes(dialogue: list[tuple[list[tuple[bytes, bytes]], list[int]]]) -> None:
    encoder, theirs = FieldEncoder(), Decoder(1 << 20)
    for section, sizes in dialogue:
        for size in sizes:
            encoder.header_table_size = size
            theirs.max_allowed_table_size = size
        block = encoder.write(section)
        assert [tuple(each) for each in theirs.decode(block, raw=True)] == section
        assert not theirs.header_table.dynamic_entries


def test_a_smaller_table_is_told_even_when_it_grew_again() -> None:
    encoder = FieldEncoder()
    for size in (0, 4096, 0, 0, 4096):
        encoder.header_table_size = size
    assert encoder.write([(b":status", b"200")]) == b"\x20\x3f\xe1\x1f\x88"
    assert encoder.write([(b":status", b"200")]) == b"\x88"


def test_literals_are_never_indexed() -> None:
    assert FieldEncoder().write([(b"authorization", b"secret")]) == b"\x1f\x08\x06secret"
    assert FieldEncoder().write([(b"x-a", b"b")]) == b"\x10\x03x-a\x01b"


def test_too_large_sections_keep_the_table_right() -> None:
    encoder, ours = Encoder(), decoder(100, 5)
    assert ours.read(encoder.encode([HeaderTuple(b"x-first", b"1" * 200), HeaderTuple(b"x-second", b"2")])) is None
    assert ours.read(encoder.encode([HeaderTuple(b"x-second", b"2")])) == [(b"x-second", b"2")]
    assert ours.read(encoder.encode([HeaderTuple(b"a", b"")] * 6)) is None
    assert ours.read(encoder.encode([HeaderTuple(b"a", b"")] * 5)) == [(b"a", b"")] * 5


def test_a_bomb_stops_being_read() -> None:
    encoder, ours = Encoder(), decoder(1000, 100)
    assert ours.read(encoder.encode([HeaderTuple(b"x", b"y" * 3000)])) is None
    with pytest.raises(OversizedError):
        ours.read(b"\xbe" * 16_000)


def test_many_fields_over_the_limits_stop_being_read() -> None:
    assert decoder(10_000, 5).read(b"\x82" * 4000) is None
    with pytest.raises(OversizedError):
        decoder(1000, 100).read(b"\x40\x01a\x00" * 9000)
    with pytest.raises(OversizedError):
        decoder().read(b"\x82" * 200_000)


def test_a_block_tells_of_two_table_sizes_at_most() -> None:
    assert decoder().read(b"\x20\x3f\xe1\x1f\x82") == [(b":method", b"GET")]
    with pytest.raises(HPACKError):
        decoder().read(b"\x20\x20\x20\x82")


def test_the_generation_tells_when_the_table_changed() -> None:
    ours = decoder()
    ours.read(b"\x82\x00\x01a\x01b\x10\x01c\x01d")
    assert ours.generation == 0
    ours.read(b"\x40\x01a\x01b")
    ours.read(b"\x20\x3f\xe1\x1f\x82")
    assert ours.generation == 3


@given(st.binary(max_size=40))
def test_huffman_reads_as_in_the_library(data: bytes) -> None:
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    assert decode_huffman(encoder.encode(data)) == data
    try:
        expected = huffman_table.decode_huffman(data)
    except HPACKError:
        with pytest.raises(HPACKError):
            decode_huffman(data)
    else:
        assert decode_huffman(data) == expected


def test_all_short_strings_read_as_in_the_library() -> None:
    for data in [bytes((first, second)) for first in range(256) for second in range(256)]:
        try:
            expected: bytes | None = huffman_table.decode_huffman(data)
        except HPACKError:
            expected = None
        try:
            ours: bytes | None = decode_huffman(data)
        except HPACKError:
            ours = None
        assert ours == expected
