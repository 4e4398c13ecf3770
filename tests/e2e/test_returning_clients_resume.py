"""Session resumption of a running gateway: workers, rotations, policies, other nodes."""

from __future__ import annotations

import os
import signal
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import StartGateway
from .gateway import Gateway, free_port, wait_for
from .pki import Pki
from .returning import Returning, s_client

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
FLAGS = {V12: "-tls1_2", V13: "-tls1_3"}
PING = '[[route]]\npath = "/ping"\nrespond = { status = 200, body = "ok" }\n'
LOGS = '[log]\naccess = { to = "$FOLDER/access.log", format = "json" }\nevents = { to = "$FOLDER/events.log", format = "json" }\n'


def server(workers: int = 4) -> str:
    return f'[server]\nworkers = {workers}\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n{PING}'


def guarded(pki: Pki, mode: str = "require", ca: Path | None = None, more: str = "") -> str:
    return (
        f'[trust.people]\nca = ["{ca or pki.client_ca}"]\n{pki.host(name="guarded.test", leaf=pki.guarded)}'
        f'client_auth = {{ mode = "{mode}", trust = "people"{more} }}\n'
    )


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki) -> Gateway:
    hosts = pki.host() + pki.host(name="open.test", leaf=pki.open)
    return start_shared(server() + guarded(pki) + hosts)


def renewals(gateway: Gateway) -> int:
    return sum(1 for line in gateway.events() if line.get("event") == "ticket-keys-renewed")


def next_rotation(gateway: Gateway) -> None:
    before = renewals(gateway)
    wait_for(lambda: renewals(gateway) > before, "new ticket keys")


# --- clients ---


@BOTH
def test_a_client_resumes_with_every_worker(edge: Gateway, pki: Pki, version: ssl.TLSVersion) -> None:
    client = Returning(edge, pki.ca, version)
    assert not client.visit()
    for _ in range(30):
        assert client.visit()


@BOTH
@pytest.mark.parametrize("group", ["", "P-256"])
def test_openssls_own_client_resumes(edge: Gateway, version: ssl.TLSVersion, group: str, tmp_path: Path) -> None:
    """Debian's openssl offers no hybrid; with a group that is not ours first there is a HelloRetryRequest."""
    options = [FLAGS[version]] + (["-groups", f"X448:{group}"] if group else [])
    session = str(tmp_path / "session.pem")
    fresh, text = s_client(edge, *options, "-sess_out", session)
    assert not fresh
    assert "HTTP/1.1 200" in text
    for _ in range(4):
        came_back, text = s_client(edge, *options, "-sess_in", session)
        assert came_back, text
        assert "HTTP/1.1 200" in text


@BOTH
def test_a_client_with_a_certificate_resumes_and_is_still_known(edge: Gateway, pki: Pki, version: ssl.TLSVersion) -> None:
    """F7."""
    client = Returning(edge, pki.ca, version, sni="guarded.test", leaf=pki.client)
    assert not client.visit()
    assert client.visit()
    line = wait_for(
        lambda: next((line for line in edge.access() if line.get("resumed") and line.get("sni") == "guarded.test"), None),
        "the access line",
    )
    assert line["client_subject"]


@BOTH
def test_no_ticket_opens_another_host(edge: Gateway, pki: Pki, version: ssl.TLSVersion) -> None:
    """F1, F2: from an open host to one that wants certificates, and between two open ones."""
    client = Returning(edge, pki.ca, version)
    client.visit()
    client.sni = "open.test"
    assert not client.visit()
    stolen = client.session
    client.sni, client.session = "guarded.test", stolen
    with pytest.raises((OSError, AssertionError)):
        client.visit()
    client = Returning(edge, pki.ca, version, sni="guarded.test", leaf=pki.client)
    client.visit()
    client.sni = "localhost"
    assert not client.visit()


def test_openssls_client_does_not_cross_either(edge: Gateway, tmp_path: Path) -> None:
    for flag in FLAGS.values():
        session = str(tmp_path / f"session{flag}.pem")
        s_client(edge, flag, "-sess_out", session)
        came_back, text = s_client(edge, flag, "-sess_in", session, sni="guarded.test")
        assert not came_back
        assert "HTTP/1.1 200" not in text


# --- policies that changed, keys that stayed ---


def pair(start_gateway: StartGateway, secret: Path, one: str, other: str) -> tuple[Gateway, Gateway]:
    """Two gateways with one secret: what a reload would do, and what a second machine does."""
    tls = f'[tls]\nticket_secret = "{secret}"\n'
    return start_gateway(server(1) + tls + one), start_gateway(server(1) + tls + other)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "ticket.secret"
    path.write_bytes(os.urandom(48))
    path.chmod(0o600)
    return path


TIGHTER: dict[str, Callable[[Pki], tuple[str, str]]] = {
    "off to require": lambda pki: (pki.host(name="guarded.test", leaf=pki.guarded), guarded(pki)),
    "request to require": lambda pki: (guarded(pki, "request"), guarded(pki)),
    "another CA": lambda pki: (guarded(pki, ca=pki.stranger_ca), guarded(pki)),
    "a shorter life": lambda pki: (guarded(pki), guarded(pki, more=', max_age = "90s"')),
}


@pytest.mark.parametrize("case", TIGHTER)
def test_a_tightened_policy_makes_old_tickets_worthless(case: str, start_gateway: StartGateway, pki: Pki, secret: Path) -> None:
    """F13: the ticket keys come from the same generation."""
    before, after = pair(start_gateway, secret, *TIGHTER[case](pki))
    for version in (V12, V13):
        leaf = {"another CA": pki.stranger, "a shorter life": pki.client}.get(case)
        client = Returning(before, pki.ca, version, sni="guarded.test", leaf=leaf)
        client.visit()
        assert client.visit()
        if case == "a shorter life":  # comes in all the same, by its certificate
            assert not client.visit(after.port)
        else:
            with pytest.raises((OSError, AssertionError)):
                client.visit(after.port)
        known = Returning(after, pki.ca, version, sni="guarded.test", leaf=pki.client)
        known.visit()
        assert known.visit()


def test_nodes_that_share_a_secret_take_each_others_tickets(start_gateway: StartGateway, pki: Pki, secret: Path) -> None:
    one, other = pair(start_gateway, secret, pki.host(), pki.host())
    for version in (V12, V13):
        client = Returning(one, pki.ca, version)
        client.visit()
        assert client.visit(other.port)
        assert client.visit(one.port)
    stranger = start_gateway(server(1) + pki.host())
    client = Returning(one, pki.ca, V13)
    client.visit()
    assert not client.visit(stranger.port)
    for gateway in (one, other):
        assert secret.read_bytes() not in gateway.events_path.read_bytes() + gateway.access_path.read_bytes()


# --- rotation ---


def test_rotation_workers_that_die_and_the_end_of_a_key(start_gateway: StartGateway, pki: Pki) -> None:
    tls = '[tls]\nticket_rotation = "2s"\nticket_lifetime = "6s"\n'
    edge = start_gateway(server(2) + tls + guarded(pki) + pki.host())
    clients = [Returning(edge, pki.ca, version) for version in (V12, V13)]
    for client in clients:
        client.visit()
    next_rotation(edge)
    assert all(client.visit() for client in clients)
    workers = [pid for pid in edge.pids()[1:] if b"edge-worker" in Path(f"/proc/{pid}/comm").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    edge.event_line(event="child-ended")
    wait_for(lambda: len([line for line in edge.events() if line.get("event") == "child-ended"]) >= 1, "its end")
    for _ in range(6):
        assert clients[1].visit()  # by whichever worker, the new one too
    bound = Returning(edge, pki.ca, V13, sni="guarded.test", leaf=pki.client)
    bound.visit()
    results = []
    for _ in range(6):
        next_rotation(edge)
        results.append((clients[1].visit(), bound.visit()))
    assert [renewed for renewed, _ in results] == [True] * 6  # without certificates a chain goes on (F14)
    chained = {chained for _, chained in results}
    assert chained == {True, False}  # with them it ends with its generation, and another begins (F15)
    assert not clients[0].visit()  # TLS 1.2 gets no new ticket on resumption


def test_tickets_off_sends_no_ticket(start_gateway: StartGateway, pki: Pki, tmp_path: Path) -> None:
    edge = start_gateway(server(1) + '[tls]\ntickets = "off"\n' + pki.host())
    for flag in FLAGS.values():
        session = tmp_path / f"session{flag}.pem"
        _, text = s_client(edge, flag, "-sess_out", str(session))
        assert "New Session Ticket arrived" not in text
        assert "TLS session ticket:" not in text
        if session.exists():
            assert not s_client(edge, flag, "-sess_in", str(session))[0]


def test_almost_all_clients_resume_whatever_happens(start_gateway: StartGateway, pki: Pki) -> None:
    """At least 99.5 % of those that come back, before, during and after rotations and a reload of every host.

    `EDGE_RETURNING` says how many clients there are.
    """
    count = int(os.environ.get("EDGE_RETURNING", "100"))
    rotation = 2 + count // 100
    pki.server("again", "localhost", "127.0.0.1")
    tls = f'[tls]\nticket_rotation = "{rotation}s"\nticket_lifetime = "{24 * rotation}s"\n'
    edge = start_gateway(server(4) + tls + pki.host())
    clients = [Returning(edge, pki.ca, V13 if number % 2 else V12) for number in range(count)]
    for client in clients:
        assert not client.visit()
    for _ in range(3):
        before = renewals(edge)
        came_back = sum(client.visit() for client in clients)
        assert came_back >= 0.995 * count
        wait_for(lambda seen=before: renewals(edge) > seen, "new ticket keys")  # type: ignore[misc]
        reload(edge, edge.config.read_text().replace("localhost.pem", "again.pem").replace("localhost.key", "again.key"))


def test_tickets_are_counted_and_told(start_gateway: StartGateway, pki: Pki) -> None:
    admin = free_port()
    more = f'[admin]\naddress = "127.0.0.1:{admin}"\nopen = ["metrics", "status"]\n'
    edge = start_gateway(server(1) + more + guarded(pki) + pki.host())
    client = Returning(edge, pki.ca, V13)
    for _ in range(3):
        client.visit()
    client.sni = "guarded.test"
    client.leaf = pki.client
    client.context.load_cert_chain(pki.client.chain, pki.client.key)
    assert not client.visit()

    def metrics() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as answer:
            return answer.read().decode()

    wait_for(lambda: "foreign" in metrics(), "the metrics")
    text = metrics()
    assert 'edge_tickets_total{listener="main",result="resumed"} 2.0' in text
    assert 'edge_tickets_total{listener="main",result="foreign"} 1.0' in text
    assert "edge_ticket_keys 1.0" in text
    since = float(text.partition("\nedge_ticket_key_timestamp_seconds ")[2].split()[0])
    assert 0 <= time.time() - since <= 3700


# --- reload ---


def reload(gateway: Gateway, text: str) -> None:
    gateway.event_line(event="serving")
    before = len([line for line in gateway.events() if line.get("event") == "reloaded"])
    gateway.config.write_text(text)
    gateway.signal(signal.SIGHUP)
    wait_for(
        lambda: len([line for line in gateway.events() if line.get("event") == "reloaded"]) > before,
        f"the reload; have {gateway.events()[-3:]}",
    )


def test_a_reload_keeps_tickets_and_a_tightened_policy_makes_its_own_worthless(start_gateway: StartGateway, pki: Pki) -> None:
    """F13 on a running gateway: the ring of keys stays, the policy changes."""
    people = f'[trust.people]\nca = ["{pki.client_ca}"]\n'
    guarded_host = pki.host(name="guarded.test", leaf=pki.guarded)
    quiet = 'client_auth = { mode = "request", trust = "people" }\n'
    edge = start_gateway(server(3) + people + guarded_host + quiet + pki.host())
    text = edge.config.read_text()
    for version in (V12, V13):
        edge.config.write_text(text)
        reload(edge, text)
        free, known, other = (
            Returning(edge, pki.ca, version, sni="guarded.test"),
            Returning(edge, pki.ca, version, sni="guarded.test", leaf=pki.client),
            Returning(edge, pki.ca, version),
        )
        for client in (free, known, other):
            client.visit()
        renewed = pki.server(f"localhost-{version.value}", "localhost", "127.0.0.1")
        changed = text.replace(pki.localhost.toml, renewed.toml)
        reload(edge, changed)
        for client in (free, known, other):
            for _ in range(6):  # whichever worker
                assert client.visit()
        reload(edge, changed.replace('mode = "request"', 'mode = "require"'))
        for _ in range(6):
            with pytest.raises((OSError, AssertionError)):
                free.visit()
        assert other.visit()
        assert not known.visit()
        assert known.visit()


def test_a_secret_that_comes_and_goes_by_reload(start_gateway: StartGateway, pki: Pki, secret: Path) -> None:
    edge = start_gateway(server(2) + pki.host())
    other = start_gateway(server(1) + f'[tls]\nticket_secret = "{secret}"\n' + pki.host())
    client = Returning(edge, pki.ca, V13)
    client.visit()
    reload(edge, f'[tls]\nticket_secret = "{secret}"\n' + edge.config.read_text())
    for _ in range(4):
        assert client.visit()  # what was issued before is still accepted
    for _ in range(4):
        assert client.visit(other.port)
        assert client.visit(edge.port)
    secret.write_bytes(os.urandom(48))
    reload(edge, edge.config.read_text())
    assert client.visit()
    assert not client.visit(other.port)
