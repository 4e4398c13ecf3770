"""HTTP/1.1 towards clients: requests in, responses out (RFC 9110, RFC 9112).

One exchange at a time. `again` takes a request that is equal, to the byte, to one that was read before; all others go through
`feed` and `next_event`. That one never looks past the end of the current request until `start_next`: what a client sends
ahead stays in the buffer, uninterpreted, and `buffered` says how much it is. A response may begin and end before the
request's body has come; then `keep_alive` is false, because what follows on the connection is that body.

Invariants: the framing of a request is Content-Length, or chunked, or nothing, never two of them (RFC 9112 section 6.3);
after a Fault nothing more is read; a response has exactly one framing, and none where none may be (HEAD, 1xx, 204, 304).
"""

from __future__ import annotations

from http import HTTPStatus
from math import inf

from edge.errors import Fault, Side
from edge.http.fields import TOKEN, authority_agrees, bad_request
from edge.http.h1_framing import (
    IN_BROKEN,
    IN_DONE,
    IN_HEAD,
    IN_TUNNEL,
    OUT_DONE,
    OUT_HEAD,
    OUT_NOTHING,
    OUT_TUNNEL,
    Framing,
    encode_head,
)
from edge.http.h1_head import Block, check_partial, parse_request_line, request_block
from edge.http.message import End, Fields, RequestHead, SharedFields
from edge.settings.model import Limits

__all__ = ["ServerCodec"]

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii")) for status in HTTPStatus}
_LEADING_LINES = 2  # empty lines before a request that are skipped


def _status_line(status: int) -> bytes:
    """The first line of a response; unknown codes have an empty reason, but its space (RFC 9112 section 4)."""
    known = _STATUS_LINES.get(status)
    return known if known is not None else b"HTTP/1.1 %d \r\n" % status


_HEADS = 512  # requests of at most _HEAD_BYTES that are remembered whole
_HEAD_BYTES = 2048
_heads: dict[bytes, tuple[Limits, bool, RequestHead]] = {}


class ServerCodec(Framing):
    """The server's side of one connection."""

    __slots__ = ("_fresh", "_keep", "_last", "_leading", "_limits", "_secure", "_served", "_usual", "_version")

    _sender = Side.UPSTREAM

    def __init__(self, limits: Limits, *, secure: bool) -> None:
        super().__init__()
        self._limits = limits
        self._secure = secure
        self._fresh = 0  # bytes of an unfinished head that were checked
        self._leading = 0  # empty lines skipped before this request
        self._served = 0  # requests read on this connection
        most = limits.requests_per_connection
        self._last = inf if most is None else most - 1  # so many requests before the last one
        self._usual = False  # the request is no HEAD and of HTTP/1.1
        self._keep = False
        self._version = 11

    # inward

    def next_event(self) -> RequestHead | bytes | End | None:
        """The next part of the current request; None when more bytes are needed or it is complete.

        After a head that has a body, `body_limit` is the listener's; set it to the route's before the next call, which raises 413
        at once when the declared length is beyond it. Raises `Fault` (side client) with the status to answer; the connection
        must close after that answer.
        """
        try:
            if self._in is IN_HEAD:
                return self._head_event()
            if self._in is IN_BROKEN:
                assert self._fault is not None
                raise self._fault
            return self._body_event()
        except Fault as fault:
            self._in = IN_BROKEN
            self._fault = fault
            raise

    def asked(self) -> tuple[bytes, bytes] | None:
        """Method and target of a request that was refused before its head was read, if its first line is a right one."""
        start = self._pos
        end = self._buf.find(b"\r\n", start)
        if end < 0 or end - start > self._limits.request_line:
            return None
        try:
            method, target, *_ = parse_request_line(self._buf[start:end])
        except Fault:
            return None
        return method, target

    def again(self, data: bytes) -> RequestHead | None:
        """Bytes from the client. If they are one whole request, without body, that was read before under the same limits, and
        nothing else waits: its head, for it says now what it said then. Otherwise None, and nothing has happened: `feed` them.
        """
        if self._in is not IN_HEAD or self._buf or len(data) > _HEAD_BYTES or self._served >= self._last:
            return None
        known = _heads.get(data)
        if known is None:
            return None
        limits, secure, head = known
        if limits is not self._limits or secure is not self._secure:
            return None
        self._served += 1
        self._keep = True
        self._version = head.version
        self._usual = head.usual
        self._in = IN_DONE
        return head

    def start_next(self) -> None:
        """The exchange is over on both sides: read the next request."""
        if not self.go_on():
            raise self._out_of_order("start_next")

    def go_on(self) -> bool:
        """`start_next` if `keep_alive`, and whether it was."""
        if not self._keep or self._out is not OUT_DONE or self._in is not IN_DONE:
            return False
        self._in = IN_HEAD
        self._out = OUT_HEAD
        self._leading = 0
        return True

    @property
    def keep_alive(self) -> bool:
        """Whether the exchange ended on both sides and the connection may carry another one."""
        return self._keep and self._out is OUT_DONE and self._in is IN_DONE

    def _head_event(self) -> RequestHead | None:
        buf, pos = self._buf, self._pos
        while buf.startswith(b"\r\n", pos) and self._leading < _LEADING_LINES:
            pos += 2  # RFC 9112 section 2.2: at least one empty line before a request should be ignored
            self._leading += 1
            self._fresh = 0
        self._pos = pos
        if pos == len(buf):
            return None
        limits = self._limits
        head_end = buf.find(b"\r\n\r\n", pos + self._fresh - 3 if self._fresh > 3 else pos)
        if head_end < 0:
            line_end = check_partial(buf, pos, pos + self._fresh, limits.request_line, limits.header_bytes, limits.header_count)
            if line_end >= 0:
                parse_request_line(buf[pos:line_end])
            self._fresh = len(buf) - pos
            return None
        line_end = buf.find(b"\r\n", pos)
        if line_end - pos > limits.request_line:
            raise bad_request("request-line-too-long", status=414)
        if head_end - line_end > limits.header_bytes:
            raise bad_request("fields-too-large", "bytes", status=431)
        line = parse_request_line(buf[pos:line_end])
        block = request_block(buf[line_end + 2 : head_end], limits.header_count)
        head = self._request(*line, block, head_end - line_end)
        self._used(head_end + 4)
        self._fresh = 0
        if head.end and head.keep_alive and not self.buffered and not pos and len(buf) <= _HEAD_BYTES:
            if len(_heads) >= _HEADS:
                _heads.clear()
            _heads[buf] = (limits, self._secure, head)
        return head

    def _request(
        self, method: bytes, target: bytes, version: int, authority: bytes, scheme: bytes, block: Block, block_bytes: int
    ) -> RequestHead:
        """A head whose lines are right; what depends on several of them is checked here."""
        limits = self._limits
        own_scheme = b"https" if self._secure else b"http"
        host = block.host
        if host is None:
            if version == 11:
                raise bad_request("bad-host", "missing")  # RFC 9112 section 3.2
        elif not authority:
            authority = host
        elif not authority_agrees(authority, host, scheme):
            raise bad_request("bad-host", "disagrees with the target")
        if scheme == b"https" and not self._secure:
            raise bad_request("scheme-not-secured", status=421)  # RFC 9110 section 7.4
        length, chunked = block.content_length, block.chunked
        if chunked and version == 10:
            raise bad_request("bad-transfer-encoding", "in HTTP/1.0")  # RFC 9112 section 6.1
        end = not chunked and not length
        self._served += 1
        keep = not block.close if version == 11 else block.keep_alive and not block.close  # RFC 9112 section 9.3
        if limits.requests_per_connection is not None and self._served >= limits.requests_per_connection:
            keep = False
        self._keep = keep
        self._version = version
        self._usual = version == 11 and method != b"HEAD"
        self.body_limit = limits.request_body
        if end:
            self._in = IN_DONE
        else:
            self._expect_body(length, chunked, limits.header_bytes - block_bytes, limits.header_count - block.count, bounded=True)
        return RequestHead(
            method,
            own_scheme,
            authority,
            target,
            block.fields,
            version=version,
            content_length=length,
            end=end,
            # RFC 9110 section 7.8: never from HTTP/1.0; RFC 6455 section 4.1: a GET
            protocol=b"websocket" if block.websocket and end and version == 11 and method == b"GET" else b"",
            expect_continue=block.expect and not end and version == 11,  # RFC 9110 section 10.1.1
            te_trailers=block.te_trailers,
            keep_alive=keep,
        )

    # outward

    def continue_100(self) -> bytes:
        """The interim response that asks for the body; nothing for HTTP/1.0 or after a final head (RFC 9110 section 10.1.1)."""
        return b"HTTP/1.1 100 Continue\r\n\r\n" if self._version == 11 and self._out is OUT_HEAD and self.expecting_body else b""

    def informational(self, status: int, fields: Fields) -> bytes:
        """A 1xx response other than 101; nothing for HTTP/1.0 (RFC 9110 section 15.2)."""
        if self._out is not OUT_HEAD or not 100 <= status <= 199 or status == 101:
            raise self._out_of_order(f"informational {status}")
        return encode_head(_status_line(status), fields, b"") if self._version == 11 else b""

    def head(
        self,
        status: int,
        fields: Fields,
        *,
        length: int | None,
        end: bool,
        close: bool,
        request: RequestHead | None,
        request_id: bytes = b"",
        body: bytes = b"",
    ) -> bytes:
        """The final response's head, and its body where that is at hand: `length` is then its length, `end` is True and the
        response is complete. `request` is None when none could be read.

        `length` is the body's in bytes, None when unknown: then chunked for HTTP/1.1 and until the close for 1.0. `end`: no body
        follows (a `length` with it is only right for HEAD and 304). Where no body may be (HEAD, 204, 304), `data` is swallowed.
        """
        if self._out is not OUT_HEAD or not 200 <= status <= 999:
            raise self._out_of_order(f"head {status}")
        if body and end and not close and (wire := self.whole(status, fields, request_id, body)):
            return wire
        head_only = request is not None and request.method == b"HEAD"
        bodiless = head_only or status == 204 or status == 304
        framing = b""
        chunked = False
        if bodiless:
            # RFC 9110 section 8.6: no Content-Length with 204; with HEAD and 304 the one that GET would have had.
            if length is not None and status != 204:
                framing = b"content-length: %d\r\n" % length
        elif end:
            if length is not None and length != len(body):
                raise self._broken_promise("body-too-short")
            framing = b"content-length: %d\r\n" % len(body)
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self._version == 11:
            chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            close = True  # RFC 9112 section 6.1: never chunked to HTTP/1.0
        if close or request is None or self._in is IN_BROKEN or not self._keep:
            self._keep = False
            framing += b"connection: close\r\n"
        elif self._version == 10:
            framing += b"connection: keep-alive\r\n"
        if status == 426 and self._version == 11:  # RFC 9110 section 15.5.22; it is the one protocol that there is
            framing += b"connection: upgrade\r\nupgrade: websocket\r\n"
        if request_id:
            framing += b"x-request-id: %b\r\n" % request_id
        result = encode_head(_status_line(status), fields, framing)
        if end:
            self._out = OUT_DONE
            return result + body if body and not bodiless else result
        self._begin_body(length, chunked=chunked, end=end)
        if bodiless:
            self._out = OUT_NOTHING
        return result

    def whole(self, status: int, fields: Fields, request_id: bytes, body: bytes) -> bytes:
        """`head` for a whole answer with a body and shared fields: but for the id and the body it is put together once.

        b"", and nothing has happened, unless the framing is the plainest: a length, and a connection that goes on without a word.
        """
        if not self._usual or self._in is not IN_DONE or self._out is not OUT_HEAD or not self._keep:
            return b""
        if type(fields) is not SharedFields:
            return b""
        size = len(body)
        known_status, known_size, start = fields.head
        if known_status != status or known_size != size:
            if status in {204, 304} or not 200 <= status <= 999:
                raise self._out_of_order(f"body of {status}")
            if status == 426:
                return b""
            start = encode_head(_status_line(status), fields, b"content-length: %d\r\n" % size)[:-2]
            fields.head = (status, size, start)
        self._out = OUT_DONE
        if request_id:
            return b"%bx-request-id: %b\r\n\r\n%b" % (start, request_id, body)
        return b"%b\r\n%b" % (start, body)

    def retract(self) -> None:
        """Nothing of the response's head has been sent: another one may be written."""
        self._out = OUT_HEAD

    def tunnel_head(self, fields: Fields, protocol: bytes) -> bytes:
        """101: the connection speaks `protocol` from here on, and `take_buffered` gives what the client sent already."""
        if self._out is not OUT_HEAD or self._in is not IN_DONE or self._version != 11 or TOKEN.fullmatch(protocol) is None:
            raise self._out_of_order("tunnel_head")
        result = encode_head(_status_line(101), fields, b"connection: upgrade\r\nupgrade: %b\r\n" % protocol)
        self._in = IN_TUNNEL
        self._out = OUT_TUNNEL
        self._keep = False
        return result
