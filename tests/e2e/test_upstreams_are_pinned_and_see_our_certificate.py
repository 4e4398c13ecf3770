"""Pins on the verified chain of an upstream (here nginx), and the certificate that we show to it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .clients import Wire
from .conftest import Nginx, StartGateway
from .gateway import Gateway, free_port, wait_for
from .pki import Pki

OTHER = f"sha256/{base64.b64encode(bytes(32)).decode()}"


def pin_of(pem: Path) -> str:
    """By the arithmetic of RFC 7469 section 2.4."""
    key = x509.load_pem_x509_certificate(pem.read_bytes()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256/{base64.b64encode(hashlib.sha256(der).digest()).decode()}"


def pinned(start: StartGateway, pki: Pki, nginx: Nginx, *pins: str, mode: str = "enforce", admin: int = 0) -> Gateway:
    listening = f'"127.0.0.1:{admin}"\nopen = ["health", "metrics"]' if admin else '"off"'
    return start(
        f"""
        [admin]
        address = {listening}
        [trust.own]
        ca = ["{pki.ca}"]
        {pki.host("app")}
        [upstream.app]
        endpoints = ["{nginx.tls_url}"]
        [upstream.app.tls]
        trust = "own"
        pins = {json.dumps(pins)}
        pin_mode = "{mode}"
        """
    )


def test_the_key_of_the_server_or_of_its_ca_is_enough(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    for fitting in (pin_of(pki.localhost.chain), pin_of(pki.ca)):
        edge = pinned(start_gateway, pki, nginx_upstream, fitting, OTHER)
        assert h1(edge).get("/small").body == b"small\n"


def test_another_key_gets_nothing_and_the_client_learns_nothing(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    edge = pinned(start_gateway, pki, nginx_upstream, OTHER, pin_of(pki.stranger_ca))
    wire = h1(edge)
    for _ in range(3):
        got = wire.get("/small")
        assert got.status == 502
        assert b"pin" not in got.body
    line = edge.access_line(fault="upstream-pin-mismatch")
    assert pin_of(pki.localhost.chain) in line["detail"]
    assert pin_of(pki.ca) in line["detail"]
    event = edge.event_line(event="upstream-pin-mismatch")
    assert (event["level"], event["mode"], event["upstream"]) == ("error", "enforce", "app")
    assert len([line for line in edge.events() if line.get("event") == "upstream-pin-mismatch"]) == 1


def test_reports_let_through_and_are_told(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire]
) -> None:
    admin = free_port()
    edge = pinned(start_gateway, pki, nginx_upstream, OTHER, pin_of(pki.stranger_ca), mode="report", admin=admin)
    assert h1(edge).get("/small").body == b"small\n"

    def counted() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as answer:
            return b'edge_upstream_pin_mismatches_total{mode="report",upstream="app"} 1.0' in answer.read()
        return False

    wait_for(counted, "the mismatch in the metrics")
    event = edge.event_line(event="upstream-pin-mismatch", mode="report")
    assert pin_of(pki.localhost.chain) in event["detail"]


def test_what_edge_pin_prints_is_what_is_pinned(pki: Pki, nginx_upstream: Nginx) -> None:
    address = nginx_upstream.tls_url.removeprefix("https://")
    command = [sys.executable, "-m", "edge.cli.main", "pin", address, "--ca", str(pki.ca), "--json"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, cwd=root, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert found["verified"] is True
    assert [entry["pin"] for entry in found["pins"]] == [pin_of(pki.localhost.chain), pin_of(pki.ca)]
    assert [entry["place"] for entry in found["pins"]] == ["leaf", "root"]
    stranger = subprocess.run([*command[:-2], str(pki.stranger_ca)], capture_output=True, cwd=root, timeout=60, check=False)
    assert stranger.returncode == 1
    assert b"upstream-certificate-unknown-ca" in stranger.stderr


@pytest.mark.parametrize("place", ["route", "upstream", "top"])
def test_the_certificate_is_shown_to_a_server_that_asks(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, h1: Callable[..., Wire], place: str
) -> None:
    ours = 'client_certificate = "ours"\n'
    edge = start_gateway(
        f"""
        [trust.own]
        ca = ["{pki.ca}"]
        [[certificate]]
        name = "ours"
        chain = "{pki.client.chain}"
        key = "{pki.client.key}"
        [upstream_tls]
        {ours if place == "top" else ""}
        [upstream.app]
        endpoints = ["{nginx_upstream.asking_url}"]
        [upstream.app.tls]
        trust = "own"
        {ours if place == "upstream" else ""}
        [[route]]
        path = "/"
        upstream = "app"
        {ours if place == "route" else ""}
        [[route]]
        path = "/without"
        upstream = "app"
        {pki.host()}
        """
    )
    leaf = x509.load_pem_x509_certificate(pki.client.chain.read_bytes())
    wire = h1(edge)
    assert wire.get("/").body.decode() == leaf.fingerprint(hashes.SHA1()).hex()
    got = wire.get("/without")
    if place == "route":
        assert got.status == 400
        assert b"No required SSL certificate was sent" in got.body
    else:
        assert got.body.decode() == leaf.fingerprint(hashes.SHA1()).hex()
