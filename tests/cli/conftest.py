"""A folder with settings that load, as most commands need it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.examples import loadable

MESH = """\
[[listener]]
name = "tls"
address = "127.0.0.1:8443"

[[listener]]
name = "plain"
address = "127.0.0.1:8080"
tls = "off"

[[listener]]
name = "redirect"
address = "127.0.0.1:8081"
tls = "off"
redirect = "https:8443"

[trust.staff]
ca = ["/etc/edge/staff.pem"]

[[certificate]]
name = "all"
chain = "/etc/edge/all.pem"
key = "/etc/edge/all.key"

[[host]]
names = ["open.example", "*.apps.example"]
listeners = ["tls", "plain"]

[[host]]
names = ["staff.example"]
listeners = ["tls"]
client_auth = { mode = "require", trust = "staff" }
upstream = "app"

[[host]]
names = ["maybe.example"]
listeners = ["tls"]
client_auth = { mode = "request", trust = "staff" }
upstream = "app"

[[route]]
host = "open.example"
path = "/v1/orders/{id}"
methods = ["GET", "PUT"]
rewrite = "/orders/{id}"
request_headers = { set = { "X-Stage" = "live" } }
timeout = "30s"
upstream = [{ name = "app", weight = 3 }, { name = "next", weight = 1 }]

[[route]]
host = "open.example"
path = "/v1/"
headers = { "X-Beta" = "1" }
upstream = "next"

[[route]]
host = "open.example"
path = "/old/"
redirect = "https://new.example{path_and_query}"

[[route]]
path = "/ping"
respond = { status = 204 }

[upstream.app]
endpoints = ["http://127.0.0.1:8000"]

[upstream.next]
endpoints = ["https://127.0.0.1:8001"]
tls = { verify = "off", server_name = "next.internal" }
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes settings as edge.toml, with certificates that exist, and makes its folder the current one and it the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_CONFIG", "edge.toml")
    monkeypatch.setenv("COLUMNS", "100")

    def write(text: str) -> Path:
        (tmp_path / "pki").mkdir(exist_ok=True)
        path = tmp_path / "edge.toml"
        path.write_text(loadable(text, tmp_path / "pki"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def mesh(write: Callable[[str], Path]) -> Path:
    """Three hosts with different client authentication, and one of each kind of route."""
    return write(MESH)
