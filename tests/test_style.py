"""House rules that a linter does not know, and that what is packaged is what is there."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 600
CODE = sorted(path for top in ("edge", "bench") for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_is_not_too_long(path: Path) -> None:
    text = path.read_text()
    if not text.strip():
        assert path.name == "__init__.py"
        return
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert text.count("\n") <= MOST_LINES
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)


def packages() -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return [line for line in config["options"]["packages"].split("\n") if line]


def test_every_package_is_installed() -> None:
    found = {"edge", "edge.bench", "edge.config", "edge.manual"}
    for top, name in (("edge", "edge"), ("bench", "edge.bench")):
        for path in (ROOT / top).rglob("*.py"):
            found.add(".".join((name, *path.relative_to(ROOT / top).parts[:-1])))
    assert sorted(packages()) == sorted(found)


def test_every_data_file_is_installed() -> None:
    config = configparser.ConfigParser()
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(ROOT / "setup.cfg")
    folders = {"edge.bench": ROOT / "bench", "edge.config": ROOT / "config", "edge": ROOT / "edge"}
    packed: set[Path] = set()
    for package, line in config["options.package_data"].items():
        folder = folders.get(package) or ROOT / Path(*package.split("."))
        for pattern in line.split(","):
            packed.update(folder.glob(pattern.strip()))
    data = {
        path
        for folder in (ROOT / "edge", ROOT / "bench", ROOT / "config")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert sorted(str(path.relative_to(ROOT)) for path in data - packed) == []
