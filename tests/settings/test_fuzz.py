"""Whatever a file holds, `load` returns settings or problems, and never raises."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge.settings.effective import effective
from edge.settings.load import load
from edge.settings.manual import example_toml, toml
from edge.settings.report import problems_json, render
from edge.settings.schema import whole_schema

DEFINITIONS = whole_schema()["$defs"]
KEYS = sorted({name for definition in DEFINITIONS.values() for name in definition["properties"]})
EXAMPLE = re.sub(r"(?m)^#(?=[\[a-z])", "", re.sub(r"(?m)^# .*\n", "", example_toml()))
LINES = EXAMPLE.split("\n")
PLAIN = [
    "off", "on", "none", "0", "10s", "8KiB", "20%", "500B/s", "", "/", "/a/{b}", "a.example", "*.a.example", "http://a", "https://[::1]:1",
    "tcp://a", "unix:/x", ":443", "require", "system", "app", "${env:X}", "${", "../x", "\0", "é", "refuse", "\U0001f600",
]  # fmt: skip
scalars = st.one_of(
    st.sampled_from(PLAIN),
    st.integers(-3, 2**70),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
trees = st.dictionaries(
    st.one_of(st.sampled_from(sorted(DEFINITIONS["File"]["properties"])), st.sampled_from(KEYS)), values, max_size=6
)


def check(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        loaded = load(Path(directory) / "edge.toml", text=text, environ={"X": "from-elsewhere"}, now=0.0)
    assert (loaded.settings is None) == bool(loaded.errors)
    shown = render(loaded.problems, loaded.texts)
    assert "from-elsewhere" not in shown
    assert problems_json(loaded.problems)["version"] == 1
    assert all(problem.message for problem in loaded.problems)
    if loaded.settings is not None:
        assert "from-elsewhere" not in repr(effective(loaded))


@given(trees)
def test_any_tree(tree: dict[str, object]) -> None:
    check("\n".join(f"{key} = {toml(value)}" for key, value in tree.items()))


@given(st.sampled_from(sorted(DEFINITIONS["File"]["properties"])), st.data())
def test_any_value_for_any_key(section: str, data: st.DataObject) -> None:
    node = DEFINITIONS["File"]["properties"][section]
    reference = re.search(r"#/\$defs/(\w+)", str(node))
    names = sorted(DEFINITIONS[reference[1]]["properties"]) if reference is not None else ["x"]
    table = data.draw(st.dictionaries(st.sampled_from(names), values, max_size=5))
    header = (
        f"[[{section}]]"
        if node.get("type") == "array"
        else f"[{section}.app]"
        if "additionalProperties" in node
        else f"[{section}]"
    )
    check(header + "\n" + "\n".join(f"{key} = {toml(value)}" for key, value in table.items()))


@given(
    st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.sampled_from(["drop", "double", "swap", "value"]), values), max_size=6)
)
def test_the_example_changed(changes: list[tuple[int, str, object]]) -> None:
    lines = list(LINES)
    for index, how, value in changes:
        if how == "drop":
            lines[index] = ""
        elif how == "double":
            lines[index] += "\n" + lines[index]
        elif how == "swap":
            lines[index], lines[0] = lines[0], lines[index]
        elif " = " in lines[index]:
            lines[index] = f"{lines[index].split(' = ')[0]} = {toml(value)}"
    check("\n".join(lines))


@given(st.text(alphabet="[]{}=\"'\\#\n\r\t ,.ab01-_é\0", max_size=80))
def test_any_text(text: str) -> None:
    check(text)


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "edge.toml"
        path.write_bytes(data)
        loaded = load(path, environ={})
        render(loaded.problems, loaded.texts)
