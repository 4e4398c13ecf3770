"""Fixtures of the end-to-end tests: certificates, upstreams, and gateways that end with their test or module."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from .admin import Admin
from .clients import CurlResult, Wire, curl
from .gateway import Gateway, free_port, wait_for
from .h2raw import H2Client
from .pki import Leaf, Pki
from .upstreams import ScriptedUpstream, echo


class StartGateway(Protocol):
    def __call__(self, toml: str, *, plain: bool = False, command: list[str] | None = None) -> Gateway: ...


class StartAdmin(Protocol):
    def __call__(self, admin: str = "", *, more: str = "", url: str = ..., leaf: Leaf | None = None) -> Admin: ...


class StartUpstream(Protocol):
    def __call__(self, script: Callable[..., object], *, unix_path: str = "", receive_buffer: int = 0) -> ScriptedUpstream: ...


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def _gateways(folders: Callable[[], Path]) -> Iterator[StartGateway]:
    running: list[Gateway] = []

    def start(toml: str, *, plain: bool = False, command: list[str] | None = None) -> Gateway:
        folder, port, plain_port = folders(), free_port(), free_port() if plain else 0
        rest = []
        if "[server]" not in toml:
            rest.append(f'[server]\nworkers = 1\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n')
        if "[admin]" not in toml:
            rest.append('[admin]\naddress = "off"\n')
        if "[log]" not in toml:
            rest.append(
                f'[log]\naccess = {{ to = "{folder}/access.log", format = "json" }}\n'
                f'events = {{ to = "{folder}/events.log", format = "json" }}\n'
            )
        rest.append(f'[[listener]]\nname = "main"\naddress = "127.0.0.1:{port}"\n')
        if plain:
            rest.append(f'[[listener]]\nname = "plain"\naddress = "127.0.0.1:{plain_port}"\ntls = "off"\n')
        text = "\n".join([toml, *rest]).replace("$FOLDER", str(folder))
        running.append(Gateway(folder, text, port=port, plain_port=plain_port, command=command))
        return running[-1]

    yield start
    for gateway in running:
        gateway.end()


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Start a gateway from the TOML of hosts, routes and upstreams; it ends with the test.

    `[server]`, `[admin]` (off), `[log]` and `[[listener]]` named "main" (and "plain", with `plain`) are put after it.
    ``$FOLDER`` in the text is the gateway's own folder.
    """
    numbers = iter(range(100))

    def folder() -> Path:
        made = tmp_path / f"gateway-{next(numbers)}"
        made.mkdir()
        return made

    yield from _gateways(folder)


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """`start_gateway` for fixtures that live as long as their module."""
    yield from _gateways(lambda: tmp_path_factory.mktemp("gateway"))


@contextlib.contextmanager
def _upstreams() -> Iterator[StartUpstream]:
    running: list[ScriptedUpstream] = []

    def start(script: Callable[..., object], *, unix_path: str = "", receive_buffer: int = 0) -> ScriptedUpstream:
        running.append(ScriptedUpstream(script, unix_path=unix_path, receive_buffer=receive_buffer))
        return running[-1]

    yield start
    for upstream in running:
        upstream.close()


@pytest.fixture
def start_upstream() -> Iterator[StartUpstream]:
    """Start an upstream from a script (see `upstreams`); it ends with the test."""
    with _upstreams() as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_upstream() -> Iterator[StartUpstream]:
    """`start_upstream` for fixtures that live as long as their module."""
    with _upstreams() as start:
        yield start


@pytest.fixture(scope="session")
def echo_upstream() -> Iterator[ScriptedUpstream]:
    """Answers every request with a JSON account of it."""
    upstream = ScriptedUpstream(echo)
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def echo_gateway(start_shared: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Gateway:
    """A gateway for `localhost`, TLS and plain, in front of `echo_upstream`."""
    return start_shared(
        f"""
        {pki.host(echo_upstream.url)}
        """,
        plain=True,
    )


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 1000000; client_max_body_size 0;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    default_type text/plain; root {folder}/www;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{h2c} http2;
        listen 127.0.0.1:{tls} ssl http2;
        ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {leaf.chain}; ssl_certificate_key {leaf.key};
        location = /protocol {{ return 200 "$server_protocol $scheme $ssl_server_name"; }}
        location = /resumed {{ return 200 "$ssl_session_reused"; }}
        location = /not-modified {{ return 304; }}
        location = /no-content {{ return 204; }}
        location / {{ }}
    }}
    server {{
        listen 127.0.0.1:{asking} ssl;
        ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {leaf.chain}; ssl_certificate_key {leaf.key};
        ssl_verify_client on; ssl_client_certificate {client_ca};
        location / {{ return 200 "$ssl_client_fingerprint"; }}
    }}
}}
"""


class Nginx:
    """nginx as upstream: files below `www`, over plain HTTP/1.1, h2c and TLS; and a server that demands a certificate."""

    def __init__(self, folder: Path, leaf: Leaf, client_ca: Path) -> None:
        self.www = folder / "www"
        self.www.mkdir()
        (self.www / "small").write_bytes(b"small\n")
        (self.www / "megabyte").write_bytes(os.urandom(1 << 20))
        ports = [free_port() for _ in range(4)]
        self.url, self.h2c_url = f"http://127.0.0.1:{ports[0]}", f"h2c://127.0.0.1:{ports[1]}"
        self.tls_url, self.asking_url = f"https://localhost:{ports[2]}", f"https://localhost:{ports[3]}"
        config = folder / "nginx.conf"
        config.write_text(
            NGINX.format(
                folder=folder, port=ports[0], h2c=ports[1], tls=ports[2], asking=ports[3], leaf=leaf, client_ca=client_ca
            )
        )
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self._process = subprocess.Popen([program, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
        wait_for(lambda: _answers(ports[2]), "nginx")

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        Wire(port, None).close()
        return True
    return False


@pytest.fixture(scope="session")
def nginx_upstream(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), pki.localhost, pki.client_ca)
    yield nginx
    nginx.end()


@pytest.fixture(scope="session")
def demo_upstream() -> Iterator[str]:
    """The URL of the demo service, in a process of its own."""
    port = free_port()
    program = f"from edge.control import demo; demo.start({port}).run(0)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        wait_for(lambda: _answers(port), "the demo service")
        yield f"http://127.0.0.1:{port}"
        assert process.stdin is not None
        process.stdin.close()


class Curl(Protocol):
    def __call__(
        self, gateway: Gateway, target: str, *args: str, host: str = ..., plain: bool = ..., stdin: bytes | None = ...
    ) -> CurlResult: ...


@pytest.fixture
def run_curl(pki: Pki) -> Curl:
    """`clients.curl` with the tests' CA."""

    def run(
        gateway: Gateway, target: str, *args: str, host: str = "localhost", plain: bool = False, stdin: bytes | None = None
    ) -> CurlResult:
        return curl(gateway, target, *args, ca=None if plain else pki.ca, host=host, plain=plain, stdin=stdin)

    return run


@pytest.fixture
def h1(pki: Pki) -> Iterator[Callable[..., Wire]]:
    """Open raw HTTP/1.1 connections; they are closed with the test."""
    with contextlib.ExitStack() as stack:

        def connect(gateway: Gateway, *, plain: bool = False, **options: object) -> Wire:
            port, ca = (gateway.plain_port, None) if plain else (gateway.port, pki.ca)
            return stack.enter_context(Wire(port, ca, **options))  # type: ignore[arg-type]

        yield connect


@pytest.fixture
def h2(pki: Pki) -> Iterator[Callable[..., H2Client]]:
    """Open raw HTTP/2 connections; they are closed with the test."""
    with contextlib.ExitStack() as stack:

        def connect(gateway: Gateway, **options: object) -> H2Client:
            return stack.enter_context(H2Client(gateway.port, pki.ca, **options))  # type: ignore[arg-type]

        yield connect


_SERVER = """
[server]
workers = 2
drain = "10s"
state_dir = "$FOLDER/state"
runtime_dir = "$FOLDER/run"
"""


@pytest.fixture
def start_admin(start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> StartAdmin:
    """Start a gateway for `localhost` with an admin listener, and wait until it is ready.

    `admin` goes below ``[admin]`` (``$PORT`` is its port) and `more` to the end; either may say what goes below ``[server]``.
    """

    def begin(admin: str = "", *, more: str = "", url: str = echo_upstream.url, leaf: Leaf | None = None) -> Admin:
        port = free_port()
        address = "" if "address" in admin else f'address = "127.0.0.1:{port}"\n'
        server = "" if "[server]" in more else _SERVER
        text = f"{server}[admin]\n{address}{admin.replace('$PORT', str(port))}\n{pki.host(url, leaf=leaf)}\n{more}"
        made = Admin(start_gateway(text, plain=True), port)
        wait_for(made.ready, "readiness")
        return made

    return begin
