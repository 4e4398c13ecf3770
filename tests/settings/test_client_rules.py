"""Rules for clients' certificates: what is admitted, and above all what is not."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import DNSName, UniformResourceIdentifier
from hypothesis import given
from hypothesis import strategies as st

from edge.settings.client_rules import MOST_NAMES, ClientLeaf, admitting, dns_matches, rule_text, satisfies, uri_matches
from edge.settings.difference import compare
from edge.settings.model import ClientAuthMode, ClientRule
from edge.settings.outline import outline

from .conftest import HOST, Load, told

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def leaf(*sans: x509.GeneralName, subject: str = "CN=anybody", twice: bool = False) -> ClientLeaf:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(subject))
        .issuer_name(x509.Name.from_rfc4514_string("CN=issuer"))
        .public_key(KEY.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
    if twice:
        again = x509.UnrecognizedExtension(
            x509.ObjectIdentifier("2.5.29.18"), x509.SubjectAlternativeName(list(sans)).public_bytes()
        )
        builder = builder.add_extension(again, critical=False)
    der = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    # two extensions of one kind are not to be had from the builder: the issuer's alternative name becomes the subject's
    return ClientLeaf(der.replace(bytes.fromhex("0603551d12"), bytes.fromhex("0603551d11")) if twice else der)


def dns(*names: str) -> ClientLeaf:
    return leaf(*map(DNSName, names))


def uri(*uris: str) -> ClientLeaf:
    return leaf(*map(UniformResourceIdentifier, uris))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a.test", "a.test", True),
        ("a.test", "b.test", False),
        ("a.test", "a.test.", False),
        ("*.pay.test", "a.pay.test", True),
        ("*.pay.test", "pay.test", False),
        ("*.pay.test", "a.b.pay.test", False),
        ("*.pay.test", ".pay.test", False),
        ("*.pay.test", "*.pay.test", False),
        ("*.pay.test", "a.pay.test\0.evil.test", False),
        ("*.pay.test", "evil\0.pay.test", False),
        ("*.pay.test", "a b.pay.test", False),
        ("*.pay.test", "é.pay.test", False),
        ("*.pay.test", "-.pay.test", False),
        ("a.test", "a.test\0", False),
        ("localhost", "localhost", True),
    ],
)
def test_dns_names(pattern: str, name: str, matches: bool) -> None:
    assert dns_matches(pattern, name) is matches


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("spiffe://prod.example/ns/pay", "spiffe://prod.example/ns/pay", True),
        ("spiffe://prod.example/ns/pay", "spiffe://prod.example/ns/pay/", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/sa", True),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/sa/billing", True),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/payments/sa", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/../ops/admin", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/a/..", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/.", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/%2e%2e/ops", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay//sa", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/sa?x=/ns/ops", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/sa#x", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/sa\n", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/s\0a", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example.evil/ns/pay/sa", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prodxexample/ns/pay/sa", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://PROD.example/ns/pay/sa", False),
        ("spiffe://prod.example/ns/*/sa/*", "spiffe://prod.example/ns/pay/sa/billing", True),
        ("spiffe://prod.example/ns/*/sa/api", "spiffe://prod.example/ns/pay/sa/api", True),
        ("spiffe://prod.example/ns/*/sa/api", "spiffe://prod.example/ns/a/b/sa/api", False),
        ("spiffe://prod.example/ns/*/sa/api", "spiffe://prod.example/ns//sa/api", False),
        ("spiffe://prod.example/ns/*/sa/api", "spiffe://prod.example/ns/../sa/api", False),
        ("spiffe://prod.example/*", "spiffe://prod.example/anything/at/all", True),
        ("spiffe://prod.example/*", "spiffe://prod.example", False),
        ("spiffe://prod.example/ns/pay/*", "spiffe://prod.example/ns/pay/" + "a" * 3000, False),
    ],
)
def test_uris(pattern: str, text: str, matches: bool) -> None:
    assert uri_matches(pattern, text) is matches


_SEGMENTS = st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=0x17F), max_size=6), max_size=4)


@given(_SEGMENTS)
def test_a_star_never_leaves_its_place(segments: list[str]) -> None:
    """Whatever stands behind the prefix: what is admitted begins with it, and no reader can climb out of it."""
    text = "spiffe://prod.example/ns/pay/" + "/".join(segments)
    if uri_matches("spiffe://prod.example/ns/pay/*", text):
        left = text.removeprefix("spiffe://prod.example/ns/pay/").split("/")
        assert all(segment not in ("", ".", "..") for segment in left)
        assert text.isascii()
        assert not set(text) & set("%?#\\ \0\r\n*")


@given(st.text(max_size=20))
def test_a_wildcard_takes_one_label(first: str) -> None:
    if dns_matches("*.pay.test", f"{first}.pay.test"):
        assert "." not in first
        assert "*" not in first
        assert first.isascii()
        assert first == first.lower()


@given(st.text(max_size=30))
def test_what_has_no_star_is_compared_as_it_is(text: str) -> None:
    assert uri_matches("spiffe://prod.example/x", text) is (text == "spiffe://prod.example/x")
    assert dns_matches("pay.test", text) is (text == "pay.test")


def test_all_conditions_of_a_rule_must_hold() -> None:
    pin = hashlib.sha256(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    both = ClientRule(dns="a.test", pins=(pin,))
    assert satisfies(both, dns("a.test"))
    assert not satisfies(both, dns("b.test"))
    assert not satisfies(ClientRule(dns="a.test", pins=(bytes(32),)), dns("a.test"))
    assert satisfies(ClientRule(pins=(bytes(32), pin)), dns("b.test"))


def test_any_rule_admits_and_says_so() -> None:
    rules = (ClientRule(dns="a.test"), ClientRule(dns="b.test"))
    assert admitting(rules, dns("b.test")) is rules[1]
    assert admitting(rules, dns("c.test", "d.test")) is None


def test_names_are_compared_without_regard_to_case() -> None:
    assert satisfies(ClientRule(dns="a.test"), dns("A.Test"))
    assert not satisfies(ClientRule(uri="https://a.test/x"), uri("https://a.test/X"))


def test_the_common_name_never_counts() -> None:
    assert not satisfies(ClientRule(dns="a.test"), leaf(subject="CN=a.test"))


def test_a_spiffe_id_stands_alone() -> None:
    rule = ClientRule(spiffe="spiffe://prod.example/a")
    assert satisfies(rule, uri("spiffe://prod.example/a"))
    assert satisfies(rule, leaf(UniformResourceIdentifier("spiffe://prod.example/a"), DNSName("a.test")))
    assert not satisfies(rule, uri("spiffe://prod.example/a", "spiffe://prod.example/b"))
    assert not satisfies(rule, uri("spiffe://prod.example/a", "spiffe://prod.example/a"))
    assert satisfies(ClientRule(uri="spiffe://prod.example/a"), uri("https://x.test/", "spiffe://prod.example/a"))


def test_the_whole_subject_counts() -> None:
    rule = ClientRule(subject="CN=billing,O=Example")
    assert satisfies(rule, leaf(subject="CN=billing,O=Example"))
    assert not satisfies(rule, leaf(subject="CN=billing,O=Example,C=DE"))
    assert not satisfies(rule, leaf(subject="O=Example,CN=billing"))
    assert not satisfies(rule, leaf(subject="CN=Billing,O=Example"))
    assert not satisfies(rule, leaf(subject=r"CN=billing\,O\=Example"))


@pytest.mark.parametrize("rule", [ClientRule(dns="a.test"), ClientRule(uri="https://a.test/")])
def test_what_cannot_be_read_satisfies_nothing(rule: ClientRule) -> None:
    names: Any = [DNSName("a.test"), UniformResourceIdentifier("https://a.test/")]
    assert admitting([rule], leaf(*names)) is rule
    assert admitting([rule], leaf(*names, twice=True)) is None, "two extensions"
    many = [DNSName(f"n{number}.test") for number in range(MOST_NAMES)]
    assert admitting([rule], leaf(*names, *many)) is None, "too many names"
    assert admitting([rule], ClientLeaf(b"no certificate")) is None


GOOD = leaf(DNSName("a.test"), UniformResourceIdentifier("spiffe://x.test/a"))


@given(st.lists(st.tuples(st.integers(0, len(GOOD.der) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_bytes_that_are_almost_a_certificate_break_nothing(changes: list[tuple[int, int]], cut: bool) -> None:
    der = bytearray(GOOD.der)
    for at, value in changes:
        der[at] = value
    odd = ClientLeaf(bytes(der[: changes[0][0]] if cut else der))
    assert isinstance(odd.label + odd.serial, str)
    admitting(
        [ClientRule(dns="b.test"), ClientRule(spiffe="spiffe://x.test/b"), ClientRule(subject="CN=b", pins=(bytes(32),))], odd
    )
    for name in ("issuer", "subject", "pin"):
        with contextlib.suppress(ValueError):
            getattr(odd, name)


def test_a_leaf_is_named_for_the_log() -> None:
    assert leaf(DNSName("A.test"), UniformResourceIdentifier("spiffe://x.test/a")).label == "spiffe://x.test/a"
    assert dns("A.test").label == "a.test"
    assert (leaf().label, leaf().serial) == ("", "abc")
    assert (ClientLeaf(b"").label, ClientLeaf(b"").serial) == ("", "")


# --- reading them ---

MESH = '[trust.mesh]\nca = "ca.pem"\n'
UP = 'upstream = "http://127.0.0.1:1"\n'


def auth(rules: str) -> str:
    return MESH + HOST + UP + f'client_auth = {{ trust = "mesh", allow = {rules} }}\n'


def test_rules_are_read_into_one_form(loads: Load) -> None:
    text = (
        '[{ dns = "*.Pay.Mesh.Internal.", spki = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" },'
        ' { subject = "CN=a,O=b" }, { spiffe = "spiffe://prod.example/ns/*/sa/*" }, { subject = "CN=a,O=b" }]'
    )
    loaded = loads(auth(text))
    assert loaded.settings is not None, told(loaded)
    found = loaded.settings.hosts[0].client_auth
    assert found.mode is ClientAuthMode.REQUIRE
    assert found.allow == (
        ClientRule(dns="*.pay.mesh.internal", pins=(hashlib.sha256(b"").digest(),)),
        ClientRule(subject="CN=a,O=b"),
        ClientRule(spiffe="spiffe://prod.example/ns/*/sa/*"),
    )
    assert rule_text(found.allow[0]) == "dns *.pay.mesh.internal and spki sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert (
        "spiffe spiffe://prod.example/ns/*/sa/*" in outline(loaded.settings)["hosts"]["api.example.com"]["client_auth"]["allow"]
    )
    assert loads(auth('{ dns = "a.test" }')).settings is not None, "one value where a list may stand"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("[]", "a list without a rule: nobody would be let in"),
        ("[{}]", "a rule without a condition"),
        ('[{ dns = "10.0.0.1" }]', "is an address, not a DNS name"),
        ('[{ dns = "a.*.test" }]', "a wildcard is the whole first label"),
        ('[{ dns = "a\\u0000.test" }]', "is not a host name"),
        ('[{ spiffe = "spiffe://prod.example/ns/pay-*" }]', "a * stands for a whole segment"),
        ('[{ spiffe = "spiffe://*/ns" }]', "is not a SPIFFE ID"),
        ('[{ spiffe = "spiffe://prod.example/ns/../x" }]', "is not a SPIFFE ID"),
        ('[{ spiffe = "spiffe://Prod.example/ns" }]', "is not a SPIFFE ID"),
        ('[{ spiffe = "spiffe://prod.example/" }]', "is not a SPIFFE ID"),
        ('[{ spiffe = "https://prod.example/ns" }]', "is not a SPIFFE ID"),
        ('[{ uri = "urn:x" }]', "is not a URI with a path"),
        ('[{ uri = "https://*/x" }]', "is not a URI with a path"),
        ('[{ subject = "billing" }]', "is not a subject"),
        ('[{ spki = "sha256/short" }]', "is not a pin"),
        ("[{ spki = [] }]", "a list without a pin"),
        ('[{ cn = "x" }]', "unknown key 'cn'"),
    ],
)
def test_rules_that_could_never_fit_are_errors(loads: Load, rules: str, message: str) -> None:
    loaded = loads(auth(rules))
    assert loaded.settings is None
    assert any(message in line for line in told(loaded)), told(loaded)


# --- routes ---


def route(demand: str, host: str = "api.example.com", **more: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[[route]]\nhost = "{host}"\npath = "/admin/"\nclient_auth = {demand}\n{UP}{lines}'


def test_a_host_asks_where_a_route_needs_it(loads: Load) -> None:
    loaded = loads(MESH + HOST + UP + route('{ trust = "mesh", allow = { dns = "a.test" } }'))
    assert loaded.settings is not None, told(loaded)
    auth = loaded.settings.hosts[0].client_auth
    assert (auth.mode, auth.trust.name if auth.trust else "", auth.allow) == (ClientAuthMode.REQUEST, "mesh", ())
    demands = [one.client_auth for one in loaded.settings.routes]
    assert demands.count(None) == 1
    demand = next(one for one in demands if one is not None)
    assert (demand.required, demand.allow, demand.forward) == (True, (ClientRule(dns="a.test"),), "")


def test_a_route_takes_its_hosts_store_and_does_not_weaken_it(loads: Load) -> None:
    loaded = loads(auth('{ dns = "a.test" }') + route("{ mode = 'request' }"))
    assert loaded.settings is not None, told(loaded)
    assert loaded.settings.hosts[0].client_auth.mode is ClientAuthMode.REQUIRE
    assert loaded.settings.hosts[0].client_auth.allow == (ClientRule(dns="a.test"),)


def test_a_wildcard_host_asks_for_its_names(loads: Load) -> None:
    wild = MESH + HOST.replace("api.example.com", "*.mesh.internal") + UP
    for name in ("x.mesh.internal", "*.mesh.internal"):
        loaded = loads(wild + route('{ trust = "mesh" }', name))
        assert loaded.settings is not None, told(loaded)
        assert loaded.settings.hosts[0].client_auth.mode is ClientAuthMode.REQUEST


def test_a_forwarded_chain_needs_full_handshakes(loads: Load) -> None:
    for text in (
        MESH + HOST + UP + 'client_auth = { trust = "mesh", forward = "chain" }\n',
        MESH + HOST + UP + route('{ trust = "mesh", forward = "chain" }'),
    ):
        loaded = loads(text)
        assert loaded.settings is not None, told(loaded)
        assert loaded.settings.hosts[0].client_auth.chain
        assert not loaded.settings.hosts[0].tls.tickets


def test_tickets_live_no_longer_than_connections(loads: Load) -> None:
    loaded = loads(MESH + HOST + UP + 'client_auth = { trust = "mesh", max_age = "90s" }\n')
    assert loaded.settings is not None, told(loaded)
    assert loaded.settings.hosts[0].client_auth.max_age == 90.0
    assert loaded.settings.hosts[0].tls.ticket_lifetime == 90.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MESH + HOST + UP + route("{}"), "nothing says whose certificates the host accepts"),
        (MESH + HOST + UP + route('{ mode = "off" }'), '"off" is not possible here'),
        (MESH + HOST + UP + '[[route]]\npath = "/x"\nclient_auth = {}\n' + UP, "client_auth needs a host"),
        (MESH + HOST + UP + route('{ trust = "mehs" }'), "there is no [trust.mehs]"),
        (
            MESH
            + '[trust.other]\nca = "api.pem"\n'
            + HOST
            + UP
            + 'client_auth = { trust = "mesh" }\n'
            + route('{ trust = "other" }'),
            "the host accepts certificates of 'mesh'",
        ),
        (MESH + HOST + UP + route('{ trust = "mesh", allow = [] }'), "a list without a rule"),
        (MESH + HOST + UP + route('{ trust = "mesh", allow = [{ cn = "x" }] }'), "unknown key 'cn'"),
    ],
)
def test_demands_of_routes_that_cannot_be_met_are_errors(loads: Load, text: str, message: str) -> None:
    loaded = loads(text)
    assert loaded.settings is None
    assert any(message in line for line in told(loaded)), told(loaded)


def test_what_takes_protection_away_is_told(loads: Load) -> None:
    def difference(old: str, new: str) -> list[tuple[bool, str]]:
        both = [loads(text) for text in (old, new)]
        assert both[0].settings is not None
        assert both[1].settings is not None, told(both[1])
        found = compare(outline(both[0].settings), outline(both[1].settings))
        return [(change.weaker, change.text) for change in found]

    one, two = auth('[{ dns = "a.test" }]'), auth('[{ dns = "a.test" }, { dns = "b.test" }]')
    everyone = MESH + HOST + UP + 'client_auth = { trust = "mesh" }\n'
    assert difference(one, two) == [(True, "host api.example.com: client_auth.allow: adds dns b.test (more clients are let in)")]
    assert [weaker for weaker, _ in difference(two, one)] == [False]
    assert [weaker for weaker, _ in difference(one, everyone)] == [True]
    assert [weaker for weaker, _ in difference(everyone, one)] == [False]
    narrow, free = everyone + route('{ allow = { dns = "a.test" } }'), everyone + route("{}").replace("client_auth = {}\n", "")
    assert [weaker for weaker, _ in difference(narrow, free)] == [True]
    assert [weaker for weaker, _ in difference(free, narrow)] == [False]
    wider = everyone + route('{ allow = [{ dns = "a.test" }, { dns = "b.test" }] }')
    assert [weaker for weaker, _ in difference(narrow, wider)] == [True]
    assert [weaker for weaker, _ in difference(narrow, everyone + route('{ mode = "request", allow = { dns = "a.test" } }'))] == [
        True
    ]
