"""Two judges of one shape: the quick one (msgspec) must never let through what the one that explains (the schema) refuses."""

from __future__ import annotations

import copy
import datetime
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.settings.schema import fits, validator

ROOT = Path(__file__).parents[2]
_FILES = sorted(path for path in (ROOT / "config").rglob("*.toml"))
_ODD: list[object] = [
    "", "x", "off", "on", "30s", "30s\n", "\n30s", "8KiB\n", "off\n", "20%\n", "３０s", 0, 1, -1, 2.0, 1.5,
    float("inf"), float("nan"),
    True, False, 1 << 70, [], [[]], ["x"], ["x\n"], [1], {}, {"x": 1}, [{}], datetime.date(2026, 1, 1), datetime.time(1), None,
]  # fmt: skip


def _places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, (*path, index))


def _changed(tree: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    node: Any = tree
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return tree


def _agree(tree: dict[str, Any]) -> None:
    if fits(tree):
        assert validator().is_valid(tree)


@pytest.mark.parametrize("file", _FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_quick_judge_accepts_nothing_that_the_other_refuses(file: Path) -> None:
    tree = tomllib.loads(file.read_text())
    assert fits(tree) == validator().is_valid(tree)
    for path in _places(tree):
        for value in _ODD:
            _agree(_changed(tree, path, value))
        if isinstance(path[-1], str):
            _agree(_changed(tree, (*path[:-1], path[-1] + "x"), 1))


def test_an_unknown_key_and_a_missing_one_are_seen() -> None:
    assert fits({})
    assert not fits({"sever": {}})
    assert not fits({"host": [{}]})
