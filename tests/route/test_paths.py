"""Paths: the corpus, and what holds for all of them."""

from __future__ import annotations

import tomllib
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault, Side
from edge.route import paths
from edge.route.paths import escape_text, normalise
from tests.builders import fault_of
from tests.fuzz.fuzz_paths import check

CORPUS: list[dict[str, Any]] = tomllib.loads((File(__file__).parent.parent / "corpus" / "paths.toml").read_text())["path"]

# Mostly the characters that matter.
_ATOMS = [
    "/",
    "//",
    ".",
    "..",
    "/.",
    "/..",
    "%2e",
    "%2E",
    "%25",
    "%2f",
    "%41",
    "%3b",
    "%3A",
    "%C3",
    "%7b",
    ";",
    ";x",
    "a",
    "b1",
    "~",
    ":",
    "{",
    "|",
]
tricky = st.lists(st.sampled_from(_ATOMS), max_size=12).map(lambda atoms: ("/" + "".join(atoms)).encode())
targets = tricky | st.binary(max_size=24).map(lambda tail: b"/" + tail)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["target"] or "empty")
def test_corpus(case: dict[str, Any]) -> None:
    target = case["target"].encode()
    if "refused" in case:
        fault = fault_of(normalise, target)
        assert (fault.side, fault.kind, fault.status) == (Side.CLIENT, "bad-path", 400)
        return
    path = normalise(target)
    assert path.normal.decode() == case["normal"]
    assert path.match == case.get("match", case["normal"])
    assert path.raw == target.partition(b"?")[0]
    assert path.has_query == ("query" in case)
    assert path.query.decode() == case.get("query", "")


@given(targets)
def test_what_holds_for_every_path(target: bytes) -> None:
    check(target)


@given(st.text(alphabet="abc/", max_size=8), st.binary(max_size=8))
def test_the_query_changes_nothing_about_the_path(tail: str, query: bytes) -> None:
    target = b"/" + tail.encode()
    try:
        path = normalise(target + b"?" + query)
    except Fault:
        return
    assert (path.normal, path.match, path.raw) == (normalise(target).normal, normalise(target).match, target)
    assert path.query == query
    assert path.has_query


def test_equal_targets_share_one_result_and_the_memo_is_bounded() -> None:
    assert normalise(b"/shared/x") is normalise(b"/shared/x")
    for number in range(3000):
        normalise(b"/many/%d" % number)
    assert len(paths._memo) <= 1024
    long = b"/" + b"l" * 4000
    assert normalise(long).normal == long
    assert long not in paths._memo


def test_a_path_of_thousands_of_segments_costs_no_more_than_its_length() -> None:
    path = normalise(b"/a/%2e" * 2000)
    assert path.match == "/a" * 2000 + "/"


def test_text_of_the_settings_becomes_what_a_uri_may_hold() -> None:
    assert escape_text("/café/{x y}") == b"/caf%C3%A9/%7Bx%20y%7D"
    assert escape_text("https://[::1]/%41?a=b#c") == b"https://[::1]/%41?a=b#c"


def test_a_path_shows_itself() -> None:
    assert repr(normalise(b"/a?b")) == "<Path b'/a'?>"
