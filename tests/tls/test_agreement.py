"""Our parser and OpenSSL read the same hello: what one takes for the host's name, the other must not take for another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import Fault
from edge.tls.binding import ffi, lib
from edge.tls.choice import ServerContext
from edge.wire.extensions import host_name
from edge.wire.hello import HelloReader
from tests.tls.peers import host
from tests.wire.hellos import openssl_hello

BASES = (openssl_hello(), openssl_hello("X25519"), openssl_hello("X25519", tls12=True))
CONTEXT = ServerContext(host("a.test", rsa=True))
STRICTER = ("server_name is no host name", "server_name is not ASCII", "early_data")


def ours(data: bytes) -> tuple[bool, str | None]:
    """Whether the hello is taken, and its name or what is wrong with it."""
    try:
        hello = HelloReader(32768).feed(data)
    except Fault as fault:
        return False, fault.detail
    return hello is not None, hello.sni if hello is not None else None


def openssls(data: bytes) -> tuple[bool, str | None]:
    engine = CONTEXT.engine(None)
    try:
        engine.receive(data)
    except Fault as fault:
        return False, fault.detail
    name = lib.SSL_get_servername(engine._ssl, lib.TLSEXT_NAMETYPE_host_name)
    taken = bool(engine.drain())
    try:
        return taken, host_name(ffi.string(name)) if name else None
    except Fault:
        return taken, ffi.string(name).decode("latin-1")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(9, min(len(data), 330) - 1))
        match draw(st.sampled_from(["set", "set", "set", "flip", "cut", "insert"])):
            case "set":
                data[at] = draw(st.sampled_from([0, 1, 2, 3, 43, 255]))
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 4))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
    size = len(data) - 5
    data[3:5] = size.to_bytes(2, "big")
    data[6:9] = (size - 4).to_bytes(3, "big")
    return bytes(data)


@settings(max_examples=400)
@given(mutated())
def test_the_parsers_agree(data: bytes) -> None:
    taken, word = ours(data)
    taken_there, name = openssls(data)
    if taken and taken_there:
        assert word == name
    elif taken_there:
        assert word in STRICTER  # nothing that OpenSSL would take is refused for another reason


@pytest.mark.parametrize("data", BASES)
def test_the_bases_are_taken(data: bytes) -> None:
    assert ours(data) == openssls(data) == (True, "a.test")
