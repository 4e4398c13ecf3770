"""A request is served only under its connection's policy."""

from __future__ import annotations

import pytest

from edge.errors import Fault
from edge.http.message import ConnectionInfo
from edge.policy.authority import Authority
from edge.settings.model import ClientAuth, ClientAuthMode, Host
from tests.builders import MTLS, connection, fault_of, host, listener, request, settings

OPEN = host("open.example.com", "www.example.com", "*.apps.example.com")
TWIN = host("twin.example.com")  # the same certificate, the same (no) client authentication
OTHER_CERT = host("other.example.com", cert="other")
GUARDED = host("guarded.example.com", client_auth=MTLS)
GUARDED_TWIN = host("guarded-twin.example.com", client_auth=MTLS)
OPTIONAL = host("optional.example.com", client_auth=ClientAuth(mode=ClientAuthMode.REQUEST, trust=MTLS.trust))
ADDRESS = host("192.0.2.1", "2001:db8::1", cert="address")
ELSEWHERE = host("elsewhere.example.com", listeners=("mesh",))
HOSTS = (OPEN, TWIN, OTHER_CERT, GUARDED, GUARDED_TWIN, OPTIONAL, ADDRESS, ELSEWHERE)

TLS = Authority(settings(hosts=HOSTS), listener("tls", no_sni="www.example.com"))
PLAIN = Authority(settings(hosts=HOSTS), listener("plain", tls=False))


def named(made: Host, sni: str | None) -> ConnectionInfo:
    return connection(host=made, sni=sni)


def verdict(authority: bytes, conn: ConnectionInfo, *, scheme: bytes = b"https", rule: Authority = TLS) -> str | int:
    """The name, or the status of the fault; asked twice, because names are remembered."""
    results: set[str | int] = set()
    for _ in range(2):
        try:
            results.add(rule.check(request(authority, scheme=scheme), conn))
        except Fault as fault:
            results.add(fault.status)
    (result,) = results
    return result


@pytest.mark.parametrize(
    ("authority", "conn", "expected"),
    [
        # the same host
        (b"open.example.com", named(OPEN, "open.example.com"), "open.example.com"),
        (b"open.example.com:8443", named(OPEN, "open.example.com"), "open.example.com"),
        (b"open.example.com.", named(OPEN, "open.example.com"), "open.example.com"),
        (b"www.example.com", named(OPEN, "open.example.com"), "www.example.com"),
        (b"b.apps.example.com", named(OPEN, "a.apps.example.com"), "b.apps.example.com"),
        # another host, the same policy
        (b"twin.example.com", named(OPEN, "open.example.com"), "twin.example.com"),
        (b"guarded-twin.example.com", named(GUARDED, "guarded.example.com"), "guarded-twin.example.com"),
        # another policy
        (b"guarded.example.com", named(OPEN, "open.example.com"), 421),
        (b"open.example.com", named(GUARDED, "guarded.example.com"), 421),
        (b"optional.example.com", named(OPEN, "open.example.com"), 421),
        (b"guarded.example.com", named(OPTIONAL, "optional.example.com"), 421),
        (b"other.example.com", named(OPEN, "open.example.com"), 421),
        # names that are not this listener's
        (b"elsewhere.example.com", named(OPEN, "open.example.com"), 421),
        (b"stranger.example.org", named(OPEN, "open.example.com"), 421),
        (b"c.b.apps.example.com", named(OPEN, "a.apps.example.com"), 421),
        # without SNI: names as ever, an address is the connection's host
        (b"open.example.com", named(OPEN, None), "open.example.com"),
        (b"twin.example.com", named(OPEN, None), "twin.example.com"),
        (b"guarded.example.com", named(OPEN, None), 421),
        (b"stranger.example.org", named(OPEN, None), 421),
        (b"203.0.113.9", named(OPEN, None), "www.example.com"),
        (b"203.0.113.9:443", named(OPEN, None), "www.example.com"),
        (b"[2001:db8::9]:443", named(OPEN, None), "www.example.com"),
        (b"203.0.113.9", named(TWIN, None), "twin.example.com"),
        # an address after a name was sent
        (b"203.0.113.9", named(OPEN, "open.example.com"), 421),
        (b"[2001:db8::9]", named(OPEN, "open.example.com"), 421),
        # an address that is a host's name
        (b"192.0.2.1", named(ADDRESS, None), "192.0.2.1"),
        (b"[2001:db8:0::1]", named(ADDRESS, None), "2001:db8::1"),
        (b"192.0.2.1", named(OPEN, None), 421),
        (b"open.example.com", named(ADDRESS, None), 421),
        # HTTP/1.0 without Host
        (b"", named(OPEN, "open.example.com"), "open.example.com"),
        (b"", named(OPEN, "b.apps.example.com"), "b.apps.example.com"),
        (b"", named(OPEN, None), "www.example.com"),
        (b"", named(GUARDED, None), "guarded.example.com"),
    ],
)
def test_on_tls(authority: bytes, conn: ConnectionInfo, expected: str | int) -> None:
    assert verdict(authority, conn) == expected


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"open.example.com", "open.example.com"),
        (b"elsewhere.example.com:8080", "elsewhere.example.com"),
        (b"stranger.example.org", "stranger.example.org"),
        (b"203.0.113.9", "203.0.113.9"),
        (b"[2001:db8::9]:80", "2001:db8::9"),
        (b"guarded.example.com", 421),
        (b"guarded.example.com.:80", 421),
        (b"optional.example.com", 421),
        (b"", 400),
    ],
)
def test_on_a_plain_listener(authority: bytes, expected: str | int) -> None:
    assert verdict(authority, connection(secure=False), scheme=b"http", rule=PLAIN) == expected


def test_a_name_that_is_guarded_on_another_listener_is_not_served_in_the_clear() -> None:
    hosts = (
        host("a.example.com", client_auth=MTLS, listeners=("mesh",)),
        host("a.example.com"),
        host("*.example.com", client_auth=MTLS),
    )
    for ordered in (hosts, hosts[::-1]):
        rule = Authority(settings(hosts=ordered), listener("plain", tls=False))
        assert verdict(b"a.example.com", connection(secure=False), scheme=b"http", rule=rule) == 421
        assert verdict(b"b.example.com", connection(secure=False), scheme=b"http", rule=rule) == 421


def test_an_open_name_under_a_guarded_wildcard_is_served() -> None:
    rule = Authority(
        settings(hosts=(host("*.example.com", client_auth=MTLS), host("a.example.com"))), listener("plain", tls=False)
    )
    assert verdict(b"a.example.com", connection(secure=False), scheme=b"http", rule=rule) == "a.example.com"


def test_an_exact_guarded_host_under_an_open_wildcard() -> None:
    wide, narrow = host("*.example.com"), host("a.example.com", client_auth=MTLS)
    rule = Authority(settings(hosts=(wide, narrow)), listener("tls"))
    assert verdict(b"a.example.com", named(wide, "b.example.com"), rule=rule) == 421
    assert verdict(b"b.example.com", named(narrow, "a.example.com"), rule=rule) == 421


@pytest.mark.parametrize(
    ("rule", "conn", "scheme"), [(TLS, named(OPEN, None), b"http"), (PLAIN, connection(secure=False), b"https")]
)
def test_the_scheme_is_the_connections(rule: Authority, conn: ConnectionInfo, scheme: bytes) -> None:
    assert verdict(b"open.example.com", conn, scheme=scheme, rule=rule) == 421


def test_a_connection_of_an_earlier_generation_is_compared_by_its_policy() -> None:
    old = host("open.example.com", "www.example.com", "*.apps.example.com")
    assert old is not OPEN
    assert verdict(b"open.example.com", named(old, "open.example.com")) == "open.example.com"
    assert verdict(b"guarded.example.com", named(old, "open.example.com")) == 421
    assert verdict(b"", named(old, None)) == "open.example.com"


def test_a_connection_without_a_host_is_served_nothing() -> None:
    assert verdict(b"open.example.com", connection()) == 421
    assert verdict(b"", connection()) == 421


def test_a_host_with_nothing_but_a_wildcard() -> None:
    only = host("*.example.com")
    rule = Authority(settings(hosts=(only,)), listener("tls"))
    assert verdict(b"203.0.113.9", named(only, None), rule=rule) == "*.example.com"


def test_what_is_remembered_is_bounded_and_belongs_to_one_host() -> None:
    conn = named(OPEN, "a.apps.example.com")
    for number in range(3000):
        TLS.check(request(b"n%d.apps.example.com" % number), conn)
    assert all(len(memo) <= 1024 for memo in TLS._memo.values())
    assert verdict(b"n2999.apps.example.com", named(GUARDED, "guarded.example.com")) == 421


def test_the_fault() -> None:
    fault = fault_of(TLS.check, request(b"guarded.example.com"), named(OPEN, "open.example.com"))
    assert (fault.side, fault.kind, fault.status) == ("client", "misdirected", 421)
    fault = fault_of(PLAIN.check, request(b"", scheme=b"http"), connection(secure=False))
    assert fault.kind == "missing-host"
