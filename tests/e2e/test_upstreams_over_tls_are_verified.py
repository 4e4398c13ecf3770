"""TLS to upstreams, here nginx: verified unless the settings say otherwise; HTTP/2 or HTTP/1.1 by ALPN."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.request
from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import Nginx, StartGateway
from .gateway import Gateway, free_port, wait_for
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


def test_what_upstreams_handshakes_cost_and_prove_is_counted(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    """How many were resumed, which upstream is not verified, and what a stream carried."""
    admin, port = free_port(), nginx_upstream.tls_url.rpartition(":")[2]
    edge = start_gateway(
        f"""
        [admin]
        address = "127.0.0.1:{admin}"
        open = ["health", "metrics"]
        {pki.host("app")}
        [[host]]
        names = ["open.test"]
        passthrough = "tcp://127.0.0.1:{port}"
        [upstream.app]
        endpoints = ["{nginx_upstream.tls_url}"]
        keepalive = "off"
        tls = {{ verify = "off", alpn = "http/1.1" }}
        """
    )
    assert edge.event_line(event="upstream-not-verified")["upstream"] == "app"
    wire = h1(edge)
    for _ in range(3):
        assert wire.get("/small").status == 200
    with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with unverified.wrap_socket(raw, server_hostname="open.test") as sock:
            sock.sendall(b"GET /small HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n")
            while sock.recv(4096):
                pass
    carried = edge.access_line(protocol="TLS")

    def metrics() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    text = wait_for(lambda: text if "edge_streams_total{" in (text := metrics()) else None, "the stream's metrics")
    assert 'edge_upstream_verified{upstream="app"} 0.0' in text
    assert 'edge_upstream_handshakes_total{resumed="no",upstream="app",version="TLSv1.3"} 1.0' in text
    assert 'edge_upstream_handshakes_total{resumed="yes",upstream="app",version="TLSv1.3"} 2.0' in text
    assert 'edge_streams_total{fault="",listener="main",mode="passthrough"} 1.0' in text
    assert f'edge_stream_bytes_total{{direction="out",listener="main",mode="passthrough"}} {carried["bytes_out"]}.0' in text
