"""Paths: the corpus, and what holds for all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault, Side
from edge.route import paths
from edge.route.paths import Path, escape_text, normalise
from tests.builders import fault_of

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


def parse(target: bytes) -> Path | None:
    try:
        return normalise(target)
    except Fault:
        return None


@given(targets)
def test_the_normal_form_is_its_own_normal_form(target: bytes) -> None:
    path = parse(target)
    if path is None:
        return
    again = normalise(path.normal)
    assert again.normal == path.normal
    assert again.match == path.match


@given(targets)
def test_what_is_matched_and_what_is_sent_hide_nothing(target: bytes) -> None:
    path = parse(target)
    if path is None:
        return
    assert path.normal.startswith(b"/")
    assert re.fullmatch(rb"[A-Za-z0-9._~!$&'()*+,;=:@/%-]+", path.normal)
    assert not {b".", b".."} & set(path.normal.split(b"/"))
    assert not re.search(rb"%(2[Ff]|5[Cc]|00|2[DdEe]|[46][1-9A-Fa-f]|[57][0-9Aa]|3[0-9]|7[Ee]|5[Ff])", path.normal)
    assert "//" not in path.match
    assert path.match.startswith("/")
    assert not {".", ".."} & {part.partition(";")[0] for part in path.match.split("/")}
    assert len([part for part in path.normal.split(b"/") if part]) == len([part for part in path.match.split("/") if part])


@given(targets)
def test_a_second_decoding_finds_no_new_structure(target: bytes) -> None:
    path = parse(target)
    if path is None:
        return
    twice = re.sub(rb"%25([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), path.normal)
    for special in (b".", b"/", b"\\", b"\x00", b"?", b"#", b";"):
        assert twice.count(special) == path.normal.count(special)


@given(st.text(alphabet="abc/", max_size=8), st.binary(max_size=8))
def test_the_query_changes_nothing_about_the_path(tail: str, query: bytes) -> None:
    target = b"/" + tail.encode()
    path = parse(target + b"?" + query)
    if path is not None:
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
