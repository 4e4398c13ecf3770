"""What a reload does first: problems are found before any worker hears of the settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.process.rehearsal import Origin, rehearse
from edge.settings.load import Loaded, load
from edge.settings.model import Settings, UpstreamTls
from edge.tls import rehearsal as of_hosts
from tests.e2e.pki import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Rehearsal:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "edge.toml"

    def read(self, *_: object) -> Loaded:
        return load(self.path, environ={})

    def settings(self, toml: str) -> Settings:
        self.path.write_text(toml)
        loaded = self.read()
        assert loaded.settings is not None, loaded.problems
        return loaded.settings

    @property
    def origin(self) -> Origin:
        return Origin(str(self.path), self.read)


def test_what_passes_comes_back(tmp_path: Path, pki: Pki) -> None:
    rehearsal = Rehearsal(tmp_path)
    current = rehearsal.settings(pki.host("http://127.0.0.1:8000"))
    wanted = rehearsal.settings(
        pki.host("http://127.0.0.1:8000", leaf=pki.localhost_rsa) + pki.host("https://a.test", name="open.test", leaf=pki.open)
    )
    found = rehearse(rehearsal.origin, current)
    assert (found.error, found.problems) == ("", ())
    assert found.settings == wanted


def test_what_did_not_change_is_not_tried_again(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = Rehearsal(tmp_path)
    tried: list[tuple[str, ...]] = []
    inner = of_hosts.rehearse
    monkeypatch.setattr(
        "edge.process.rehearsal.rehearse_host", lambda table, host: (tried.append(host.names), inner(table, host))[1]
    )
    text = pki.host("http://127.0.0.1:8000")
    current = rehearsal.settings(text)
    rehearsal.settings("# moved\n" + text + pki.host(name="open.test", leaf=pki.open, upstream="http://127.0.0.1:8000"))
    assert rehearse(rehearsal.origin, current).error == ""
    assert tried == [("open.test",)]


def test_mistakes_are_told_with_their_place(tmp_path: Path, pki: Pki) -> None:
    rehearsal = Rehearsal(tmp_path)
    current = rehearsal.settings(pki.host("http://127.0.0.1:8000"))
    rehearsal.path.write_text(pki.host("http://127.0.0.1:8000") + 'upstrem = "x"\n')
    found = rehearse(rehearsal.origin, current)
    assert found.error == "invalid-settings"
    assert found.settings is None
    assert "edge.toml:5:1" in found.problems[0]
    assert "^" in found.problems[0]


def test_an_upstream_that_cannot_be_verified_is_a_failure(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = Rehearsal(tmp_path)
    current = rehearsal.settings(pki.host("http://127.0.0.1:8000"))
    rehearsal.settings(pki.host("https://a.test"))

    def broken(*_: object) -> Loaded:
        loaded = rehearsal.read()
        assert loaded.settings is not None
        (route,) = loaded.settings.routes
        tls = route.targets[0].upstream.tls
        assert isinstance(tls, UpstreamTls)
        upstream = replace(route.targets[0].upstream, tls=replace(tls, trust=replace(tls.trust, system=False, ca_pem=b"nothing")))
        settings = replace(loaded.settings, routes=(replace(route, targets=(replace(route.targets[0], upstream=upstream),)),))
        return replace(loaded, settings=settings)

    found = rehearse(Origin(str(rehearsal.path), broken), current)
    assert found.error == "rehearsal-failed"
    assert "a trust store without a certificate" in found.problems[0]
