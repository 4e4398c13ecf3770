"""HPACK for the gateway's connections: the library's tables and Huffman code, with the loops around them our own.

`FieldDecoder` reads a block in one pass over the library's dynamic table, and goes on reading, without keeping
anything, when a message's fields pass the limits: one oversized request must not cost the connection its compression
state. `generation` changes whenever a block touched the dynamic table, so whoever keeps results of whole blocks knows
when they no longer hold: equal bytes mean equal fields only while the table is the same.

`FieldEncoder` never adds to the dynamic table. A field's encoding then depends on the field alone, can be kept for all
connections, and nothing that one stream sends can be probed through another's compression (RFC 7541 section 7.1).
Literals are marked never-indexed: what an intermediary received so it must send so (section 6.2.3), and this way it
need not remember which those were. The peer's table size is followed by the size updates that section 4.2 demands.
"""

from __future__ import annotations

from typing import Final

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKDecodingError, HPACKError, InvalidTableSizeError
from hpack.hpack import decode_integer, encode_integer
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

from edge.http.message import Field, SharedFields

__all__ = ["FieldDecoder", "FieldEncoder", "HPACKError", "OversizedError", "decode_huffman"]

_STATIC: Final = HeaderTable.STATIC_TABLE
_STATIC_MAP: Final = HeaderTable.STATIC_TABLE_MAPPING
_DEFAULT_TABLE: Final = HeaderTable.DEFAULT_SIZE
_KEEP_ENTRIES: Final = 4096  # of either memory below; each is emptied when full
_MANY: Final = 4096  # fields that a block may have though they are over the limits; more are not worth reading
_UPDATES: Final = 2  # size updates of a block, RFC 7541 section 4.2
_KEEP_BYTES: Final = 128  # longer strings and fields are not kept

_Row = list[tuple[int, bytes, int]]  # by octet: the next state, the text that it completes, whether a string may end there
_FAILED: Final = -1
_rows: Final[list[_Row | None]] = [None] * (len(HUFFMAN_TABLE) // 16) + [[(_FAILED, b"", 0)] * 256]  # by state, `_FAILED` last

_huffman: dict[bytes, bytes] = {}
_encoded: dict[Field, bytes] = {}


class OversizedError(HPACKError):
    """A block that expands past the hard bound: not worth reading to its end."""


def _make_row(state: int) -> _Row:
    """The row of `state`: two steps each of the library's automaton, which goes by half octets. Made when first needed."""
    row: _Row = []
    for octet in range(256):
        middle, flags, symbol = HUFFMAN_TABLE[state * 16 + (octet >> 4)]
        text = bytes((symbol,)) if flags & HUFFMAN_EMIT_SYMBOL else b""
        failed = flags & HUFFMAN_FAIL
        state_after, flags, symbol = HUFFMAN_TABLE[middle * 16 + (octet & 0x0F)]
        if flags & HUFFMAN_EMIT_SYMBOL:
            text += bytes((symbol,))
        failed |= flags & HUFFMAN_FAIL
        row.append((_FAILED, b"", 0) if failed else (state_after, text, flags & HUFFMAN_COMPLETE))
    _rows[state] = row
    return row


def decode_huffman(data: bytes) -> bytes:
    """The string that `data` encodes (RFC 7541 section 5.2 and appendix B), by whole octets. Raises HPACKDecodingError."""
    state, complete = 0, 1
    parts: list[bytes] = []
    for octet in data:
        row = _rows[state] or _make_row(state)
        state, text, complete = row[octet]
        if text:
            parts.append(text)
    if not complete:
        raise HPACKDecodingError("bad Huffman string")
    return b"".join(parts)


def _decode_string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string literal (RFC 7541 section 5.2): the string and where the next octet is."""
    first = block[at]
    size = first & 0x7F
    if size == 0x7F:
        size, used = decode_integer(block[at : at + 6], 7)
        at += used
    else:
        at += 1
    stop = at + size
    text = block[at:stop]
    if len(text) != size:
        raise HPACKDecodingError("truncated string")
    if first & 0x80:
        known = _huffman.get(text)
        if known is not None:
            return known, stop
        raw, text = text, decode_huffman(text)
        if size <= _KEEP_BYTES:
            if len(_huffman) >= _KEEP_ENTRIES:
                _huffman.clear()
            _huffman[raw] = text
    return text, stop


def _static(index: int) -> Field:
    """The static table's field at `index`, 1 to 61 (RFC 7541 section 2.3.3)."""
    if not index:
        raise HPACKDecodingError("index 0")
    return _STATIC[index - 1]


class FieldDecoder(Decoder):
    """Reads header blocks. `max_bytes` (names, values and 4 a field) and `max_count` bound what `read` returns.

    `hard_bytes` is the size at which reading stops for good, and with it the connection; so do many fields over the limits.
    """

    def __init__(self, max_bytes: int, max_count: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self.max_count = max_count
        self.hard_bytes = 16 * max_bytes
        self.generation = 0

    def read(self, block: bytes) -> list[Field] | None:
        """The fields of `block`; None when they are over the limits. Raises HPACKError (RFC 7541)."""
        try:
            return self._read(block)
        except IndexError as error:
            raise HPACKDecodingError("truncated block") from error

    def _read(self, block: bytes) -> list[Field] | None:
        table = self.header_table
        dynamic = table.dynamic_entries
        fields: list[Field] = []
        room = self.max_bytes
        at, end = 0, len(block)
        spare = max(_MANY, self.max_count)
        updates = 0
        started = False
        while at < end:
            first = block[at]
            if first & 0x80:  # indexed field, RFC 7541 section 6.1
                index = first & 0x7F
                if index == 0x7F:
                    index, used = decode_integer(block[at : at + 6], 7)
                    at += used
                else:
                    at += 1
                field = dynamic[index - 62] if index > 61 else _static(index)
            elif first & 0xE0 == 0x20:  # size update, section 6.3; only before the first field, section 4.2
                size, used = decode_integer(block[at : at + 6], 5)
                updates += 1
                if started or updates > _UPDATES:
                    raise HPACKDecodingError("size update after a field" if started else "too many size updates")
                if size > self.max_allowed_table_size:
                    raise InvalidTableSizeError("size update beyond the setting")
                table.maxsize = size
                self.generation += 1
                at += used
                continue
            else:  # literals, section 6.2
                prefix = 6 if first & 0x40 else 4
                index = first & ((1 << prefix) - 1)
                if index:
                    index, used = decode_integer(block[at : at + 6], prefix)
                    at += used
                    name = (dynamic[index - 62] if index > 61 else _static(index))[0]
                else:
                    name, at = _decode_string(block, at + 1)
                value, at = _decode_string(block, at)
                field = (name, value)
                if prefix == 6:
                    table.add(name, value)
                    self.generation += 1
            started = True
            room -= len(field[0]) + len(field[1]) + 4
            if room >= 0:
                fields.append(field)
            else:
                spare -= 1
                if spare < 0 or room < -self.hard_bytes:
                    raise OversizedError("fields past the hard bound")
        if table.maxsize > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table was not made smaller")
        if room < 0:
            return None
        excess = len(fields) - self.max_count
        if excess > 0:  # the crumbs of one cookie count as one field, for that is what they are (RFC 9113 section 8.2.3)
            excess -= max(0, sum(name == b"cookie" for name, _ in fields) - 1)
        return fields if excess <= 0 else None


def _encode(field: Field) -> bytes:
    name, value = field
    index, values = _STATIC_MAP.get(name, (0, {}))
    whole = values.get(value)
    if whole is not None:
        return bytes((0x80 | whole,))
    head = encode_integer(index, 4)
    head[0] |= 0x10
    if not index:
        head += encode_integer(len(name), 7) + name
    encoded = bytes(head + encode_integer(len(value), 7) + value)
    if len(encoded) <= _KEEP_BYTES:
        if len(_encoded) >= _KEEP_ENTRIES:
            _encoded.clear()
        _encoded[field] = encoded
    return encoded


def _pack(fields: list[Field]) -> bytes:
    known = _encoded
    return b"".join([known.get(field) or _encode(field) for field in fields])


_REQUEST_ID = b"\x10\x0cx-request-id"  # a literal that is never indexed, RFC 7541 section 6.2.3


class FieldEncoder(Encoder):
    """Writes header blocks without a dynamic table of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._size = _DEFAULT_TABLE
        self._least = _DEFAULT_TABLE
        self._changed = False

    @property
    def header_table_size(self) -> int:
        """The table size in force for the peer's decoder; never more than the default, whatever the peer allows."""
        return self._size

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        value = min(value, _DEFAULT_TABLE)
        if value != self._size:
            self._least = min(self._least, value)
            self._size = value
            self._changed = True

    def write(self, fields: list[Field]) -> bytes:
        """The block of `fields`, in their order."""
        block = _pack(fields)
        return self.size_update() + block if self._changed else block

    def write_head(self, first: list[Field], fields: list[Field], request_id: bytes) -> bytes:
        """The block of `first`, `fields` and, unless it is b"", X-Request-Id. Shared fields are packed once."""
        if type(fields) is SharedFields:
            packed = fields.packed
            if not packed:
                packed = fields.packed = _pack(fields)
        else:
            packed = _pack(fields)
        block = _pack(first) + packed
        if request_id:
            size = len(request_id)
            length = bytes((size,)) if size < 127 else bytes(encode_integer(size, 7))
            block = b"%b%b%b%b" % (block, _REQUEST_ID, length, request_id)
        return self.size_update() + block if self._changed else block

    def size_update(self) -> bytes:
        """What the next block begins with: the least size since the last block, then the present one (RFC 7541 section 4.2)."""
        sizes = [self._size] if self._least == self._size else [self._least, self._size]
        self._changed = False
        self._least = self._size
        update = bytearray()
        for size in sizes:
            at = len(update)
            update += encode_integer(size, 5)
            update[at] |= 0x20
        return bytes(update)
