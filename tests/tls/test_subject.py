"""Subjects as RFC 4514 strings, against cryptography's own and against what is no name at all."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from edge.tls.subject import LONGEST, subject

_TYPES = [
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.USER_ID,
]
_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), min_size=1, max_size=20)
_PAIRS = st.lists(st.tuples(st.sampled_from(_TYPES), _TEXT), min_size=1, max_size=4)


def der(*relative: list[tuple[x509.ObjectIdentifier, str]]) -> bytes:
    return x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(kind, value) for kind, value in each]) for each in relative]
    ).public_bytes()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            der([(NameOID.COUNTRY_NAME, "DE")], [(NameOID.ORGANIZATION_NAME, "A, B")], [(NameOID.COMMON_NAME, "c")]),
            r"CN=c,O=A\, B,C=DE",
        ),
        (der([(NameOID.COMMON_NAME, " #x ")]), r"CN=\ #x\ "),
        (der([(NameOID.COMMON_NAME, "#x")]), r"CN=\#x"),
        (der([(NameOID.COMMON_NAME, "a\nb\0c")]), r"CN=a\0ab\00c"),
        (der([(NameOID.EMAIL_ADDRESS, "a@b.test")]), "1.2.840.113549.1.9.1=a@b.test"),
        (der([(NameOID.COMMON_NAME, "ü")]), "CN=ü"),
        (b"\x30\x00", ""),
        (bytes.fromhex("300e310c300a060355040304030102ff")[:16], "CN=#04030102ff"),
    ],
)
def test_names_become_strings(name: bytes, text: str) -> None:
    assert subject(name) == text


def test_attributes_of_one_level_are_joined() -> None:
    name = der([(NameOID.COMMON_NAME, "a"), (NameOID.USER_ID, "b")])
    assert set(subject(name).split("+")) == {"CN=a", "UID=b"}


@given(_PAIRS)
def test_as_cryptography_writes_them(pairs: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])
    assert subject(name.public_bytes()) == name.rfc4514_string()[:LONGEST]


@given(st.binary(max_size=80))
def test_anything_else_is_nothing(data: bytes) -> None:
    assert isinstance(subject(data), str)
    assert isinstance(subject(b"\x30" + bytes((len(data),)) + data), str)
