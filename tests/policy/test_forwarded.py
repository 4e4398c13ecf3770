"""What the upstream is told about the client, and who is believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from edge.http.message import Fields
from edge.policy.forwarded import Forwarding
from tests.builders import connection, request, settings

FORWARDING = Forwarding(settings(trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))))
ALONE = Forwarding(settings())
ID = b"0123456789abcdef"


def told(
    peer: str, fields: Fields | None = None, *, authority: bytes = b"example.com", version: int = 11, secure: bool = True
) -> dict[bytes, bytes]:
    """The fields for the upstream; each stands once."""
    prepared = FORWARDING.prepare(connection(peer, secure=secure))
    head = request(authority, fields=fields, version=version)
    results = [FORWARDING.request_fields(head, prepared, ID) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0] is not results[1]
    assert len(dict(results[0])) == len(results[0])
    return dict(results[0])


def test_a_strangers_request() -> None:
    assert told("192.0.2.7") == {
        b"x-forwarded-for": b"192.0.2.7",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"example.com",
        b"x-forwarded-port": b"443",
        b"forwarded": b"for=192.0.2.7;host=example.com;proto=https",
        b"via": b"1.1 edge",
        b"x-request-id": ID,
    }


def test_ports_addresses_and_versions() -> None:
    fields = told("2001:db8::7", authority=b"[2001:db8::1]:8080", version=20, secure=False)
    assert fields[b"x-forwarded-for"] == b"2001:db8::7"
    assert fields[b"x-forwarded-host"] == b"[2001:db8::1]:8080"
    assert fields[b"x-forwarded-port"] == b"8080"
    assert fields[b"x-forwarded-proto"] == b"http"
    assert fields[b"forwarded"] == b'for="[2001:db8::7]";host="[2001:db8::1]:8080";proto=http'
    assert fields[b"via"] == b"2.0 edge"
    assert told("192.0.2.7", authority=b"a:8443")[b"forwarded"] == b'for=192.0.2.7;host="a:8443";proto=https'
    assert told("192.0.2.7", secure=False)[b"x-forwarded-port"] == b"80"


def test_without_a_host() -> None:
    fields = told("192.0.2.7", authority=b"", version=10)
    assert b"x-forwarded-host" not in fields
    assert fields[b"forwarded"] == b"for=192.0.2.7;proto=https"
    assert fields[b"via"] == b"1.0 edge"


@pytest.mark.parametrize(
    ("peer", "address"),
    [("::ffff:192.0.2.7", b"192.0.2.7"), ("fe80::1%eth0", b"fe80::1"), ("", b"unknown"), ("@edge", b"unknown")],
)
def test_odd_peers(peer: str, address: bytes) -> None:
    assert told(peer)[b"x-forwarded-for"] == address


def test_a_unix_peer_is_unknown() -> None:
    assert told("")[b"forwarded"] == b"for=unknown;host=example.com;proto=https"


def test_a_strangers_words_are_not_kept_but_its_via_is() -> None:
    forged = [
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"forwarded", b"for=10.0.0.1"),
        (b"x-forwarded-proto", b"http"),
        (b"x-real-ip", b"10.0.0.1"),
        (b"x-request-id", b"forged-id-123"),
        (b"via", b"1.0 one"),
        (b"via", b"1.1 two"),
    ]
    fields = told("192.0.2.7", forged)
    assert fields == {**told("192.0.2.7"), b"via": b"1.0 one, 1.1 two, 1.1 edge"}


def test_a_connection_whose_requests_differ() -> None:
    prepared = ALONE.prepare(connection())
    for authority in (b"a.example.com", b"b.example.com", b"a.example.com"):
        assert (b"x-forwarded-host", authority) in ALONE.request_fields(request(authority), prepared, ID)
    assert (b"via", b"1.0 edge") in ALONE.request_fields(request(version=10), prepared, ID)


def test_a_trusted_proxys_words_are_kept_and_extended() -> None:
    fields = told(
        "10.1.2.3",
        [
            (b"x-forwarded-for", b"198.51.100.1"),
            (b"x-forwarded-for", b"10.0.0.2"),
            (b"forwarded", b"for=198.51.100.1;proto=http"),
            (b"x-forwarded-proto", b"HTTP"),
            (b"x-forwarded-host", b"outside.example.com"),
            (b"x-forwarded-port", b"8000"),
            (b"x-real-ip", b"198.51.100.1"),
            (b"via", b"2 cdn"),
            (b"accept", b"*/*"),
        ],
    )
    assert fields == {
        b"x-forwarded-for": b"198.51.100.1, 10.0.0.2, 10.1.2.3",
        b"forwarded": b"for=198.51.100.1;proto=http, for=10.1.2.3;host=example.com;proto=https",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"outside.example.com",
        b"x-forwarded-port": b"8000",
        b"x-real-ip": b"198.51.100.1",
        b"via": b"2 cdn, 1.1 edge",
        b"x-request-id": ID,
    }


def test_a_trusted_proxy_that_says_nothing_is_told_about_like_a_client() -> None:
    assert told("10.1.2.3") == {
        **told("192.0.2.7"),
        b"x-forwarded-for": b"10.1.2.3",
        b"forwarded": b"for=10.1.2.3;host=example.com;proto=https",
    }


def test_a_scheme_that_is_none_is_replaced() -> None:
    assert told("10.1.2.3", [(b"x-forwarded-proto", b"javascript")])[b"x-forwarded-proto"] == b"https"


@pytest.mark.parametrize(
    ("peer", "value", "kept"),
    [
        ("10.1.2.3", b"abcDEF09._-", True),
        ("2001:db8:1::5", b"a" * 128, True),
        ("::ffff:10.1.2.3", b"abcdefgh", True),
        ("10.1.2.3", b"a" * 129, False),
        ("10.1.2.3", b"short", False),
        ("10.1.2.3", b"with blank", False),
        ("10.1.2.3", b'quote"quote', False),
        ("192.0.2.7", b"abcdefgh", False),
        ("", b"abcdefgh", False),
    ],
)
def test_request_ids(peer: str, value: bytes, kept: bool) -> None:
    head = request(fields=[(b"x-request-id", value)])
    prepared = FORWARDING.prepare(connection(peer))
    assert FORWARDING.request_id(head, prepared, ID) == (value if kept else ID)


def test_two_request_ids_are_none() -> None:
    head = request(fields=[(b"x-request-id", b"abcdefgh"), (b"x-request-id", b"abcdefgh")])
    assert FORWARDING.request_id(head, FORWARDING.prepare(connection("10.0.0.1")), ID) == ID


@pytest.mark.parametrize(
    ("peer", "fields", "expected"),
    [
        ("192.0.2.7", [(b"x-forwarded-for", b"198.51.100.1")], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"203.0.113.66, 198.51.100.1, 10.0.0.2")], "198.51.100.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"203.0.113.66"), (b"x-forwarded-for", b"198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"10.0.0.3, 10.0.0.2")], "10.0.0.3"),
        ("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.1, unknown, 10.0.0.2")], "10.0.0.2"),
        ("10.0.0.1", [(b"x-forwarded-for", b"unknown")], "10.0.0.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.1:4711")], "198.51.100.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"[2001:db8::5]:4711")], "2001:db8::5"),
        ("10.0.0.1", [(b"x-forwarded-for", b"2001:db8::5")], "2001:db8::5"),
        ("10.0.0.1", [(b"x-forwarded-for", b"::ffff:198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(b"forwarded", b'for=203.0.113.66, For="[2001:db8::5]:4711";proto=http, for=10.0.0.2')], "2001:db8::5"),
        ("10.0.0.1", [(b"forwarded", b"for=_hidden;by=10.0.0.9")], "10.0.0.1"),
        ("10.0.0.1", [(b"forwarded", b"proto=https;for=198.51.100.1:80")], "198.51.100.1"),
        ("10.0.0.1", [(b"forwarded", b"for=203.0.113.66"), (b"x-forwarded-for", b"198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"\xff\xfe")], "10.0.0.1"),
    ],
)
def test_the_client_behind_trusted_proxies(peer: str, fields: Fields, expected: str) -> None:
    assert FORWARDING.client_ip(request(fields=fields), connection(peer)) == expected


def test_a_connection_knows_whom_its_peer_speaks_for() -> None:
    head = request(fields=[(b"x-forwarded-for", b"198.51.100.1")])
    assert FORWARDING.prepare(connection("10.0.0.1")).client_ip(head) == "198.51.100.1"
    assert FORWARDING.prepare(connection("192.0.2.7")).client_ip(head) == ""
    assert FORWARDING.prepare(connection("10.0.0.1")).client_ip(request()) == ""


def test_what_is_known_about_peers_is_bounded() -> None:
    for number in range(3000):
        FORWARDING.is_trusted(f"192.0.{number >> 8}.{number & 255}")
    assert len(FORWARDING._verdicts) <= 1024
    assert not ALONE.is_trusted("10.0.0.1")
