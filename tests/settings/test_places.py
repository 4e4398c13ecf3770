from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.settings.places import Places
from edge.settings.problems import Path, Span

TEXT = '''\
include = ["a", "b"]
a."b c".d = 1
[server]
workers = 3 # é
[[host]]
names = ["é", "y"]
headers = { set = { "X-Y" = "v" }, "q".r = 2 }
[host.client_auth]
mode = "r"
[[host]]
text = """
abc"""
when = 1979-05-27
[upstream."a.b"]
endpoints = [{ url = "x" }, 5,
 ]
[[host.deep]]
x = 1
'''


def spot(span: Span) -> tuple[int, int, int]:
    return span.line, span.column, span.length


def test_keys_and_values_are_found() -> None:
    places = Places("f", TEXT)
    assert spot(places.key(("include",))) == (1, 1, 7)
    assert spot(places.value(("include", 1))) == (1, 17, 3)
    assert spot(places.key(("a", "b c"))) == (2, 3, 5)
    assert spot(places.key(("a", "b c", "d"))) == (2, 9, 1)
    assert spot(places.value(("server", "workers"))) == (4, 11, 1)
    assert spot(places.key(("server",))) == (3, 1, 8)


def test_arrays_of_tables_count_their_elements() -> None:
    places = Places("f", TEXT)
    assert spot(places.key(("host", 0))) == (5, 1, 8)
    assert spot(places.key(("host", 1))) == (10, 1, 8)
    assert spot(places.key(("host", 0, "client_auth", "mode"))) == (9, 1, 4)
    assert spot(places.key(("host", 1, "deep", 0, "x"))) == (18, 1, 1)


def test_columns_count_characters_not_bytes() -> None:
    places = Places("f", TEXT)
    assert spot(places.value(("host", 0, "names", 0))) == (6, 10, 3)
    assert spot(places.value(("host", 0, "names", 1))) == (6, 15, 3)


def test_inline_tables_and_quoted_keys() -> None:
    places = Places("f", TEXT)
    assert spot(places.value(("host", 0, "headers", "set", "X-Y"))) == (7, 29, 3)
    assert spot(places.key(("host", 0, "headers", "q", "r"))) == (7, 40, 1)
    assert spot(places.key(("upstream", "a.b"))) == (14, 1, 16)
    assert spot(places.value(("upstream", "a.b", "endpoints", 0, "url"))) == (15, 22, 3)
    assert spot(places.value(("upstream", "a.b", "endpoints", 1))) == (15, 29, 1)


def test_a_value_of_several_lines_is_marked_on_its_first() -> None:
    assert spot(Places("f", TEXT).value(("host", 1, "text"))) == (11, 8, 3)


def test_what_is_not_known_has_the_place_of_what_holds_it() -> None:
    places = Places("f", TEXT)
    assert spot(places.value(("host", 0, "names", 7))) == spot(places.key(("host", 0, "names")))
    assert spot(places.key(("nothing", "here"))) == (0, 0, 1)


def test_keys_written_twice_are_found() -> None:
    places = Places("f", "a = 1\na = 2\n[t]\n[t]\n[h]\nx = {y = 1}\n[h.x]\n")
    assert [(twice.path, twice.first.line, twice.second.line, twice.mixed) for twice in places.twice] == [
        (("a",), 1, 2, False),
        (("t",), 3, 4, False),
        (("h", "x"), 6, 7, True),
    ]


def paths(value: Any, path: Path = ()) -> list[Path]:
    found: list[Path] = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, (*path, index))
    return found


def test_every_path_that_tomllib_sees_has_a_place() -> None:
    places = Places("f", TEXT)
    for path in paths(tomllib.loads(TEXT))[1:]:
        assert places.key(path).line > 0
        assert places.value(path).line > 0


@given(st.text(alphabet="ab.[]{}=\"'\\#\n 1,é\t-", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    places = Places("f", text)
    places.key(("a", "b", 0))
    places.value(("a",))
