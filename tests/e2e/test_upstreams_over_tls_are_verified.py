"""TLS to upstreams, here nginx: verified unless the settings say otherwise; HTTP/2 or HTTP/1.1 by ALPN."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import Nginx, StartGateway
from .gateway import Gateway
from .pki import Pki

VERSIONS = {'["h2", "http/1.1"]': "HTTP/2.0", '["http/1.1"]': "HTTP/1.1"}


def gateway(start: StartGateway, pki: Pki, nginx: Nginx, tls: str, ca: str = "") -> Gateway:
    return start(
        f"""
        [trust.own]
        ca = ["{ca or pki.ca}"]
        [[host]]
        names = ["localhost"]
        certificates = [{pki.localhost.toml}]
        upstream = "app"
        [upstream.app]
        endpoints = ["{nginx.tls_url}"]
        tls = {{ {tls} }}
        """
    )


@pytest.mark.parametrize("alpn", VERSIONS)
def test_the_protocol_is_agreed_by_alpn_and_the_name_is_sent(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire], alpn: str
) -> None:
    edge = gateway(start_gateway, pki, nginx_upstream, f'trust = "own", alpn = {alpn}')
    wire = h1(edge)
    for _ in range(3):
        assert wire.get("/protocol").body.decode() == f"{VERSIONS[alpn]} https localhost"
    assert wire.get("/megabyte").body == (nginx_upstream.www / "megabyte").read_bytes()


@pytest.mark.parametrize(
    ("tls", "stranger"),
    [
        ('trust = "own"', True),
        ('trust = "system"', False),
        ('trust = "own", server_name = "other.test"', False),
    ],
    ids=["another CA", "the system's CAs", "another name"],
)
def test_an_upstream_that_cannot_be_verified_gets_nothing(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire], tls: str, stranger: bool
) -> None:
    edge = gateway(start_gateway, pki, nginx_upstream, tls, str(pki.stranger_ca) if stranger else "")
    got = h1(edge).get("/protocol")
    assert got.status == 502
    assert "certificate" not in json.dumps(got.json())
    line = edge.access_line(path="/protocol")
    assert line["blame"] == "upstream"
    assert line["fault"].startswith("upstream-certificate")


def test_verification_can_be_switched_off_for_one_upstream(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    edge = gateway(start_gateway, pki, nginx_upstream, 'verify = "off", trust = "own"', str(pki.stranger_ca))
    assert h1(edge).get("/protocol").body.decode().endswith(" https localhost")


def test_a_higher_version_can_be_demanded(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    edge = gateway(start_gateway, pki, nginx_upstream, 'trust = "own", min_version = "1.3"')
    assert h1(edge).get("/protocol").status == 200


def test_tls_sessions_to_upstreams_are_resumed(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    """By nginx's own account. Without keep-alive each request is a connection."""
    edge = start_gateway(
        f"""
        [trust.own]
        ca = ["{pki.ca}"]
        {pki.host("app")}
        [upstream.app]
        endpoints = ["{nginx_upstream.tls_url}"]
        keepalive = "off"
        tls = {{ trust = "own", alpn = "http/1.1" }}
        """
    )
    wire = h1(edge)
    seen = [wire.get("/resumed").body for _ in range(5)]
    assert seen[0] == b"."
    assert seen[1:] == [b"r"] * 4
