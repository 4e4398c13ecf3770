"""The settings of stapling, and what certificates say about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.difference import compare
from edge.settings.load import load
from edge.settings.model import Settings
from edge.settings.ocsp import stapled
from edge.settings.outline import outline
from tests.authority import Authority

CA = Authority()
URL = "http://ocsp.test/"


def _load(folder: Path, ocsp: str, **leaf: object) -> tuple[Settings | None, list[str]]:
    issued = CA.leaf("a.test", **leaf)  # type: ignore[arg-type]
    host = f'[[host]]\nnames = ["a.test"]\ncertificates = [{issued.write(folder, "leaf")}]\nupstream = "http://127.0.0.1:1"\n'
    found = load(folder / "edge.toml", text=f"{host}[ocsp]\n{ocsp}\n", environ={})
    return found.settings, [problem.message for problem in found.problems]


def test_what_a_certificate_says_is_read(tmp_path: Path) -> None:
    found, problems = _load(tmp_path, "", responders=("ldap://x/", URL, "https://b.test/o", URL), must_staple=True)
    assert found is not None
    assert problems == []
    (one,) = stapled(found).values()
    assert one.responders == (URL, "https://b.test/o")
    assert one.certificate.staple == "alert"
    assert one.hosts == ("a.test",)


def test_the_settings_go_before_what_it_says(tmp_path: Path) -> None:
    ocsp = 'responder = "http://mine.test/x"\nmust_staple = "refuse"\nproxy = "http://u:p@proxy.test:3128"\ntimeout = "2s"'
    found, problems = _load(tmp_path, ocsp, responders=(URL,), must_staple=True)
    assert found is not None
    assert problems == []
    (one,) = stapled(found).values()
    assert one.responders == ("http://mine.test/x",)
    assert one.certificate.staple == "refuse"
    assert found.ocsp.timeout == 2.0
    assert "u:p" not in str(outline(found)) + repr(found.ocsp)


def test_off_means_off(tmp_path: Path) -> None:
    found, problems = _load(tmp_path, 'stapling = "off"', responders=(URL,), must_staple=True)
    assert found is not None
    assert stapled(found) == {}
    assert ["Must-Staple" in text for text in problems] == [True]


@pytest.mark.parametrize(
    ("ocsp", "words"),
    [
        ('responder = "ocsp.test"', "is not a URL that can be asked"),
        ('responder = "ftp://ocsp.test/"', "is not a URL that can be asked"),
        ('responder = "http://user@ocsp.test/"', "with a user in it"),
        ('proxy = "socks5://proxy.test:1"', "is not a URL that can be asked"),
        ('proxy = "http://proxy.test:99999"', "is not a URL that can be asked"),
        ('timeout = "5m"', "between 100ms and 60s"),
        ('stapling = "off"\nmust_staple = "refuse"', 'with stapling = "off"'),
        ('stapling = "on"', "not possible"),
    ],
)
def test_what_cannot_be_is_said(ocsp: str, words: str, tmp_path: Path) -> None:
    found, problems = _load(tmp_path, ocsp)
    assert found is None
    assert len(problems) == 1
    assert words in problems[0]


def test_what_takes_protection_away_is_told_first(tmp_path: Path) -> None:
    strict, _ = _load(tmp_path, 'must_staple = "refuse"', responders=(URL,), must_staple=True)
    lax, _ = _load(tmp_path, 'stapling = "off"\nproxy = "http://proxy.test:1"')
    assert strict is not None
    assert lax is not None
    changes = compare(outline(strict), outline(lax))
    assert {change.kind for change in changes if change.weaker} == {"ocsp.stapling", "ocsp.must_staple"}
    assert "ocsp.proxy" in {change.kind for change in changes if not change.weaker}
    assert not any(change.weaker for change in compare(outline(lax), outline(strict)))
