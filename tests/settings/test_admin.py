"""The admin listener's settings, and routes that answer with the gateway's health."""

from __future__ import annotations

import pytest

from edge.settings.effective import effective
from edge.settings.model import Address, Admin
from tests.settings.conftest import HOST, Load, told

UP = 'upstream = "http://127.0.0.1:8000"\n'
TOKEN = "0123456789abcdef0123456789abcdef"


def admin(loads: Load, text: str) -> Admin:
    loaded = loads(f"{HOST}{UP}{text}")
    assert loaded.settings is not None, told(loaded)
    return loaded.settings.admin


def test_the_default_is_loopback(loads: Load) -> None:
    assert admin(loads, "") == Admin()
    assert admin(loads, "[admin]\n") == Admin()
    assert Admin().addresses == (Address(host="127.0.0.1", port=9901),)


def test_what_is_written(loads: Load) -> None:
    text = f'[admin]\naddress = [":9901", "127.0.0.1:9902"]\ntoken = "{TOKEN}"\nopen = ["metrics"]\nnames = "Edge.Ops.internal"\n'
    found = admin(loads, text)
    assert [(one.host, one.port) for one in found.addresses] == [("0.0.0.0", 9901), ("::", 9901), ("127.0.0.1", 9902)]
    assert (found.written, found.token, found.open, found.names) == (True, TOKEN, {"metrics"}, {"edge.ops.internal"})
    assert TOKEN not in repr(found)


def test_sockets_that_systemd_passes(loads: Load) -> None:
    found = admin(loads, '[admin]\naddress = ["systemd", "systemd:other"]\n')
    assert [address.passed for address in found.addresses] == ["admin", "other"]


def test_off(loads: Load) -> None:
    assert admin(loads, '[admin]\naddress = "off"\n').addresses == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('address = "9901"', "not an address with a port"),
        ('address = "localhost:9901"', 'write "127.0.0.1:9901"'),
        ('address = ["off", "127.0.0.1:1"]', '"off" stands alone'),
        ("address = []", "a list without an address"),
        ('token = "short"', "can be guessed"),
        (f'token = "{TOKEN} x"', "a character that a bearer token cannot have"),
        ('open = ["everything"]', "everything"),
        ('names = ["*.example.com"]', "a wildcard would let"),
        ('names = ["a/b"]', "not a host name"),
        ("addres = 1", "'address'"),
    ],
)
def test_mistakes(loads: Load, text: str, words: str) -> None:
    loaded = loads(f"{HOST}{UP}[admin]\n{text}\n")
    assert loaded.settings is None
    shown = "\n".join([*told(loaded), *(problem.mend for problem in loaded.problems)])
    assert words in shown
    assert TOKEN not in shown or "character" in words


def test_the_token_is_never_shown(loads: Load) -> None:
    loaded = loads(f'{HOST}{UP}[admin]\ntoken = "{TOKEN}"\n')
    assert TOKEN not in str(effective(loaded))
    assert effective(loaded)["settings"]["admin"]["address"] == {"value": "127.0.0.1:9901", "from": "default"}


@pytest.mark.parametrize("word", ["live", "ready"])
def test_a_route_with_health(loads: Load, word: str) -> None:
    loaded = loads(f'{HOST}[[route]]\npath = "/up"\nhealth = "{word}"\n')
    assert loaded.settings is not None, told(loaded)
    assert loaded.settings.routes[0].health == word


def test_health_answers_alone(loads: Load) -> None:
    loaded = loads(f'{HOST}[[route]]\npath = "/up"\nhealth = "ready"\n{UP}')
    assert any("a route with upstream and health" in line for line in told(loaded))
    loaded = loads(f'{HOST}[[route]]\npath = "/up"\nhealth = "well"\n')
    assert loaded.settings is None
