from __future__ import annotations

from ipaddress import ip_network

import pytest

from edge.settings.model import AccessLog
from tests.settings.conftest import HOST, Load, told

BASE = HOST + 'upstream = "http://127.0.0.1:8000"\n'


def test_server(loads: Load) -> None:
    text = '[server]\nworkers = 3\nuser = "edge"\ndrain = "1m"\nresolver = ["127.0.0.53", "::1"]\n'
    text += 'state_dir = "state"\nvia = "gw-1"\n'
    settings = loads(text + BASE).settings
    assert settings is not None
    server = settings.server
    assert (server.workers, server.user, server.drain, server.resolver, server.via) == (
        3,
        "edge",
        60.0,
        ("127.0.0.53", "::1"),
        "gw-1",
    )
    assert server.state_dir.startswith("/")
    assert server.state_dir.endswith("/state")


def test_directories_of_those_who_are_not_root(loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def directories(**environ: str) -> tuple[str, str]:
        settings = loads(BASE, **environ).settings
        assert settings is not None
        return settings.server.state_dir, settings.server.runtime_dir

    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert directories(HOME="/root") == ("/var/lib/edge", "/run/edge")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert directories(HOME="/home/a") == ("/home/a/.local/state/edge", "/tmp/edge-1000")
    assert directories(XDG_STATE_HOME="/s", XDG_RUNTIME_DIR="/r") == ("/s/edge", "/r/edge")


def test_logs(loads: Load) -> None:
    text = '[log]\naccess = { to = "./a.log", format = "json", redact = ["query", "Authorization"], sample = "10%" }\n'
    text += 'events = "off"\n'
    settings = loads(text + BASE).settings
    assert settings is not None
    access = settings.log.access
    assert access.to is not None
    assert access.to.endswith("/a.log")
    assert access.to.startswith("/")
    assert (access.format, access.redact, access.sample) == ("json", frozenset({"query", "authorization"}), 0.1)
    assert settings.log.events == AccessLog(to=None)
    for word in ("stdout", "stderr", "syslog", "syslog:/dev/log", "/var/log/edge.log"):
        settings = loads(f'[log]\naccess = "{word}"\n' + BASE).settings
        assert settings is not None
        assert settings.log.access.to == word


def test_trusted_proxies(loads: Load) -> None:
    settings = loads('[trusted_proxies]\nfrom = ["10.0.0.0/8", "::1"]\n' + BASE).settings
    assert settings is not None
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[server]\nresolver = "dns.example"\n', "'dns.example' is not an address"),
        ('[server]\nvia = "a b"\n', "'a b' is not a name for Via"),
        ('[server]\nstate_dir = ""\n', "an empty value"),
        ('[log]\naccess = "stout"\n', '"stout" is no place for a log'),
        ('[log]\naccess = "syslog:log"\n', "the path of a socket is absolute"),
        ('[log]\naccess = { sample = "0%" }\n', "0 is not a share"),
        ('[trusted_proxies]\nfrom = ["10.0.0.1/8"]\n', "'10.0.0.1/8' is not a network | write \"10.0.0.0/8\""),
        ('[trusted_proxies]\nfrom = "proxy"\n', "'proxy' is not a network"),
    ],
)
def test_what_is_refused(loads: Load, text: str, words: str) -> None:
    found = told(loads(text + BASE))
    assert len(found) == 1
    assert words in found[0]
