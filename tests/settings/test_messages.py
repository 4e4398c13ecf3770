"""What people read when something is wrong: place, words, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.load import load
from edge.settings.problems import Severity
from tests.settings.conftest import HOST, Load, told

UP = 'upstream = "http://127.0.0.1:8000"\n'


def errors(loads: Load, text: str) -> list[str]:
    return told(loads(text))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("idle_timeout = 0", '0 is not a duration | it cannot be off; write for example "30s"'),
        ('idle_timeout = "0"', "0 is not a duration"),
        ('idle_timeout = "0ms"', "0 is not a duration"),
        ("idle_timeout = 30", 'a number without its unit: 30 | write "30s" (ms, s, m, h or d)'),
        ('idle_timeout = "30"', 'a number without its unit: 30 | write "30s"'),
        ("idle_timeout = 1.5", 'a number without its unit: 1.5 | write "1.5s"'),
        ('idle_timeout = "30 s"', '"30 s" is not a duration | write "30s" (units: ms, s, m, h or d)'),
        ('idle_timeout = "5 minutes"', '"5 minutes" is not a duration | write "5m" (units'),
        ('idle_timeout = "5 parsecs"', '"5 parsecs" is not a duration | write for example "30s" (units'),
        ("idle_timeout = 3600", 'a number without its unit: 3600 | write "1h"'),
        ('idle_timeout = "off"', '"off" is not possible here | this has no "off"; write for example "30s"'),
        ('idle_timeout = "never"', '"never" is not possible here'),
        ("idle_timeout = true", "true or false where a duration belongs"),
        ("idle_timeout = 2026-01-01", "a date or an impossible number where a duration belongs"),
        ("idle_timeout = nan", "a date or an impossible number where a duration belongs"),
        ("idle_timeout = []", "a list where a duration belongs"),
        ('body_min_rate = "0"', '0 is not a rate | write "off"'),
        ('body_min_rate = "unlimited"', '"unlimited" is not a rate | write "off"'),
        ('body_min_rate = "500B"', '"500B" is not a rate | write "500B/s"'),
        ("request_body = 1000", 'a number without its unit: 1000 | write "1000B"'),
        ('request_body = "10MB"', '"10MB" is not a size | write "10MiB" (units: B, KiB, MiB or GiB)'),
        ('request_body = "10m"', '"10m" is not a size | write "10MiB"'),
        ('request_body = "-1"', '"-1" is not a size | write "off"'),
        ("header_count = 0", "0 is too little | write 1 or more"),
        ("header_count = -5", "-5 is too little | write 1 or more"),
        ('header_count = "100"', "a string where a whole number belongs | write it without quotes: 100"),
        ("streams = 100000", "100000 is too much | write 10000 or less"),
        ("requests_per_connection = 0", '0 would mean none at all | write "off" for no bound'),
        ('requests_per_connection = "of"', '"of" is not possible here | write "off" or a whole number'),
        ("requests_per_connection = 1.5", "a number with a fraction is not possible here"),
        ('idle_timout = "1s"', "unknown key 'idle_timout' | write 'idle_timeout'"),
        ("frobnicate = 1", "unknown key 'frobnicate' | see: edge help keys (Limits)"),
    ],
)
def test_limits(loads: Load, line: str, words: str) -> None:
    found = errors(loads, f"[limits]\n{line}\n{HOST}{UP}")
    assert len(found) == 1
    assert words in found[0]
    assert found[0].startswith("2:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bogus = 1\n", "1:1:5 error: unknown key 'bogus'"),
        ("[[hosts]]\n", "1:1:9 error: unknown key 'hosts' | write [[host]]"),
        ("host = 1\n", "1:8:1 error: a number where a list belongs"),
        ("[host]\n", "1:1:6 error: a table where a list belongs"),
        ("host = [1]\n", "a number where a table belongs"),
        ("[[host]]\n", "1:1:8 error: a [[host]] needs 'names' | write for example names = [\"api.example.com\"]"),
        ('[[route]]\nupstream = "http://a"\nlocation = "/"\n', "3:1:8 error: unknown key 'location' | write 'path'"),
        ('[[listener]]\nport = 443\naddress = ":443"\n', "unknown key 'port' | write address = \":443\""),
        ("[[listener]]\naddress = 443\n", '2:11:3 error: a number where a string or a list belongs | write it in quotes: "443"'),
        ('[tls]\nprofile = "modrn"\n', '2:11:7 error: "modrn" is not possible here | write "modern"'),
        ('[tls]\nprofile = "old"\n', '2:11:5 error: "old" is not possible here | write "intermediate" or "modern"'),
        ("[tls]\nmin_version = 1.2\n", '2:15:3 error: a number with a fraction is not possible here | write "1.2" or "1.3"'),
        ("[tls]\ntickets = true\n", 'true or false is not possible here | write "on"'),
        ("[tls]\ntickets = false\n", 'true or false is not possible here | write "off"'),
        ('[tls]\nmin_version = "1.1"\n', '"1.1" is not possible here | write "1.2" or "1.3"'),
        (HOST + "upstream = 8000\n", 'write its URL: "http://127.0.0.1:8000"'),
        (
            '[upstream.app]\nendpoints = "http://x"\nhealth = "/up"\n',
            'a string where a table belongs | write for example health = { path = "/up" }',
        ),
        (
            '[upstream.app]\nendpoints = "http://x"\nretry = 3\n',
            "a number where a table belongs | write for example retry = { attempts = 2 }",
        ),
        ('[[listener]]\naddress = ":80"\nredirect = true\n', 'true or false where a string belongs | write for example "https"'),
        ('[[listener]]\naddress = ":1"\nproxy_protocol = true\n', 'write for example proxy_protocol = { from = ["10.0.0.0/8"] }'),
        (HOST + 'passthrough = "127.0.0.1:3"\n', 'write "tcp://127.0.0.1:3"'),
        (HOST + 'tls = { groups = "X25519:P-256" }\n', 'write a list: ["X25519", "prime256v1"]'),
        (HOST + 'tls = { ciphers = "HIGH:!aNULL" }\n', "write a list of names, or take the key out"),
        (HOST + 'proxy_pass = "http://x"\n', "unknown key 'proxy_pass' | write 'upstream'"),
        (HOST + 'ssl_protocols = "TLSv1.2"\n', "unknown key 'ssl_protocols' | nginx's word; here: tls.profile"),
        ("[limits]\nclient_max_body_size = 1\n", "nginx's word; here: limits.request_body (edge help nginx)"),
        ("worker_processes = 4\n", "nginx's word; here: default, server.pin (edge help nginx)"),
        ("[server]\nworkers = 0\n", "2:11:1 error: 0 is too little | write 1 or more"),
        ('hsts = "off"\n', '1:8:5 error: "off" is not possible here | write "none" or a table'),
        ('[hsts]\nmax_age = "0s"\n', 'error: 0 is not a duration | write "off"'),
        ("[upstream.app]\n", "1:1:14 error: an upstream needs 'endpoints'"),
        ("[upstream.app]\nendpoints = [{ weight = 1 }]\n", "2:14:14 error: an endpoint needs 'url'"),
        ("[upstream.app]\nendpoints = []\n", "an upstream without an endpoint"),
        ('[log]\naccess = ""\n', "2:10:2 error: an empty value | write a value, or take the key out"),
    ],
)
def test_shapes(loads: Load, text: str, words: str) -> None:
    found = errors(loads, text)
    assert any(words in line for line in found), found


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('[acme]\nemail = "${env:NO}"\n', ["1:1:6 'acme'"]),
        (
            "[jwt.main]\nx = 1\n[rate_limit.a]\n[waf.b]\n[store]\n",
            ["1:2:3 'jwt'", "3:2:10 'rate_limit'", "4:2:3 'waf'", "5:1:7 'store'"],
        ),
        (f'{HOST}{UP}auth = "none"\n', ["5:1:4 'auth'"]),
        ('[[host]]\nnames = "x"\ncertificates = { acme = "default" }\n' + UP, ["3:18:4 'acme'"]),
        (
            f'{HOST}[[route]]\nhost = "api.example.com"\nscopes = []\nregions = []\n{UP}',
            ["6:1:6 'scopes'", "7:1:7 'regions'"],
        ),
        (
            '[upstream.a]\nendpoints = "http://x"\nfailover_below = "70%"\n[upstream.a.tls]\nocsp = []\n',
            ["3:1:14 'failover_below'", "5:1:4 'ocsp'"],
        ),
        ('[upstream.a]\nendpoints = [{ url = "http://x", tier = 1, region = "eu" }]\n', ["2:34:4 'tier'", "2:44:6 'region'"]),
    ],
)
def test_keys_of_later_versions_are_known(loads: Load, text: str, places: list[str]) -> None:
    wanted = [
        f"{place.split(' ')[0]} error: {place.split(' ')[1]} is not in this version | take it out for now" for place in places
    ]
    assert [line for line in told(loads(text)) if " error: " in line] == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\na = 2\n", "2:1:1 error: 'a' is written twice, first at"),
        ("[host.client_auth]\n[host.client_auth]\n", "2:1:18 error: 'host.client_auth' is written twice"),
        (
            '[tls]\n[[host]]\nclient_auth = { mode = "off" }\n[host.client_auth]\n',
            "4:1:18 error: 'host.client_auth' is written in two forms",
        ),
        (
            '[[host]]\nclient_auth = {\n  mode = "off" }\n',
            "an inline table cannot span lines | close it on this line, or write its long form",
        ),
        ('[[host]]\nclient_auth = { mode = "off", }\n', "an inline table cannot end in a comma"),
        ("[[host]]\nclient_auth.mode = 'off'\n[host.client_auth]\n", "was written before, perhaps in another form"),
        ("b = \na = 1\na = 2\n", "1:5:1 error: not a value"),
        ("[[host]\n", "1:7:1 error: a table header that does not end | write [[name]]"),
        ("[host\n", "1:6:1 error: a table header that does not end | write [name]"),
        ("a\n", "1:2:1 error: a key without '=' | write key = \"value\""),
        ("server {\n  listen 443 ssl;\n}\n", "error: a key without '=' | this looks like the settings of another server"),
        ("frontend web\n  bind :443\n", "this looks like the settings of another server"),
        ("api.example.com {\n  reverse_proxy :8000\n}\n", "this looks like the settings of another server"),
        ("host = {\n", "an inline table cannot span lines"),
        ("a = \n", "not a value"),
        ("a = value\n", "1:5:1 error: not a value | strings stand in quotes"),
        ("a = [1\n", "a list that does not end"),
        ('a = "x\n', "1:7:1 error: a character that cannot stand here"),
        ('a = "x', "a string that does not end"),
        ('a = "\\x"\n', "a single backslash in a string"),
        ("a = 1 b = 2\n", "1:7:1 error: more text where the line should end"),
        ("= 1\n", "neither a key nor a table"),
        ("a = 2026-13-01\n", "more text where the line should end"),
        ("\ufeffa = 1\n", "1:1:1 error:"),
        ('a = "\x00"\n', "a character that cannot stand here"),
        ("a = " + "[" * 5000 + "\n", "nested too deeply"),
        ("a = " + "9" * 5000 + "\n", "a number is too long"),
    ],
)
def test_syntax(loads: Load, text: str, words: str) -> None:
    found = told(loads(text))
    assert len(found) == 1, found
    assert words in found[0]


def test_everything_is_told_at_once(loads: Load) -> None:
    text = """\
bogus = 1
[limits]
idle_timeout = 0
[[host]]
names = "API.example.com"
certificates = [{ chain = "api.pem", key = "none.key" }]
upstrem = "http://127.0.0.1:8000"
client_auth = { mode = "requir", trust = "mesh" }
[[route]]
path = "ping"
upstream = "app"
[upstream.ap]
endpoints = ["ftp://10.0.0.1:1", "http://a/b"]
"""
    lines = [problem.line for problem in loads(text).problems if problem.severity is Severity.ERROR]
    assert lines == [1, 3, 6, 7, 8, 8, 10, 11, 13, 13]


def test_one_value_stands_where_a_list_may(loads: Load) -> None:
    text = f"""\
[trusted_proxies]
from = "10.0.0.0/8"
[tls]
groups = "X25519"
alpn = "h2"
[[listener]]
name = "a"
address = "127.0.0.1:8443"
[[host]]
names = "api.example.com"
listeners = "a"
certificates = {{ chain = "api.pem", key = "api.key" }}
response_headers = {{ remove = "Server", add = {{ Vary = "A" }} }}
[[route]]
host = "api.example.com"
listeners = "a"
methods = "GET"
{UP}"""
    loaded = loads(text)
    assert not loaded.problems, told(loaded)
    assert loaded.settings is not None
    assert loaded.settings.hosts[0].tls.groups == ("X25519",)
    assert loaded.settings.routes[0].methods == frozenset({"GET"})


def test_a_file_that_is_not_there_or_not_text(conf: Path) -> None:
    assert "cannot be read: no such file or directory" in load(conf / "none.toml", environ={}).problems[0].message
    assert "is a directory" in load(conf, environ={}).problems[0].message
    (conf / "latin.toml").write_bytes(b"# x\n# \xe9\n")
    problem = load(conf / "latin.toml", environ={}).problems[0]
    assert (problem.message, problem.line) == ("not UTF-8 text", 2)
    assert load(conf / "edge.toml", text="# \udcff\n", environ={}).problems[0].message == "not UTF-8 text"
    assert "not a path" in load("a\0b", environ={}).problems[0].message


def test_windows_line_ends_are_fine(loads: Load) -> None:
    assert not loads((HOST + UP).replace("\n", "\r\n")).problems
