"""Listeners and hosts: the shortest file, defaults, SNI, client certificates, HSTS."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.load import Loaded
from edge.settings.model import Address, ClientAuthMode, Hsts, Settings
from tests.settings.conftest import CERTIFICATES, HOST, Load, told

UP = 'upstream = "http://127.0.0.1:8000"\n'
TWO = f'[[host]]\nnames = "www.example.com"\n{CERTIFICATES}\n{UP}'
MESH = '[trust.mesh]\nca = "ca.pem"\n'


def fine(loaded: Loaded) -> Settings:
    assert loaded.settings is not None, told(loaded)
    return loaded.settings


def test_the_shortest_file(loads: Load) -> None:
    loaded = loads(HOST + UP)
    settings = fine(loaded)
    assert not loaded.problems
    https, http = settings.listeners
    assert (https.name, https.tls, https.redirect_port) == ("https", True, None)
    assert https.addresses == (Address(host="0.0.0.0", port=443), Address(host="::", port=443))
    assert (http.name, http.tls, http.redirect_port, http.addresses[0].port) == ("http", False, 443, 80)
    host = settings.hosts[0]
    assert (host.names, host.listeners) == (("api.example.com",), ("https",))
    assert host.hsts == Hsts(max_age=365 * 86_400)
    assert host.client_auth.mode is ClientAuthMode.OFF
    assert https.no_sni == "api.example.com"
    (route,) = settings.routes
    assert (route.host, route.path, route.listeners) == ("api.example.com", "/", ("https",))
    assert route.targets[0].upstream.name == "http://127.0.0.1:8000"
    assert list(settings.upstreams) == ["http://127.0.0.1:8000"]
    assert settings.server.workers >= 1
    assert len(settings.digest) == 64


def test_listeners(loads: Load) -> None:
    text = '[[listener]]\nname = "a"\naddress = [":8443", "127.0.0.1:9443"]\n'
    text += '[[listener]]\naddress = ":8080"\ntls = "off"\nredirect = "https:8443"\n'
    a, b = fine(loads(text + HOST + UP)).listeners
    assert [address.port for address in a.addresses] == [8443, 8443, 9443]
    assert (b.name, b.redirect_port) == (":8080", 8443)


def test_listeners_whose_sockets_systemd_passes(loads: Load) -> None:
    text = '[[listener]]\nname = "https"\naddress = "systemd"\n'
    text += '[[listener]]\nname = "http"\naddress = "systemd:web"\ntls = "off"\n'
    a, b = fine(loads(text + HOST + UP)).listeners
    assert (a.addresses, b.addresses) == ((Address(passed="https"),), (Address(passed="web"),))
    assert [address.text for address in a.addresses + b.addresses] == ["systemd:https", "systemd:web"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[listener]]\nname = "a"\naddress = ["systemd", "systemd:a"]\n', "systemd:a is bound already"),
        ('[[listener]]\naddress = "systemd:"\n', 'write "systemd" or "systemd:NAME"'),
        ('[[listener]]\naddress = ":1"\n[[listener]]\naddress = ":1"\nname = "b"\n', "0.0.0.0:1 is bound already"),
        ('[[listener]]\naddress = ":1"\n[[listener]]\naddress = ":1"\n', "two listeners are called ':1'"),
        ('[[listener]]\naddress = ":1"\nredirect = "https"\n', "a listener that redirects to https is plain itself"),
        (
            '[[listener]]\naddress = ":1"\ntls = "off"\nredirect = "http"\n',
            '"http" is not possible here | write "https" or "https:8443"',
        ),
        ('[[listener]]\naddress = ":1"\ntls = "off"\nredirect = "https:0"\n', '"https:0" is not possible here'),
        ('[[listener]]\naddress = ":1"\ntls = "off"\nno_sni = "refuse"\n', "no_sni means nothing on a plain listener"),
        ('[[listener]]\naddress = ":1"\nno_sni = "x.example"\n', "no [[host]] is called 'x.example'"),
        ('[[listener]]\naddress = ":1"\nlimits = { connections = 5 }\n', "'connections' counts all listeners together"),
        ("[[listener]]\naddress = []\n", "a listener without an address"),
        ('[tls]\nno_sni = "api.example.co"\n', "no [[host]] is called 'api.example.co' | write \"api.example.com\""),
    ],
)
def test_bad_listeners(loads: Load, text: str, words: str) -> None:
    found = told(loads(text + HOST + UP))
    assert any(words in line for line in found), found


def test_clients_without_sni(loads: Load) -> None:
    assert fine(loads(HOST + UP + TWO)).listeners[0].no_sni is None
    assert fine(loads('[tls]\nno_sni = "refuse"\n' + HOST + UP)).listeners[0].no_sni is None
    assert fine(loads('[tls]\nno_sni = "WWW.example.com"\n' + HOST + UP + TWO)).listeners[0].no_sni == "www.example.com"
    text = '[tls]\nno_sni = "api.example.com"\n[[listener]]\nname = "a"\naddress = ":1"\nno_sni = "refuse"\n'
    text += '[[listener]]\nname = "b"\naddress = ":2"\n'
    a, b = fine(loads(text + HOST + UP + TWO)).listeners
    assert (a.no_sni, b.no_sni) == (None, "api.example.com")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWO, "'www.example.com' belongs to a host already, at"),
        ("[[host]]\nnames = []\n", "a host without a name"),
        ('[[host]]\nnames = ["https://x.example"]\n', "'https://x.example' is a URL"),
        (HOST + 'listeners = "htps"\n', "there is no listener 'htps' | there is: https"),
        (HOST + 'listeners = "http"\n', "listener 'http' only redirects"),
        (HOST + "listeners = []\n", "a list without a listener"),
        (HOST + 'client_auth = { trust = "mesh" }\n', "there is no [trust.mesh]"),
        (HOST + 'client_auth = { mode = "require" }\n', "client_auth needs 'trust'"),
        (HOST + 'limits = { idle_timeout = "1s" }\n', "'idle_timeout' is decided before the host is known"),
        (HOST + 'tls = { no_sni = "refuse" }\n', "'no_sni' is decided before the host is known"),
        (HOST + 'tls = { min_version = "1.3", max_version = "1.2" }\n', "min_version 1.3 is above max_version 1.2"),
        (HOST + 'tls = { profile = "modern", min_version = "1.2" }\n', "TLS 1.2 without a suite"),
        (HOST + 'tls = { ciphers = ["ECDHE-RSA-AES128-GCM-SHA265"] }\n', 'write "ECDHE-RSA-AES128-GCM-SHA256"'),
        (HOST + 'tls = { ciphers = "A:B" }\n', "write a list"),
        (HOST + 'tls = { groups = ["P-256"] }\n', '"P-256" is not known in groups | write "prime256v1"'),
        (HOST + "tls = { groups = [] }\n", "groups without an entry"),
        (HOST + 'tls = { alpn = ["h3"] }\n', '"h3" is not a protocol that edge speaks'),
        (HOST + "tls = { alpn = [] }\n", "at least one protocol is needed"),
        (HOST + "hsts = { preload = true }\n", "the browsers' list needs max_age of 365 days or more"),
        (HOST + 'hsts = { preload = true, include_subdomains = true, max_age = "300d" }\n', "the browsers' list needs"),
    ],
)
def test_bad_hosts(loads: Load, text: str, words: str) -> None:
    other = "" if "www.example.com" in text else TWO
    found = told(loads(text + other + (TWO if text == TWO else "")))
    assert any(words in line for line in found), found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HOST, "warning: nothing answers for api.example.com"),
        (HOST + UP + MESH, "warning: [trust.mesh] is not used"),
        (HOST + UP + "[upstream.a]\nendpoints = 'http://a'\n", "warning: [upstream.a] is not used"),
        (HOST + UP + 'tls = { max_version = "1.2" }\n', "warning: TLS 1.3 is off"),
        (HOST + UP + 'tls = { ciphers = ["AES128-GCM-SHA256"] }\n', "warning: AES128-GCM-SHA256 is weak"),
        (
            HOST + UP + 'tls = { ciphers = ["ECDHE-RSA-AES128-GCM-SHA256"] }\n',
            "warning: no suite of TLS 1.2 goes with the ecdsa certificate api.pem | add an ECDHE-ECDSA suite",
        ),
        (HOST + UP + 'client_auth = { trust = "system" }\n', "warning: every public authority may let clients in here"),
        ('[[listener]]\naddress = ":1"\n', "warning: no host is served on listener ':1'"),
        ('hsts = { max_age = "1d" }\n' + HOST + UP + 'hsts = "none"\n', "note: api.example.com takes hsts away"),
    ],
)
def test_warnings(loads: Load, text: str, words: str) -> None:
    loaded = loads(text)
    assert loaded.settings is not None, told(loaded)
    assert any(words in line for line in told(loaded)), told(loaded)


def test_a_host_that_any_route_answers_for_is_not_idle(loads: Load) -> None:
    assert not loads(HOST + f"[[route]]\n{UP}").problems


def test_profiles(loads: Load) -> None:
    suites = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
    groups = ("X25519MLKEM768", "X25519", "prime256v1", "secp384r1")
    intermediate = fine(loads(HOST + UP)).hosts[0].tls
    assert (intermediate.min_version, intermediate.max_version) == ("1.2", "1.3")
    assert ":".join(intermediate.ciphers) == (
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
    )
    assert (intermediate.ciphersuites, intermediate.groups) == (suites, groups)
    modern = fine(loads('[tls]\nprofile = "modern"\n' + HOST + UP)).hosts[0].tls
    assert (modern.min_version, modern.ciphers, modern.ciphersuites, modern.groups) == ("1.3", (), suites, groups)
    assert modern.tickets
    assert modern.alpn == ("h2", "http/1.1")


def test_a_narrower_key_wins_and_a_narrower_profile_starts_anew(loads: Load) -> None:
    top = '[tls]\nmin_version = "1.3"\ntickets = "off"\n'
    policy = fine(loads(top + HOST + UP + 'tls = { groups = ["X25519"] }\n')).hosts[0].tls
    assert (policy.min_version, policy.tickets, policy.groups) == ("1.3", False, ("X25519",))
    policy = fine(loads(top + HOST + UP + 'tls = { profile = "intermediate" }\n')).hosts[0].tls
    assert (policy.min_version, policy.tickets) == ("1.2", False)


def test_client_certificates(loads: Load, conf: Path) -> None:
    text = MESH + HOST + UP + 'client_auth = { trust = "mesh", depth = 2 }\n'
    text += '[[listener]]\nname = "tls"\naddress = ":8443"\n[[listener]]\nname = "plain"\naddress = ":8080"\ntls = "off"\n'
    host = fine(loads(text)).hosts[0]
    assert (host.client_auth.mode, host.client_auth.depth) == (ClientAuthMode.REQUIRE, 2)
    assert host.client_auth.trust is not None
    assert host.client_auth.trust.ca_pem == (conf / "ca.pem").read_bytes()
    assert host.listeners == ("tls",)
    found = told(loads(text.replace(UP, UP + 'listeners = ["tls", "plain"]\n')))
    assert "listener 'plain' is plain: there is no client certificate to ask for" in found[0]


def test_client_certificates_are_inherited_and_taken_away_aloud(loads: Load) -> None:
    top = 'client_auth = { mode = "require", trust = "mesh" }\n'
    settings = fine(loads(top + MESH + HOST + UP + "client_auth = { depth = 1 }\n"))
    assert (settings.hosts[0].client_auth.mode, settings.hosts[0].client_auth.depth) == (ClientAuthMode.REQUIRE, 1)
    loaded = loads(top + MESH + HOST + UP + 'client_auth = "none"\n' + TWO)
    assert fine(loaded).hosts[0].client_auth.mode is ClientAuthMode.OFF
    assert any("note: api.example.com takes client_auth away" in line for line in told(loaded))
    found = told(loads(top + MESH + HOST + UP + 'client_auth = { mode = "off" }\n' + TWO))
    assert any('an inherited protection is only taken away aloud | write client_auth = "none"' in line for line in found)


def test_weakening_an_inherited_requirement_is_told(loads: Load) -> None:
    top = 'client_auth = { mode = "require", trust = "mesh" }\n'
    found = told(loads(top + MESH + HOST + UP + 'client_auth = { mode = "request" }\n'))
    assert any("note: api.example.com lets clients in without a certificate" in line for line in found), found


def test_hsts(loads: Load) -> None:
    local = f'[[host]]\nnames = ["localhost", "127.0.0.1"]\n{CERTIFICATES}\n{UP}'
    assert fine(loads(local)).hosts[0].hsts is None
    assert fine(loads(local + 'hsts = { max_age = "1d" }\n')).hosts[0].hsts == Hsts(max_age=86_400)
    assert fine(loads('hsts = "none"\n' + HOST + UP)).hosts[0].hsts is None
    assert fine(loads('hsts = "none"\n' + HOST + UP + "hsts = { include_subdomains = true }\n")).hosts[0].hsts == Hsts(
        include_subdomains=True
    )
    assert fine(loads('hsts = { max_age = "off" }\n' + HOST + UP)).hosts[0].hsts == Hsts(max_age=0)
    preload = 'hsts = { preload = true, include_subdomains = true, max_age = "730d" }\n'
    assert fine(loads(HOST + UP + preload)).hosts[0].hsts == Hsts(max_age=730 * 86_400, include_subdomains=True, preload=True)
