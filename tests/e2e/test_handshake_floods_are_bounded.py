"""Renegotiation, KeyUpdates and handshakes by the thousand: refused or bounded, counted, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from tests.records import ALERT, RecordWriter, keep_secrets

from .clients import Wire
from .conftest import StartGateway
from .gateway import Gateway, free_port, wait_for
from .pki import Pki

PING = '[[route]]\npath = "/ping"\nrespond = { status = 200, body = "pong" }\n'


@contextlib.contextmanager
def talking(edge: Gateway, *arguments: str) -> Iterator[Callable[[bytes], int]]:
    """`openssl s_client`, at a terminal: that hands over one line a read, and its letters count only where a read begins."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-servername", "localhost", "-crlf", *arguments]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        try:
            yield lambda text: os.write(ours, text)
        finally:
            process.terminate()
            process.wait(60)
            os.close(ours)


def openssl(edge: Gateway, *arguments: str, says: bytes) -> subprocess.CompletedProcess[bytes]:
    """`openssl s_client`, whose interactive letters (R, k, K) stand at the start of lines of its input."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-servername", "localhost", *arguments]
    return subprocess.run(command, input=says, capture_output=True, timeout=60, check=False)


def test_a_client_that_renegotiates_is_refused(start_gateway: StartGateway, pki: Pki, h1: Callable[..., Wire]) -> None:
    edge = start_gateway(pki.host() + PING)
    done = openssl(edge, "-tls1_2", says=b"R\n")
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stderr or b"handshake failure" in done.stderr or done.returncode != 0
    assert h1(edge).get("/ping").body == b"pong"


@pytest.mark.parametrize("letter", [b"k", b"K"])
def test_key_updates_are_answered_up_to_a_budget(start_gateway: StartGateway, pki: Pki, letter: bytes) -> None:
    """A few are anybody's right (RFC 8446 section 4.6.3)."""
    edge = start_gateway("[limits]\nkey_updates = 5\n" + pki.host() + PING)
    with talking(edge, "-tls1_3") as say:
        for _ in range(3):
            say(letter + b"\n")
        say(b"GET /ping HTTP/1.1\nHost: localhost\n\n")
        edge.access_line(path="/ping", status=200)
        for _ in range(60):
            say(letter + b"\n")
        assert edge.event_line(event="protocol-error", fault="tls-disturbances")["peer"] == "127.0.0.1"


@contextlib.contextmanager
def writing(edge: Gateway, version: int) -> Iterator[tuple[socket.socket, RecordWriter]]:
    """A connection of a library that has made its handshake, and whose records are written by hand."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    secrets = keep_secrets(context)
    with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
        sock.settimeout(None)  # pyOpenSSL knows no others
        connection = SSL.Connection(context, sock)
        connection.set_tlsext_host_name(b"localhost")
        connection.set_connect_state()
        connection.do_handshake()
        sock.settimeout(20)
        yield sock, RecordWriter(connection, secrets)


def hangs_up(sock: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        while sock.recv(65_536):
            pass
    return True


REQUEST = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
VERSIONS = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])


@VERSIONS
@pytest.mark.parametrize("kind", ["empty", "padded", "alerts", "apart"])
def test_records_without_data_have_a_budget(start_gateway: StartGateway, pki: Pki, version: int, kind: str) -> None:
    """The library alone would take any number of them, as long as a byte of data comes with every 32."""
    port = free_port()
    edge = start_gateway(f'[admin]\naddress = "127.0.0.1:{port}"\n[limits]\nempty_records = 100\n' + pki.host() + PING)
    with writing(edge, version) as (sock, writer):
        padding = 5000 if kind == "padded" and writer.tls13 else 0
        for number in range(1000):
            content, what = (b"\x01\x5a", ALERT) if kind == "alerts" else (b"", 23)
            records = [writer.record(content, what, padding=padding) for _ in range(4)]
            records.append(writer.record(REQUEST[number % len(REQUEST) :][:1]))
            try:
                for piece in records if kind == "apart" else [b"".join(records)]:
                    sock.sendall(piece)
            except ConnectionError:
                break
        assert hangs_up(sock)
    event = edge.event_line(event="protocol-error", fault="empty-records")
    assert (event["peer"], event["level"]) == ("127.0.0.1", "warning")

    def counted() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        empty = [float(line.split()[1]) for line in lines if line.startswith("edge_tls_empty_records_total{")]
        return sum(empty) > 100 and any(
            line.startswith("edge_faults_total{") and 'kind="empty-records"' in line and line.endswith(" 1.0") for line in lines
        )

    wait_for(counted, "the flood counted")
    assert not refused(edge, pki)


@VERSIONS
def test_a_few_records_without_data_are_nobodys_business(start_gateway: StartGateway, pki: Pki, version: int) -> None:
    """Some libraries send one whenever their user flushes."""
    edge = start_gateway(pki.host() + PING)
    with writing(edge, version) as (sock, writer):
        for _ in range(60):
            sock.sendall(writer.record() + writer.record(REQUEST) + writer.record())
            assert sock.recv(65_536)
        sock.sendall(b"".join(writer.record(bytes([byte])) for byte in REQUEST * 20))
        edge.access_line(path="/ping", status=200)
        sock.sendall(writer.record(REQUEST.replace(b"/ping", b"/last")))
        edge.access_line(path="/last", status=404)


def connect(edge: Gateway, pki: Pki, session: ssl.SSLSession | None = None, *, name: str = "localhost") -> ssl.SSLSession | None:
    """One handshake and a request; the session that came of it."""
    context = CONTEXTS.setdefault(str(pki.ca), ssl.create_default_context(cafile=str(pki.ca)))
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=name, session=session) as sock,
    ):
        sock.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"pong" in sock.recv(4096)
        return sock.session


CONTEXTS: dict[str, ssl.SSLContext] = {}


def refused(edge: Gateway, pki: Pki, session: ssl.SSLSession | None = None) -> bool:
    try:
        connect(edge, pki, session)
    except OSError:
        return True
    return False


def test_full_handshakes_have_a_budget_and_resumed_ones_another(start_gateway: StartGateway, pki: Pki) -> None:
    edge = start_gateway('[handshakes]\nfull = "1/h"\nburst = "3h"\n' + pki.host() + PING)
    session = connect(edge, pki)
    assert not refused(edge, pki)
    assert not refused(edge, pki)
    assert refused(edge, pki)
    for _ in range(5):
        session = connect(edge, pki, session)
    event = edge.event_line(event="handshakes-refused")
    assert (event["level"], event["reason"], event["peer"]) == ("warning", "full", "127.0.0.1")


def test_a_forged_ticket_is_no_proof(start_gateway: StartGateway, pki: Pki) -> None:
    """A ticket of another gateway, whose keys are others, counts as a full handshake."""
    other, edge = (start_gateway('[handshakes]\nfull = "1/h"\nburst = "1h"\n' + pki.host() + PING) for _ in range(2))
    session = connect(other, pki)
    connect(edge, pki)
    assert refused(edge, pki, session)


@pytest.mark.parametrize("finish", [True, False])
def test_a_good_ticket_that_cannot_be_used_is_no_way_around_the_budget(
    start_gateway: StartGateway, pki: Pki, finish: bool
) -> None:
    """A session without the extended master secret may not be resumed by a client that offers it (RFC 7627 section 5.3): such a
    ticket is ours by its HMAC, and its handshake is a full one each time."""
    edge = start_gateway('[handshakes]\nfull = "1/h"\nburst = "3h"\n' + pki.host() + PING)
    without, offering = (SSL.Context(SSL.TLS_CLIENT_METHOD) for _ in range(2))
    for context in (without, offering):
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
    without.set_options(1)  # SSL_OP_NO_EXTENDED_MASTER_SECRET
    session = _shake(edge, without)
    assert session is not None
    done = 0
    for _ in range(20):
        with contextlib.suppress(OSError, SSL.Error):
            _shake(edge, offering, session, finish=finish)
            done += 1
    # one before; then what the budget has left, and as much again until the tickets are not believed any more
    assert done <= 6
    assert edge.event_line(event="handshakes-refused")["reason"] == "full"


def _shake(edge: Gateway, context: SSL.Context, session: SSL.Session | None = None, *, finish: bool = True) -> SSL.Session | None:
    """A handshake, or its beginning, and no more. The session."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
        connection = SSL.Connection(context, None)
        connection.set_tlsext_host_name(b"localhost")
        if session is not None:
            assert lib.SSL_set_session(connection._ssl, session._session) == 1
        connection.set_connect_state()
        while True:
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
                assert not lib.SSL_session_reused(connection._ssl)
                connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)  # else the session is none to come back with
                return connection.get_session()
            sock.sendall(connection.bio_read(65_536))
            came = sock.recv(65_536)
            if not came:
                raise ConnectionError("hung up")
            if not finish:
                return None
            connection.bio_write(came)


def test_who_abandons_handshakes_may_not_connect_any_more(start_gateway: StartGateway, pki: Pki) -> None:
    edge = start_gateway('[handshakes]\nabandoned = "1/h"\nburst = "3h"\n' + pki.host() + PING)
    for _ in range(5):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", edge.port), timeout=60) as sock:
            sock.sendall(b"\x16\x03\x01 not a hello at all")
            sock.recv(100)
    assert refused(edge, pki)
    assert edge.event_line(event="handshakes-refused")["reason"] == "abandoned"


def test_exempt_networks_have_no_budget(start_gateway: StartGateway, pki: Pki) -> None:
    edge = start_gateway('[handshakes]\nfull = "1/h"\nburst = "1h"\nexempt = ["127.0.0.0/8"]\n' + pki.host() + PING)
    for _ in range(5):
        connect(edge, pki)


def test_a_rush_is_served_in_turns(start_gateway: StartGateway, pki: Pki, tmp_path: Path) -> None:
    """One at a time: everybody comes through all the same."""
    edge = start_gateway("[handshakes]\nat_once = 1\n" + pki.host() + PING)
    done = subprocess.run(
        ["h2load", "-n", "300", "-c", "100", f"https://localhost:{edge.port}/ping"], capture_output=True, timeout=240, check=False
    )
    assert b"300 succeeded, 0 failed, 0 errored" in done.stdout
