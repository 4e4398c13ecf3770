"""Whole files as people write them: a small API, the edge of a mesh, an API with versions and a canary."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.model import ClientAuthMode, Respond, Scheme, Settings
from tests.settings.certs import Authority
from tests.settings.conftest import Load, told

SMALL = """\
#:schema ./edge.schema.json
include = ["conf.d/*.toml"]

[[host]]
names = ["api.example.com", "www.example.com"]
certificates = [{ chain = "api.pem", key = "api.key" }]
response_headers = { set = { "X-Content-Type-Options" = "nosniff" }, remove = ["Server"] }

[[route]]
host = "www.example.com"
redirect = { to = "https://api.example.com{path_and_query}", status = 308 }

[[route]]
host = "api.example.com"
path = "/"
upstream = "app"
timeout = "30s"

[[route]]
host = "api.example.com"
path = "/ws/"
upstream = "app"
tunnel_idle_timeout = "1h"

[[route]]
path = "/ping"
respond = { status = 200, body = "ok\\n", content_type = "text/plain" }

[upstream.app]
endpoints = ["http://127.0.0.1:8000", "unix:/run/app.sock"]
health = { path = "/healthz", interval = "5s" }
retry = { attempts = 2, budget = "20%" }
"""

MESH = """\
[server]
user = "edge"
region = "eu-1"
state_dir = "/var/lib/edge"

[[listener]]
name = "mesh"
address = ":8443"

[[listener]]
name = "egress"
address = "127.0.0.1:15001"
tls = "off"

[tls]
no_sni = "ledger.mesh.internal"
unknown_sni = "refuse"

[trust.mesh]
ca = ["ca.pem"]

[[certificate]]
name = "mesh-wildcard"
chain = "api.pem"
key = "api.key"

[[host]]
names = ["ledger.mesh.internal"]
listeners = ["mesh"]

[host.client_auth]
mode = "require"
trust = "mesh"

[[route]]
host = "ledger.mesh.internal"
path = "/"
upstream = "ledger"

[[route]]
listeners = ["egress"]
host = "billing.partner.example"
upstream = "partner"

[upstream.ledger]
endpoints = ["h2c://10.0.1.4:8080"]

[upstream.partner]
endpoints = ["https://billing.partner.example"]

[upstream.partner.tls]
trust = "system"
min_version = "1.3"
"""

ORDERS = """\
[log]
access = { to = "stdout", format = "json", redact = ["query", "authorization"], sample = "100%" }
events = "syslog"

[trusted_proxies]
from = ["10.0.0.0/8"]

[[host]]
names = ["api.example.com"]
certificates = [{ chain = "api.pem", key = "api.key" }]

[[route]]
host = "api.example.com"
path = "/v1/orders/{id}"
methods = ["GET", "PUT"]
rewrite = "/orders/{id}"
upstream = "orders"

[[route]]
host = "api.example.com"
path = "/v2/"
strip_prefix = "/v2"
upstream = [{ name = "orders", weight = 95 }, { name = "orders-next", weight = 5 }]

[upstream.orders]
endpoints = [
  { url = "https://o1.eu-1.internal:8443" },
  { url = "https://o1.eu-2.internal:8443" },
]

[upstream.orders-next]
endpoints = ["https://next.eu-1.internal:8443"]
"""


def fine(loads: Load, text: str) -> Settings:
    loaded = loads(text)
    assert not loaded.problems, told(loaded)
    assert loaded.settings is not None
    return loaded.settings


def test_a_small_api(loads: Load) -> None:
    settings = fine(loads, SMALL)
    redirect, api, ws, ping = settings.routes
    assert redirect.redirect is not None
    assert (redirect.host, redirect.redirect.status) == ("www.example.com", 308)
    assert (api.timeout, ws.tunnel_idle_timeout) == (30.0, 3600.0)
    assert api.response_headers.remove == frozenset({b"server"})
    assert (ping.host, ping.listeners, ping.respond) == (None, ("https",), Respond(body=b"ok\n", content_type="text/plain"))
    assert [endpoint.address.path for endpoint in settings.upstreams["app"].endpoints] == ["", "/run/app.sock"]


def test_the_edge_of_a_mesh(loads: Load) -> None:
    settings = fine(loads, MESH)
    mesh, egress = settings.listeners
    assert [address.host for address in mesh.addresses] == ["0.0.0.0", "::"]
    assert (mesh.no_sni, egress.tls, egress.no_sni) == ("ledger.mesh.internal", False, None)
    (host,) = settings.hosts
    assert (host.client_auth.mode, host.listeners, host.certificates[0].name) == (
        ClientAuthMode.REQUIRE,
        ("mesh",),
        "mesh-wildcard",
    )
    ledger, partner = settings.routes
    assert (ledger.listeners, partner.listeners) == (("mesh",), ("egress",))
    assert ledger.targets[0].upstream.endpoints[0].scheme is Scheme.H2C
    tls = partner.targets[0].upstream.tls
    assert tls is not None
    assert (tls.trust.name, tls.trust.system, tls.min_version) == ("system", True, "1.3")


def test_versions_and_a_canary(loads: Load) -> None:
    settings = fine(loads, ORDERS)
    first, second = settings.routes
    assert (first.path, first.methods, first.rewrite) == ("/v1/orders/{id}", frozenset({"GET", "PUT"}), "/orders/{id}")
    assert [(target.upstream.name, target.weight) for target in second.targets] == [("orders", 95), ("orders-next", 5)]
    assert settings.log.events.to == "syslog"


@pytest.mark.parametrize("text", [SMALL, MESH, ORDERS])
def test_order_means_nothing(loads: Load, conf: Path, authority: Authority, text: str) -> None:
    parts = (
        text.replace("\n[[route]]", "\0[[route]]").replace("\n[[listener]]", "\0[[listener]]").replace("\n[[host]]", "\0[[host]]")
    )
    pieces = parts.replace("\n[upstream", "\0[upstream").replace("\n[t", "\0[t").replace("\n[[c", "\0[[c").split("\0")
    settings = fine(loads, "\n".join([pieces[0], *sorted(pieces[1:], reverse=True)]))
    straight = fine(loads, text)
    assert {route.path for route in settings.routes} == {route.path for route in straight.routes}
    assert {listener.no_sni for listener in settings.listeners} == {listener.no_sni for listener in straight.listeners}
