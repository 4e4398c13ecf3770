"""The ClientHello, read before there is a TLS connection (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).

Theory. Which context serves a connection is decided from the hello alone; the connection is created afterwards and is
fed the very same bytes (`HelloReader.raw`). So this parser and OpenSSL read one message twice, and a difference between the two
would be a hole. It is therefore strict wherever a choice hangs on the answer (lengths, repeated extensions,
server_name, ALPN, supported_versions: see `edge.wire.extensions`), and leaves to OpenSSL what it does not use itself. The
hello's name is compared once more with the one that OpenSSL saw when the handshake is done.

The hello is a handshake message that may be spread over several records, and these over several segments. Bytes and
records are bounded apart: a hello in one-byte records is legal and six times as long on the wire. What follows the
hello in the same read (0-RTT data, for example) is not looked at; it stays in `raw`.

Invariants
* A `ClientHello` that `feed` returns is complete and well-formed; `sni` is a canonical DNS name or None.
* An address as server_name (RFC 6066 section 3 forbids it) counts as no server_name: some probes and libraries send the
  address that they connect to, and the answer that a client without SNI gets is the answer that they need.
* After a Fault `hello` holds what was understood up to there, for the log.

The record that carries the first flight may name any 3.x version (RFC 8446 section 5.1 asks servers to ignore it).
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct, unpack_from
from struct import error as StructError

from edge.errors import Alert, Fault, Side
from edge.wire import ja4
from edge.wire.extensions import malformed, read_lists, remembered_lists, server_name
from edge.wire.psk import first_binder, first_identity

__all__ = ["MAX_RECORDS", "ClientHello", "HelloReader", "alert_record", "parse"]

MAX_RECORDS = 4096
"""Records that one hello may be spread over: enough for a post-quantum hello in one-byte records, twice over."""

_MAX_PLAINTEXT = 16_384
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_TLS12 = 0x0303
_TLS13 = 0x0304

_SERVER_NAME = 0
_GROUPS = 10
_POINTS = 11
_SIGNATURES = 13
_ALPN = 16
_TICKET = 35
_PSK = 41
_EARLY_DATA = 42
_VERSIONS = 43
_READ = (_SERVER_NAME, _ALPN, _VERSIONS, _GROUPS, _SIGNATURES, _TICKET, _PSK, _EARLY_DATA, _POINTS)
_LARGEST_REMEMBERED = 4096  # bytes of extensions; bounds what the memos of `remembered_lists` and of shapes can hold
_MOST_SHAPES = 256
_MOST_IN_SHAPE = 64  # extensions

_pair = Struct(">HH").unpack_from
_short = Struct(">H").unpack_from
_head = Struct(">HH").pack

_METHODS = tuple(
    f"{method} ".encode() for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI")
)


class ClientHello:
    """What a client offers. Lists keep the client's order and its GREASE values (RFC 8701)."""

    __slots__ = (
        "_ciphers", "_groups", "_ja4", "_signatures", "alpn", "binder", "early_data", "extensions", "legacy_version",
        "psk_offered", "session_ticket", "sni", "sni_sent", "versions",
    )  # fmt: skip

    def __init__(self) -> None:
        self.legacy_version = 0
        self.sni: str | None = None
        self.sni_sent = False  # a server_name extension was there, be it with an address
        self.alpn: tuple[bytes, ...] = ()
        self.versions: tuple[int, ...] = ()  # of supported_versions, or the legacy version
        self.extensions: tuple[int, ...] = ()  # types, in order
        self.session_ticket = b""  # the first PSK identity, else the ticket extension
        self.psk_offered = False
        self.early_data = False
        self.binder = b""  # of the first PSK identity, where early data is offered with it
        self._ciphers = b""
        self._groups = b""
        self._signatures = b""
        self._ja4 = ""

    @property
    def ciphers(self) -> tuple[int, ...]:
        return unpack_from(f">{len(self._ciphers) // 2}H", self._ciphers)

    @property
    def groups(self) -> tuple[int, ...]:
        return unpack_from(f">{len(self._groups) // 2}H", self._groups)

    @property
    def sig_algs(self) -> tuple[int, ...]:
        return unpack_from(f">{len(self._signatures) // 2}H", self._signatures)

    def ja4(self, transport: str = "t") -> str:
        """The JA4 fingerprint. Computed once; `transport` is ``t`` for TLS over TCP, ``q`` for QUIC, ``d`` for DTLS."""
        if not self._ja4:
            alpn = self.alpn[0] if self.alpn else b""
            self._ja4 = ja4.fingerprint(self.versions, self._ciphers, self.extensions, alpn, self._signatures, sni=self.sni_sent)
        return transport + self._ja4

    @property
    def alert_without_name(self) -> Alert:
        """What to answer where a name is needed and this hello has none (RFC 8446 section 9.2, RFC 6066 section 3)."""
        return Alert.MISSING_EXTENSION if not self.sni_sent and _TLS13 in self.versions else Alert.UNRECOGNIZED_NAME

    def __repr__(self) -> str:
        return f"<ClientHello sni={self.sni!r} alpn={self.alpn!r} versions={[hex(version) for version in self.versions]}>"


class HelloReader:
    """Gathers a connection's first bytes until the ClientHello is there.

    `max_bytes` bounds the handshake message; what `raw` holds is bounded by it, by `MAX_RECORDS` and by the last read.
    """

    __slots__ = ("_max", "_message", "_position", "_raw", "_records", "hello", "plain_http")

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._raw: bytes | bytearray = b""
        self._message = bytearray()  # handshake bytes of the records before `_position`
        self._position = 0  # of the next record in `_raw`
        self._records = 0
        self.hello: ClientHello | None = None
        self.plain_http = False

    @property
    def raw(self) -> bytes:
        """Everything that was fed, in order."""
        return bytes(self._raw)

    @property
    def held(self) -> int:
        """How many bytes were fed."""
        return len(self._raw)

    def feed(self, data: bytes | memoryview) -> ClientHello | None:
        """Take bytes from the client; the hello as soon as it is complete, None when more is needed.

        Raises Fault (side client) with the alert to answer: ``not-tls``, ``hello-too-long``, ``hello-malformed``,
        ``hello-record-overflow``, ``hello-wrong-message``, ``no-common-version``.
        """
        if type(data) is not bytes:
            data = bytes(data)
        if not self._raw:
            self._raw = data
        else:
            if not isinstance(self._raw, bytearray):
                self._raw = bytearray(self._raw)
            self._raw += data
        return self._gather()

    def _gather(self) -> ClientHello | None:
        raw, message = self._raw, self._message
        size = len(raw)
        while size > self._position:
            at = self._position
            self._check_start(at)
            if size - at < 5:
                return None
            length = _short(raw, at + 3)[0]
            if length > _MAX_PLAINTEXT:
                raise Fault(Side.CLIENT, "hello-record-overflow", detail=f"{length} bytes", alert=Alert.RECORD_OVERFLOW)
            if not length:
                raise malformed("empty record", Alert.UNEXPECTED_MESSAGE)
            if size - at < 5 + length:
                self._check_message(raw[at + 5 : at + 9] if not message else b"")
                return None
            self._records += 1
            if self._records > MAX_RECORDS:
                raise Fault(
                    Side.CLIENT, "hello-too-long", detail=f"more than {MAX_RECORDS} records", alert=Alert.ILLEGAL_PARAMETER
                )
            message += memoryview(raw)[at + 5 : at + 5 + length]
            self._position = at + 5 + length
            needed = self._check_message(message)
            if needed and len(message) >= needed:
                return self._parse(bytes(message), 4, needed)
        return None

    def _check_start(self, at: int) -> None:
        """Refuse what is no handshake record as early as its first bytes show it."""
        raw = self._raw
        kind = raw[at]
        if kind != _HANDSHAKE:
            if at or 20 <= kind <= 24:
                raise Fault(Side.CLIENT, "hello-wrong-message", detail=f"record type {kind}", alert=Alert.UNEXPECTED_MESSAGE)
            if kind & 0x80 and len(raw) < 3:
                return  # an SSLv2 hello shows itself in the third byte
            if kind & 0x80 and raw[2] == _CLIENT_HELLO:
                raise Fault(Side.CLIENT, "no-common-version", detail="SSLv2 hello", alert=Alert.PROTOCOL_VERSION)
            start = bytes(raw[:8])
            self.plain_http = any(start.startswith(method) or method.startswith(start) for method in _METHODS)
            if not self.plain_http:
                if len(raw) < 2:
                    return  # the second byte tells a record of no known type from what is no record at all
                if raw[1] == 3:
                    raise Fault(Side.CLIENT, "hello-wrong-message", detail=f"record type {kind}", alert=Alert.UNEXPECTED_MESSAGE)
            raise Fault(Side.CLIENT, "not-tls", detail="a plain HTTP request" if self.plain_http else "")
        if len(raw) > at + 1 and raw[at + 1] != 3:
            raise Fault(Side.CLIENT, "not-tls", detail=f"record version {raw[at + 1]}.x", alert=Alert.PROTOCOL_VERSION)

    def _check_message(self, message: bytes | bytearray) -> int:
        """Check the start of the handshake message; its length with the header, or 0 when that is not known yet."""
        if message and message[0] != _CLIENT_HELLO:
            raise Fault(Side.CLIENT, "hello-wrong-message", detail=f"handshake type {message[0]}", alert=Alert.UNEXPECTED_MESSAGE)
        if len(message) < 4:
            return 0
        length = int.from_bytes(message[1:4], "big")
        if length > self._max:
            raise Fault(Side.CLIENT, "hello-too-long", detail=f"{length} bytes", alert=Alert.ILLEGAL_PARAMETER)
        return 4 + length

    def _parse(self, data: bytes, at: int, end: int) -> ClientHello:
        hello = self.hello = ClientHello()
        parse(hello, data, at, end)
        return hello


def parse(hello: ClientHello, data: bytes, at: int, end: int) -> None:
    """Fill `hello` from the body of a ClientHello, `data[at:end]`."""
    if end - at < 38:
        raise malformed("short")
    hello.legacy_version = legacy = _short(data, at)[0]
    at += 34  # the version and the random
    size = data[at]
    at += 1 + size
    if size > 32 or at + 2 > end:
        raise malformed("session id")
    size = _short(data, at)[0]
    at += 2
    if size < 2 or size & 1 or at + size >= end:
        raise malformed("cipher suites")
    hello._ciphers = data[at : at + size]
    at += size
    size = data[at]
    at += 1
    if not size or at + size > end:
        raise malformed("compression methods")
    if 0 not in data[at : at + size]:
        raise malformed("no null compression", Alert.ILLEGAL_PARAMETER)
    at += size
    hello.versions = (legacy,)
    if at != end:
        _parse_extensions(hello, data, at, end)
    versions = hello.versions
    if _TLS13 not in versions and _TLS12 not in versions and (legacy < _TLS12 or _VERSIONS in hello.extensions):
        detail = ", ".join(_version_name(version) for version in versions)
        raise Fault(Side.CLIENT, "no-common-version", detail=detail, alert=Alert.PROTOCOL_VERSION)


def _version_name(version: int) -> str:
    return {0x0300: "SSLv3", 0x0301: "TLSv1.0", 0x0302: "TLSv1.1"}.get(version, f"{version:#06x}")


def _parse_extensions(hello: ClientHello, data: bytes, at: int, end: int) -> None:
    if at + 2 > end or _short(data, at)[0] != end - at - 2:
        raise malformed("extensions' length")
    key = data[at : at + 6]
    shape = _shapes.get(key)
    if type(shape) is _Shape and (items := shape.unpack(data, at + 2))[::2] == shape.heads:
        hello.extensions = shape.kinds
        name, alpn, versions, groups, signatures, ticket, psk, early_data, points = shape.pick((*items, None))
        twice = False
        small = True
    else:
        found, twice = _extensions(data, at + 2, end)
        hello.extensions = tuple(found)
        name, alpn, versions, groups, signatures, ticket, psk, early_data, points = map(found.get, _READ)
        small = end - at <= _LARGEST_REMEMBERED
        if small and not twice:
            _remember_shape(key, shape, found)
    if name is not None:  # first, so that a log of what else is wrong names the host
        hello.sni_sent = True
        hello.sni = server_name(name)
    if twice:
        raise malformed("an extension twice", Alert.ILLEGAL_PARAMETER)
    lists = remembered_lists if small else read_lists
    hello.alpn, offered, hello._groups, hello._signatures = lists(alpn, versions, groups, signatures, points)
    if offered:
        hello.versions = offered
    if psk is not None:
        if hello.extensions[-1] != _PSK:
            raise malformed("pre_shared_key is not last", Alert.ILLEGAL_PARAMETER)
        hello.psk_offered = True
        hello.session_ticket = first_identity(psk)
    elif ticket is not None:
        hello.session_ticket = ticket
    if early_data is not None:
        if early_data:
            raise malformed("early_data")
        hello.early_data = True
        if psk is not None:
            hello.binder = first_binder(psk)


def _extensions(data: bytes, at: int, end: int) -> tuple[dict[int, bytes], bool]:
    """The bodies by type, in the client's order, and whether a type was there twice."""
    found: dict[int, bytes] = {}
    twice = False
    try:
        while at < end:
            kind, size = _pair(data, at)
            if kind in found:
                twice = True
            start = at + 4
            at = start + size
            found[kind] = data[start:at]
    except StructError:
        at = -1
    if at != end:
        raise malformed("an extension's length")
    return found, twice


class _Shape:
    """Which extensions there are, in which order and how long: nearly always the same in all hellos of one client.

    One call then takes all of them apart; that their heads (type and length) are those of the shape proves that it fits.
    """

    __slots__ = ("heads", "kinds", "pick", "unpack")

    def __init__(self, heads: tuple[bytes, ...]) -> None:
        pairs = [_pair(head) for head in heads]
        self.heads = heads
        self.kinds = tuple(kind for kind, _ in pairs)
        self.unpack = Struct(">" + "".join(f"4s{size}s" for _, size in pairs)).unpack_from
        places = {kind: 2 * number + 1 for number, kind in enumerate(self.kinds)}
        self.pick = itemgetter(*(places.get(kind, -1) for kind in _READ))  # the last item is None


_shapes: dict[bytes, _Shape | tuple[bytes, ...]] = {}
"""By the length of all extensions and the head of the first. A tuple: heads that came once; when they come again, a shape."""


def _remember_shape(key: bytes, known: _Shape | tuple[bytes, ...] | None, found: dict[int, bytes]) -> None:
    """Clients that shuffle their extensions cost no more than this, and take no shape's place."""
    if type(known) is _Shape or len(found) > _MOST_IN_SHAPE:
        return
    heads = tuple([_head(kind, len(body)) for kind, body in found.items()])
    if known is None and len(_shapes) >= _MOST_SHAPES:
        _shapes.clear()
    _shapes[key] = _Shape(heads) if known == heads else heads


def alert_record(alert: Alert) -> bytes:
    """A fatal alert in a record of its own, as it goes out before there are keys (RFC 8446 section 6)."""
    return b"\x15\x03\x03\x00\x02\x02" + alert.to_bytes(1, "big")
