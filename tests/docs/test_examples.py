"""What the documents show works: every settings example loads, every command is one that there is."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from edge.cli.catalogue import COMMANDS
from edge.cli.main import main
from edge.cli.parser import build
from edge.settings.load import load
from tests.docs.examples import FILES, PAGES, ROOT, blocks, loadable

TOML = list(blocks("toml"))
COMMAND_LINES = [
    (where, line.removeprefix("$ "))
    for where, text in blocks("console")
    for line in text.splitlines()
    if line.startswith("$ edge")
]
SHORTEST = TOML[0][1]


@pytest.mark.parametrize(("where", "text"), TOML, ids=[where for where, _ in TOML])
def test_every_example_loads_without_a_word(where: str, text: str, tmp_path: Path) -> None:
    loaded = load(tmp_path / "edge.toml", text=loadable(text, tmp_path), environ={})
    assert [f"{problem.line}: {problem.message}" for problem in loaded.problems] == []
    assert loaded.settings is not None


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_every_shipped_file_loads(file: Path, tmp_path: Path) -> None:
    text = loadable(file.read_text(encoding="utf-8"), tmp_path)
    loaded = load(tmp_path / file.name, text=text, environ={"HOME": str(tmp_path)})
    # the user "edge" need not exist where the tests run
    assert [problem.message for problem in loaded.problems if "user" not in problem.message] == []


def test_the_shortest_file_has_four_lines() -> None:
    assert len(SHORTEST.splitlines()) == 4
    assert TOML[0][0].startswith("README.md")


@pytest.mark.parametrize(("where", "line"), COMMAND_LINES, ids=[f"{where} {line}" for where, line in COMMAND_LINES])
def test_every_command_is_one_that_there_is(where: str, line: str) -> None:
    words = shlex.split(line.partition(" > ")[0].partition(" | ")[0])[1:]
    if words[0] != "bench":
        _, unknown = build().parse_known_args(words)
        assert unknown == []


def _feasible(line: str) -> bool:
    return (
        line.split()[1] in ("check", "routes", "explain", "init", "schema", "completion", "help", "--version")
        and "systemctl" not in line
    )


@pytest.mark.parametrize(
    ("where", "line"), [one for one in COMMAND_LINES if _feasible(one[1])], ids=lambda value: value if " " in value else None
)
def test_commands_that_only_look_or_write_a_file_do_it(
    where: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").mkdir()
    text = loadable(SHORTEST, tmp_path / "made")
    (tmp_path / "api.pem").write_bytes((tmp_path / "made" / "1.pem").read_bytes())
    (tmp_path / "api.key").touch(mode=0o600)
    (tmp_path / "api.key").write_bytes((tmp_path / "made" / "1.key").read_bytes())
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition(" > ")[0].partition(" | ")[0])[1:]
    if words[0] != "init":
        (tmp_path / "edge.toml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("EDGE_CONFIG", "edge.toml")
    assert main(words) == 0, capsys.readouterr().err


def test_the_readme_lists_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert re.search(rf"^\| `edge {command.name}\b[^|]*\|", text, re.MULTILINE), command.name


@pytest.mark.parametrize("page", [*PAGES, ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_links_and_named_topics_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    topics = {path.stem for path in (ROOT / "edge" / "manual").glob("*.md")}
    for topic in re.findall(r"`edge help (\w+)(?![\w-])", text):
        assert topic in topics | {"TOPIC", "keys"}, topic


def test_nothing_says_pip_install_edge() -> None:
    for page in PAGES:
        assert not re.search(r"pip install edge\b", page.read_text(encoding="utf-8")), page


def test_no_page_names_a_place_of_the_machine_that_it_was_written_on() -> None:
    home = os.path.expanduser("~")
    for page in [*PAGES, *FILES]:
        assert home + "/" not in page.read_text(encoding="utf-8")
