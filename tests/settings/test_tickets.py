"""The settings of tickets: lifetime, rotation and the shared secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.effective import effective
from edge.settings.model import Tickets
from edge.settings.problems import Reason
from tests.settings.conftest import CERTIFICATES, HOST, Load, told
from tests.settings.test_hosts import UP, fine

OTHER = f'[[host]]\nnames = "www.example.com"\n{CERTIFICATES}\n{UP}'
SECRET = '[tls]\nticket_secret = "ticket.secret"\n'


@pytest.fixture
def secret(conf: Path) -> Path:
    path = conf / "ticket.secret"
    path.write_bytes(b"0123456789abcdef" * 3)
    path.chmod(0o600)
    return path


def test_defaults(loads: Load) -> None:
    settings = fine(loads(HOST + UP))
    assert settings.tickets == Tickets(rotation=3600.0, lifetime=7200.0, file="")
    assert settings.hosts[0].tls.ticket_lifetime == 7200.0


def test_a_host_may_have_a_lifetime_of_its_own_and_keys_live_for_the_longest(loads: Load) -> None:
    settings = fine(loads(HOST + UP + 'tls = { ticket_lifetime = "8h" }\n' + OTHER + 'tls = { ticket_lifetime = "90s" }\n'))
    assert [host.tls.ticket_lifetime for host in settings.hosts] == [28_800.0, 90.0]
    assert settings.tickets.lifetime == 28_800.0
    quiet = fine(loads(HOST + UP + 'tls = { ticket_lifetime = "8h", tickets = "off" }\n'))
    assert quiet.tickets.lifetime == 7200.0


def test_early_data_is_off_and_may_be_turned_on_for_all_or_for_a_host(loads: Load) -> None:
    assert not fine(loads(HOST + UP)).hosts[0].tls.early_data
    assert fine(loads('[tls]\nearly_data = "on"\n' + HOST + UP)).hosts[0].tls.early_data
    settings = fine(loads(HOST + UP + 'tls = { early_data = "on" }\n' + OTHER))
    assert [host.tls.early_data for host in settings.hosts] == [True, False]


ASKS = 'client_auth = { trust = "system", mode = "request" }\n'
STREAM = f'[[host]]\nnames = "www.example.com"\n{CERTIFICATES}\nprotocol = "tcp"\nupstream = "tcp://127.0.0.1:5432"\n'


def test_early_data_from_the_top_passes_over_hosts_where_it_cannot_be(loads: Load) -> None:
    top = '[tls]\nearly_data = "on"\n'
    for host in (
        HOST + UP + ASKS,
        STREAM,
        HOST + UP + 'tls = { tickets = "off" }\n',
        HOST + UP + 'tls = { max_version = "1.2" }\n',
    ):
        loaded = loads(top + host)
        assert loaded.settings is not None, loaded.problems
        assert not loaded.settings.hosts[0].tls.early_data


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        (HOST + UP + ASKS, "no early data here: the host asks for client certificates"),
        (STREAM, "no early data here: the host relays bytes"),
    ],
)
def test_a_host_that_cannot_have_early_data_and_asks_for_it_is_told(host: str, problem: str, loads: Load) -> None:
    assert problem in "\n".join(told(loads(host + 'tls = { early_data = "on" }\n')))


def test_early_data_and_a_secret_that_machines_share_exclude_each_other(loads: Load, secret: Path) -> None:
    problem = "early data and ticket_secret together: another machine with the secret would take the same request again"
    assert problem in "\n".join(told(loads(SECRET + HOST + UP + 'tls = { early_data = "on" }\n')))


def test_a_route_whose_early_data_has_no_effect_is_warned_of(loads: Load) -> None:
    route = '[[route]]\nhost = "api.example.com"\npath = "/x"\nupstream = "http://127.0.0.1:1"\nearly_data = true\n'
    on = 'tls = { early_data = "on" }\n'
    assert "early_data has no effect: it is off for api.example.com" in "\n".join(told(loads(HOST + UP + route)))
    assert "it is for GET, HEAD and OPTIONS alone" in "\n".join(told(loads(HOST + UP + on + route + 'methods = "POST"\n')))
    settings = fine(loads(HOST + UP + on + route))
    assert [found.early_data for found in settings.routes if found.path == "/x"] == [True]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('ticket_lifetime = "8d"', 'a ticket lives at most seven days (RFC 8446 section 4.6.1) | write "7d"'),
        ('ticket_lifetime = "500ms"', 'a ticket lives at least a second | to do without tickets: tickets = "off"'),
        ('ticket_rotation = "500ms"', 'ticket keys change at most once in a second | write "1h"'),
        (
            'ticket_rotation = "1s"',
            'under keys that change every 1s: more than 24 keys to keep | write ticket_rotation = "5m" or more',
        ),
        (
            'ticket_lifetime = "7d"',
            'tickets of 7d under keys that change every 1h: more than 24 keys to keep | write ticket_rotation = "7h"',
        ),
        ('ticket_secret = "nowhere"', "nowhere cannot be read: no such file or directory"),
    ],
)
def test_what_cannot_be(text: str, problem: str, loads: Load) -> None:
    assert problem in "\n".join(told(loads(f"[tls]\n{text}\n" + HOST + UP)))


@pytest.mark.parametrize("key", ['ticket_rotation = "1h"', 'ticket_secret = "ticket.secret"'])
def test_what_holds_for_all_hosts_stands_at_the_top(key: str, loads: Load, secret: Path) -> None:
    (line,) = told(loads(HOST + UP + f"tls = {{ {key} }}\n"))
    assert line.endswith("holds for all hosts together | write it in [tls] at the top")


def test_a_shared_secret_is_named_and_never_held(loads: Load, secret: Path) -> None:
    loaded = loads(SECRET + HOST + UP)
    settings = fine(loaded)
    assert settings.tickets.file == str(secret)
    assert str(secret) in settings.files
    for text in (repr(settings), str(effective(loaded))):
        assert secret.read_text() not in text


def test_a_short_secret_and_one_that_others_can_read(loads: Load, secret: Path) -> None:
    secret.chmod(0o640)
    (line,) = told(loads(SECRET + HOST + UP))
    assert "ticket.secret can be read by others than its owner (mode 0640)" in line
    assert "chmod 600 ticket.secret" in line
    secret.chmod(0o600)
    secret.write_bytes(b"x" * 31)
    (line,) = told(loads(SECRET + HOST + UP))
    assert "ticket.secret holds 31 bytes; a secret has at least 32" in line


def test_a_secret_of_somebody_else(loads: Load, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(secret), "open", refuse)
    loaded = loads(SECRET)
    assert Reason.NOT_PERMITTED in {problem.reason for problem in loaded.problems}


def test_the_digest_follows_the_secret(loads: Load, secret: Path) -> None:
    before = fine(loads(SECRET + HOST + UP)).digest
    secret.write_bytes(b"another secret of enough characters")
    assert fine(loads(SECRET + HOST + UP)).digest != before
