"""The PROXY protocol, versions 1 and 2: who a connection really comes from, said by a balancer in front.

Source: "The PROXY protocol, versions 1 & 2" (HAProxy, 2020/03/05), sections 2.1 and 2.2. A header stands before anything
else on a connection and is as long as it says; what follows belongs to the connection. Whoever may send one is decided
elsewhere: a header from a stranger is a forgery, so this parser is asked only about trusted peers.

Invariants
* A header is at most 107 bytes (version 1) or 16 bytes and what its length field says (version 2, at most `MOST`); more is
  refused before it is gathered.
* What is no header at all is told at the first byte that differs, so a client that forgot it is not kept waiting.
* An IPv4 address inside of an IPv6 one (RFC 4291 section 2.5.5.2), as balancers on sockets of both families send it, is the IPv4
  address: rules on networks must not be passed by another spelling. A zone is no part of an address that came over a network.
* LOCAL (a balancer's own health check) and UNSPEC give no address: the connection's own counts. TLVs are passed over; a
  CRC32C that is there must be right (section 2.2.3).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from edge.errors import Fault, Side

__all__ = ["MOST", "Origin", "ProxyReader", "header_v1", "header_v2"]

MOST: Final = 2048
"""Bytes of a version 2 header that are taken: addresses take at most 232, the rest is TLVs."""

_V1 = b"PROXY "
_V1_MOST = 107
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = 16
_LOCAL, _PROXY = 0x20, 0x21
_INET, _INET6, _UNIX = 0x11, 0x21, 0x31
_SIZES = {_INET: 12, _INET6: 36, 0x12: 12, 0x22: 36, _UNIX: 216, 0x32: 216}
_CRC32C = 0x03


class Origin:
    """Where a connection comes from and where it went to, as addresses in text and ports."""

    __slots__ = ("address", "destination", "destination_port", "port")

    def __init__(self, address: str, port: int, destination: str, destination_port: int) -> None:
        self.address = address
        self.port = port
        self.destination = destination
        self.destination_port = destination_port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and all(getattr(self, name) == getattr(other, name) for name in Origin.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Origin {self.address}:{self.port} to {self.destination}:{self.destination_port}>"


class ProxyReader:
    """Gathers one header. `mode`: whether a connection may come without one."""

    __slots__ = ("_buffer", "done", "optional", "origin", "rest")

    def __init__(self, *, optional: bool) -> None:
        self.optional = optional
        self._buffer = bytearray()
        self.done = False
        self.origin: Origin | None = None  # None when done: the connection's own address counts
        self.rest = b""  # what followed the header

    def feed(self, data: bytes) -> bool:
        """Whether the header is whole; then `origin` and `rest` are valid.

        Raises Fault ``bad-proxy-header`` or ``no-proxy-header``.
        """
        self._buffer += data
        buffer = bytes(self._buffer)
        if not buffer:
            return False
        if _V1.startswith(buffer[: len(_V1)]):
            size = self._v1(buffer)
        elif _V2.startswith(buffer[: len(_V2)]):
            size = self._v2(buffer)
        elif self.optional:
            size = 0
        else:
            raise Fault(Side.CLIENT, "no-proxy-header", detail=f"begins with {buffer[:8]!r}")
        if size < 0:
            return False
        self.done = True
        self.rest = buffer[size:]
        self._buffer.clear()
        return True

    def _v1(self, buffer: bytes) -> int:
        """Section 2.1. The header's length, or -1."""
        end = buffer.find(b"\r\n", 0, _V1_MOST)
        if end < 0:
            if len(buffer) >= _V1_MOST or b"\n" in buffer:
                raise _bad("a version 1 line without an end")
            return -1
        words = buffer[:end].split(b" ")
        if len(words) < 2 or words[1] == b"UNKNOWN":
            if len(words) < 2:
                raise _bad("a version 1 line without a family")
            return end + 2
        if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
            raise _bad("a version 1 line of another form")
        kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
        try:
            source, destination = (_text(kind(word.decode("ascii"))) for word in words[2:4])
        except ValueError:
            raise _bad("an address that is none") from None
        self.origin = Origin(source, _port(words[4]), destination, _port(words[5]))
        return end + 2

    def _v2(self, buffer: bytes) -> int:
        """Section 2.2. The header's length, or -1."""
        if len(buffer) < _V2_HEAD:
            return -1
        command, family = buffer[12], buffer[13]
        length = int.from_bytes(buffer[14:16], "big")
        if command not in (_LOCAL, _PROXY):
            raise _bad(f"version and command {command:#04x}")
        if length > MOST:
            raise _bad(f"{length} bytes long")
        if len(buffer) < _V2_HEAD + length:
            return -1
        body = buffer[_V2_HEAD : _V2_HEAD + length]
        size = _SIZES.get(family, 0)
        if command == _PROXY:
            if family != 0 and family not in _SIZES:
                raise _bad(f"family and protocol {family:#04x}")
            if len(body) < size:
                raise _bad("shorter than its addresses")
            if family in (_INET, _INET6):
                self.origin = _origin(body, 4 if family == _INET else 16)
        _check_tlvs(buffer[: _V2_HEAD + length], _V2_HEAD + (size if command == _PROXY or len(body) >= size else 0))
        return _V2_HEAD + length


def _origin(body: bytes, size: int) -> Origin:
    kind = IPv4Address if size == 4 else IPv6Address
    source, destination = _text(kind(body[:size])), _text(kind(body[size : 2 * size]))
    ports = body[2 * size : 2 * size + 4]
    return Origin(source, int.from_bytes(ports[:2], "big"), destination, int.from_bytes(ports[2:], "big"))


def _text(address: IPv4Address | IPv6Address) -> str:
    """Raises ValueError for an address with a zone."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("a zone")
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def _check_tlvs(header: bytes, at: int) -> None:
    """Type, length, value until the end; the sum over the header with its own field as zeros (section 2.2.3)."""
    while at < len(header):
        size = int.from_bytes(header[at + 1 : at + 3], "big") if at + 3 <= len(header) else len(header)
        if at + 3 + size > len(header):
            raise _bad("a TLV that is cut")
        told = header[at + 3 : at + 3 + size]
        if header[at] == _CRC32C and told != _sum(header, at + 3, size):
            raise _bad("a wrong checksum")
        at += 3 + size


def _sum(header: bytes, at: int, size: int) -> bytes:
    return _crc32c(header[:at] + bytes(size) + header[at + size :]).to_bytes(4, "big")


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65_535 or (word.startswith(b"0") and word != b"0"):
        raise _bad("a port that is none")
    return int(word)


def _bad(detail: str) -> Fault:
    return Fault(Side.CLIENT, "bad-proxy-header", detail=detail)


def header_v1(origin: Origin) -> bytes:
    """The line that an upstream gets. Without addresses (unix sockets): UNKNOWN."""
    try:
        source, destination = _address(origin.address), _address(origin.destination)
    except ValueError:
        return b"PROXY UNKNOWN\r\n"
    if source.version != destination.version:
        return b"PROXY UNKNOWN\r\n"
    text = f"PROXY TCP{source.version} {source} {destination} {origin.port} {origin.destination_port}\r\n"
    return text.encode("ascii")


def header_v2(origin: Origin) -> bytes:
    """The same in binary. Without addresses: LOCAL."""
    try:
        source, destination = _address(origin.address), _address(origin.destination)
    except ValueError:
        return _V2 + bytes((_LOCAL, 0)) + bytes(2)
    if source.version != destination.version:
        return _V2 + bytes((_LOCAL, 0)) + bytes(2)
    body = source.packed + destination.packed + origin.port.to_bytes(2, "big") + origin.destination_port.to_bytes(2, "big")
    return _V2 + bytes((_PROXY, _INET if source.version == 4 else _INET6)) + len(body).to_bytes(2, "big") + body


def _address(text: str) -> IPv4Address | IPv6Address:
    return IPv6Address(text.partition("%")[0]) if ":" in text else IPv4Address(text)


def _table() -> tuple[int, ...]:
    found = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        found.append(number)
    return tuple(found)


_TABLE: Final = _table()


def _crc32c(data: bytes) -> int:
    """CRC-32C (RFC 4960 appendix B)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF
