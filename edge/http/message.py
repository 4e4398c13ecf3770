"""What the codecs and the rest of the gateway say to each other about one HTTP message.

Invariants: field names are lower-case bytes; values carry no CR, LF, NUL and no white space at their edges; no
hop-by-hop field, pseudo-field, `host`, `content-length`, `transfer-encoding`, `expect` or `proxy` is ever inside
`fields` (what they say stands in attributes instead), so whatever is written to the other side is written anew and not copied.
A body is a run of `bytes` events, closed by one `End`.
"""

from __future__ import annotations

__all__ = ["ConnectionInfo", "End", "Field", "Fields", "RequestHead", "ResponseHead", "SharedFields"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.settings.client_rules import ClientLeaf
    from edge.settings.model import Host, Listener

Field = tuple[bytes, bytes]
Fields = list[Field]


class SharedFields(list[Field]):
    """Fields that many messages share, never changed once made. What HTTP/1.1 and HTTP/2 write for them is kept in `encoded` and
    `packed`, b"" until then.
    """

    __slots__ = ("encoded", "head", "packed")

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.encoded = b""
        self.packed = b""
        self.head = (0, -1, b"")  # status, length of the body, and the HTTP/1.1 head that they make with these fields


class RequestHead:
    """A request's head. A codec may give the same object for equal heads, so neither it nor its `fields` is ever changed.

    `target` is the origin-form path and query as received, or ``b"*"`` (OPTIONS)."""

    __slots__ = (
        "authority", "content_length", "end", "expect_continue", "fields", "head_only", "keep_alive",
        "method", "protocol", "scheme", "target", "te_trailers", "usual", "version", "wire",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        target: bytes,
        fields: Fields,
        *,
        version: int = 11,
        content_length: int | None = None,
        end: bool = True,
        protocol: bytes = b"",
        expect_continue: bool = False,
        te_trailers: bool = False,
        keep_alive: bool = True,
    ) -> None:
        self.method = method
        self.head_only = method == b"HEAD"
        self.scheme = scheme
        self.authority = authority  # host[:port] as received, lower-cased; b"" only for HTTP/1.0 without Host
        self.target = target
        self.fields = fields
        self.version = version  # 10, 11 or 20
        self.usual = version == 11 and not self.head_only  # an answer in HTTP/1.1 has a body with a length
        self.content_length = content_length  # None: not declared (chunked, or h2 without it)
        self.end = end  # True: no body follows and no End event comes
        self.protocol = protocol  # b"websocket": an Upgrade (h1) or an extended CONNECT (h2, RFC 8441) is asked for
        self.expect_continue = expect_continue
        self.te_trailers = te_trailers  # the client said `te: trailers`
        self.wire = b""  # what HTTP/1.1 made of it for an upstream, kept by the codec; without the empty line
        self.keep_alive = keep_alive  # h1: the connection may carry another request afterwards

    def __repr__(self) -> str:
        return f"<{self.method!r} {self.scheme!r}://{self.authority!r}{self.target!r} v{self.version} end={self.end}>"


class ResponseHead:
    """A response's head; 1xx ones are events of their own before the final one. `fields` may be shared, as a request's."""

    __slots__ = ("body", "content_length", "end", "fields", "keep_alive", "protocol", "status", "version")

    def __init__(
        self,
        status: int,
        fields: Fields,
        *,
        version: int = 11,
        content_length: int | None = None,
        end: bool = False,
        keep_alive: bool = True,
        protocol: bytes = b"",
        body: bytes = b"",
    ) -> None:
        self.status = status
        self.fields = fields
        self.version = version
        # the length declared (for HEAD and 304 too, where no body follows); None: not declared
        self.content_length = content_length
        self.end = end  # True: no body follows and no End event comes
        self.keep_alive = keep_alive
        self.protocol = protocol  # the Upgrade token of a 101, else b""
        self.body = body  # with `end`: the whole body, when it came together with the head

    def __repr__(self) -> str:
        return f"<{self.status} length={self.content_length} end={self.end}>"


class End:
    """The end of a body, with its trailers."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: Fields | None = None) -> None:
        self.trailers: Fields = trailers if trailers is not None else []


class ConnectionInfo:
    """What is known about a client's connection: written once after the handshake, read by policy and logs."""

    __slots__ = (
        "alpn", "client", "early", "group", "host", "ja4", "listener", "local", "local_port", "peer", "peer_port",
        "prepared", "record", "resumed", "secure", "sni", "suite", "tls_version",
    )  # fmt: skip

    def __init__(self, peer: str, peer_port: int, listener: Listener, *, secure: bool) -> None:
        self.peer = peer
        self.peer_port = peer_port
        self.local = ""  # where it connected to; only where somebody is told
        self.local_port = 0
        self.listener = listener
        self.secure = secure
        self.early = False  # for requests that are answered before the handshake is confirmed
        self.host: Host | None = None  # the host whose TLS context serves this connection; None on plain listeners
        self.sni: str | None = None
        self.tls_version = ""
        self.suite = ""
        self.group = ""
        self.resumed = False
        self.alpn = b""
        self.ja4 = ""
        self.client: ClientLeaf | None = None  # who the handshake proved the client to be
        self.prepared: object = None  # what the policies keep of this connection between its requests
        self.record: object = None  # and what the log keeps
