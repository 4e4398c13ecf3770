"""HTTP/1.1 towards upstreams: requests out, responses in (RFC 9110, RFC 9112).

`again` takes an answer that is equal, to the byte, to one that was read before; all others go through `feed` and `next_event`.

An upstream is trusted with content, not with framing: what a client of ours could read differently is a Fault (side upstream,
502), and the connection is not used again. Invariants: a response is only read when a request is out; bytes that nobody asked
for make the connection unusable; a body that was cut short ends in a Fault and never in `End`.
"""

from __future__ import annotations

from edge.errors import Fault, Retry, Side
from edge.http.fields import TOKEN, bad_request, blame_upstream
from edge.http.h1_framing import (
    IN_BROKEN,
    IN_DONE,
    IN_HEAD,
    IN_TUNNEL,
    IN_UNTIL_CLOSE,
    OUT_DONE,
    OUT_TUNNEL,
    Framing,
    encode_head,
)
from edge.http.h1_head import check_partial, parse_status_line, response_block
from edge.http.message import End, Fields, RequestHead, ResponseHead

__all__ = ["ClientCodec"]

_LINE_BYTES = 8 * 1024
_HEADER_BYTES = 64 * 1024
_WHOLE = 16_384  # bytes of a body that is handed on with its head when it is all there
_HEADER_COUNT = 200
_INTERIM = 256  # 1xx responses to one request

# RFC 9110 section 8.6: methods whose requests say so when they have no content
_WITH_CONTENT = frozenset({b"POST", b"PUT", b"PATCH"})


_ANSWERS = (
    512  # whole responses of at most _ANSWER_BYTES that are remembered; not those to HEAD, which say less than they seem to
)
_ANSWER_BYTES = 2048
_answers: dict[bytes, ResponseHead] = {}


class ClientCodec(Framing):
    """The client's side of one connection to an upstream."""

    __slots__ = ("_ended", "_fresh", "_head_only", "_interim", "_keep", "_protocol", "_seen")

    _sender = Side.CLIENT

    def __init__(self) -> None:
        super().__init__()
        self._in = IN_DONE
        self._out = OUT_DONE
        self._keep = True
        self._fresh = 0  # bytes of an unfinished head that were checked
        self._ended = False  # the upstream closed
        self._head_only = False
        self._interim = 0
        self._protocol = b""
        self._seen = False  # bytes of a response to the current request came

    # outward

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the exchange is complete, both sides keep the connection, nothing came unasked."""
        return self._in is IN_DONE and self._out is OUT_DONE and not self._buf and self._keep and not self._ended

    def request(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        fields: Fields,
        *,
        length: int | None,
        end: bool,
        protocol: bytes = b"",
        te_trailers: bool = False,
    ) -> bytes:
        """A request's head. `length` in bytes, None when not known: chunked unless `end` (no body follows).

        `protocol` asks for an upgrade. Raises Fault ``upstream-unsolicited`` (upstream, to be tried elsewhere) when bytes
        came unasked.
        """
        if self._in is not IN_DONE or self._out is not OUT_DONE or not self._keep or self._ended or (end and length):
            raise self._out_of_order("request")
        if self.buffered:
            raise Fault(Side.UPSTREAM, "upstream-unsolicited", retry=Retry.YES, status=502)
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target, authority)  # RFC 9112 section 3.2: Host first
        if len(start) - len(start.translate(None, b" \r\n")) != 7 or (protocol and TOKEN.fullmatch(protocol) is None):
            raise Fault(Side.EDGE, "bad-field", detail="space or line end in the request line", status=500)
        chunked = False
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif not end:
            chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        elif method in _WITH_CONTENT:
            framing = b"content-length: 0\r\n"
        else:
            framing = b""
        if protocol:
            framing += b"connection: upgrade\r\nupgrade: %b\r\n" % protocol
        elif te_trailers:
            framing += b"connection: te\r\nte: trailers\r\n"  # RFC 9110 section 10.1.4
        result = encode_head(start, fields, framing)
        self._begin_body(length, chunked=chunked, end=end)
        self._in = IN_HEAD
        self._head_only = method == b"HEAD"
        self._protocol = protocol
        self._interim = 0
        self._seen = False
        return result

    def send(self, head: RequestHead, request_id: bytes) -> bytes:
        """`request` for a whole head, with X-Request-Id beside its fields unless that is b"".

        What a head without body becomes is remembered in the head itself, which many requests share.
        """
        protocol = head.protocol
        wire = head.wire
        if not wire:
            wire = self.request(
                head.method,
                head.target,
                head.authority,
                head.fields,
                length=None if protocol else head.content_length,
                end=head.end or bool(protocol),
                protocol=protocol,
                te_trailers=head.te_trailers,
            )[:-2]
            if head.end and not protocol:
                head.wire = wire
        elif self._in is IN_DONE and self._out is OUT_DONE and not self._buf and self._keep and not self._ended:
            self._in = IN_HEAD
            self._head_only = head.head_only
            self._protocol = b""
            self._interim = 0
            self._seen = False
        elif self.buffered:
            raise Fault(Side.UPSTREAM, "upstream-unsolicited", retry=Retry.YES, status=502)
        else:
            raise self._out_of_order("request")
        return b"%bx-request-id: %b\r\n\r\n" % (wire, request_id) if request_id else wire + b"\r\n"

    # inward

    def again(self, data: bytes) -> ResponseHead | None:
        """Bytes from the upstream. If they are one whole response that was read before, and the request has gone out wholly: that
        response, body included, after which the connection is `reusable`. Otherwise None, and nothing has happened: `feed` them.
        """
        if self._in is not IN_HEAD or self._buf or self._head_only or len(data) > _ANSWER_BYTES:
            return None
        known = _answers.get(data)
        if known is None or self._out is not OUT_DONE or self._ended:
            return None
        self._in = IN_DONE
        self._keep = True
        return known

    def next_event(self) -> ResponseHead | bytes | End | None:
        """The next part of the response; None when more bytes are needed or it is complete.

        Raises `Fault` (side upstream, status 502); the connection must be closed.
        """
        try:
            if self._in is IN_HEAD:
                event: ResponseHead | bytes | End | None = self._head_event()
            elif self._in is IN_BROKEN:
                assert self._fault is not None
                raise self._fault
            else:
                event = self._body_event()
        except Fault as fault:
            if self._fault is None:
                self._fault = blame_upstream(fault)
            self._in = IN_BROKEN
            self._keep = False
            raise self._fault from None
        if event is None:
            self._drained = True
            if self._ended:
                return self._finish()
        return event

    def eof(self) -> End | None:
        """The upstream closed. `End` when that ends the body; None when no response is due, or when events were left: pull them.

        Raises Fault ``upstream-closed`` when nothing of a response had come (to be tried again if the connection was reused) and
        ``upstream-body-cut`` when a part had; so does `next_event` after the events that were left.
        """
        self._keep = False
        self._ended = True
        return self._finish() if self._drained else None

    def _finish(self) -> End | None:
        """The upstream closed and there is no further event in what it sent."""
        state = self._in
        if state is IN_DONE or state is IN_TUNNEL:
            return None
        if state is IN_UNTIL_CLOSE:
            self._in = IN_DONE
            return End()
        if self._fault is None:
            if state is IN_HEAD and not self._seen and not self.buffered:
                self._fault = Fault(Side.UPSTREAM, "upstream-closed", retry=Retry.IF_REUSED, status=502)
            else:
                self._fault = Fault(Side.UPSTREAM, "upstream-body-cut", status=502)
        self._in = IN_BROKEN
        raise self._fault

    def _head_event(self) -> ResponseHead | None:
        buf, pos = self._buf, self._pos
        if pos == len(buf):
            return None
        self._seen = True
        head_end = buf.find(b"\r\n\r\n", pos + self._fresh - 3 if self._fresh > 3 else pos)
        if head_end < 0:
            line_end = check_partial(buf, pos, pos + self._fresh, _LINE_BYTES, _HEADER_BYTES, _HEADER_COUNT)
            if line_end >= 0:
                parse_status_line(buf[pos:line_end])
            self._fresh = len(buf) - pos
            return None
        line_end = buf.find(b"\r\n", pos)
        if line_end - pos > _LINE_BYTES or head_end - line_end > _HEADER_BYTES:
            raise bad_request("fields-too-large", "bytes")
        version, status = parse_status_line(buf[pos:line_end])
        block = response_block(buf[line_end + 2 : head_end], _HEADER_COUNT)
        self._used(head_end + 4)
        self._fresh = 0
        length, chunked = block.content_length, block.chunked
        if chunked and version == 10:
            raise bad_request("bad-transfer-encoding", "in HTTP/1.0")  # RFC 9112 section 6.1
        if status < 200:
            if chunked or length:
                raise bad_request("bad-framing", "body in 1xx")  # RFC 9110 section 8.6, RFC 9112 section 6.1
            return self._interim_head(status, version, block.websocket, block.fields)
        if status == 204 and (chunked or length):
            raise bad_request("bad-framing", "body in 204")  # RFC 9110 section 8.6, RFC 9112 section 6.1
        bodiless = self._head_only or status == 204 or status == 304  # RFC 9112 section 6.3
        keep = not block.close if version == 11 else block.keep_alive and not block.close
        end = bodiless or length == 0
        body = b""
        if end:
            self._in = IN_DONE
        elif length is not None and length <= _WHOLE and length <= len(self._buf) - self._pos:
            body = self._buf[self._pos : self._pos + length]
            self._used(self._pos + length)
            self._in = IN_DONE
            end = True
        else:
            self._expect_body(length, chunked, _HEADER_BYTES, _HEADER_COUNT, bounded=False)
            if self._in is IN_UNTIL_CLOSE:
                keep = False
        self._keep = keep
        head = ResponseHead(status, block.fields, version=version, content_length=length, end=end, keep_alive=keep, body=body)
        if end and keep and not pos and not self.buffered and not self._head_only and len(buf) <= _ANSWER_BYTES:
            if len(_answers) >= _ANSWERS:
                _answers.clear()
            _answers[buf] = head
        return head

    def _interim_head(self, status: int, version: int, websocket: bool, fields: Fields) -> ResponseHead:
        """A 1xx response: the final one follows, but after 101 comes the other protocol."""
        if version == 10:
            raise bad_request("bad-status-line", "1xx in HTTP/1.0")  # RFC 9110 section 15.2
        if status != 101:
            self._interim += 1
            if self._interim > _INTERIM:
                raise bad_request("too-many-interim")
            return ResponseHead(status, fields, end=True)
        if not self._protocol or not websocket or self._out is not OUT_DONE:
            raise bad_request("unasked-upgrade")  # RFC 9110 section 7.8
        self._in = IN_TUNNEL
        self._out = OUT_TUNNEL
        self._keep = False
        return ResponseHead(101, fields, end=True, keep_alive=False, protocol=self._protocol)
