"""Revocation lists under a gateway that runs: who is on a new list is out, with a ticket or without; others notice nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .clients import Wire
from .conftest import Curl, StartGateway
from .gateway import Gateway, wait_for
from .h2raw import H2Client
from .pki import Leaf, Pki
from .returning import Returning, s_client
from .upstreams import ScriptedUpstream

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@pytest.fixture
def lists(tmp_path: Path, pki: Pki) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    pki.revoke(folder / "clients.pem")
    return folder


@pytest.fixture
def edge(start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, lists: Path) -> Gateway:
    return start_gateway(settings(pki, echo_upstream, f'crl = ["{lists}/*.pem"]'))


def settings(pki: Pki, upstream: ScriptedUpstream, trust: str) -> str:
    return f"""
        [trust.mesh]
        ca = ["{pki.client_ca}"]
        {trust}
        {pki.host(upstream.url)}
        client_auth = {{ trust = "mesh" }}
        """


def reloads(gateway: Gateway) -> int:
    return sum(line.get("event") == "reloaded" for line in gateway.events())


def change(gateway: Gateway, act: Callable[[], None], *, watched: bool = False) -> None:
    before = reloads(gateway)
    act()
    if not watched:
        gateway.signal(signal.SIGHUP)
    wait_for(lambda: reloads(gateway) > before, f"a reload; have {gateway.events()}")


def turned_away(client: Returning) -> bool:
    try:
        client.visit()
    except (OSError, AssertionError):
        return True
    return False


@VERSIONS
def test_who_is_revoked_is_out_and_nobody_else_notices(
    edge: Gateway, pki: Pki, lists: Path, version: ssl.TLSVersion, h2: Callable[..., H2Client]
) -> None:
    good, bad = pki.workload("good", dns="good.test"), pki.workload("bad", dns="bad.test")
    clients = [Returning(edge, pki.ca, version, leaf=leaf) for leaf in (good, bad)]
    for client in clients:
        assert not client.visit()
        assert client.visit()
    ticket = clients[1].session
    open_ones = [Wire(edge.port, pki.ca, client=leaf, version=version) for leaf in (good, bad)]
    streams = [h2(edge, client=leaf) for leaf in (good, bad)]
    for connection in open_ones:
        assert connection.get().status == 200
    for stream in streams:
        assert stream.get().status == 200

    change(edge, lambda: pki.revoke(lists / "clients.pem", bad))

    assert clients[0].visit(), "the ticket of the good one is as good as before"
    assert turned_away(clients[1])
    event = edge.event_line(fault="client-certificate-revoked")
    assert event["blame"] == "client"
    fresh = Returning(edge, pki.ca, version, leaf=bad)
    assert turned_away(fresh), "a full handshake"
    clients[1].session = ticket
    assert turned_away(clients[1])
    assert open_ones[0].get().status == 200
    assert streams[0].get().status == 200
    with pytest.raises((EOFError, OSError)):
        open_ones[1].get()
    assert streams[1].closed()
    for connection in open_ones:
        connection.close()

    change(edge, lambda: pki.revoke(lists / "clients.pem"))
    assert not turned_away(fresh)


def test_the_alert_says_revoked(edge: Gateway, pki: Pki, lists: Path, run_curl: Curl) -> None:
    bad = pki.workload("revoked", dns="revoked.test")
    change(edge, lambda: pki.revoke(lists / "clients.pem", bad))
    options = "--cert", str(bad.chain), "--key", str(bad.key)
    got = run_curl(edge, "/", *options)
    assert got.exit
    assert "certificate revoked" in got.stderr or "certificate_revoked" in got.stderr
    for flag in ("-tls1_2", "-tls1_3"):
        _, text = s_client(edge, flag, "-cert", str(bad.chain), "-key", str(bad.key))
        assert "alert number 44" in text or "certificate revoked" in text, text


def test_a_list_that_comes_later_is_seen(edge: Gateway, pki: Pki, lists: Path) -> None:
    """Nobody has to tell: files are watched, and the directory of a pattern too."""
    bad = pki.workload("later", dns="later.test")
    client = Returning(edge, pki.ca, ssl.TLSVersion.TLSv1_3, leaf=bad)
    client.visit()
    change(edge, lambda: pki.revoke(lists / "clients.pem", bad), watched=True)
    assert turned_away(client)


def test_a_broken_list_changes_nothing(edge: Gateway, pki: Pki, lists: Path) -> None:
    bad, good = pki.workload("before", dns="before.test"), pki.workload("fine", dns="fine.test")
    change(edge, lambda: pki.revoke(lists / "clients.pem", bad))
    (lists / "clients.pem").write_bytes(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    edge.signal(signal.SIGHUP)
    edge.event_line(event="reload-refused", error="invalid-settings")
    assert turned_away(Returning(edge, pki.ca, ssl.TLSVersion.TLSv1_3, leaf=bad))
    assert not turned_away(Returning(edge, pki.ca, ssl.TLSVersion.TLSv1_3, leaf=good))


def test_a_list_that_is_out_of_date_refuses_after_its_grace(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, lists: Path
) -> None:
    leaf = pki.workload("waiting", dns="waiting.test")
    pki.revoke(lists / "clients.pem", days=-2)
    gateway = start_gateway(settings(pki, echo_upstream, f'crl = "{lists}/clients.pem"'))
    assert turned_away(Returning(gateway, pki.ca, ssl.TLSVersion.TLSv1_3, leaf=leaf))
    gateway.event_line(fault="client-certificate-revocation-unknown")
    event = gateway.event_line(event="revocation-list-stale", level="error")
    assert event["trust"] == "mesh"
    change(gateway, lambda: pki.revoke(lists / "clients.pem"))
    assert not turned_away(Returning(gateway, pki.ca, ssl.TLSVersion.TLSv1_3, leaf=leaf))


def test_within_its_grace_it_is_believed(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, lists: Path
) -> None:
    pki.revoke(lists / "clients.pem", days=-2)
    gateway = start_gateway(settings(pki, echo_upstream, f'crl = "{lists}/clients.pem"\ncrl_grace = "7d"'))
    leaf = pki.workload("in-grace", dns="grace.test")
    assert not turned_away(Returning(gateway, pki.ca, ssl.TLSVersion.TLSv1_3, leaf=leaf))
    assert gateway.event_line(event="revocation-list-stale")["level"] == "warning"


@VERSIONS
def test_an_intermediate_is_looked_up_where_the_chain_is_checked(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, lists: Path, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    below = pki.workload("below", dns="below.test", intermediate=True)
    issuer = Leaf(tmp_path / "issuer.pem", below.key)
    pems = below.chain.read_bytes().split(b"-----BEGIN CERTIFICATE-----")
    issuer.chain.write_bytes(b"-----BEGIN CERTIFICATE-----" + pems[2])
    gateways = [
        start_gateway(settings(pki, echo_upstream, f'crl = "{lists}/clients.pem"\ncrl_check = "{word}"'))
        for word in ("leaf", "chain")
    ]
    clients = [Returning(gateway, pki.ca, version, leaf=below) for gateway in gateways]
    for client in clients:
        client.visit()
        assert client.visit()
    pki.revoke(lists / "clients.pem", issuer)
    for gateway in gateways:
        change(gateway, lambda: None)
    assert clients[0].visit(), "its issuer has no list of its own"
    assert turned_away(clients[1]), "with a ticket"
    clients[1].session = None
    assert turned_away(clients[1])
    gateways[1].event_line(fault="client-certificate-revoked")


def test_streams_of_revoked_clients_are_cut(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, lists: Path
) -> None:
    gateway = start_gateway(
        f"""
        [trust.mesh]
        ca = ["{pki.client_ca}"]
        crl = "{lists}/clients.pem"
        {pki.host(echo_upstream.url.replace("http:", "tcp:"))}
        protocol = "tcp"
        client_auth = {{ trust = "mesh" }}
        """
    )
    good, bad = pki.workload("stream-good", dns="good.test"), pki.workload("stream-bad", dns="bad.test")
    wires: list[Any] = [Wire(gateway.port, pki.ca, alpn=(), client=leaf) for leaf in (good, bad)]
    for wire in wires:
        assert wire.get().status == 200
    change(gateway, lambda: pki.revoke(lists / "clients.pem", bad))
    assert wires[1].rest() == b""
    assert wires[0].get().status == 200
    assert gateway.access_line(fault="client-certificate-revoked")["protocol"] == "TCP"
    for wire in wires:
        wire.close()


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_a_handshake_that_began_under_the_old_list_ends_under_the_new_one(
    edge: Gateway, pki: Pki, lists: Path, echo_upstream: ScriptedUpstream, protocol: str
) -> None:
    """The client says hello, the list changes, and only then it shows its certificate and asks, all in one piece."""
    bad = pki.workload("slow", dns="slow.test")
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(bad.chain, bad.key)
    context.set_alpn_protocols([protocol])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    before = len(echo_upstream.requests)
    with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as sock:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        change(edge, lambda: pki.revoke(lists / "clients.pem", bad))
        client.write(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.sendall(outgoing.read())
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                incoming.write(data)
        answer = b""
        with contextlib.suppress(ssl.SSLError):
            answer = client.read()
        assert b"200" not in answer
    assert "/late" not in [request.path for request in echo_upstream.requests[before:]]


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_a_host_with_a_list_is_not_reached_by_way_of_one_without(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, lists: Path, request: pytest.FixtureRequest,
    protocol: str,
) -> None:  # fmt: skip
    """Both have one certificate and trust one authority, so browsers would share a connection; the lists are the difference."""
    bad = pki.workload("by-way", dns="by-way.test")
    pki.revoke(lists / "clients.pem", bad)
    gateway = start_gateway(
        f"""
        [trust.loose]
        ca = ["{pki.client_ca}"]
        [trust.strict]
        ca = ["{pki.client_ca}"]
        crl = "{lists}/clients.pem"
        {pki.host(echo_upstream.url, "a.wild.test", pki.wild)}
        client_auth = {{ trust = "loose" }}
        {pki.host(echo_upstream.url, "b.wild.test", pki.wild)}
        client_auth = {{ trust = "strict" }}
        """
    )
    connection: Any = request.getfixturevalue(protocol)(gateway, sni="a.wild.test", client=bad)
    for host, status in (("a.wild.test", 200), ("b.wild.test", 421)):
        got = connection.get("/", authority=host) if isinstance(connection, H2Client) else connection.get("/", host=host)
        assert got.status == status
