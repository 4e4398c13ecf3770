from __future__ import annotations

import json
from typing import Any

import pytest

from edge.settings.effective import effective
from tests.settings.conftest import HOST, Load

TEXT = (
    """\
hsts = { max_age = "2d" }
client_auth = { trust = "mesh" }
[server]
region = "${env:REGION}"
[tls]
tickets = "off"
[trust.mesh]
ca = "ca.pem"
[response_headers]
set = { A = "1" }
"""
    + HOST.replace("api.key", "${env:STEM}.key")
    + """\
upstream = "http://${env:BACKEND}:8000"
tls = { profile = "modern" }
response_headers = { set = { B = "${env:TOKEN}" } }
[[host]]
names = "www.example.com"
certificates = { chain = "api.pem", key = "api.key", passphrase = "none-needed" }
client_auth = "none"
[[route]]
host = "www.example.com"
path = "/x"
upstream = "app"
limits = { body_timeout = "5s" }
[upstream.app]
endpoints = "http://a"
"""
)


@pytest.fixture
def shown(loads: Load) -> dict[str, Any]:
    loaded = loads(TEXT, REGION="eu-secret", STEM="api", BACKEND="hidden.internal", TOKEN="t0")
    found = effective(loaded)
    json.dumps(found)
    assert found["version"] == 1
    settings: dict[str, Any] = found["settings"]
    return settings


def place(entry: dict[str, Any]) -> str:
    return str(entry["from"]).rsplit("/", 1)[-1]


def test_where_values_come_from(shown: dict[str, Any]) -> None:
    first, second = shown["hosts"]
    assert (first["tls"]["profile"]["value"], place(first["tls"]["profile"])) == ("modern", "edge.toml:15")
    assert (first["tls"]["tickets"]["value"], place(first["tls"]["tickets"])) == ("off", "edge.toml:6")
    assert (first["tls"]["min_version"]["value"], place(first["tls"]["min_version"])) == ("1.3", "default")
    assert (second["hsts"]["max_age"]["value"], place(second["hsts"]["max_age"])) == ("2d", "edge.toml:1")
    assert place(second["hsts"]["preload"]) == "default"
    assert (first["client_auth"]["trust"]["value"], place(first["client_auth"]["trust"])) == ("mesh", "edge.toml:2")
    assert first["client_auth"]["mode"] == {"value": "require", "from": "default"}
    assert (second["client_auth"]["value"], place(second["client_auth"])) == ("none", "edge.toml:20")
    route = shown["routes"][1]
    assert (route["limits"]["body_timeout"]["value"], place(route["limits"]["body_timeout"])) == ("5s", "edge.toml:25")
    assert route["limits"]["write_timeout"] == {"value": "30s", "from": "default"}
    assert shown["routes"][0]["response_headers"]["set"]["value"]["A"] == "1"
    assert shown["upstreams"]["app"]["retry"]["attempts"] == {"value": 2, "from": "default"}
    assert shown["listeners"][0]["address"] == {"value": ":443", "from": "default"}
    assert shown["trust"]["mesh"]["ca"]["value"] == "ca.pem"


def test_secrets_are_hidden(shown: dict[str, Any]) -> None:
    text = json.dumps(shown)
    for secret in ("eu-secret", "hidden.internal", '"t0"', "none-needed", "PRIVATE"):
        assert secret not in text, secret
    assert shown["server"]["region"]["value"] == "***"
    assert shown["routes"][0]["response_headers"]["set"]["value"]["B"] == "***"


def test_certificates_are_named(shown: dict[str, Any]) -> None:
    (certificate,) = shown["hosts"][1]["certificates"]
    assert certificate["key_type"] == "ecdsa"
    assert certificate["not_after"] == "2026-08-20T00:00:00Z"
    assert len(certificate["sha256"]) == 64


def test_settings_with_errors_are_not_in_force(loads: Load) -> None:
    with pytest.raises(ValueError, match="errors"):
        effective(loads("bogus = 1\n"))


def test_written_listeners_and_logs(loads: Load) -> None:
    text = '[[listener]]\nname = "p"\naddress = ":80"\ntls = "off"\nlimits = { idle_timeout = "5s" }\n'
    text += '[[listener]]\naddress = ":443"\n'
    text += (
        '[tls]\nno_sni = "refuse"\n[log]\naccess = "off"\nevents = { to = "syslog" }\n'
        + HOST
        + 'upstream = "http://a"\nhsts = "none"\n'
    )
    found = effective(loads(text))["settings"]
    plain, secure = found["listeners"]
    assert plain["limits"]["idle_timeout"]["value"] == "5s"
    assert plain["redirect"] == {"value": "off", "from": "default"}
    assert secure["name"] == {"value": ":443", "from": "default"}
    assert (secure["no_sni"]["value"], place(secure["no_sni"])) == ("refuse", "edge.toml:9")
    assert found["log"]["access"]["to"]["value"] == "off"
    assert found["log"]["events"]["to"]["value"] == "syslog"
    assert found["hosts"][0]["hsts"]["value"] == "none"
