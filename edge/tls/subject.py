"""A certificate's subject as one line: RFC 4514, from its DER.

The binding prints names only in OpenSSL's old form, which is ambiguous (``/CN=a/O=b`` is one attribute or two), so the
DER is read here. It comes from a certificate that was verified; all the same nothing is taken for granted: what
does not parse gives ``""``, and no string is ever more than `LONGEST` characters, for it stands in every log line.

Known attribute types have their short names (RFC 4514 section 3), others are dotted numbers; strings whose type is
not known are written as ``#`` and hexadecimal digits (section 2.4).
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["LONGEST", "subject"]

LONGEST = 256
_NAMES = {
    "2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C", "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}  # fmt: skip
_STRINGS = {12: "utf-8", 18: "ascii", 19: "ascii", 20: "latin-1", 22: "ascii", 26: "ascii", 28: "utf-32-be", 30: "utf-16-be"}
_SEQUENCE, _SET, _OID = 0x30, 0x31, 6


@lru_cache(maxsize=1024)
def subject(name: bytes) -> str:
    """The RFC 4514 form of a DER-encoded Name; ``""`` for an empty or a malformed one."""
    try:
        tag, body, rest = _element(name)
        if tag != _SEQUENCE or rest:
            return ""
        parts = ["+".join(map(_attribute, _elements(content))) for kind, content in _elements(body) if kind == _SET]
    except (IndexError, ValueError):
        return ""
    return ",".join(reversed(parts))[:LONGEST]  # section 2.1: the last one first


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what follows it. Raises IndexError, ValueError."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if start + size > len(data):
        raise ValueError("cut")
    return data[0], data[start : start + size], data[start + size :]


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        tag, content, data = _element(data)
        found.append((tag, content))
    return found


def _attribute(element: tuple[int, bytes]) -> str:
    (kind, number), (tag, value) = _elements(element[1])
    if element[0] != _SEQUENCE or kind != _OID:
        raise ValueError("no attribute")
    dotted = _dotted(number)
    encoding = _STRINGS.get(tag)
    if encoding is None:
        return f"{_NAMES.get(dotted, dotted)}=#{bytes((tag,)).hex()}{_length(len(value)).hex()}{value.hex()}"
    return f"{_NAMES.get(dotted, dotted)}={_escaped(value.decode(encoding))}"


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def _dotted(number: bytes) -> str:
    arcs, arc = [], 0
    for octet in number:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def _escaped(text: str) -> str:
    """RFC 4514 section 2.4; control characters in hexadecimal too, so that the line stays one."""
    out = "".join(
        f"\\{character}" if character in '"+,;<>\\' else character if character >= " " else f"\\{ord(character):02x}"
        for character in text
    )
    if out[:1] in {" ", "#"}:
        out = "\\" + out
    return out[:-1] + "\\ " if out[-1:] == " " and out != "\\ " else out
