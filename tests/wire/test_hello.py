"""The ClientHello parser: whole, in pieces, with what follows, and wrong in every way that matters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Alert, Fault, Side
from edge.wire.extensions import host_name, server_name
from edge.wire.hello import MAX_RECORDS, HelloReader, _Shape, _shapes, alert_record
from edge.wire.whole_hello import whole_hello
from tests.fuzz.fuzz_hello import check, read, verdict
from tests.wire.hellos import (
    alpn,
    block,
    body,
    captured,
    extension,
    hello,
    message,
    openssl_hello,
    psk,
    records,
    sni,
    versions,
    words,
)

TLS13 = versions(0x0304, 0x0303)
RICH = hello(
    extension(0x1A1A, b""), sni(b"WWW.Example.com"), extension(10, block(words(0x11EC, 0x001D))), alpn(b"h2", b"http/1.1"),
    extension(13, block(words(0x0403, 0x0804))), extension(42, b""), TLS13, extension(35, b""), psk(b"ticket" * 20),
)  # fmt: skip


def fault(data: bytes, limit: int = 32768) -> Fault:
    with pytest.raises(Fault) as raised:
        read(data, limit=limit)
    assert raised.value.side is Side.CLIENT
    return raised.value


def test_everything_that_a_hello_says() -> None:
    found = read(RICH)
    assert found is not None
    assert found.sni == "www.example.com"
    assert found.alpn == (b"h2", b"http/1.1")
    assert found.versions == (0x0304, 0x0303)
    assert found.legacy_version == 0x0303
    assert found.ciphers == (0x1301, 0x1302, 0xC02B)
    assert found.extensions == (0x1A1A, 0, 10, 16, 13, 42, 43, 35, 41)
    assert found.groups == (0x11EC, 0x001D)
    assert found.sig_algs == (0x0403, 0x0804)
    assert found.session_ticket == b"ticket" * 20
    assert found.psk_offered
    assert found.early_data


def test_a_ticket_of_tls_1_2() -> None:
    found = read(hello(sni(b"a.test"), extension(35, b"old ticket")))
    assert found is not None
    assert found.session_ticket == b"old ticket"
    assert not found.psk_offered
    assert found.versions == (0x0303,)


def test_no_extensions_at_all() -> None:
    found = read(records(message(body(None))))
    assert found is not None
    assert found.sni is None
    assert found.versions == (0x0303,)
    assert found.alpn == ()


REAL = {
    "pq": openssl_hello(),
    "x25519": openssl_hello("X25519"),
    "tls1.2": openssl_hello("X25519", tls12=True),
    "rich": RICH,
}


@pytest.mark.parametrize("data", REAL.values(), ids=REAL)
def test_split_everywhere(data: bytes) -> None:
    whole = verdict(data)
    assert whole[0] in ("a.test", "www.example.com")
    for at in range(1, len(data)):
        reader = HelloReader(32768)
        assert reader.feed(data[:at]) is None
        found = reader.feed(data[at:])
        assert found is not None
        assert (found.sni, found.alpn, found.ja4()) == (whole[0], whole[1], whole[-1])
        assert reader.raw == data


@pytest.mark.parametrize("size", [1, 2, 3, 16, 400, 1000])
@pytest.mark.parametrize("data", REAL.values(), ids=REAL)
def test_records_of_any_size_in_segments_of_any_size(data: bytes, size: int) -> None:
    split = records(data[5:], size)
    assert verdict(split) == verdict(data)
    assert verdict(split, 1) == verdict(data)
    assert verdict(split, 7) == verdict(data)


@pytest.mark.parametrize("tail", [b"\x17\x03\x03\x00\x05early", b"\x14\x03\x03\x00\x01\x01", b"junk", bytes(17_000)])
@pytest.mark.parametrize("data", [RICH, records(RICH[5:], 50)])
def test_what_follows_is_left_alone(data: bytes, tail: bytes) -> None:
    reader = HelloReader(32768)
    found = reader.feed(data + tail)
    assert found is not None
    assert found.sni == "www.example.com"
    assert reader.raw == data + tail


def test_a_handshake_message_after_the_hello_in_its_record() -> None:
    assert verdict(records(RICH[5:] + message(b"", 24))) == verdict(RICH)


def test_memoryviews_are_copied() -> None:
    buffer = bytearray(RICH)
    reader = HelloReader(32768)
    assert reader.feed(memoryview(buffer)) is not None
    buffer[:] = bytes(len(buffer))
    assert reader.raw == RICH


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0303, 0x0304, 0x03FF])
def test_the_records_version_is_not_looked_at(version: int) -> None:
    assert verdict(records(RICH[5:], version=version)) == verdict(RICH)


def test_s_client() -> None:
    found = read(captured("-servername", "Host.Test", "-alpn", "h2,http/1.1"))
    assert found is not None
    assert found.sni == "host.test"
    assert found.alpn == (b"h2", b"http/1.1")
    assert found.versions[0] == 0x0304
    without = read(captured("-noservername", "-tls1_2"))
    assert without is not None
    assert without.sni is None
    assert without.versions == (0x0303,)


MALFORMED = {
    "no extensions' length": records(message(body(None) + b"\0")),
    "extensions longer than the message": records(message(body(None) + b"\0\x0a" + TLS13)),
    "extensions shorter than the message": records(message(body([TLS13]) + b"\0")),
    "a header cut short": records(message(body([TLS13, b"\0\0\0"]))),
    "an extension too long": records(message(body([b"\0\x05\0\xff"]))),
    "an extension past what was read": records(message(body([TLS13, b"\x12\x34\xff\xff"]))) + bytes(70_000),
    "an extension twice": hello(TLS13, extension(23, b""), extension(23, b"")),
    "a name twice": hello(sni(b"a.test"), sni(b"b.test"), TLS13),
    "two names": hello(extension(0, block(b"\0" + block(b"a.test") + b"\0" + block(b"b.test")))),
    "another kind of name": hello(extension(0, block(b"\1" + block(b"a.test")))),
    "an empty name": hello(sni(b"")),
    "an empty list of names": hello(extension(0, block(b""))),
    "no list of names": hello(extension(0, b"")),
    "a name's length too long": hello(extension(0, block(b"\0\0\x09a.test"))),
    "NUL in the name": hello(sni(b"a.test\0.evil")),
    "a name that is not ASCII": hello(sni("ä.test".encode())),
    "a blank in the name": hello(sni(b"a .test")),
    "an empty label": hello(sni(b"a..test")),
    "a name of dots": hello(sni(b".")),
    "a label that starts with a hyphen": hello(sni(b"-a.test")),
    "a long label": hello(sni(b"a" * 64 + b".test")),
    "a long name": hello(sni(b"a23456789." * 25 + b"test")),
    "a port": hello(sni(b"a.test:443")),
    "an empty protocol": hello(alpn(b"h2", b"")),
    "no protocol": hello(alpn()),
    "protocols cut short": hello(extension(16, block(b"\x08http/1."))),
    "protocols' length": hello(extension(16, b"\0\x09\x02h2")),
    "no version": hello(versions()),
    "half a version": hello(extension(43, b"\x03\x03\x04\x03")),
    "versions' length": hello(extension(43, b"\x04\x03\x04")),
    "odd groups": hello(extension(10, block(b"\0\x1d\0"))),
    "no groups": hello(extension(10, block(b""))),
    "odd signature algorithms": hello(extension(13, block(b"\4"))),
    "pre_shared_key not last": hello(psk(b"ticket"), TLS13),
    "an empty identity": hello(TLS13, psk(b"")),
    "an identity too long": hello(TLS13, extension(41, block(b"\0\x40ticket\0\0\0\0") + block(b"\x20" + bytes(32)))),
    "no binders": hello(TLS13, extension(41, block(block(b"ticket") + bytes(4)))),
    "binders cut short": hello(TLS13, extension(41, block(block(b"ticket") + bytes(4)) + b"\0\x30\0")),
    "early_data with a body": hello(TLS13, extension(42, b"\0")),
    "a long session id": hello(session=bytes(33)),
    "no cipher suites": hello(ciphers=()),
    "odd cipher suites": records(message(b"\3\3" + bytes(32) + b"\0" + block(b"\x13\1\0") + b"\1\0")),
    "no compression method": hello(compression=b""),
    "no null compression": hello(compression=b"\1"),
    "nothing": records(message(b"")),
    "short": records(message(b"\3\3" + bytes(20))),
    "cut in the session id": records(message(b"\3\3" + bytes(32) + b"\x20" + bytes(10))),
    "an empty record": b"\x16\x03\x01\0\0",
    "an empty record within": records(RICH[5:100]) + b"\x16\x03\x01\0\0" + records(RICH[100:]),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed(data: bytes) -> None:
    found = fault(data)
    assert found.kind == "hello-malformed"
    assert found.alert in (Alert.DECODE_ERROR, Alert.ILLEGAL_PARAMETER, Alert.UNEXPECTED_MESSAGE)
    assert verdict(data, 1) == verdict(data)


@pytest.mark.parametrize(
    ("data", "kind", "alert"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "not-tls", Alert.NONE),
        (b"\x00\x01\x02\x03\x04", "not-tls", Alert.NONE),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not-tls", Alert.NONE),
        (b"\x16\x02\x00\x00\x10" + bytes(16), "not-tls", Alert.PROTOCOL_VERSION),
        (b"\x80\x2e\x01\x03\x01\x00\x15", "no-common-version", Alert.PROTOCOL_VERSION),
        (b"\x15\x03\x01\x00\x02\x02\x28", "hello-wrong-message", Alert.UNEXPECTED_MESSAGE),
        (b"\x17\x03\x03\x00\x05early", "hello-wrong-message", Alert.UNEXPECTED_MESSAGE),
        (records(RICH[5:100]) + b"\x17\x03\x03\x00\x05early", "hello-wrong-message", Alert.UNEXPECTED_MESSAGE),
        (records(message(b"", 2)), "hello-wrong-message", Alert.UNEXPECTED_MESSAGE),
        (b"\x16\x03\x01\x40\x01\x01", "hello-record-overflow", Alert.RECORD_OVERFLOW),
        (b"\x16\x03\x01\x02\x00\x01\x00\x80\x01", "hello-too-long", Alert.ILLEGAL_PARAMETER),
        (records(message(bytes(5000)), 1), "hello-too-long", Alert.ILLEGAL_PARAMETER),
        (hello(versions(0x0302, 0x0301)), "no-common-version", Alert.PROTOCOL_VERSION),
        (hello(version=0x0302, ciphers=(0x2F,)), None, None),
        (hello(sni(b"a.test"), version=0x0302), "no-common-version", Alert.PROTOCOL_VERSION),
        (hello(sni(b"a.test"), version=0x0304), None, None),
    ],
)
def test_refused_with_its_alert(data: bytes, kind: str | None, alert: Alert | None) -> None:
    if kind is None:
        assert read(data) is not None
    else:
        found = fault(data)
        assert (found.kind, found.alert) == (kind, alert)
    assert verdict(data, 1) == verdict(data)


def test_the_bounds() -> None:
    big = message(body([sni(b"a.test"), TLS13, extension(0x5555, bytes(20_000))]))
    found = read(records(big))
    assert found is not None
    assert found.sni == "a.test"
    assert fault(records(big), limit=16384).kind == "hello-too-long"
    exact = len(big) - 4
    assert read(records(big), limit=exact) is not None
    assert fault(records(big), limit=exact - 1).kind == "hello-too-long"
    one_byte = message(body([TLS13, extension(0x5555, bytes(MAX_RECORDS))]))
    assert fault(records(one_byte, 1)).kind == "hello-too-long"


_ONE = block(b"ticket") + bytes(4)
_BINDER = b"\x20" + bytes(32)
_TWO = _BINDER * 2
_NAME = b"\0" + block(b"a.test")
EXACT = {
    "an unknown record type": (b"\x51" + RICH[1:], Alert.UNEXPECTED_MESSAGE),
    "two names": (hello(extension(0, block(_NAME + b"\0" + block(b"b.test")))), Alert.ILLEGAL_PARAMETER),
    "a name twice": (hello(extension(0, block(_NAME * 2))), Alert.ILLEGAL_PARAMETER),
    "an empty name": (hello(extension(0, block(b"\0\0\0"))), Alert.DECODE_ERROR),
    "a name and another kind": (hello(extension(0, block(_NAME + b"\1" + block(b"x")))), Alert.DECODE_ERROR),
    "names cut short": (hello(extension(0, block(_NAME + b"\0\0\x09x"))), Alert.DECODE_ERROR),
    "no binder": (hello(TLS13, extension(41, block(_ONE) + block(b""))), Alert.DECODE_ERROR),
    "a short binder": (hello(TLS13, extension(41, block(_ONE) + block(b"\x1f" + bytes(31)))), Alert.DECODE_ERROR),
    "a binder too long": (hello(TLS13, extension(41, block(_ONE) + block(b"\x30" + bytes(32)))), Alert.DECODE_ERROR),
    "a binder and a byte": (hello(TLS13, extension(41, block(_ONE) + block(_BINDER + b"\0"))), Alert.DECODE_ERROR),
    "two binders for one": (hello(TLS13, extension(41, block(_ONE) + block(_TWO))), Alert.ILLEGAL_PARAMETER),
    "one binder for two": (hello(TLS13, extension(41, block(_ONE * 2) + block(_BINDER))), Alert.ILLEGAL_PARAMETER),
    "an identity without its age": (hello(TLS13, extension(41, block(_ONE + block(b"t")) + block(_TWO))), Alert.DECODE_ERROR),
    "an empty second identity": (
        hello(TLS13, extension(41, block(_ONE + bytes(6)) + block(_TWO))), Alert.DECODE_ERROR,
    ),
    "no uncompressed points": (
        hello(sni(b"a.test"), extension(10, block(words(0x17))), extension(11, b"\2\1\2")), Alert.ILLEGAL_PARAMETER,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "alert"), EXACT.values(), ids=EXACT)
def test_the_exact_alert(data: bytes, alert: Alert) -> None:
    assert fault(data).alert is alert
    assert whole_hello(data, 32768) is None
    assert verdict(data, 1) == verdict(data)


@pytest.mark.parametrize(
    ("extensions", "alert"),
    [
        ((TLS13,), Alert.MISSING_EXTENSION),
        ((TLS13, sni(b"127.0.0.1")), Alert.UNRECOGNIZED_NAME),
        ((alpn(b"h2"),), Alert.UNRECOGNIZED_NAME),
    ],
)
def test_the_alert_where_a_name_is_needed(extensions: tuple[bytes, ...], alert: Alert) -> None:
    found = read(hello(*extensions))
    assert found is not None
    assert found.alert_without_name is alert


@pytest.mark.parametrize(
    "extensions",
    [
        (TLS13, extension(41, block(_ONE + block(b"another") + bytes(4)) + block(_BINDER + b"\x30" + bytes(48)))),
        (TLS13, extension(10, block(words(0x17))), extension(11, b"\1\1")),  # of no interest to TLS 1.3
        (sni(b"a.test"), extension(11, b"\1\1")),  # nor where no groups are named
        (sni(b"a.test"), extension(10, block(words(0x17))), extension(11, b"\2\1\0")),
        (sni(b"a.test"), extension(10, block(words(0x17))), extension(11, b"\0")),  # OpenSSL's to refuse
    ],
)
def test_not_ours_to_refuse(extensions: tuple[bytes, ...]) -> None:
    assert read(hello(*extensions)) is not None


@pytest.mark.parametrize("method", [b"GET ", b"POST /x", b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0", b"G", b"DELE"])
def test_plain_http_is_recognised(method: bytes) -> None:
    reader = HelloReader(32768)
    with pytest.raises(Fault, match="not-tls"):
        reader.feed(method)
    assert reader.plain_http


@pytest.mark.parametrize("junk", [b"GETX", b"\0\0\0\0", b"hello", b"SSH-2.0"])
def test_other_junk_is_not_http(junk: bytes) -> None:
    reader = HelloReader(32768)
    with pytest.raises(Fault, match="not-tls"):
        reader.feed(junk)
    assert not reader.plain_http


@pytest.mark.parametrize("name", [b"127.0.0.1", b"::1", b"[2001:db8::1]", b"10.0.0.1.", b"::ffff:1.2.3.4", b"2001:DB8::1"])
def test_an_address_is_no_name(name: bytes) -> None:
    found = read(hello(sni(name), TLS13))
    assert found is not None
    assert found.sni is None
    assert found.sni_sent
    assert host_name(name) is None


def test_what_is_too_long_is_no_address_and_is_not_remembered() -> None:
    remembered = host_name.cache_info().currsize, server_name.cache_info().currsize
    for name in (b"1" * 15_000 + b".0.0.1", b"::" + b"1" * 15_000):
        assert fault(hello(sni(name), TLS13)).kind == "hello-malformed"
    assert (host_name.cache_info().currsize, server_name.cache_info().currsize) == remembered


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        (b"A.Test.", "a.test"),
        (b"_x.a.test", "_x.a.test"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"localhost", "localhost"),
    ],
)
def test_names_are_made_canonical(name: bytes, canonical: str) -> None:
    found = read(hello(sni(name), TLS13))
    assert found is not None
    assert found.sni == canonical


def test_after_a_fault_the_log_knows_the_name() -> None:
    reader = HelloReader(32768)
    with pytest.raises(Fault, match="hello-malformed"):
        reader.feed(hello(sni(b"a.test"), alpn(), TLS13))
    assert reader.hello is not None
    assert reader.hello.sni == "a.test"
    reader = HelloReader(32768)
    with pytest.raises(Fault, match="no-common-version") as raised:
        reader.feed(hello(sni(b"a.test"), version=0x0301))
    assert raised.value.detail == "TLSv1.0"
    assert reader.hello is not None
    assert reader.hello.sni == "a.test"
    assert reader.hello.ja4().startswith("t10d")


def test_alert_record() -> None:
    assert alert_record(Alert.UNRECOGNIZED_NAME) == bytes.fromhex("15030300020270")


@given(st.binary(max_size=200))
def test_junk_never_surprises(data: bytes) -> None:
    check(data)
    check(b"\x16\x03\x01" + data)


@given(st.sampled_from(sorted(REAL)), st.data())
def test_mutated_hellos_never_surprise(name: str, draw: st.DataObject) -> None:
    data = bytearray(REAL[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, min(len(data), 400) - 1))
        match draw.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                data[at] = draw.draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw.draw(st.integers(1, 8))]
            case _:
                data[at:at] = draw.draw(st.binary(min_size=1, max_size=8))
    check(bytes(data))


# --- what is remembered of a client's extensions ---

_KNOWN = (
    sni(b"a.test"), sni(b"b.test"), sni(b"bad..name"), alpn(b"h2"), alpn(b"hx"), TLS13, psk(b"ticket"), psk(b"tocket"),
    extension(10, block(words(0x001D))), extension(42, b""), extension(42, b"x"), extension(35, b""), extension(35, b"t"),
)  # fmt: skip
_OTHER = st.builds(extension, st.sampled_from([0x1A1A, 5, 22, 23, 51, 65281]), st.binary(max_size=6))
_EXTENSIONS = st.lists(st.one_of(_OTHER, st.sampled_from(_KNOWN)), max_size=6)


@given(st.lists(_EXTENSIONS, min_size=1, max_size=4))
def test_what_is_remembered_changes_nothing(lists: list[list[bytes]]) -> None:
    """Hellos of equal and of almost equal shape, each three times: first seen, seen again, and taken apart in one go."""
    hellos = [hello(*extensions) for extensions in lists]
    fresh = []
    for data in hellos:
        _shapes.clear()
        fresh.append(verdict(data))
    _shapes.clear()
    for _ in range(3):
        assert [verdict(data) for data in hellos] == fresh


def test_shapes_are_bounded_and_a_shuffling_client_takes_nobodys_place() -> None:
    _shapes.clear()
    steady = (sni(b"a.test"), alpn(b"h2"), TLS13)
    for _ in range(2):
        read(hello(*steady))
    (key,) = _shapes
    assert type(_shapes[key]) is _Shape
    read(hello(steady[0], steady[2], steady[1]))  # as long, and its first extension has the same head
    assert type(_shapes[key]) is _Shape
    read(hello(*steady))
    for number in range(2000):
        read(hello(TLS13, extension(0x2A2A, bytes(number))))
    assert len(_shapes) <= 256
    for number in range(100):
        read(hello(*(extension(1000 + kind, b"") for kind in range(number))))
    assert all(len(shape.heads if type(shape) is _Shape else shape) <= 64 for shape in _shapes.values())
