"""Heads of HTTP/1.1 messages: the request or status line and the field block, from bytes to facts.

The parser is strict on purpose: a line ends in CRLF and nothing else, a name ends at its colon, a value is on one line. What
RFC 9112 lets a recipient repair (bare LF, obs-fold, white space before the colon) is refused, because the next parser on the
road may repair it in another way.

Clients repeat themselves: within one connection, and between the clients of one program, most field blocks are equal to the byte,
and of those that are not most lines are. Two bounded memos, of blocks and of lines, make a look-up of what would be a parse. A
memo holds only what was accepted, is keyed by the whole bytes, and is emptied when full; so it can change the cost of a head
and never its meaning. `fields` of a memoised block are shared by all heads that have it, and never changed.

Everything here raises ``Fault(Side.CLIENT, …)``; the client role turns the blame.
"""

from __future__ import annotations

import re

from edge.errors import Fault
from edge.http.fields import (
    NEVER_IN_FIELDS,
    TOKEN,
    bad_request,
    clean_trailers,
    connection_options,
    content_length,
    list_tokens,
    parse_authority,
    valid_value,
)
from edge.http.message import Field, Fields

__all__ = [
    "Block", "RequestLine", "check_partial", "parse_request_line", "parse_status_line", "request_block", "response_block",
    "trailer_fields",
]  # fmt: skip

RequestLine = tuple[bytes, bytes, int, bytes, bytes]  # method, target, version, and of an absolute-form: authority, scheme

_METHOD_BYTES = 32
_LINE_MEMO = 4096  # field lines of at most _LINE_BYTES
_LINE_BYTES = 512
_BLOCK_MEMO = 512  # field blocks of at most _BLOCK_BYTES
_BLOCK_BYTES = 2048
_START_MEMO = 1024  # request and status lines of at most _START_BYTES
_START_BYTES = 256

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
# Visible ASCII but "#": RFC 3986 has fewer characters, browsers send more; what paths may hold is decided where they are
# normalised.
_TARGET = re.compile(rb"[!\"$-~]+")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?]*)(.*)")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_JUNK = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")

_plain_lines: dict[bytes, Field] = {}  # lines whose field travels on
_other_lines: dict[bytes, Field] = {}  # lines that the codec itself reads or drops
_request_lines: dict[bytes, RequestLine] = {}
_status_lines: dict[bytes, tuple[int, int]] = {}
_connections: dict[bytes, tuple[bool, bool, bool, frozenset[bytes]]] = {}
_request_blocks: dict[bytes, Block] = {}
_response_blocks: dict[bytes, Block] = {}


class Block:
    """What a head's field block says. `fields` are those that travel on; shared between equal blocks, so never changed."""

    __slots__ = (
        "chunked",
        "close",
        "content_length",
        "count",
        "expect",
        "fields",
        "host",
        "keep_alive",
        "te_trailers",
        "websocket",
    )

    def __init__(self) -> None:
        self.fields: Fields = []
        self.count = 0  # field lines in all
        self.host: bytes | None = None  # parsed; None when there is no Host
        self.content_length: int | None = None
        self.chunked = False
        self.close = False  # Connection: close
        self.keep_alive = False  # Connection: keep-alive
        self.te_trailers = False
        self.websocket = False  # Connection: upgrade with Upgrade: websocket
        self.expect = False  # Expect: 100-continue


def check_partial(buf: bytes, start: int, fresh: int, line_limit: int, block_limit: int, count_limit: int) -> int:
    """Refuse an unfinished head as soon as it can be refused. Returns where its first line ends, -1 when it has not ended.

    `start` is where the head begins, `fresh` where the bytes begin that were not checked before. Limits are of the first line
    without CRLF, of the field block with CRLFs, and of field lines; a negative `line_limit` says that there is no first line
    (trailers).
    """
    if buf.startswith(b"\n", start):
        raise _line_fault(b"\n")  # what is before `start` belongs to another message, even if it is a CR
    junk = _JUNK.search(buf, max(start, fresh - 1))
    if junk is not None:
        raise _line_fault(junk[0])
    if line_limit >= 0:
        line_end = buf.find(b"\r\n", start)
        if (len(buf) - 1 if line_end < 0 else line_end) - start > line_limit:
            raise bad_request("request-line-too-long", status=414)
        if line_end < 0:
            return -1
        start = line_end + 2
    else:
        line_end = -1
    if len(buf) - start >= block_limit + 2:
        raise bad_request("fields-too-large", "bytes", status=431)
    if buf.count(b"\r\n", start) > count_limit:
        raise _too_many()
    return line_end


def _line_fault(junk: bytes) -> Fault:
    if junk == b"\n":
        return bad_request("bad-line-end", "bare LF")  # RFC 9112 section 2.2
    if junk == b"\r":
        return bad_request("bad-line-end", "bare CR")  # RFC 9112 section 2.2
    return bad_request("bad-control-character", f"0x{junk[0]:02x}")  # RFC 9110 section 5.5


def parse_request_line(line: bytes) -> RequestLine:
    """Method, target, version (10 or 11), and authority and scheme when the target is in absolute-form (RFC 9112 section 3).

    The target comes back in origin-form or as ``b"*"``. Raises `Fault` with status 400, 501 (method) or 505 (version).
    """
    known = _request_lines.get(line)
    if known is not None:
        return known
    parts = line.split(b" ")
    if len(parts) != 3:
        # RFC 9112 section 3: no white space but the two spaces; HTTP/0.9 has no version.
        raise bad_request("bad-request-line", "HTTP/0.9" if len(parts) == 2 and parts[1][:1] == b"/" else "")
    method, target, protocol = parts
    if protocol == b"HTTP/1.1":
        version = 11
    elif protocol == b"HTTP/1.0":
        version = 10
    elif _VERSION.fullmatch(protocol) is not None:
        raise bad_request("bad-version", status=505)
    else:
        raise bad_request("bad-request-line", "version")
    if method not in _METHODS:
        if TOKEN.fullmatch(method) is None:
            raise bad_request("bad-method")
        if len(method) > _METHOD_BYTES:
            raise bad_request("bad-method", "too long", status=501)  # RFC 9112 section 3
        if method == b"CONNECT":
            raise bad_request("connect-refused", status=501)  # RFC 9110 section 9.3.6: a gateway is no tunnel
    if _TARGET.fullmatch(target) is None:
        raise bad_request("bad-target", "fragment" if b"#" in target else "character")
    authority = scheme = b""
    if target[0] != 47 and (target != b"*" or method != b"OPTIONS"):
        target, authority, scheme = _absolute(method, target)
    result = (method, target, version, authority, scheme)
    if len(line) <= _START_BYTES:
        if len(_request_lines) >= _START_MEMO:
            _request_lines.clear()
        _request_lines[line] = result
    return result


def _absolute(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes]:
    """Target in origin-form, authority and scheme of an absolute-form (RFC 9112 section 3.2.2)."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise bad_request("bad-target", "form")
    scheme, authority, rest = match[1].lower(), parse_authority(match[2]), match[3]
    if scheme not in (b"http", b"https"):
        raise bad_request("bad-target", "scheme")
    if not rest:
        rest = b"*" if method == b"OPTIONS" else b"/"  # RFC 9112 section 3.2.4
    elif rest[0] != 47:
        rest = b"/" + rest
    return rest, authority, scheme


def parse_status_line(line: bytes) -> tuple[int, int]:
    """Version (10 or 11) and status of a response (RFC 9112 section 4). The space before an absent reason may be missing."""
    known = _status_lines.get(line)
    if known is not None:
        return known
    match = _STATUS.fullmatch(line)
    if match is None:
        raise bad_request("bad-status-line")
    result = (10 + int(match[1]), int(match[2]))
    if len(line) <= _START_BYTES:
        if len(_status_lines) >= _START_MEMO:
            _status_lines.clear()
        _status_lines[line] = result
    return result


def _field(line: bytes) -> Field:
    """One field line, remembered."""
    known = _other_lines.get(line)
    if known is not None:
        return known
    name, colon, value = line.partition(b":")
    if not colon or TOKEN.fullmatch(name) is None:
        if line[:1] in b" \t":
            raise bad_request("bad-field", "obs-fold")  # RFC 9112 section 5.2; of the first line: section 2.2
        # RFC 9112 section 5.1: white space before the colon MUST be refused.
        raise bad_request("bad-field", "white space before the colon" if name.rstrip(b" \t") != name else "name")
    field = (name.lower(), value.strip(b" \t"))
    if not valid_value(field[1]):
        junk = _JUNK.search(field[1] + b" ")
        if junk is not None and junk[0] in b"\r\n":
            raise _line_fault(junk[0])
        raise bad_request("bad-field", "value of " + field[0].decode("ascii"))
    if len(line) <= _LINE_BYTES:
        memo = _other_lines if field[0] in NEVER_IN_FIELDS else _plain_lines
        if len(memo) >= _LINE_MEMO:
            memo.clear()
        memo[line] = field
    return field


def _split(block: bytes, count_limit: int) -> tuple[Fields, dict[bytes, list[bytes]], int]:
    """The fields that may travel on, the values of the others by name, and the number of lines, at most `count_limit`."""
    fields: Fields = []
    others: dict[bytes, list[bytes]] = {}
    if not block:
        return fields, others, 0
    lines = block.split(b"\r\n")
    if len(lines) > count_limit:
        raise _too_many()
    known = _plain_lines.get
    for line in lines:
        field = known(line)
        if field is None:
            field = _field(line)
            name, value = field
            if name in NEVER_IN_FIELDS:
                if name in others:
                    others[name].append(value)
                else:
                    others[name] = [value]
                continue
        fields.append(field)
    return fields, others, len(lines)


def _too_many() -> Fault:
    return bad_request("fields-too-large", "count", status=431)


def _parse(block: bytes, count_limit: int) -> tuple[Block, dict[bytes, list[bytes]]]:
    """What requests and responses have in common; and the other values."""
    found = Block()
    fields, others, found.count = _split(block, count_limit)
    values = others.get(b"connection")
    if values is not None:
        found.close, found.keep_alive, upgrade, named = _connection(values[0] if len(values) == 1 else b",".join(values))
        if named:
            fields = [field for field in fields if field[0] not in named]  # RFC 9110 section 7.6.1
        if upgrade:
            found.websocket = b"websocket" in list_tokens(others.get(b"upgrade", ()))
    found.fields = fields
    lengths = others.get(b"content-length")
    if lengths is not None:
        found.content_length = content_length(lengths)
    codings = others.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise bad_request(
                "bad-framing", "Content-Length beside Transfer-Encoding"
            )  # RFC 9112 section 6.3: ought to be an error
        _only_chunked(codings)
        found.chunked = True
    return found, others


def _connection(value: bytes) -> tuple[bool, bool, bool, frozenset[bytes]]:
    """Of `Connection`: whether it says close, keep-alive, upgrade; and the fields that it names, remembered."""
    known = _connections.get(value)
    if known is not None:
        return known
    options = connection_options((value,))
    result = (b"close" in options, b"keep-alive" in options, b"upgrade" in options, options - NEVER_IN_FIELDS - {b"close"})
    if len(value) <= _START_BYTES:
        if len(_connections) >= _START_MEMO:
            _connections.clear()
        _connections[value] = result
    return result


def _only_chunked(values: list[bytes]) -> None:
    """RFC 9112 section 6.1 and 6.3: chunked is the only coding that we know, once, on one line."""
    if len(values) == 1:
        if values[0].lower() == b"chunked":
            return
        codings = [coding.strip(b" \t") for coding in values[0].lower().split(b",")]
        if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and b"" not in codings:
            raise bad_request("bad-transfer-encoding", "unknown coding", status=501)
    raise bad_request("bad-transfer-encoding")


def _remember(memo: dict[bytes, Block], block: bytes, found: Block) -> Block:
    if len(block) <= _BLOCK_BYTES:
        if len(memo) >= _BLOCK_MEMO:
            memo.clear()
        memo[block] = found
    return found


def request_block(block: bytes, count_limit: int) -> Block:
    """The facts of a request's field block (without its last CRLF). What depends on the version is for the caller to check.

    Raises `Fault` with status 400, 431 (more than `count_limit` lines), 417 (an expectation other than 100-continue) or 501 (a
    transfer coding beside chunked).
    """
    known = _request_blocks.get(block)
    if known is not None:
        if known.count > count_limit:
            raise _too_many()
        return known
    found, others = _parse(block, count_limit)
    if b"_" in block:
        found.fields = [field for field in found.fields if b"_" not in field[0]]  # see fields.underscored
    hosts = others.get(b"host")
    if hosts is not None:
        if len(hosts) != 1:
            raise bad_request("bad-host", "repeated")  # RFC 9112 section 3.2
        found.host = parse_authority(hosts[0])
    expect = others.get(b"expect")
    if expect is not None:
        if set(list_tokens(expect)) != {b"100-continue"}:
            raise bad_request("bad-expect", status=417)  # RFC 9110 section 10.1.1
        found.expect = True
    te = others.get(b"te")
    if te is not None:
        found.te_trailers = b"trailers" in list_tokens(te)  # RFC 9110 section 10.1.4
    if found.websocket:
        keys = sum(field[0] == b"sec-websocket-key" for field in found.fields)
        found.websocket = keys == 1  # RFC 6455 sections 4.2.1 and 11.3.1
    return _remember(_request_blocks, block, found)


def response_block(block: bytes, count_limit: int) -> Block:
    """The facts of a response's field block (without its last CRLF)."""
    known = _response_blocks.get(block)
    if known is not None:
        if known.count > count_limit:
            raise _too_many()
        return known
    found, _ = _parse(block, count_limit)
    return _remember(_response_blocks, block, found)


def trailer_fields(block: bytes, count_limit: int) -> Fields:
    """The fields of a trailer section (without its last CRLF) that may travel on (RFC 9110 section 6.5.1)."""
    plain, others, _ = _split(block, count_limit)
    return clean_trailers(plain + [(name, value) for name, values in others.items() for value in values])
