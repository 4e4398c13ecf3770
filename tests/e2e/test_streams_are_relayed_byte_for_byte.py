"""Passthrough, protocol = "tcp" and the PROXY protocol, both ways; with openssl, curl, nginx and haproxy at the other ends."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from .clients import Wire
from .conftest import Curl, Nginx, StartGateway
from .gateway import Gateway, free_port, wait_for
from .pki import Pki
from .upstreams import ScriptedUpstream

V2 = b"\r\n\r\n\0\r\nQUIT\n"


class Bytes:
    """A server of bytes: keeps what each client sent, answers when the client has ended its half or says `ping`."""

    def __init__(self, greeting: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        self.received: list[bytes] = []
        self._greeting = greeting
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, sock: socket.socket) -> None:
        number = len(self.received)
        self.received.append(b"")
        with contextlib.suppress(OSError), sock:
            if self._context is None:
                self._answer(sock, number)
            else:
                with self._context.wrap_socket(sock, server_side=True) as secure:
                    self._answer(secure, number)

    def _answer(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(60)
        sock.sendall(self._greeting)
        while data := sock.recv(65_536):
            self.received[number] += data
            if self.received[number].endswith(b"ping"):
                sock.sendall(b"pong")
        sock.sendall(b"%d bytes" % len(self.received[number]))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join(60)
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def server() -> Iterator[Bytes]:
    server = Bytes()
    yield server
    server.close()


def tcp(pki: Pki, port: int, more: str = "") -> str:
    return pki.host(f"tcp://127.0.0.1:{port}") + f'protocol = "tcp"\n{more}'


@contextlib.contextmanager
def tls(edge: Gateway, pki: Pki, name: str = "localhost", before: bytes = b"") -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(pki.ca))
    with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw:
        raw.sendall(before)
        with context.wrap_socket(raw, server_hostname=name) as sock:
            yield sock


def everything(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    return data


# --- protocol = "tcp" ---


def test_tls_ends_here_and_the_bytes_go_on(start_gateway: StartGateway, pki: Pki, server: Bytes) -> None:
    edge = start_gateway(tcp(pki, server.port))
    with tls(edge, pki) as sock:
        assert sock.selected_alpn_protocol() is None
        sock.sendall(b"\0\xffany bytes, ping")
        assert sock.recv(10) == b"pong"
    line = edge.access_line(protocol="TCP")
    assert (line["sni"], line["bytes_in"], line["bytes_out"], line["status"]) == (
        "localhost",
        17,
        12,
        0,
    )  # pong, and "17 bytes" at its end
    assert line["upstream"] == f"tcp://127.0.0.1:{server.port}"
    assert "TLSv1.3" in str(line)


def test_a_server_may_speak_first_and_protocols_inside_do_not_matter(start_gateway: StartGateway, pki: Pki) -> None:
    server = Bytes(greeting=b"220 ready\r\n")
    edge = start_gateway(tcp(pki, server.port))
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.set_alpn_protocols(["postgresql"])
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        assert sock.recv(100) == b"220 ready\r\n"
    edge.access_line(protocol="TCP")
    server.close()


def test_half_closed_connections_still_get_their_answer(start_gateway: StartGateway, pki: Pki, server: Bytes) -> None:
    """A FIN is passed on as a FIN, and the other direction stays."""
    edge = start_gateway(f'[[host]]\nnames = ["localhost"]\npassthrough = "tcp://127.0.0.1:{server.port}"\n')
    hello = client_hello("localhost")
    with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as sock:
        sock.sendall(hello + b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock) == b"%d bytes" % (len(hello) + 100_000)
    assert server.received == [hello + b"x" * 100_000]
    line = edge.access_line(protocol="TLS")
    assert (line["bytes_in"], line.get("fault", "")) == (len(hello) + 100_000, "")


def client_hello(name: str) -> bytes:
    """The first flight of a client of the standard library."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    sock = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        sock.do_handshake()
    return outgoing.read()


def test_backpressure_reaches_the_sender(start_gateway: StartGateway, pki: Pki) -> None:
    """An upstream that does not read stops the client; nothing piles up here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        edge = start_gateway(tcp(pki, listening.getsockname()[1]))
        with tls(edge, pki) as sock:
            upstream, _ = listening.accept()
            sock.sendall(b"one byte of warmth")
            assert upstream.recv(100) == b"one byte of warmth"
            before = edge.rss()
            with upstream:
                sock.settimeout(0.5)
                sent = 0
                with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
                    while sent < 64 << 20:
                        sent += sock.send(bytes(65_536))
                assert sent < 32 << 20
                assert edge.rss() - before < 8 << 20


@pytest.mark.parametrize("client_goes", [True, False], ids=["client", "upstream"])
def test_what_breaks_on_one_side_breaks_the_other(start_gateway: StartGateway, *, client_goes: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        edge = start_gateway(f'[[host]]\nnames = ["localhost"]\npassthrough = "tcp://127.0.0.1:{listening.getsockname()[1]}"\n')
        hello = client_hello("localhost")
        with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as sock:
            sock.sendall(hello)
            upstream, _ = listening.accept()
            upstream.settimeout(60)
            assert upstream.recv(10_000) == hello
            first, other = (sock, upstream) if client_goes else (upstream, sock)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            with pytest.raises(ConnectionResetError):
                other.recv(1)
            upstream.close()
    line = edge.access_line(protocol="TLS")
    assert line["fault"] == ("client-reset" if client_goes else "upstream-reset")


def test_an_upstream_that_is_not_there(start_gateway: StartGateway, pki: Pki) -> None:
    """Endpoints are tried; then the client's connection ends, and the log says why."""
    dead, server = free_port(), Bytes()
    edge = start_gateway(
        pki.host("db")
        + f'protocol = "tcp"\n[upstream.db]\nendpoints = ["tcp://127.0.0.1:{dead}", "tcp://127.0.0.1:{server.port}"]\n'
        'balance = "round_robin"\n'
        + pki.host("gone", name="*.wild.test", leaf=pki.wild)
        + f'protocol = "tcp"\n[upstream.gone]\nendpoints = ["tcp://127.0.0.1:{dead}"]\n'
    )
    for _ in range(4):
        with tls(edge, pki) as sock:
            sock.sendall(b"ping")
            assert sock.recv(4) == b"pong"
    with tls(edge, pki, "a.wild.test") as sock, contextlib.suppress(OSError):
        sock.sendall(b"ping")
        assert sock.recv(4) == b""
    line = edge.access_line(sni="a.wild.test")
    assert (line["fault"], line["blame"]) == ("connect-failed", "upstream")
    server.close()


def test_client_certificates_are_asked_for(start_gateway: StartGateway, pki: Pki, server: Bytes) -> None:
    edge = start_gateway(
        f'[trust.c]\nca = "{pki.client_ca}"\n' + tcp(pki, server.port, '[host.client_auth]\nmode = "require"\ntrust = "c"\n')
    )
    with contextlib.suppress(OSError), tls(edge, pki) as sock:
        sock.sendall(b"secret")
        assert sock.recv(4) == b""
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(pki.client.chain, pki.client.key)
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        sock.sendall(b"ping")
        assert sock.recv(4) == b"pong"
    assert server.received == [b"ping"]
    assert "client_subject" in edge.access_line(protocol="TCP")


def test_idle_streams_end(start_gateway: StartGateway, pki: Pki, server: Bytes) -> None:
    edge = start_gateway(tcp(pki, server.port, 'tunnel_idle_timeout = "2s"\n'))
    with tls(edge, pki) as sock:
        sock.sendall(b"ping")
        assert sock.recv(4) == b"pong"
        with contextlib.suppress(OSError):
            assert sock.recv(1) == b""
    assert edge.access_line(protocol="TCP")["fault"] == "tunnel-idle"


# --- passthrough ---


def test_curl_reaches_the_server_behind_and_sees_its_certificate(
    start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx, run_curl: Curl
) -> None:
    """By name: one host is passed through to nginx, another is terminated here; HTTP/2 is agreed on end to end."""
    port = nginx_upstream.tls_url.rpartition(":")[2]
    edge = start_gateway(
        f'[[host]]\nnames = ["localhost"]\npassthrough = "tcp://127.0.0.1:{port}"\n'
        + pki.host(name="open.test", leaf=pki.open)
        + '[[route]]\nhost = "open.test"\nrespond = { status = 200, body = "here" }\n'
    )
    got = run_curl(edge, "/protocol", "--http2")
    assert got.body == b"HTTP/2.0 https localhost"
    assert run_curl(edge, "/", host="open.test").body == b"here"
    big = run_curl(edge, "/megabyte")
    assert big.body == (nginx_upstream.www / "megabyte").read_bytes()
    line = edge.access_line(protocol="TLS")
    assert (line["sni"], line["upstream"]) == ("localhost", f"tcp://127.0.0.1:{port}")
    assert line["bytes_out"] > 500


def test_a_listener_passes_on_every_name_that_is_no_hosts(start_gateway: StartGateway, pki: Pki, nginx_upstream: Nginx) -> None:
    port, legacy = nginx_upstream.tls_url.rpartition(":")[2], free_port()
    edge = start_gateway(
        pki.host(name="open.test", leaf=pki.open)
        + '[[route]]\nhost = "open.test"\nrespond = { status = 200, body = "here" }\n'
        + f'[[listener]]\nname = "legacy"\naddress = "127.0.0.1:{legacy}"\npassthrough = "tcp://127.0.0.1:{port}"\n'
    )
    assert san_of(legacy, "open.test") == "open.test"
    assert san_of(legacy, "whatever.test") == "localhost"
    assert san_of(legacy, None) in ("localhost", "open.test")
    with pytest.raises((ssl.SSLError, OSError)):
        san_of(edge.port, "whatever.test")


def san_of(port: int, name: str | None) -> str:
    """The first name of the certificate that is shown to a client that asks for `name`."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw, context.wrap_socket(raw, server_hostname=name) as sock:
        der = sock.getpeercert(binary_form=True)
    assert der is not None
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)[0]


def test_plain_in_and_verified_tls_out(start_gateway: StartGateway, pki: Pki) -> None:
    """What stunnel's client mode does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.localhost.chain, pki.localhost.key)
    server, port, wrong = Bytes(context=context), free_port(), free_port()
    upstream = 'endpoints = ["tls://localhost:{}"]\ntls = {{ trust = "{}" }}\n'
    edge = start_gateway(
        f'[trust.own]\nca = "{pki.ca}"\n[trust.other]\nca = "{pki.stranger_ca}"\n'
        f"[upstream.db]\n{upstream.format(server.port, 'own')}[upstream.bad]\n{upstream.format(server.port, 'other')}"
        f'[[listener]]\nname = "in"\naddress = "127.0.0.1:{port}"\ntls = "off"\npassthrough = "db"\n'
        f'[[listener]]\nname = "wrong"\naddress = "127.0.0.1:{wrong}"\ntls = "off"\npassthrough = "bad"\n'
        + pki.host(name="open.test", leaf=pki.open)
        + '[[route]]\nrespond = { status = 200, body = "" }\n'
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"ping")
        assert sock.recv(4) == b"pong"
    with socket.create_connection(("127.0.0.1", wrong), timeout=60) as sock, contextlib.suppress(OSError):
        sock.sendall(b"secret")
        assert sock.recv(1) == b""
    assert edge.access_line(listener="wrong")["fault"] == "upstream-certificate-unknown-ca"
    assert b"secret" not in b"".join(server.received)
    server.close()


# --- the PROXY protocol ---


def listening_for_proxies(start: StartGateway, pki: Pki, upstream: str, mode: str, network: str = "127.0.0.0/8") -> Gateway:
    edge_port = free_port()
    edge = start(
        pki.host(upstream)
        + f'[[listener]]\nname = "behind"\naddress = "127.0.0.1:{edge_port}"\n'
        + f'proxy_protocol = {{ from = ["{network}"], mode = "{mode}" }}\n'
    )
    edge.port = edge_port
    return edge


def proxied_get(edge: Gateway, pki: Pki, before: bytes) -> bytes:
    with tls(edge, pki, before=before) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return everything(sock)


V1_LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n"


def test_a_trusted_balancer_says_who_the_client_is(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream
) -> None:
    edge = listening_for_proxies(start_gateway, pki, echo_upstream.url, "require")
    assert b"192.0.2.7" in proxied_get(edge, pki, V1_LINE)
    v2 = V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 8, 198, 51, 100, 1]) + b"\x13\x88\x01\xbb"
    assert b"192.0.2.8" in proxied_get(edge, pki, v2)
    assert edge.access_line(peer="192.0.2.7")["peer_port"] == 5000
    local = V2 + b"\x20\x00\x00\x00"
    assert b"127.0.0.1" in proxied_get(edge, pki, local)


@pytest.mark.parametrize(
    ("mode", "network", "before", "served", "kind"),
    [
        ("require", "127.0.0.0/8", b"", False, "no-proxy-header"),
        ("require", "10.0.0.0/8", V1_LINE, False, "proxy-not-trusted"),
        ("require", "127.0.0.0/8", b"PROXY TCP4 nonsense\r\n", False, "bad-proxy-header"),
        ("optional", "127.0.0.0/8", b"", True, ""),
        ("optional", "10.0.0.0/8", b"", True, ""),
        ("optional", "10.0.0.0/8", V1_LINE, False, "not-tls"),
    ],
)
def test_who_may_say_so(
    start_gateway: StartGateway,
    pki: Pki,
    echo_upstream: ScriptedUpstream,
    mode: str,
    network: str,
    before: bytes,
    kind: str,
    *,
    served: bool,
) -> None:
    edge = listening_for_proxies(start_gateway, pki, echo_upstream.url, mode, network)
    if served:
        assert b"192.0.2.7" not in proxied_get(edge, pki, before)
        assert edge.access_line(status=200)["peer"] == "127.0.0.1"
    else:
        with pytest.raises((ssl.SSLError, OSError)):
            proxied_get(edge, pki, before)
        assert edge.event_line(fault=kind)["peer"] == "127.0.0.1"


NGINX_PROXY = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port"; }}
    }}
}}
"""


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_reads_the_header_that_we_send(
    start_gateway: StartGateway, pki: Pki, tmp_path: Path, run_curl: Curl, version: str
) -> None:
    """Each client has its own connection, and no request of one goes out on another's."""
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX_PROXY.format(folder=tmp_path, port=port))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with subprocess.Popen([program, "-p", str(tmp_path), "-c", str(config)], stderr=subprocess.DEVNULL) as nginx:
        try:
            wait_for(lambda: _answers(port), "nginx")
            edge = start_gateway(
                pki.host("app") + f'[upstream.app]\nendpoints = "http://127.0.0.1:{port}"\nsend_proxy_protocol = "{version}"\n'
            )
            for arguments in ((), (), ("--http1.1",)):
                got = run_curl(edge, "/", *arguments)
                assert got.body.decode() == f"127.0.0.1 {got.info['local_port']} {edge.port}"
        finally:
            nginx.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        Wire(port, None).close()
        return True
    return False


def test_streams_send_it_too(start_gateway: StartGateway, pki: Pki, server: Bytes) -> None:
    edge = start_gateway(
        pki.host("db")
        + f'protocol = "tcp"\n[upstream.db]\nendpoints = "tcp://127.0.0.1:{server.port}"\nsend_proxy_protocol = "v1"\n'
    )
    with tls(edge, pki) as sock:
        port = sock.getsockname()[1]
        sock.sendall(b"ping")
        assert sock.recv(4) == b"pong"
    assert server.received == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\nping" % (port, edge.port)]
