"""The field rules that both protocols share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault, Retry, Side
from edge.http.fields import (
    FORBIDDEN_TRAILERS,
    HOP_BY_HOP,
    NEVER_IN_FIELDS,
    authority_agrees,
    bad_request,
    blame_upstream,
    clean_trailers,
    connection_options,
    content_length,
    list_tokens,
    parse_authority,
    split_authority,
    strip_hop_by_hop,
    underscored,
    valid_value,
)
from tests.builders import fault_of


@pytest.mark.parametrize("octet", range(256))
def test_values_hold_no_control_character_but_tab(octet: int) -> None:
    value = b"a" + bytes([octet]) + b"b"
    assert valid_value(value) is (octet == 9 or (octet >= 32 and octet != 127))


@pytest.mark.parametrize("value", [b" a", b"a ", b"\ta", b"a\t", b" ", b"\t", b"a\n", b"\na", b"a\r\n"])
def test_values_have_no_white_space_at_their_edges(value: bytes) -> None:
    assert not valid_value(value)


def test_an_empty_value_is_valid() -> None:
    assert valid_value(b"")


@pytest.mark.parametrize(
    ("value", "parsed", "host", "port"),
    [
        (b"Example.COM", b"example.com", "example.com", None),
        (b"example.com:", b"example.com", "example.com", None),
        (b"example.com:0", b"example.com:0", "example.com", 0),
        (b"example.com:00080", b"example.com:80", "example.com", 80),
        (b"example.com.:65535", b"example.com.:65535", "example.com.", 65535),
        (b"a_b-c~d.e", b"a_b-c~d.e", "a_b-c~d.e", None),
        (b"192.0.2.1:8", b"192.0.2.1:8", "192.0.2.1", 8),
        (b"[::1]", b"[::1]", "::1", None),
        (b"[FE80::A]:443", b"[fe80::a]:443", "fe80::a", 443),
        (b"[::ffff:1.2.3.4]", b"[::ffff:1.2.3.4]", "::ffff:1.2.3.4", None),
    ],
)
def test_authorities(value: bytes, parsed: bytes, host: str, port: int | None) -> None:
    for _ in range(2):  # the second time from memory
        assert parse_authority(value) == parsed
        assert split_authority(parsed) == (host, port)
    assert parse_authority(parsed) == parsed


def test_no_authority_splits_into_nothing() -> None:
    assert split_authority(b"") == ("", None)


@pytest.mark.parametrize(
    "value",
    [
        b"", b":80", b"u@a", b"u:p@a", b"a/", b"a?", b"a#", b"a b", b"a,b", b"a;b", b"a%41", b"a\xe4", b"a:65536", b"a:-1",
        b"a:+1", b"a:1:2", b"a:b", b"a:000080", b"::1", b"[::1", b"::1]", b"[]", b"[:]", b"[::g]", b"[1.2.3.4]", b"[::1]a",
        b"[::1%eth0]", b"[v1.a]", b".a", b"a..b", b"a\0", b"a\n", b"a\r\nb", b" a", b"a ", b"a" * 256, b"a\\b", b"a:1\n",
        "a:\u0661".encode(),
    ],
)  # fmt: skip
def test_what_is_no_authority_is_refused(value: bytes) -> None:
    fault = fault_of(parse_authority, value)
    assert (fault.side, fault.kind, fault.status) == (Side.CLIENT, "bad-authority", 400)


@given(st.binary(max_size=30))
def test_an_authority_is_refused_or_stable(value: bytes) -> None:
    try:
        parsed = parse_authority(value)
    except Fault as fault:
        kind = fault.kind
        parsed = b""
    else:
        kind = ""
    if kind:
        assert kind == "bad-authority"
    else:
        host, port = split_authority(parsed)
        assert host
        assert port is None or 0 <= port <= 65535
        assert parse_authority(parsed) == parsed == parsed.lower()


def test_the_memo_of_authorities_is_bounded() -> None:
    from edge.http import fields

    for number in range(3000):
        split_authority(parse_authority(b"h%d.example:1" % number))
    assert len(fields._authorities) <= fields._MEMO_SIZE
    assert len(fields._splits) <= fields._MEMO_SIZE


def test_a_default_port_may_be_left_out() -> None:
    assert authority_agrees(b"a", b"a", b"http")
    assert authority_agrees(b"a:80", b"a", b"http")
    assert authority_agrees(b"a", b"a:443", b"https")
    assert not authority_agrees(b"a:443", b"a", b"http")
    assert not authority_agrees(b"a:80", b"a", b"https")
    assert not authority_agrees(b"b", b"a", b"https")


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"007", 7), (b"9223372036854775807", (1 << 63) - 1)])
def test_lengths(value: bytes, length: int) -> None:
    assert content_length([value]) == length


@pytest.mark.parametrize(
    "values",
    [[b"1", b"1"], [b"1, 1"], [b""], [b"+1"], [b"-1"], [b"1_0"], [b" 1"], [b"1 "], [b"0x1"], [b"1\n"], ["\u0661".encode()],
     [b"9223372036854775808"], [b"1" * 20]],
)  # fmt: skip
def test_what_is_no_length_is_refused(values: list[bytes]) -> None:
    assert fault_of(content_length, values).kind == "bad-content-length"


def test_lists_skip_empty_elements() -> None:
    assert list_tokens([b" A ,, b", b"", b",C\t"]) == [b"a", b"b", b"c"]


def test_connection_names_only_fields_of_the_connection() -> None:
    assert connection_options([b"close, X-A", b"Host, Content-Length, Cookie"]) == {b"close", b"x-a"}


def test_hop_by_hop_fields_are_stripped() -> None:
    fields = [(name, b"1") for name in sorted(HOP_BY_HOP)] + [(b"x-a", b"1"), (b"x-b", b"2"), (b"cookie", b"3"), (b"host", b"4")]
    assert strip_hop_by_hop(fields, [b"X-A, cookie"]) == [(b"x-b", b"2"), (b"cookie", b"3")]
    assert strip_hop_by_hop(fields) == [(b"x-a", b"1"), (b"x-b", b"2"), (b"cookie", b"3")]


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"host"])
def test_framing_in_trailers_is_refused(name: bytes) -> None:
    assert fault_of(clean_trailers, [(b"x", b"1"), (name, b"5")]).kind == "bad-trailer"


def test_other_fields_that_have_no_place_in_trailers_are_dropped() -> None:
    kept = [(b"grpc-status", b"0"), (b"grpc-message", b""), (b"server-timing", b"x"), (b"etag", b"x")]
    dropped = [(b"authorization", b"x"), (b"set-cookie", b"x"), (b"content-type", b"x"), (b"te", b"x"), (b"trailer", b"x")]
    assert clean_trailers(dropped + kept) == kept


def test_the_sets_contain_each_other() -> None:
    assert HOP_BY_HOP < NEVER_IN_FIELDS < FORBIDDEN_TRAILERS


def test_underscores() -> None:
    assert underscored(b"x_forwarded_for")
    assert not underscored(b"x-forwarded-for")


def test_blame_turns() -> None:
    fault = blame_upstream(bad_request("bad-field", "name", status=431))
    assert (fault.side, fault.kind, fault.detail, fault.status, fault.retry) == (
        Side.UPSTREAM, "upstream-bad-field", "name", 502, Retry.NO,
    )  # fmt: skip
    assert blame_upstream(fault).kind == "upstream-bad-field"
