"""JA4 against the vectors of its specification."""

from __future__ import annotations

import pytest

from edge.wire import ja4
from tests.fuzz.fuzz_hello import read
from tests.wire.hellos import alpn, block, extension, hello, sni, versions, words

CHROME_CIPHERS = (
    0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035,
)  # fmt: skip
CHROME_EXTENSIONS = (
    0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D,
    0x0005, 0x0023, 0x0012, 0x002B, 0xFF01, 0x000B, 0x000A, 0x0015,
)  # fmt: skip
CHROME_SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)


def chrome(*, signatures: bool = True, grease: int = 0, name: bytes = b"h2", order: int = 1) -> bytes:
    """A hello with the lists of the specification's example; `grease` is put everywhere where clients put it."""
    bodies = {
        0x0000: sni(b"example.com"), 0x0010: alpn(name, b"http/1.1"),
        0x000D: extension(13, block(words(*CHROME_SIGNATURES))),
        0x000A: extension(10, block(words(*([grease] if grease else []), 29, 23))),
        0x002B: versions(*([grease] if grease else []), 0x0304, 0x0303),
    }  # fmt: skip
    kinds = [kind for kind in CHROME_EXTENSIONS[::order] if signatures or kind != 13]
    extensions = [bodies.get(kind, extension(kind, b"")) for kind in kinds]
    if grease:
        extensions = [extension(grease, b""), *extensions]
    return hello(*extensions, ciphers=(*([grease] if grease else []), *CHROME_CIPHERS))


@pytest.mark.parametrize("grease", [0, 0x0A0A, 0x3A3A, 0xFAFA])
@pytest.mark.parametrize("order", [1, -1])
def test_the_specifications_example(grease: int, order: int) -> None:
    found = read(chrome(grease=grease, order=order))
    assert found is not None
    assert found.ja4() == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert found.ja4("q") == "q13d1516h2_8daaf6152771_e5627efa2ab1"


def test_without_signature_algorithms() -> None:
    """The specification's second digest: the list of extensions of the example, and no underscore."""
    kinds = tuple(kind for kind in CHROME_EXTENSIONS)
    text = ja4.fingerprint((0x0304,), words(*CHROME_CIPHERS), kinds, b"h2", b"", sni=True)
    assert text == "13d1516h2_8daaf6152771_6d807ffa2a79"


def test_nothing_at_all() -> None:
    assert ja4.fingerprint((0x0303,), b"", (), b"", b"", sni=False) == "12i000000_000000000000_000000000000"
    assert ja4.fingerprint((0x0303,), b"", (0, 16), b"h2", b"", sni=True) == "12d0002h2_000000000000_000000000000"


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        (b"h2", "h2"), (b"http/1.1", "h1"), (b"h", "hh"), (b"", "00"), (b"\xab", "ab"), (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"), (b"\x30\x31\xab\xcd", "3d"), (b"\x30\xab\xcd\x31", "01"),
    ],
)  # fmt: skip
def test_the_protocols_ends(name: bytes, ends: str) -> None:
    assert ja4.fingerprint((0x0304,), b"\x13\x01", (16,), name, b"", sni=False).split("_")[0] == f"13i0101{ends}"


@pytest.mark.parametrize(
    ("version", "text"), [(0x0304, "13"), (0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x0300, "s3"), (0x0305, "00")]
)
def test_versions(version: int, text: str) -> None:
    assert ja4.fingerprint((version,), b"\x13\x01", (), b"", b"", sni=False)[:2] == text


def test_long_lists_are_counted_to_99_and_not_remembered() -> None:
    before = ja4._remembered_fingerprint.cache_info().currsize
    many = words(*range(0x1000, 0x1400))
    assert ja4.fingerprint((0x0304,), many, (1, 2), b"", b"", sni=False).startswith("13i9902")
    assert ja4._remembered_fingerprint.cache_info().currsize == before


def test_an_address_counts_as_a_name_that_was_sent() -> None:
    found = read(hello(sni(b"127.0.0.1"), versions(0x0304)))
    assert found is not None
    assert found.ja4().startswith("t13d")
