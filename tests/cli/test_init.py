"""`edge init`: what it writes passes `edge check`, and nothing that is there is touched."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from edge.cli.main import main
from edge.settings.load import load
from edge.settings.model import ClientAuthMode
from tests.docs.examples import Pki

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pki:
    """A CA, and api.pem with its key, in the current folder; a state directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_CONFIG", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "pki").mkdir()
    made = Pki(tmp_path / "pki")
    chain, key = made.leaf(["api.example.com", "*.example.com"])
    chain.rename("api.pem")
    key.rename("api.key")
    return made


ARGUMENTS = ["init", "api.example.com", "--to", "http://127.0.0.1:8000", "--cert", "api.pem", "--key", "api.key"]


@pytest.mark.usefixtures("pki")
def test_it_writes_a_file_that_passes_check(capsys: Capture) -> None:
    assert main(ARGUMENTS) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["Wrote edge.toml.", "Next: edge check && edge run"]
    assert main(["check", "--strict", "edge.toml"]) == 0
    settings = load("edge.toml", environ={}).settings
    assert settings is not None
    assert settings.hosts[0].names == ("api.example.com",)
    assert [address.port for address in settings.listeners[0].addresses] == [8443, 8443]
    assert settings.routes[0].targets[0].upstream.endpoints[0].url == "http://127.0.0.1:8000"


@pytest.mark.usefixtures("pki")
def test_it_never_overwrites(capsys: Capture) -> None:
    Path("edge.toml").write_text("mine", encoding="utf-8")
    assert main(ARGUMENTS) == 1
    assert "edge.toml exists already" in capsys.readouterr().err
    assert Path("edge.toml").read_text(encoding="utf-8") == "mine"
    Path("link.toml").symlink_to("nowhere")
    assert main([*ARGUMENTS, "-o", "link.toml"]) == 1
    Path("edge.service").write_text("mine", encoding="utf-8")
    assert main([*ARGUMENTS, "--systemd", "-o", "other.toml"]) == 1
    assert not Path("other.toml").exists()


@pytest.mark.usefixtures("pki")
def test_to_stdout(capsys: Capture) -> None:
    assert main([*ARGUMENTS, "-o", "-"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert load("edge.toml", text=captured.out, environ={}).problems == ()
    assert not Path("edge.toml").exists()


@pytest.mark.usefixtures("pki")
def test_as_root_the_usual_ports(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main([*ARGUMENTS, "-o", "root.toml"]) == 0
    assert "Next: edge check --config root.toml && edge run --config root.toml" in capsys.readouterr().err
    settings = load("root.toml", environ={}).settings
    assert settings is not None
    assert [listener.addresses[0].port for listener in settings.listeners] == [443, 80]


def test_client_certificates(pki: Pki) -> None:
    assert main([*ARGUMENTS, "--mtls", str(pki.ca)]) == 0
    settings = load("edge.toml", environ={}).settings
    assert settings is not None
    assert settings.hosts[0].client_auth.mode is ClientAuthMode.REQUIRE


@pytest.mark.usefixtures("pki")
@pytest.mark.parametrize("known", [True, False])
def test_with_a_unit_for_systemd(monkeypatch: pytest.MonkeyPatch, capsys: Capture, known: bool) -> None:
    def getpwnam(name: str) -> object:
        if not known:
            raise KeyError(name)
        return object()

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    assert main([*ARGUMENTS, "--systemd"]) == 0
    unit = Path("edge.service").read_text(encoding="utf-8")
    assert f"run --config {Path('edge.toml').absolute()}" in unit
    assert "/etc/edge/edge.toml" not in unit
    assert "/usr/bin/env" not in unit
    text = Path("edge.toml").read_text(encoding="utf-8")
    assert ('\nuser = "edge"' in text) is known
    assert load("edge.toml", environ={}).errors == ()
    assert "edge help deploying" in capsys.readouterr().err


@pytest.mark.usefixtures("pki")
def test_without_a_certificate_one_for_development(tmp_path: Path, capsys: Capture) -> None:
    assert main(["init", "api.example.com", "--to", "8000"]) == 0
    err = capsys.readouterr().err
    assert "only this machine trusts" in err
    ca = tmp_path / "state" / "edge" / "dev" / "ca.pem"
    assert str(ca) in err
    assert stat.S_IMODE((ca.parent / "ca.key").stat().st_mode) == 0o600
    assert main(["check", "edge.toml"]) == 0
    settings = load("edge.toml", environ={}).settings
    assert settings is not None
    assert settings.routes[0].targets[0].upstream.endpoints[0].url == "http://127.0.0.1:8000"


@pytest.mark.usefixtures("pki")
def test_certbots_certificate_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    live = tmp_path / "live" / "api.example.com"
    live.mkdir(parents=True)
    Path("api.pem").rename(live / "fullchain.pem")
    Path("api.key").rename(live / "privkey.pem")
    monkeypatch.setattr("edge.cli.init._CERTBOT", tmp_path / "live")
    assert main(["init", "api.example.com", "--to", "8000"]) == 0
    assert "certbot's" in capsys.readouterr().err
    assert load("edge.toml", environ={}).problems == ()


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("8000", "http://127.0.0.1:8000"),
        ("app:8000", "http://app:8000"),
        ("https://app.internal", "https://app.internal"),
        ("h2c://[::1]:50051", "h2c://[::1]:50051"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
    ],
)
@pytest.mark.usefixtures("pki")
def test_forms_of_the_upstream(to: str, url: str) -> None:
    assert main([*ARGUMENTS[:3], to, *ARGUMENTS[4:]]) == 0
    settings = load("edge.toml", environ={}).settings
    assert settings is not None
    assert settings.routes[0].targets[0].upstream.endpoints[0].url == url


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--acme", "me@example.com"], "--acme is not in this version"),
        (["-o", "-", "--systemd"], "--systemd writes edge.service beside the file"),
    ],
)
@pytest.mark.usefixtures("pki")
def test_wrong_options(changes: list[str], says: str, capsys: Capture) -> None:
    assert main([*ARGUMENTS, *changes]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["init", "api.example.com"], "required: --to"),
        (["init", "https://api.example.com/x", "--to", "8000"], "Write: api.example.com"),
        (["init", "bad name", "--to", "8000"], "is not a host name"),
        (["init", "a\x1b[1m.example", "--to", "8000"], "is not a host name"),
        (["init", "api.example.com", "--to", "ftp://x"], "the scheme has to be"),
        (["init", "api.example.com", "--to", "http://x:99999"], "is not a URL"),
        (["init", "api.example.com", "--to", "http://x/path"], "has a path"),
        (["init", "api.example.com", "--to", "8000", "--cert", "api.pem"], "--cert and --key belong together"),
    ],
)
@pytest.mark.usefixtures("pki")
def test_wrong_arguments(arguments: list[str], says: str, capsys: Capture) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not Path("edge.toml").exists()


def test_a_key_that_does_not_belong_is_told_before_anything_is_written(pki: Pki, capsys: Capture) -> None:
    _, other = pki.leaf(["api.example.com"])
    assert main([*ARGUMENTS[:-1], str(other)]) == 1
    assert "the key does not belong to the certificate" in capsys.readouterr().err
    assert not Path("edge.toml").exists()


@pytest.mark.usefixtures("pki")
def test_a_folder_that_may_not_be_written(capsys: Capture) -> None:
    assert main([*ARGUMENTS, "-o", "absent/edge.toml"]) == 2
    assert "absent/edge.toml" in capsys.readouterr().err
