"""The PROXY protocol: what the specification's own examples mean, how headers are cut, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault
from edge.wire.proxy import MOST, Origin, ProxyReader, header_v1, header_v2

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = Origin("192.0.2.7", 56_324, "198.51.100.1", 443)
SIX = Origin("2001:db8::7", 4124, "2001:db8::1", 443)
V1 = b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"  # the longest of section 2.1
V2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1]) + b"\xdc\x04\x01\xbb"

MAPPED = bytes(10) + b"\xff\xff"  # the beginning of an IPv6 address that is an IPv4 one


def read(data: bytes, *, optional: bool = False) -> ProxyReader:
    reader = ProxyReader(optional=optional)
    assert reader.feed(data)
    return reader


@pytest.mark.parametrize(
    ("data", "origin"),
    [
        (V1, Origin("255.255.255.255", 65_535, "255.255.255.255", 65_535)),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4124 443\r\n", SIX),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 56324 443\r\n", FOUR),
        (SIGNATURE + b"\x21\x21\x00\x24" + MAPPED + b"\xc0\x00\x02\x07" + MAPPED + V2[20:], FOUR),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        (V2, FOUR),
        (SIGNATURE + b"\x20\x00\x00\x00", None),
        (SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12), None),
        (SIGNATURE + b"\x21\x00\x00\x00", None),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), None),
        (SIGNATURE + b"\x21\x11\x00\x11" + V2[16:] + b"\x04\x00\x02ab", FOUR),
    ],
)
def test_headers_whole_and_byte_by_byte(data: bytes, origin: Origin | None) -> None:
    found = read(data + b"hello")
    assert found.origin == origin
    assert found.rest == b"hello"
    slow = ProxyReader(optional=False)
    assert [slow.feed(data[at : at + 1]) for at in range(len(data))] == [False] * (len(data) - 1) + [True]
    assert slow.origin == origin
    assert slow.rest == b""


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY \r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 01\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 +1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 1\r\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        b"PROXY " + b"A" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x08" + bytes(8),
        SIGNATURE + b"\x21\x11" + (MOST + 1).to_bytes(2, "big"),
        SIGNATURE + b"\x21\x11\x00\x0e" + bytes(14),
        SIGNATURE + b"\x21\x11\x00\x10" + bytes(12) + b"\x04\x00\x09a",
        SIGNATURE + b"\x21\x11\x00\x13" + bytes(12) + b"\x03\x00\x04abcd",
    ],
)
def test_broken_headers_are_refused(data: bytes) -> None:
    with pytest.raises(Fault) as raised:
        ProxyReader(optional=True).feed(data)
    assert raised.value.kind == "bad-proxy-header"


def test_a_checksum_is_verified() -> None:
    """A header that haproxy's `send-proxy-v2` with `proxy-v2-options crc32c` would write: the sum over the whole with zeros."""
    body = V2[16:] + b"\x03\x00\x04" + bytes(4)
    head = SIGNATURE + b"\x21\x11" + len(body).to_bytes(2, "big") + body
    value = 0xFFFFFFFF
    for byte in head:  # bit by bit, unlike the table under test
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 & -(value & 1))
    value ^= 0xFFFFFFFF
    assert read(head[:-4] + value.to_bytes(4, "big")).origin == FOUR
    with pytest.raises(Fault):
        read(head[:-4] + (value ^ 1).to_bytes(4, "big"))


def test_without_a_header() -> None:
    found = read(b"\x16\x03\x01", optional=True)
    assert (found.origin, found.rest) == (None, b"\x16\x03\x01")
    with pytest.raises(Fault) as raised:
        read(b"\x16\x03\x01")
    assert raised.value.kind == "no-proxy-header"
    assert read(b"POST / HTTP/1.1\r\n", optional=True).rest == b"POST / HTTP/1.1\r\n"


@pytest.mark.parametrize("origin", [FOUR, SIX])
def test_what_is_written_is_read(origin: Origin) -> None:
    assert read(header_v1(origin)).origin == origin
    assert read(header_v2(origin)).origin == origin
    assert len(header_v1(origin)) <= 107


@pytest.mark.parametrize("origin", [Origin("unix", 0, "10.0.0.1", 443), Origin("10.0.0.1", 1, "::1", 443)])
def test_what_has_no_address_says_so(origin: Origin) -> None:
    assert read(header_v1(origin)).origin is None
    assert read(header_v2(origin)).origin is None


@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.booleans())
def test_nothing_else_than_a_fault(data: bytes, start: bytes, optional: bool) -> None:
    reader = ProxyReader(optional=optional)
    try:
        whole = reader.feed(start + data)
    except Fault:
        return
    assert whole == reader.done
    assert len(reader.rest) <= len(start + data)
