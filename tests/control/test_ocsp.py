"""When answers are asked for again, and how a question travels; fetching itself is tested end to end."""

from __future__ import annotations

import base64
from urllib.parse import unquote

import pytest

from edge.control.ocsp import _pause, _ways, refresh_in
from edge.tls.ocsp import Answer

DAY = 86_400.0


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_half_of_the_window_give_or_take_a_twentieth(chance: float) -> None:
    answer = Answer(b"", 0.0, 8 * DAY)
    assert refresh_in(answer, 0.0, chance) == pytest.approx(4 * DAY + (chance - 0.5) * 0.8 * DAY)


def test_an_answer_that_is_past_half_when_it_comes_is_not_asked_for_again_at_once() -> None:
    assert refresh_in(Answer(b"", 0.0, 8 * DAY), 6 * DAY, 0.5) == 3600.0
    assert refresh_in(Answer(b"", 0.0, 8 * DAY), 8 * DAY - 600, 0.5) == 300.0
    assert refresh_in(Answer(b"", 0.0, 10.0), 9.9, 0.5) == 1.0


def test_what_was_kept_over_a_restart_and_is_past_half_is_asked_for_soon() -> None:
    assert refresh_in(Answer(b"", 0.0, 8 * DAY), 6 * DAY, 0.5, just_fetched=False) == 1.0


def test_pauses_double_up_to_ten_minutes() -> None:
    assert [_pause(failures, 0.5) for failures in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert _pause(1000, 0.5) == 600.0
    assert _pause(1, 0.0) == 0.75


def test_short_questions_go_by_get_first() -> None:
    (short, body), (url, posted) = _ways("http://ocsp.test/x/", b"\xfb\xff" * 30)
    assert (body, url, posted) == (None, "http://ocsp.test/x/", b"\xfb\xff" * 30)
    assert short.startswith("http://ocsp.test/x/")
    path = short.removeprefix("http://ocsp.test/x/")
    assert "/" not in path
    assert "+" not in path
    assert base64.b64decode(unquote(path)) == b"\xfb\xff" * 30


def test_long_questions_and_those_to_a_query_are_posted() -> None:
    assert [body for _, body in _ways("http://ocsp.test", b"x" * 200)] == [b"x" * 200]
    assert [body for _, body in _ways("http://ocsp.test/?a=b", b"x")] == [b"x"]
