"""A connection is reused only where its whole security identity is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge.settings.model import Crl, Endpoint, Trust, Upstream, UpstreamTls
from edge.upstream.identity import PeerKey, key_for, trust_identity
from tests.builders import endpoint, upstream

MESH = Trust(name="mesh", ca_pem=b"mesh")

CRL = Crl(issuer="cn=x", name="CN=x", serials=bytes(20), width=20, this_update=0.0, next_update=None)


def key(url: str = "https://a.example.com:443", **tls: Any) -> PeerKey:
    return key_for(endpoint(url), upstream("u", tls=UpstreamTls(**{"trust": MESH, **tls})))


def test_equal_settings_are_one_key() -> None:
    assert key() is key()
    assert key(alpn=(), min_version="1.3") is key(min_version="1.3", alpn=())


def test_a_store_is_what_it_holds_and_not_its_name() -> None:
    assert key(trust=Trust(name="other", ca_pem=b"mesh")) == key()


@pytest.mark.parametrize(
    "other",
    [
        key("https://b.example.com:443"),
        key("https://a.example.com:8443"),
        key("h2c://a.example.com:443"),
        key(server_name="b.example.com"),
        key(trust=Trust(name="mesh", ca_pem=b"others")),
        key(trust=Trust(name="mesh", ca_pem=b"mesh", system=True)),
        key(trust=Trust(name="mesh", ca_pem=b"mesh", crls=(CRL,), crl_check="leaf")),
        key(trust=Trust(name="mesh", ca_pem=b"mesh", crls=(replace(CRL, serials=bytes(40)),), crl_check="leaf")),
        key(verify=False),
        key(min_version="1.3"),
        key(alpn=("http/1.1",)),
        PeerKey(
            endpoint("https://a.example.com:443").address,
            endpoint("https://a.example.com:443").scheme,
            server_name="a.example.com",
            trust=trust_identity(MESH),
            verify=True,
            client_identity=b"somebody",
            min_version="1.2",
            alpn=("h2", "http/1.1"),
        ),
    ],
    ids=repr,
)
def test_every_part_counts(other: PeerKey) -> None:
    assert other != key()


def test_the_name_is_the_endpoints_unless_the_settings_say_otherwise() -> None:
    assert key().server_name == "a.example.com"
    assert key(server_name="b").server_name == "b"


@pytest.mark.parametrize("made", [endpoint("http://a.example.com:80"), endpoint("unix:/run/app.sock"), endpoint("h2c://a:80")])
def test_without_tls_nothing_of_tls_counts(made: Endpoint) -> None:
    plain: Upstream = upstream("u")
    assert key_for(made, plain) == key_for(made, upstream("u", tls=UpstreamTls(trust=MESH)))
    assert key_for(made, plain).server_name == ""


def test_a_key_is_no_other_thing() -> None:
    assert key() != "key"
    assert repr(key()) == "<PeerKey https://a.example.com:443 a.example.com>"
    assert repr(key_for(endpoint("unix:/x"), upstream())) == "<PeerKey http:///x >"
