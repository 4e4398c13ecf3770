"""Reading several files: includes, relative paths, and names that are defined twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings.load import Loaded, load
from tests.settings.certs import NOW
from tests.settings.conftest import CERTIFICATES, HOST, told

UP = 'upstream = "http://127.0.0.1:8000"\n'


def run(conf: Path, **files: str) -> Loaded:
    for name, text in files.items():
        path = conf / name.replace("__", "/")
        path = path.with_suffix(".toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return load(conf / "edge.toml", environ={}, now=NOW.timestamp())


def short(conf: Path, loaded: Loaded) -> list[str]:
    return [
        f"{Path(problem.file).relative_to(conf)}:{line}".replace(f"{conf}/", "")
        for problem, line in zip(loaded.problems, told(loaded), strict=True)
    ]


def test_includes_are_globs_in_order(conf: Path) -> None:
    loaded = run(
        conf,
        edge='include = "conf.d/*.toml"\n' + HOST + UP,
        conf__d="",
        **{"conf.d__b": '[[route]]\nhost = "api.example.com"\npath = "/b"\nupstream = "app"\n'},
        **{"conf.d__a": "[upstream.app]\nendpoints = 'http://a'\n[limits]\nstreams = 7\n"},
    )
    assert loaded.settings is not None, told(loaded)
    assert [Path(name).name for name in loaded.settings.files][:3] == ["edge.toml", "a.toml", "b.toml"]
    assert loaded.settings.limits.streams == 7
    assert loaded.settings.routes[1].place.file.endswith("conf.d/b.toml")
    assert loaded.settings.routes[1].place.line == 1


def test_files_are_relative_to_the_file_that_names_them(conf: Path) -> None:
    (conf / "sub").mkdir()
    for name in ("api.pem", "api.key"):
        (conf / name).rename(conf / "sub" / name)
    loaded = run(conf, edge='include = ["sub/h.toml"]\n', sub__h=HOST + UP)
    assert loaded.settings is not None, told(loaded)


def test_problems_name_the_included_file(conf: Path) -> None:
    loaded = run(
        conf, edge='include = ["a.toml", "b.toml"]\n' + HOST + UP, a="[server]\nworker = 1\n", b="[[route]]\nupstrem = 1\n"
    )
    assert [line.split(" | ")[0] for line in short(conf, loaded)] == [
        "a.toml:2:1:6 error: unknown key 'worker'",
        "b.toml:2:1:7 error: unknown key 'upstrem'",
    ]


@pytest.mark.parametrize(
    ("main", "other", "words"),
    [
        (
            "[upstream.a]\nendpoints = 'http://a'\n",
            "[upstream.a]\nendpoints = 'http://b'\n",
            "a.toml:1:1:12 error: 'upstream.a' is defined twice, first at edge.toml:2",
        ),
        (
            "[trust.m]\nca = 'ca.pem'\n",
            "[trust.m]\nsystem = true\n",
            "a.toml:1:1:9 error: 'trust.m' is defined twice, first at edge.toml:2",
        ),
        (
            "[limits]\nstreams = 1\n",
            "[limits]\nstreams = 2\n",
            "a.toml:2:1:7 error: 'limits.streams' is defined twice, first at edge.toml:3",
        ),
        ("hsts = 'none'\n", "[hsts]\n", "a.toml:1:1:6 error: 'hsts' is defined twice, first at edge.toml:2"),
        ("[limits]\nstreams = 1\n", "[limits]\nheader_count = 2\n", ""),
        (HOST, HOST, "'api.example.com' belongs to a host already, at edge.toml:3"),
    ],
)
def test_what_is_defined_twice_names_both_places(conf: Path, main: str, other: str, words: str) -> None:
    loaded = run(conf, edge="include = 'a.toml'\n" + main, a=other)
    found = [line for line in short(conf, loaded) if " error: " in line]
    assert (len(found) == 1 and words in found[0]) if words else not found, found


def test_three_files_may_share_a_table(conf: Path) -> None:
    files = {"a": "[limits]\nstreams = 2\n", "b": "[limits]\nheader_count = 3\nstreams = 4\n"}
    loaded = run(conf, edge="include = ['a.toml', 'b.toml']\n[limits]\npipelined = '1KiB'\n", **files)
    errors = [line for line in short(conf, loaded) if " error: " in line]
    assert errors == ["b.toml:3:1:7 error: 'limits.streams' is defined twice, first at a.toml:2 | keep one of them, or rename it"]


def test_includes_in_includes_and_circles(conf: Path) -> None:
    loaded = run(
        conf, edge="include = 'a.toml'\n" + HOST + UP, a="include = ['edge.toml', 'b.toml']\n", b="[limits]\nstreams = 3\n"
    )
    assert loaded.settings is not None
    assert loaded.settings.limits.streams == 3


def test_an_include_that_is_not_there(conf: Path) -> None:
    loaded = run(conf, edge="include = ['none/*.toml', 'none.toml']\n" + HOST + UP)
    assert short(conf, loaded) == ["edge.toml:1:27:11 error: none.toml cannot be read: no such file"]


def test_an_include_that_is_not_toml(conf: Path) -> None:
    loaded = run(conf, edge="include = 'a.toml'\n[[route]]\nupstream = 'in-a'\n", a="[upstream.in-a\n")
    assert [line.split(":")[0] for line in short(conf, loaded)] == ["a.toml"]
    assert loaded.settings is None


def test_the_digest_covers_every_file(conf: Path) -> None:
    def digest() -> str:
        settings = load(conf / "edge.toml", environ={}, now=NOW.timestamp()).settings
        assert settings is not None
        return settings.digest

    run(conf, edge="include = 'a.toml'\n" + HOST + UP, a="[limits]\n")
    first = digest()
    assert digest() == first
    (conf / "a.toml").write_text("[limits]\n#\n")
    second = digest()
    (conf / "api.pem").write_bytes((conf / "api.pem").read_bytes() + b"\n")
    assert len({first, second, digest()}) == 3


def test_an_empty_file_is_told_that_it_serves_nobody(conf: Path) -> None:
    loaded = run(conf, edge="")
    assert short(conf, loaded) == [
        "edge.toml:0:0:1 warning: no host is served on listener 'https' | write a [[host]] with names and certificates"
    ]
    assert CERTIFICATES


def test_the_documents_of_an_earlier_load_stand_for_what_is_on_disk(conf: Path) -> None:
    (conf / "conf_d").mkdir()
    first = run(conf, edge='include = ["conf_d/*.toml"]\n' + HOST + UP, conf_d__a="[limits]\nstreams = 7\n")
    assert first.settings is not None, told(first)
    (conf / "edge.toml").write_text("broken")
    (conf / "conf_d" / "a.toml").unlink()
    (conf / "conf_d" / "b.toml").write_text("[limits]\nstreams = 9\n")
    again = load(conf / "edge.toml", environ={}, documents=first.documents)
    assert again.settings == first.settings
    (conf / "api.key").unlink()
    assert load(conf / "edge.toml", environ={}, documents=first.documents).settings is None
