"""Pins and the certificate that we show: what may be written, and what the model then holds."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from edge.settings.model import UpstreamTls
from edge.settings.pins import pin
from edge.settings.syntax import Bad
from tests.settings.certs import Authority
from tests.settings.conftest import HOST, Load, told

ONE, TWO = "sha256/" + "A" * 43 + "=", "sha256/" + "B" * 42 + "A="
APP = HOST + 'upstream = "app"\n[upstream.app]\nendpoints = "https://a.internal"\n'
TLS = APP + "[upstream.app.tls]\n"


def tls_of(loads: Load, text: str) -> UpstreamTls:
    loaded = loads(text)
    assert loaded.settings is not None, told(loaded)
    found = loaded.settings.upstreams["app"].tls
    assert found is not None
    return found


def test_pins_are_read(loads: Load) -> None:
    found = tls_of(loads, TLS + f'pins = ["{TWO}", "{ONE}"]\n')
    assert found.pins == (bytes(32), pin(TWO))
    assert not found.pin_report
    assert tls_of(loads, TLS + f'pins = ["{ONE}", "{TWO}"]\npin_mode = "report"\n').pin_report
    assert tls_of(loads, TLS + f'pins = "{ONE}"\nallow_single_pin = true\n').pins == (bytes(32),)


@pytest.mark.parametrize("first", [b"\xff\xff", b"\xfb\xef", bytes(2)], ids=["slashes", "pluses", "letters"])
@pytest.mark.parametrize("prefix", ["sha256/", "sha256//", "SHA256/"])
def test_every_digest_can_be_written_with_one_slash_or_with_curls_two(first: bytes, prefix: str) -> None:
    digest = first + bytes(30)
    assert pin(prefix + base64.b64encode(digest).decode()) == digest


def test_pins_of_all_upstreams_yield_to_an_upstreams_own(loads: Load) -> None:
    top = f'[upstream_tls]\nmin_version = "1.3"\npins = ["{ONE}", "{TWO}"]\n'
    assert tls_of(loads, APP + top).pins == (bytes(32), pin(TWO))
    own = tls_of(loads, TLS + f'pins = "{ONE}"\nallow_single_pin = true\n' + top)
    assert own.pins == (bytes(32),)
    assert own.min_version == "1.3"


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256/", "sha1/" + "A" * 43 + "=", "sha256/" + "A" * 44, "sha256/" + "A" * 40, "A" * 43 + "=", "sha256/ä"],
)
def test_what_is_no_pin(text: str) -> None:
    with pytest.raises(Bad):
        pin(text)


def test_curls_form_is_taken() -> None:
    assert pin("sha256//" + "A" * 43 + "=") == bytes(32)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (f'pins = ["{ONE}"]', "one pin without a backup: the next change of keys would be an outage"),
        (f'pins = ["{ONE}", "{ONE}"]', "this pin stands here twice"),
        ("pins = []", "a list without a pin"),
        (f'pins = ["{ONE}", "oops"]', "'oops' is not a pin"),
        (f'pins = ["{ONE}", "{TWO}"]\nverify = "off"', "pins are matched on the verified chain, and verify is off here"),
        ('client_certificate = "nobody"', "there is no certificate 'nobody'"),
    ],
)
def test_mistakes_are_told_where_they_stand(loads: Load, keys: str, problem: str) -> None:
    loaded = loads(TLS + keys + "\n")
    assert loaded.settings is None
    assert any(f" error: {problem}" in line and not line.startswith("0:") for line in told(loaded)), told(loaded)


def test_a_mistake_at_the_top_is_told_once(loads: Load) -> None:
    text = HOST + 'upstream = "https://a.internal"\n[[route]]\npath = "/x"\nupstream = "https://b.internal"\n'
    lines = told(loads(text + '[upstream_tls]\npins = ["oops"]\nserver_name = "a.internal"\n'))
    assert [line.split(" ", 1)[1].split(" | ")[0] for line in lines] == [
        "error: 'oops' is not a pin",
        "error: one name cannot be that of all upstreams",
    ]


NAMED = '[[certificate]]\nname = "ours"\nchain = "client.pem"\nkey = "client.key"\n'


@pytest.fixture
def client(conf: Path, authority: Authority) -> None:
    authority.issue(["gateway.internal"], client_only=True).write(conf, "client")


@pytest.mark.usefixtures("client")
def test_the_certificate_that_we_show(loads: Load) -> None:
    """Nothing is said about a certificate for clients being used for that, nor that no host uses it."""
    text = TLS + 'client_certificate = "ours"\n' + NAMED
    assert told(loads(text)) == []
    shown = tls_of(loads, text).client_certificate
    assert shown is not None
    assert shown.names == ("gateway.internal",)


@pytest.mark.usefixtures("client")
def test_a_routes_certificate_makes_an_upstream_of_its_own(loads: Load) -> None:
    text = APP + '[[route]]\nhost = "api.example.com"\npath = "/v2/"\nupstream = "app"\nclient_certificate = "ours"\n' + NAMED
    settings = loads(text).settings
    assert settings is not None
    by_path = {route.path: route.targets[0].upstream for route in settings.routes}
    assert by_path["/"].tls is not None
    assert by_path["/"].tls.client_certificate is None
    assert by_path["/v2/"].name == "app as ours"
    assert by_path["/v2/"].tls is not None
    assert by_path["/v2/"].tls.client_certificate is not None


def test_a_certificate_for_servers_only_is_a_warning(loads: Load, conf: Path, authority: Authority) -> None:
    authority.issue(["gateway.internal"], server_only=True).write(conf, "client")
    lines = told(loads(TLS + 'client_certificate = "ours"\n' + NAMED))
    assert [line for line in lines if "warning: the certificate 'ours' is not for clients" in line], lines


def test_a_certificate_where_nobody_asks_is_a_warning(loads: Load, conf: Path, authority: Authority) -> None:
    authority.issue(["gateway.internal"], client_only=True).write(conf, "client")
    route = '[[route]]\nhost = "api.example.com"\npath = "/v2/"\nupstream = "http://127.0.0.1:1"\nclient_certificate = "ours"\n'
    lines = told(loads(APP + route + NAMED))
    assert [line for line in lines if "no endpoint is https://" in line], lines
