"""Hellos that are known by their form are what the parser makes of them, and what has another form is left to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault
from edge.wire import whole_hello as module
from edge.wire.hello import ClientHello
from edge.wire.whole_hello import whole_hello
from tests.fuzz.fuzz_hello import read, seen
from tests.wire.hellos import alpn, block, body, extension, hello, message, openssl_hello, psk, records, sni, versions, words

TLS13 = versions(0x0304, 0x0303)
SHARE = extension(51, block(words(0x001D) + block(bytes(32))))


def client(name: bytes = b"a.test", ticket: bytes = b"ticket" * 20, identity: bytes = b"") -> bytes:
    """One client's hello."""
    return hello(
        sni(name), extension(10, block(words(0x11EC, 0x001D))), alpn(b"h2", b"http/1.1"), extension(13, block(words(0x0403))),
        TLS13, SHARE, extension(35, ticket), *([psk(identity)] if identity else []),
    )  # fmt: skip


HELLOS = {
    "pq": openssl_hello(),
    "x25519": openssl_hello("X25519"),
    "tls1.2": openssl_hello("X25519", tls12=True),
    "ticket": client(),
    "psk": client(identity=b"identity" * 16),
    "no name": hello(TLS13, SHARE),
    "early": hello(sni(b"a.test"), TLS13, extension(42, b""), psk(b"identity")),
    "no session id": hello(sni(b"a.test"), TLS13, session=b""),
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    module._forms.clear()
    yield
    module._forms.clear()


def learn(data: bytes) -> None:
    for _ in range(2):
        whole_hello(data, 32768)


def by_form(data: bytes) -> ClientHello | None:
    """What its form alone says."""
    form = module._forms.get((len(data), data[module._SUITES]))
    return form.read(data) if form is not None else None


def agrees(data: bytes) -> bool:
    """Whether the parser says the same, or refuses where nothing was understood. True if something was understood."""
    found = whole_hello(data, 32768)
    try:
        parsed = read(data)
    except Fault:
        parsed = None
    if found is not None:
        assert parsed is not None
        assert seen(found) == seen(parsed)
    else:
        assert parsed is None
    return found is not None


@pytest.mark.parametrize("data", HELLOS.values(), ids=HELLOS)
def test_the_third_of_a_form_is_known_by_it(data: bytes) -> None:
    for _ in range(3):
        assert agrees(data)
    found = by_form(data)
    assert found is not None
    assert seen(found) == seen(read(data))


@pytest.mark.parametrize("data", HELLOS.values(), ids=HELLOS)
def test_one_byte_changed_anywhere(data: bytes) -> None:
    learn(data)
    for at in range(len(data)):
        for bit in (1, 0x80):
            agrees(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])


@given(st.sampled_from(sorted(HELLOS)), st.data())
def test_many_bytes_changed(name: str, draw: st.DataObject) -> None:
    data = HELLOS[name]
    learn(data)
    at = draw.draw(st.integers(0, len(data) - 1))
    piece = draw.draw(st.binary(min_size=1, max_size=40))[: len(data) - at]
    agrees(data[:at] + piece + data[at + len(piece) :])


def test_names_and_tickets_are_their_own() -> None:
    learn(client(b"a.test", b"1" * 120, b"2" * 130))
    for name, ticket, identity in ((b"b.test", b"3" * 120, b"4" * 130), (b"C.TEST", b"5" * 120, b"6" * 130)):
        found = by_form(client(name, ticket, identity))
        assert found is not None
        assert found.sni == name.decode().lower()
        assert found.session_ticket == identity
        assert not agrees(client(b"a\0test", ticket, identity))


def test_the_bound_holds_for_what_is_known_too() -> None:
    data = client()
    learn(data)
    assert whole_hello(data, len(data) - 9) is not None
    assert whole_hello(data, len(data) - 10) is None


def test_what_follows_is_not_looked_at() -> None:
    for _ in range(3):
        found = whole_hello(client() + b"more", 32768)
        assert found is not None
        assert found.sni == "a.test"
    assert [length for length, _ in module._forms] == [len(client())]
    assert by_form(client()) is not None


def test_early_data_behind_it_has_no_part_in_its_form() -> None:
    early = extension(42, b"")

    def flight(identity: bytes, behind: int) -> bytes:
        return hello(sni(b"a.test"), TLS13, early, psk(identity)) + b"\x17\x03\x03" + behind.to_bytes(2, "big") + bytes(behind)

    for number in range(4):
        data = flight(bytes([number]) * 40, 100 + number)
        parsed, found = ClientHello(), whole_hello(data, 32768)
        module.parse(parsed, data, 9, len(data) - 105 - number)
        assert found is not None and found.early_data
        assert (found.binder, found.session_ticket) == (parsed.binder, parsed.session_ticket)
    assert len(module._forms) == 1


def test_there_are_not_many_forms() -> None:
    for number in range(2 * module._MOST):
        data = hello(sni(b"a.test"), TLS13, ciphers=(0x1301, number))
        learn(data)
        assert len(module._forms) <= module._MOST
    assert whole_hello(records(message(body([sni(b"a.test"), TLS13, extension(21, bytes(4000))]))), 32768) is not None
    assert len(module._forms) <= module._MOST
