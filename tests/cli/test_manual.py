"""`edge help`: every page can be found, read plainly and read on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from edge.cli import manual, terminal
from edge.cli.main import main
from edge.settings.schema import whole_schema


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_list_names_every_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    out = capsys.readouterr().out
    for name, title in manual.topics().items():
        assert f"  {name} " in out
        assert title in out


def test_every_page_has_its_place() -> None:
    assert list(manual.topics()) == list(manual._ORDER)


@pytest.mark.parametrize("topic", list(manual.topics()))
def test_off_a_terminal_a_page_is_its_markdown(capsys: pytest.CaptureFixture[str], topic: str) -> None:
    assert main(["help", topic]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# ")
    assert "\x1b" not in out


@pytest.mark.parametrize("topic", list(manual.topics()))
def test_on_a_terminal_a_page_is_rendered(monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("PAGER", "cat >/dev/null")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(terminal, "page", screen.write)
    monkeypatch.setattr(manual, "page", screen.write)
    assert main(["help", topic]) == 0
    assert "\x1b[" in screen.getvalue()
    assert "```" not in screen.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(manual, "page", screen.write)
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["help", "start"]) == 0
    assert "\x1b[3" not in screen.getvalue()


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("rooting", "Did you mean: edge help routing"),
        ("certficates", "Did you mean: edge help certificates"),
        ("qqqq", "Pages: start"),
    ],
)
def test_an_unknown_page_suggests_one(capsys: pytest.CaptureFixture[str], topic: str, says: str) -> None:
    assert main(["help", topic]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("topic", [*manual._MEANT, "START", "routing.md"])
def test_other_names_of_pages_are_known(capsys: pytest.CaptureFixture[str], topic: str) -> None:
    assert main(["help", topic]) == 0
    assert capsys.readouterr().out.startswith("# ")


def test_a_commands_name_shows_its_own_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "explain"]) == 0
    assert "usage: edge explain" in capsys.readouterr().out


def test_a_kind_of_fault_is_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "body-too-large"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "body-too-large",
        "  answer: 413",
        "  limit: limits.request_body",
    ]


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("request_body", ["request_body in [limits]", 'size or "off" (default: "10MiB")', "more answers 413"]),
        ("limits.request_body", ["request_body in [limits]"]),
        ("[route.limits].request_body", ["request_body in [limits]"]),
        ("client_auth", ["client_auth at the top of the file", "client_auth in [[host]]", "client_auth in [[route]]"]),
        ("host.client_auth.mode", ["mode in [client_auth]"]),
        ("upstream.health", ["health in [upstream.NAME]"]),
        ("upstream.NAME.tls.verify", ["verify in [upstream_tls]"]),
        ("timeout", ["answer: 504", "timeout in [[route]]"]),
    ],
)
def test_a_key_is_a_topic(topic: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in words), said
    assert said.count("All of them: edge help keys\n") == 1


def test_every_key_is_a_topic(capsys: pytest.CaptureFixture[str]) -> None:
    for definition in whole_schema()["$defs"].values():
        for key in definition.get("properties", {}):
            assert main(["help", key]) == 0
    assert main(["help", "limits.request_boddy"]) == 2
    assert "Did you mean: edge help request_body" in capsys.readouterr().err
