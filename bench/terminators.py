"""Peers that only end TLS (hitch, stunnel), one that ends it in front of an application (granian), and Traefik.

hitch and stunnel pass bytes on to one place and know no HTTP; granian relays nothing and answers by itself. So these take part in
handshakes, memory and start, and not where requests are relayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .proxies import with_threads

if TYPE_CHECKING:
    from .peers import Job

__all__ = ["granian", "hitch", "stunnel", "traefik"]

HITCH = """\
frontend = "[127.0.0.1]:{job.port}"
backend = "[127.0.0.1]:{job.origin}"
{pems}workers = {job.workers}
backlog = 4096
daemon = off
user = "{user}"
tls-protos = TLSv1.2 TLSv1.3
alpn-protos = "http/1.1"
{more}"""


def hitch(program: str, job: Job) -> tuple[list[str], str]:
    leafs = [job.leaf] if job.second is None else [job.leaf, job.second]
    leafs += job.hosts  # each for the names that it holds
    staple = "" if job.staple is None else f'    ocsp-resp-file = "{job.staple}"\n'
    pems = "".join(f'pem-file = {{\n    cert = "{leaf.both}"\n{staple}}}\n' for leaf in leafs)
    more = "" if job.client_ca is None else f'client-verify = required\nclient-verify-ca = "{job.client_ca}"\n'
    text = HITCH.format(job=job, pems=pems, more=more, user=job.folder.owner())
    (job.folder / "hitch.conf").write_text(text)
    return [program, f"--config={job.folder}/hitch.conf"], text


STUNNEL = """\
foreground = yes
pid =
debug = 3
output = {job.folder}/stunnel.log
[bench]
accept = 127.0.0.1:{job.port}
connect = 127.0.0.1:{job.origin}
cert = {job.leaf.chain}
key = {job.leaf.key}
sslVersionMin = TLSv1.2
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
{more}{hosts}"""

STUNNEL_HOST = """\
[h{number}]
sni = bench:h{number}.bench.example
connect = 127.0.0.1:{job.origin}
cert = {leaf.chain}
key = {leaf.key}
"""


def stunnel(program: str, job: Job) -> tuple[list[str], str]:
    if job.second is not None:
        raise RuntimeError("stunnel has one certificate for each service")
    if job.staple is not None:
        raise RuntimeError("stunnel as Debian has it (5.68) shows no staple")
    more = "" if job.client_ca is None else f"verifyChain = yes\nCAfile = {job.client_ca}\n"
    hosts = "".join(STUNNEL_HOST.format(job=job, number=number, leaf=leaf) for number, leaf in enumerate(job.hosts))
    text = STUNNEL.format(job=job, more=more, hosts=hosts)
    (job.folder / "stunnel.conf").write_text(text)
    return [program, str(job.folder / "stunnel.conf")], text


GRANIAN = """\
async def app(scope, protocol):
    protocol.response_bytes(200, [("content-type", "text/plain")], b"x" * 100)
"""


def granian(program: str, job: Job) -> tuple[list[str], str]:
    if job.second is not None or job.hosts:
        raise RuntimeError("granian has one certificate")
    if job.staple is not None:
        raise RuntimeError("granian shows no staple")
    (job.folder / "bench_app.py").write_text(GRANIAN)
    command = [program, "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(job.port), "--no-ws", "--log-level", "error"]
    command += ["--workers", str(job.workers), "--runtime-threads", "1", "--backlog", "4096"]
    command += ["--working-dir", str(job.folder), "--ssl-certificate", str(job.leaf.chain), "--ssl-keyfile", str(job.leaf.key)]
    command += ["--ssl-protocol-min", "tls1.2"]
    if job.client_ca is not None:
        command += ["--ssl-ca", str(job.client_ca), "--ssl-client-verify"]
    command.append("bench_app:app")
    return command, " ".join(command) + "\n\n" + GRANIAN


TRAEFIK = """\
global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
log: {{ level: ERROR }}
entryPoints: {{ bench: {{ address: "127.0.0.1:{job.port}" }} }}
providers: {{ file: {{ filename: "{job.folder}/routes.yaml" }} }}
accessLog: {{ filePath: "{job.folder}/access.log" }}
serversTransport: {{ maxIdleConnsPerHost: 512 }}
{stapling}"""
TRAEFIK_ROUTES = """\
http:
  routers:
    origin: {{ rule: "PathPrefix(`/`)", service: origin, tls: {{}} }}
    sink: {{ rule: "PathPrefix(`/sink`)", service: sink, tls: {{}} }}
{routers}  services:
    origin: {{ loadBalancer: {{ servers: [{{ url: "http://127.0.0.1:{job.origin}" }}] }} }}
    sink: {{ loadBalancer: {{ servers: [{{ url: "http://127.0.0.1:{job.sink}" }}] }} }}
tls:
  stores: {{ default: {{ defaultCertificate: {{ certFile: "{job.leaf.chain}", keyFile: "{job.leaf.key}" }} }} }}
  options:
    default: {{ minVersion: VersionTLS12{more} }}
{certificates}"""
TRAEFIK_ROUTER = """\
    {name}: {{ rule: "PathPrefix(`{path}/`)", service: origin, tls: {{}} }}
"""


def traefik(program: str, job: Job) -> tuple[list[str], str]:
    if job.second is not None:
        raise RuntimeError("traefik has one certificate for each kind of name")
    more = (
        ""
        if job.client_ca is None
        else f', clientAuth: {{ caFiles: ["{job.client_ca}"], clientAuthType: RequireAndVerifyClientCert }}'
    )
    routers = "".join(TRAEFIK_ROUTER.format(name=path[1:], path=path) for path in job.paths)
    pairs = "".join(f'  - {{ certFile: "{leaf.chain}", keyFile: "{leaf.key}" }}\n' for leaf in job.hosts)
    certificates = f"  certificates:\n{pairs}" if pairs else ""
    stapling = "" if job.staple is None else "ocsp: {}\n"
    text, routes = (
        TRAEFIK.format(job=job, stapling=stapling),
        TRAEFIK_ROUTES.format(job=job, more=more, routers=routers, certificates=certificates),
    )
    (job.folder / "traefik.yaml").write_text(text)
    (job.folder / "routes.yaml").write_text(routes)
    return with_threads([program, f"--configFile={job.folder}/traefik.yaml"], job), text + "---\n" + routes
