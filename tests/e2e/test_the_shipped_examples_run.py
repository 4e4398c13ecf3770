"""config/examples, run: the files as they are shipped, with only the certificates, addresses and times of this test in them."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from .clients import Wire
from .conftest import Nginx, StartGateway, StartUpstream
from .gateway import Gateway, free_port, wait_for
from .pki import Leaf, Pki
from .upstreams import Conn, Request, ScriptedUpstream, by_path, echo, plain_answer

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"

Open = Callable[..., Wire]


def example(name: str, changes: dict[str, str]) -> str:
    """The file with each key of `changes`, which stands in it, replaced."""
    text = (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def certificate(name: str, leaf: Leaf) -> dict[str, str]:
    return {f'{{ chain = "/etc/edge/{name}.pem", key = "/etc/edge/{name}.key" }}': leaf.toml}


class Service:
    """Half of the small API: it says who it is, is well or not, and echoes a tunnel's bytes."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.well = True
        self.probes = 0
        self.script = by_path({"/healthz": self._health, "/who": self._who, "/ws/chat": self._chat})

    def _health(self, conn: Conn, request: Request) -> None:
        self.probes += 1
        conn.send(plain_answer(b"", "200 OK" if self.well else "503 Sick"))

    def _who(self, conn: Conn, request: Request) -> None:
        conn.send(plain_answer(self.name, "200 OK", "Server: secret/1.0"))

    def _chat(self, conn: Conn, request: Request) -> bool:
        conn.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while data := conn.some():
            conn.send(data)
        return False


@pytest.fixture
def services() -> tuple[Service, Service]:
    return Service(b"over tcp"), Service(b"over a socket")


@pytest.fixture
def small_api(
    start_gateway: StartGateway, start_upstream: StartUpstream, services: tuple[Service, Service], pki: Pki, short_tmp: Path
) -> Gateway:
    first = start_upstream(services[0].script)
    second = start_upstream(services[1].script, unix_path=str(short_tmp / "app.sock"))
    (short_tmp / "extra.toml").write_text(
        '[[route]]\nhost = "api.example.com"\npath = "/extra"\nrespond = { status = 200, body = "from conf.d" }\n'
    )
    changes = certificate("example", pki.server("example", "api.example.com", "www.example.com")) | {
        "conf.d": str(short_tmp),
        "http://127.0.0.1:8000": first.url,
        "unix:/run/app.sock": second.url,
        'interval = "5s"': 'interval = "50ms"',
        'tunnel_idle_timeout = "1h"': 'tunnel_idle_timeout = "500ms"',
    }
    return start_gateway(example("small-api", changes))


def test_the_small_api_uses_both_endpoints(small_api: Gateway, services: tuple[Service, Service], h1: Open) -> None:
    api = h1(small_api, sni="api.example.com")
    answers = [api.get("/who", host="api.example.com") for _ in range(10)]
    assert Counter(answer.body for answer in answers) == {b"over tcp": 5, b"over a socket": 5}
    assert {(answer.get("server"), answer.get("x-content-type-options")) for answer in answers} == {(None, "nosniff")}
    wait_for(lambda: all(service.probes > 1 for service in services), "health checks of both")


def test_the_small_api_passes_over_an_endpoint_that_is_unwell(
    small_api: Gateway, services: tuple[Service, Service], h1: Open
) -> None:
    services[1].well = False
    small_api.event_line(event="upstream-unwell")
    api = h1(small_api, sni="api.example.com")
    assert {api.get("/who", host="api.example.com").body for _ in range(6)} == {b"over tcp"}
    services[1].well = True
    small_api.event_line(event="upstream-well")
    assert len({api.get("/who", host="api.example.com").body for _ in range(6)}) == 2


@pytest.mark.parametrize("host", ["api.example.com", "www.example.com"])
def test_the_small_apis_probe_answers_on_every_host(small_api: Gateway, h1: Open, host: str) -> None:
    answer = h1(small_api, sni=host).get("/ping", host=host)
    assert (answer.status, answer.body, answer.get("content-type")) == (200, b"ok\n", "text/plain")


def test_the_small_apis_other_name_redirects(small_api: Gateway, h1: Open) -> None:
    answer = h1(small_api, sni="www.example.com").get("/a%20b/?q=1&r", host="www.example.com")
    assert (answer.status, answer.get("location")) == (308, "https://api.example.com/a%20b/?q=1&r")


def test_the_small_api_includes_files(small_api: Gateway, h1: Open) -> None:
    assert h1(small_api, sni="api.example.com").get("/extra", host="api.example.com").body == b"from conf.d"


def test_the_small_apis_tunnels_end_when_they_are_quiet(small_api: Gateway, h1: Open) -> None:
    wire = h1(small_api, sni="api.example.com")
    answer = wire.get(
        "/ws/chat",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        host="api.example.com",
    )
    assert answer.status == 101
    wire.send(b"any bytes")
    assert wire.exactly(9) == b"any bytes"
    assert wire.ended()
    assert small_api.access_line(path="/ws/chat")["fault"] == "tunnel-idle"


def test_the_mesh_lets_known_clients_in_and_speaks_tls_outwards(
    start_gateway: StartGateway, nginx_upstream: Nginx, pki: Pki, tmp_path: Path
) -> None:
    mesh, egress = free_port(), free_port()
    pki.revoke(tmp_path / "clients.pem")
    pay = pki.workload("example-pay", uri="spiffe://prod.example/ns/pay/sa/api")
    ops = pki.workload("example-ops", uri="spiffe://prod.example/ns/ops/admin")
    leaf = pki.server("mesh", "*.mesh.internal")
    text = example(
        "mesh",
        {
            'user = "edge"\n': 'workers = 1\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n',
            ":8443": f"127.0.0.1:{mesh}",
            "127.0.0.1:15001": f"127.0.0.1:{egress}",
            "/etc/edge/mesh-root.pem": str(pki.client_ca),
            "/etc/edge/crl/*.pem": f"{tmp_path}/*.pem",
            "/run/tls/tls.crt": str(leaf.chain),
            "/run/tls/tls.key": str(leaf.key),
            "h2c://10.0.1.4:8080": nginx_upstream.h2c_url,
            "https://billing.partner.example": nginx_upstream.tls_url,
            'trust = "system"': 'trust = "partner"',
        },
    )
    text += f'[trust.partner]\nca = ["{pki.ca}"]\n' + pki.host("http://127.0.0.1:9")
    start_gateway(text)
    with Wire(mesh, pki.ca, sni="status.mesh.internal") as wire:
        assert wire.get("/", host="status.mesh.internal").body == b"ok\n"
        assert wire.get("/small", host="ledger.mesh.internal").status == 421
    with Wire(mesh, pki.ca, sni="ledger.mesh.internal", client=ops) as wire:
        assert wire.get("/admin/", host="ledger.mesh.internal").status == 404
    with Wire(mesh, pki.ca, sni="ledger.mesh.internal", client=pay) as wire:
        assert wire.get("/admin/", host="ledger.mesh.internal").status == 403
        assert wire.get("/small", host="ledger.mesh.internal").body == b"small\n"
        assert wire.get("/protocol", host="ledger.mesh.internal").body.startswith(b"HTTP/2.0 http")
    with Wire(mesh, pki.ca, sni=None, client=pay) as wire:  # a probe by address
        assert wire.get("/small", host="ledger.mesh.internal").body == b"small\n"
    for refused in (None, pki.client):
        with (
            pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
            Wire(mesh, pki.ca, sni="ledger.mesh.internal", client=refused) as wire,
        ):
            wire.get("/small", host="ledger.mesh.internal")
    with Wire(egress, None) as wire:
        assert wire.get("/protocol", host="billing.partner.example").body == b"HTTP/2.0 https localhost"


@pytest.fixture
def regions(start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki) -> tuple[Gateway, list[ScriptedUpstream]]:
    upstreams = [start_upstream(echo) for _ in range(3)]
    names = ["o1.eu-1.internal:8443", "o1.eu-2.internal:8443", "next.eu-1.internal:8443"]
    changes = certificate("orders", pki.server("orders", "orders.example.com")) | {
        f"https://{name}": upstream.url for name, upstream in zip(names, upstreams, strict=True)
    }
    changes['region = "eu-1"'] = 'region = "eu-1"\nworkers = 1\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"'
    changes['to = "stdout"'] = 'to = "$FOLDER/access.log"'
    changes['"syslog"'] = '{ to = "$FOLDER/events.log", format = "json" }'
    changes["10.0.0.0/8"] = "127.0.0.0/8"
    return start_gateway(example("two-regions", changes)), upstreams


def test_versions_are_rewritten_and_methods_are_kept_out(regions: tuple[Gateway, list[ScriptedUpstream]], h1: Open) -> None:
    wire = h1(regions[0], sni="orders.example.com")
    seen = wire.get("/v1/orders/7?full=1", "X-Forwarded-For: 192.0.2.7", host="orders.example.com").json()
    assert seen["target"] == "/orders/7?full=1"
    assert dict(seen["fields"])["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"
    refused = wire.get("/v1/orders/7", host="orders.example.com", method="DELETE")
    assert (refused.status, refused.get("allow")) == (405, "GET, HEAD, PUT")
    assert wire.get("/v1/orders/", host="orders.example.com").status == 404


def test_five_in_a_hundred_go_to_the_next_version(regions: tuple[Gateway, list[ScriptedUpstream]], h1: Open) -> None:
    edge, (first, second, following) = regions
    wire = h1(edge, sni="orders.example.com")
    for number in range(600):
        assert wire.get(f"/v2/items/{number}", host="orders.example.com").json()["target"] == f"/items/{number}"
    shares = [sum(request.path != "/health" for request in one.requests) for one in (first, second, following)]
    assert sum(shares) == 600
    assert 8 <= shares[2] <= 60, shares  # 30 expected; beyond these once in a million runs
    assert shares[0] / shares[1] == pytest.approx(9, rel=0.1)
    edge.access_line(path="/v2/items/599", status=200)
