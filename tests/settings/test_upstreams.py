from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.load import Loaded
from edge.settings.model import Health, Retry, Settings
from tests.settings.conftest import HOST, Load, told

APP = HOST + 'upstream = "app"\n[upstream.app]\n'


def fine(loaded: Loaded) -> Settings:
    assert loaded.settings is not None, told(loaded)
    return loaded.settings


def test_defaults(loads: Load) -> None:
    found = fine(loads(APP + 'endpoints = "http://127.0.0.1:8000"\n')).upstreams["app"]
    assert (found.balance, found.connect_timeout, found.first_byte_timeout, found.between_bytes_timeout) == (
        "least_conn",
        5.0,
        60.0,
        60.0,
    )
    assert (found.keepalive, found.keepalive_timeout, found.max_connections) == (512, 55.0, None)
    assert (found.retry, found.health, found.tls) == (Retry(), None, None)


def test_everything(loads: Load, conf: Path) -> None:
    text = (
        APP
        + """\
endpoints = ["https://a.internal", { url = "h2c://b.internal:81", weight = 3 }]
balance = "round_robin"
first_byte_timeout = "off"
keepalive = "off"
max_connections = 9
retry = { attempts = 1, budget = "off" }
health = { path = "/healthz?x=1", interval = "1s" }
[upstream.app.tls]
trust = "mesh"
server_name = "Inner.internal"
min_version = "1.3"
alpn = "http/1.1"
[trust.mesh]
ca = ["*.pem"]
system = true
"""
    )
    found = fine(loads(text)).upstreams["app"]
    assert [(endpoint.address.host, endpoint.weight) for endpoint in found.endpoints] == [("a.internal", 1), ("b.internal", 3)]
    assert (found.balance, found.first_byte_timeout, found.keepalive, found.max_connections) == ("round_robin", None, 0, 9)
    assert (found.retry.attempts, found.retry.budget) == (1, float("inf"))
    assert found.health == Health(path="/healthz?x=1", interval=1.0)
    assert found.tls is not None
    assert (found.tls.server_name, found.tls.verify, found.tls.min_version, found.tls.alpn) == (
        "inner.internal",
        True,
        "1.3",
        ("http/1.1",),
    )
    assert found.tls.trust.system
    assert found.tls.trust.ca_pem.count(b"BEGIN CERTIFICATE") == 2


def test_https_is_verified_by_the_systems_store_unless_written(loads: Load) -> None:
    tls = fine(loads(HOST + 'upstream = "https://a.internal"\n')).upstreams["https://a.internal"].tls
    assert tls is not None
    assert (tls.trust.name, tls.trust.system, tls.verify, tls.server_name) == ("system", True, True, "")


def test_a_url_that_stands_in_several_places_is_one_upstream(loads: Load) -> None:
    settings = fine(loads(HOST + 'upstream = "http://a"\n[[route]]\npath = "/x"\nupstream = "http://a"\n'))
    assert settings.routes[0].targets[0].upstream is settings.routes[1].targets[0].upstream


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('endpoints = ["http://a", "http://a"]\n', "stands here twice"),
        ('endpoints = "http://a"\nhealth = { path = "healthz" }\n', "'healthz' is not a path"),
        ('endpoints = "http://a"\ntls = {}\n', "warning: tls means nothing here: no endpoint is https://"),
        ('endpoints = "https://a"\ntls = { verify = "off" }\n', "warning: certificates are not verified here"),
        ('endpoints = "https://a"\ntls = { trust = "mesh" }\n', "there is no [trust.mesh]"),
        ('endpoints = "https://a"\ntls = { server_name = "a:1" }\n', "has a port or a path"),
        ('endpoints = "https://a"\ntls = { server_name = "*.a.example" }\n', "the name of a server is no wildcard"),
        ('endpoints = "http://a"\nbalance = "roundrobin"\n', 'write "round_robin"'),
        ('endpoints = "http://a"\nretry = { attempts = 11 }\n', "11 is too much | write 10 or less"),
        ('endpoints = "http://a"\nretry = { budget = 0.2 }\n', 'a number without its unit: 0.2 | write "0.2%"'),
        ('endpoints = "http://a"\n[trust.mesh]\n', "[trust.mesh] trusts nobody"),
        ('endpoints = "http://a"\n[trust.mesh]\nca = "none.pem"\n', "none.pem cannot be read"),
        ('endpoints = "http://a"\n[trust.mesh]\nca = "none*.pem"\n', "none*.pem matches no file"),
        ('endpoints = "http://a"\n[trust.mesh]\nca = "api.key"\n', "api.key holds no certificate"),
        ('endpoints = "http://a"\n[trust.system]\n', "[trust.system] takes a word that has a meaning"),
        ('endpoints = "http://a"\n[upstream.none]\nendpoints = "http://b"\n', "[upstream.none] takes a word that has a meaning"),
    ],
)
def test_what_is_told(loads: Load, text: str, words: str) -> None:
    found = told(loads(APP + text))
    assert any(words in line for line in found), found


def test_a_named_thing_with_an_error_is_still_known(loads: Load) -> None:
    found = told(loads(APP + "endpoints = 5\n"))
    assert len(found) == 1
    assert "a number where" in found[0]


def test_what_came_from_elsewhere_is_not_in_the_names_for_logs(loads: Load) -> None:
    text = HOST + 'upstream = "http://${env:H}:8000"\n[[route]]\npath = "/x"\nupstream = "app"\n'
    text += '[upstream.app]\nendpoints = ["https://${env:H}", "http://b"]\n'
    settings = fine(loads(text, H="hidden.internal"))
    assert list(settings.upstreams) == ["app", "http://${env:H}:8000"]
    assert [endpoint.url for endpoint in settings.upstreams["app"].endpoints] == ["https://${env:H}", "http://b"]
    assert settings.upstreams["app"].endpoints[0].address.host == "hidden.internal"
    assert settings.routes[0].targets[0].upstream.endpoints[0].address.host == "hidden.internal"
