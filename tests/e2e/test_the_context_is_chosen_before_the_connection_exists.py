"""TLS: names, certificates, versions, ALPN, groups and resumption, with OpenSSL's and Python's clients and with raw records."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from OpenSSL import SSL

from .clients import Wire
from .conftest import StartGateway
from .gateway import Gateway
from .pki import Pki
from .upstreams import ScriptedUpstream

UNRECOGNIZED_NAME, MISSING_EXTENSION, NO_APPLICATION_PROTOCOL, PROTOCOL_VERSION = 112, 109, 120, 70


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Gateway:
    """Three hosts; `localhost` has an ECDSA and an RSA certificate. More than one host: no SNI is refused."""
    return start_shared(
        f"""
        [[host]]
        names = ["localhost"]
        certificates = [{pki.localhost.toml}, {pki.localhost_rsa.toml}]
        upstream = "{echo_upstream.url}"
        {pki.host(echo_upstream.url, "*.wild.test", pki.wild)}
        {pki.host(echo_upstream.url, "open.test", pki.open)}
        """
    )


def s_client(edge: Gateway, pki: Pki, *args: str, stdin: bytes = b"Q\n") -> str:
    """What `openssl s_client` prints. "Q" quits it, "R" asks for renegotiation."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-CAfile", str(pki.ca)]
    done = subprocess.run([*command, *args], input=stdin, capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def hello(sni: str | None = "localhost", alpn: tuple[bytes, ...] = (b"h2",)) -> bytes:
    """The records of a ClientHello that OpenSSL writes."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos(list(alpn))
    client = SSL.Connection(context, None)
    if sni:
        client.set_tlsext_host_name(sni.encode())
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65536)


def alert_of(wire: Wire) -> int | None:
    """The description of the fatal alert that the gateway sends before it closes, None when it sends none."""
    answer = wire.rest()
    if answer[:1] != b"\x15":
        return None
    assert answer[5] == 2
    return answer[6]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_both_versions_are_served(edge: Gateway, pki: Pki, version: str) -> None:
    out = s_client(edge, pki, "-servername", "localhost", "-" + version.lower().replace("v", "").replace(".", "_"))
    assert f"New, {version}" in out
    assert "Verify return code: 0 (ok)" in out


@pytest.mark.parametrize("flag", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused_with_an_alert(edge: Gateway, pki: Pki, flag: str) -> None:
    out = s_client(edge, pki, "-servername", "localhost", flag, "-cipher", "DEFAULT@SECLEVEL=0")
    assert f"SSL alert number {PROTOCOL_VERSION}" in out


@pytest.mark.parametrize("name", ["a.wild.test", "B.WILD.test", "open.test"])
def test_each_name_gets_its_own_certificate(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    assert h1(edge, sni=name).get("/", host=name.lower()).status == 200


@pytest.mark.parametrize("name", ["unknown.test", "a.b.wild.test", "wild.test"])
def test_an_unknown_name_is_refused_with_an_alert(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        h1(edge, sni=name)
    line = edge.event_line(sni=name)
    assert line["peer"] == "127.0.0.1"


def test_without_sni_and_with_several_hosts_the_client_is_refused(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    raw = Wire(edge.port, None)
    raw.send(hello(sni=None))
    assert alert_of(raw) == MISSING_EXTENSION
    raw.close()
    assert wire.get("/").status == 200


def test_without_sni_the_only_host_is_served(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(pki.host(echo_upstream.url))
    assert h1(edge, sni=None).get("/").status == 200


def test_no_sni_names_the_host_that_such_clients_get(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(
        f"""
        [tls]
        no_sni = "localhost"
        {pki.host(echo_upstream.url, "open.test", pki.open)}
        {pki.host(echo_upstream.url)}
        """
    )
    wire = h1(edge, sni=None)
    assert ("DNS", "localhost") in (wire.tls.getpeercert() or {})["subjectAltName"]
    assert wire.get("/").status == 200


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x", "http/1.1"], "http/1.1"), ([], None)]
)
def test_alpn_chooses_h2_first_and_needs_no_offer(
    edge: Gateway, h1: Callable[..., Wire], offered: list[str], chosen: str | None
) -> None:
    assert h1(edge, alpn=offered).tls.selected_alpn_protocol() == chosen


def test_without_alpn_the_connection_speaks_http1(edge: Gateway, h1: Callable[..., Wire]) -> None:
    assert h1(edge, alpn=[]).get("/").status == 200


def test_alpn_without_overlap_is_refused_with_its_alert(edge: Gateway) -> None:
    with Wire(edge.port, None) as wire:
        wire.send(hello(alpn=(b"spdy/3", b"imap")))
        assert alert_of(wire) == NO_APPLICATION_PROTOCOL


@pytest.mark.parametrize(("algorithms", "kind"), [("ECDSA+SHA256", "ECDSA"), ("RSA+SHA256:RSA-PSS+SHA256", "RSA")])
@pytest.mark.parametrize("flag", ["-tls1_2", "-tls1_3"])
def test_the_certificate_fits_what_the_client_can_verify(edge: Gateway, pki: Pki, algorithms: str, kind: str, flag: str) -> None:
    out = s_client(edge, pki, "-servername", "localhost", flag, "-sigalgs", algorithms)
    assert "Verify return code: 0 (ok)" in out
    assert ("RSA" in out.partition("Peer signature type:")[2].partition("\n")[0]) == (kind == "RSA")


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_classic_groups_are_served(edge: Gateway, pki: Pki, group: str) -> None:
    out = s_client(edge, pki, "-servername", "localhost", "-tls1_3", "-groups", group)
    assert "Verify return code: 0 (ok)" in out
    assert (
        f"Server Temp Key: {'ECDH, prime256v1' if group == 'P-256' else 'ECDH, secp384r1' if group == 'P-384' else group}" in out
    )


def test_the_post_quantum_group_is_preferred(edge: Gateway) -> None:
    """With the OpenSSL of `cryptography`, whose defaults offer it."""
    context = SSL.Context(SSL.TLS_METHOD)
    sock = socket.create_connection(("127.0.0.1", edge.port), timeout=60)
    sock.setblocking(True)
    connection = SSL.Connection(context, sock)
    connection.set_tlsext_host_name(b"localhost")
    connection.set_connect_state()
    connection.do_handshake()
    assert connection.get_group_name() == "X25519MLKEM768"
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    connection.close()
    assert edge.access_line(group="X25519MLKEM768")["tls"] == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(edge: Gateway, pki: Pki, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.minimum_version = context.maximum_version = version
    with Wire(edge.port, pki.ca, context=context) as first:
        assert not first.tls.session_reused
        assert first.get("/first").status == 200  # with TLS 1.3 the ticket has come by now
        session = first.tls.session
    raw = socket.create_connection(("127.0.0.1", edge.port), timeout=60)
    with context.wrap_socket(raw, server_hostname="localhost", session=session) as second:
        assert second.session_reused
        second.sendall(b"GET /resumed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert second.recv(4096).startswith(b"HTTP/1.1 200")
    assert edge.access_line(path="/resumed", tls=f"TLSv1.{3 if version == ssl.TLSVersion.TLSv1_3 else 2}")["resumed"] is True


def test_renegotiation_is_refused(edge: Gateway, pki: Pki) -> None:
    out = s_client(edge, pki, "-servername", "localhost", "-tls1_2", stdin=b"R\n" * 3 + b"Q\n")
    assert "RENEGOTIATING" in out
    assert "verify return:1\nDONE" not in out.partition("RENEGOTIATING")[2]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hello_in_many_segments_is_understood(edge: Gateway, pki: Pki, size: int) -> None:
    """The client's bytes go through a relay that writes `size` bytes at a time."""
    outside, inside = socket.socketpair()
    with outside, inside, socket.create_connection(("127.0.0.1", edge.port), timeout=60) as to_edge:
        to_edge.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.create_default_context(cafile=str(pki.ca))
        client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(client_in, client_out, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = client_out.read()
                for start in range(0, len(data), size):
                    to_edge.sendall(data[start : start + size])
                client_in.write(to_edge.recv(65536))
        assert client.version() == "TLSv1.3"


def test_a_hello_in_many_records_is_understood(edge: Gateway) -> None:
    record = hello()
    message = record[5:]
    with Wire(edge.port, None) as wire:
        wire.send(b"".join(b"\x16\x03\x01\x00\x01" + message[i : i + 1] for i in range(len(message))))
        assert wire.exactly(1) == b"\x16"


def test_plain_http_on_the_tls_port_is_answered_in_plain_words(edge: Gateway) -> None:
    with Wire(edge.port, None) as wire:
        answer = wire.get("/")
        assert answer.status == 400
        assert wire.ended()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00" * 64,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 100,
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
    ],
    ids=["zeros", "ssh", "overlong record", "not a hello", "truncated hello"],
)
def test_junk_is_cut_off_and_logged(edge: Gateway, junk: bytes) -> None:
    with Wire(edge.port, None) as wire:
        wire.send(junk)
        port = wire.raw_port
        assert not wire.rest().startswith(b"\x16")
    assert edge.event_line(peer_port=port)["peer"] == "127.0.0.1"


def test_an_endless_hello_is_cut_off(edge: Gateway) -> None:
    with Wire(edge.port, None) as wire:
        head = b"\x16\x03\x01\x40\x00"
        with contextlib.suppress(OSError):
            wire.send(head + b"\x01\xff\xff\xff" + b"\x00" * 16380)
            for _ in range(8):
                wire.send(head + b"\x00" * 16384)
        assert select.select([wire.sock], [], [], 60)[0]
        assert not wire.rest().startswith(b"\x16")


def test_a_silent_client_is_cut_off_at_the_handshake_deadline(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream
) -> None:
    edge = start_gateway('[limits]\nhandshake_timeout = "300ms"\n' + pki.host(echo_upstream.url))
    with Wire(edge.port, None, timeout=60) as wire:
        wire.send(hello()[:50])
        assert not wire.rest().startswith(b"\x16")


@pytest.mark.parametrize("mode", ["require", "request"])
def test_client_certificates_are_asked_for_and_verified(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, mode: str, h1: Callable[..., Wire]
) -> None:
    edge = start_gateway(
        f"""
        [trust.people]
        ca = ["{pki.client_ca}"]
        {pki.host(echo_upstream.url)}
        client_auth = {{ mode = "{mode}", trust = "people" }}
        """
    )
    assert h1(edge, client=pki.client).get("/").status == 200

    def outcome(**options: object) -> int | None:
        try:
            return h1(edge, **options).get("/").status
        except (ssl.SSLError, EOFError, ConnectionError):
            return None

    assert outcome(client=pki.stranger) is None
    assert outcome() == (None if mode == "require" else 200)


def test_the_key_file_is_not_needed_while_running(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, tmp_path: Path, h1: Callable[..., Wire]
) -> None:
    key = tmp_path / "copy.key"
    key.write_bytes(pki.localhost.key.read_bytes())
    key.chmod(0o600)
    edge = start_gateway(
        f"""
        [[host]]
        names = ["localhost"]
        certificates = [{{ chain = "{pki.localhost.chain}", key = "{key}" }}]
        upstream = "{echo_upstream.url}"
        """
    )
    assert h1(edge).get("/").status == 200
    key.unlink()
    assert h1(edge).get("/").status == 200
