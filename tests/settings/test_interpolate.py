from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.interpolate import Missing, interpolate
from edge.settings.load import load
from tests.settings.conftest import HOST, Load, told


def test_forms(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    environ = {"A": "x", "EMPTY": "", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    def run(text: str) -> str:
        return interpolate(text, tmp_path, environ)[0]

    assert run("plain") == "plain"
    assert run("${env:A}-${env:A}") == "x-x"
    assert run("${env:NONE:-d:-e}") == "d:-e"
    assert run("${env:EMPTY:-d}") == "d"
    assert run("${env:EMPTY}") == ""
    assert run("${file:secret}") == "s3cret"
    assert run(f"${{file:{tmp_path}/secret}}") == "s3cret"
    assert run("${credential:secret}") == "s3cret"
    assert run("$${env:A}") == "${env:A}"


def test_what_was_put_in_is_not_read_again(tmp_path: Path) -> None:
    assert interpolate("${env:A}", tmp_path, {"A": "${env:B}", "B": "no"})[0] == "${env:B}"


@pytest.mark.parametrize(
    "text",
    [
        "${env:NONE}",
        "${file:none}",
        "${file:}",
        "${credential:x}",
        "${credential:..}",
        "${credential:a/b}",
        "${}",
        "${X}",
        "${env:}",
        "${file:\0}",
    ],
)
def test_forms_that_cannot_be_replaced(tmp_path: Path, text: str) -> None:
    with pytest.raises(Missing):
        interpolate(text, tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})


def test_a_missing_variable_is_told_with_its_place(loads: Load) -> None:
    assert told(loads(HOST + 'upstream = "${env:APP_URL}"\n')) == [
        "4:12:16 error: the environment variable APP_URL is not set | set it, or give a default: ${env:APP_URL:-…}"
    ]


def test_a_value_from_elsewhere_never_stands_in_a_message(loads: Load) -> None:
    text = (
        HOST + 'upstream = "${env:S}"\n[server]\nvia = "${env:S}"\nresolver = "${env:S}"\n[limits]\nbody_timeout = "${env:S}"\n'
    )
    text += '[tls]\ngroups = "${env:S}"\nno_sni = "${env:S}"\n'
    text += '[trusted_proxies]\nfrom = "${env:S}"\n[[listener]]\naddress = "${env:S}"\n'
    text += '[[route]]\npath = "${env:S}"\nhost = "${env:S}"\nmethods = "${env:S}"\nrewrite = "${env:S}"\nredirect = "${env:S}"\n'
    text += '[log]\naccess = "${env:S}"\n[response_headers]\nset = { "X-A" = "${env:S}" }\n'
    for secret in ("hunter22", "http://hunter22@x/", "hunter22 hunter22", "/hunter22?x", "tcp://hunter22"):
        loaded = loads(text, S=secret)
        assert loaded.settings is None
        assert len(loaded.problems) >= 5
        assert "hunter22" not in " ".join(told(loaded))


def test_text_from_the_environment_can_be_anything(tmp_path: Path) -> None:
    for value in ("\0", "\udcff", "{", "://", "é" * 5000):
        text = (
            '[[route]]\npath = "${env:S}"\nupstream = "${env:S}"\n[log]\naccess = "${env:S}"\n[server]\nstate_dir = "${env:S}"\n'
        )
        text += 'include = "${env:S}"\n[trust.a]\nca = "${env:S}"\n[upstream.b]\nendpoints = ["${env:S}", "unix:${env:S}", "http://${env:S}"]\n'
        assert load(tmp_path / "edge.toml", text=text, environ={"S": value}).problems
