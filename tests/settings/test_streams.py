"""Hosts and listeners without HTTP, and PROXY headers: what may be written, and what the model then holds."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from edge.settings.model import Settings
from tests.settings.conftest import CERTIFICATES, HOST, Load, told

LISTENER = '[[listener]]\nname = "main"\naddress = ":8443"\n'
DB = f'[[host]]\nnames = ["api.example.com"]\n{CERTIFICATES}\nprotocol = "tcp"\nupstream = "tcp://10.0.0.9:5432"\n'
VAULT = '[[host]]\nnames = ["vault.mesh.internal"]\npassthrough = "tcp://10.0.0.7:8200"\n'


def fine(loads: Load, text: str) -> Settings:
    loaded = loads(text)
    assert loaded.settings is not None, told(loaded)
    assert told(loaded) == []
    return loaded.settings


def test_tcp_and_passthrough(loads: Load) -> None:
    settings = fine(loads, LISTENER + DB + VAULT + 'tunnel_idle_timeout = "off"\n')
    database, vault = settings.hosts
    assert database.stream is not None
    assert vault.stream is not None
    assert (database.stream.passthrough, database.stream.idle_timeout, vault.stream.idle_timeout) == (False, 3600.0, None)
    assert vault.stream.passthrough
    assert (database.tls.alpn, database.hsts, bool(database.certificates), vault.certificates) == ((), None, True, ())
    upstream = database.stream.targets[0].upstream
    assert (upstream.keepalive, upstream.endpoints[0].address.port) == (0, 5432)
    assert settings.routes == ()


def test_they_are_not_served_without_tls(loads: Load) -> None:
    settings = fine(loads, LISTENER + '[[listener]]\nname = "plain"\naddress = ":8080"\ntls = "off"\n' + DB + VAULT)
    assert [host.listeners for host in settings.hosts] == [("main",), ("main",)]


def test_listeners(loads: Load) -> None:
    settings = fine(
        loads,
        LISTENER + 'passthrough = "tcp://10.0.0.7:443"\n[[listener]]\nname = "plain"\naddress = ":3306"\ntls = "off"\n'
        'passthrough = "tls://db.internal:3307"\n[listener.proxy_protocol]\nfrom = "10.0.0.0/8"\nmode = "optional"\n',
    )
    first, second = settings.listeners
    assert first.stream is not None
    assert first.stream.passthrough
    assert first.proxy is None
    assert second.stream is not None
    assert not second.stream.passthrough
    assert second.proxy is not None
    assert (second.proxy.networks, second.proxy.required) == ((ip_network("10.0.0.0/8"),), False)
    tls = second.stream.targets[0].upstream.tls
    assert tls is not None
    assert (tls.verify, tls.alpn) == (True, ())


def test_a_header_for_an_upstream_makes_connections_of_one_client(loads: Load) -> None:
    text = HOST + 'upstream = "app"\n[upstream.app]\nendpoints = "https://a.internal"\nsend_proxy_protocol = "v2"\n'
    upstream = fine(loads, text).upstreams["app"]
    assert upstream.tls is not None
    assert (upstream.send_proxy, upstream.keepalive, upstream.tls.alpn) == ("v2", 0, ("http/1.1",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (VAULT + f"{CERTIFICATES}\n", "'certificates' means nothing with passthrough: TLS ends at the upstream"),
        (VAULT + "[host.tls]\ntickets = true\n", "'tls' means nothing with passthrough"),
        (VAULT + "[host.hsts]\nmax_age = '1d'\n", "'hsts' means nothing with passthrough: no HTTP is spoken here"),
        (DB + "[host.hsts]\nmax_age = '1d'\n", "'hsts' means nothing with protocol = \"tcp\""),
        (DB + '[[route]]\nhost = "api.example.com"\nupstream = "http://a"\n', "api.example.com is a stream of bytes"),
        (DB.replace("tcp://10.0.0.9:5432", "http://a"), "'http://a' has the endpoint http://a, and this is a stream of bytes"),
        (VAULT.replace("tcp:", "tls:"), "tls://10.0.0.7:8200 would put TLS into TLS"),
        (f'[[host]]\nnames = ["api.example.com"]\n{CERTIFICATES}\nprotocol = "tcp"\n', 'protocol = "tcp" needs an upstream'),
        (DB + 'listeners = ["plain"]\n', "listener 'plain' is plain: without HTTP and TLS nobody says which host is meant"),
        (HOST + 'upstream = "tcp://a:1"\n', "tcp://a:1 takes bytes, and requests are to go there"),
        (
            HOST + 'upstream = "app"\n[upstream.app]\nendpoints = ["tcp://a:1", "http://b"]\n',
            "some endpoints take requests and others bytes",
        ),
        (
            HOST + 'upstream = "app"\n[upstream.app]\nendpoints = "h2c://a:1"\nsend_proxy_protocol = "v1"\n',
            "an h2c:// connection carries many clients",
        ),
        (
            DB.replace("tcp://10.0.0.9:5432", "db") + '[upstream.db]\nendpoints = "tcp://a:1"\nhealth = { path = "/" }\n',
            "health checks ask by HTTP",
        ),
        (
            '[[listener]]\nname = "r"\naddress = ":80"\ntls = "off"\nredirect = "https"\npassthrough = "tcp://a:1"\n',
            "a listener that redirects passes nothing through",
        ),
        ('[[listener]]\nname = "x"\naddress = ":81"\nproxy_protocol.from = "10.0.0.1/8"\n', "'10.0.0.1/8' is not a network"),
        ('[[listener]]\nname = "x"\naddress = ":81"\nproxy_protocol = { from = [] }\n', "a list without a network"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_stand(loads: Load, text: str, problem: str) -> None:
    plain = '[[listener]]\nname = "plain"\naddress = ":8080"\ntls = "off"\n'
    loaded = loads(text + LISTENER + plain)
    assert loaded.settings is None
    assert any(f" error: {problem}" in line and not line.startswith("0:") for line in told(loaded)), told(loaded)
