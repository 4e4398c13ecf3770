from __future__ import annotations

import json

from edge.settings.problems import Problem, Severity, nearest, quoted
from edge.settings.report import on_one_line, problems_json, render, summary
from tests.settings.conftest import HOST, Load


def problem(line: int, column: int, length: int, *, severity: Severity = Severity.ERROR, mend: str = "") -> Problem:
    return Problem(severity=severity, file="f.toml", line=line, column=column, length=length, message="wrong", mend=mend)


def test_a_problem_is_shown_with_its_line_and_a_caret(loads: Load) -> None:
    loaded = loads(HOST + 'upstrem = "http://127.0.0.1:8000"\n')
    name = loaded.problems[0].file
    assert render(loaded.problems, loaded.texts) == (
        f"{name}:4:1: error: unknown key 'upstrem'\n    upstrem = \"http://127.0.0.1:8000\"\n    ^~~~~~~\n  write 'upstream'\n"
    )


def test_carets_stand_under_what_they_mean() -> None:
    text = {"f.toml": '\tx = "é"\n日本 = 1\n' + "a" * 300 + " = 12\n"}
    assert render([problem(1, 6, 3)], text).split("\n")[1:3] == ['     x = "é"', "         ^~~"]
    assert render([problem(2, 6, 1)], text).split("\n")[1:3] == ["    日本 = 1", "           ^"]
    line, caret = render([problem(3, 304, 2)], text).split("\n")[1:3]
    assert line[caret.index("^") :] == "12"
    assert caret.endswith("^~")
    assert len(line) < 170


def test_without_a_place_only_the_message_is_shown() -> None:
    assert render([problem(0, 0, 1, mend="do")], {"f.toml": "x"}) == "f.toml: error: wrong\n  do\n"
    assert render([problem(9, 1, 1)], {"f.toml": "x"}) == "f.toml:9:1: error: wrong\n"
    assert render([], {}) == ""


def test_control_characters_never_reach_a_terminal() -> None:
    bad = Problem(severity=Severity.ERROR, file="f\x1b", line=1, column=1, length=1, message="a\x1b[31m", mend="\x07")
    shown = render([bad], {"f\x1b": "x\x1b]0;t\x07 = 1"})
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_colour_only_when_asked_for() -> None:
    assert "\x1b[1;31merror\x1b[0m" in render([problem(1, 1, 1)], {"f.toml": "x"}, colour=True)


def test_json() -> None:
    shown = problems_json([problem(1, 2, 3, mend="m")])
    assert json.loads(json.dumps(shown)) == {
        "version": 1,
        "problems": [
            {"severity": "error", "file": "f.toml", "line": 1, "column": 2, "length": 3, "message": "wrong", "mend": "m"},
        ],
    }


def test_on_one_line() -> None:
    problems = [problem(2, 1, 1, mend="write it"), problem(3, 1, 1)]
    text = render(problems, {"f.toml": "a\nb = 1\nc = 2\n"})
    assert text.count("\n") > 4
    assert on_one_line(text) == "f.toml:2:1: error: wrong (write it); f.toml:3:1: error: wrong"
    assert on_one_line("a worker did not answer") == "a worker did not answer"
    assert on_one_line("") == ""


def test_summary() -> None:
    errors = [problem(1, 1, 1)] * 2
    assert summary([*errors, problem(1, 1, 1, severity=Severity.WARNING)]) == "2 errors, 1 warning"
    assert summary([problem(1, 1, 1, severity=Severity.NOTE)]) == ""


def test_words() -> None:
    assert quoted(["a"]) == '"a"'
    assert quoted(["a", "b", "c"]) == '"a", "b" or "c"'
    assert nearest("upstrem", ["upstream", "route"]) == "upstream"
    assert nearest("zzz", ["upstream"]) == ""
