"""The replay filter lets a binder in once, whoever asks, and refuses whenever it cannot know."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from edge.tls.replay import WINDOW, ReplayFilter

NOW = 1_700_000_000.0


def binder(number: int) -> bytes:
    return number.to_bytes(32, "big")


def opened(**options: int) -> ReplayFilter:
    return ReplayFilter(NOW, window_passed=True, **options)


def in_children(count: int, work: Callable[[int], int]) -> list[int]:
    """What `work` returned (at most a pipe's buffer of bits) in that many processes that began together."""
    gate, go = os.pipe()
    readers: list[tuple[int, int]] = []
    for number in range(count):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.read(gate, 1)
                os.write(writer, str(work(number)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        readers.append((pid, reader))
    os.write(go, b"x" * count)
    answers = []
    for pid, reader in readers:
        answers.append(int(os.read(reader, 65_536)))
        os.close(reader)
        os.waitpid(pid, 0)
    os.close(gate)
    os.close(go)
    return answers


def test_a_binder_is_let_in_once() -> None:
    one = opened()
    assert [one.claim(binder(1), NOW), one.claim(binder(1), NOW), one.claim(binder(2), NOW)] == ["", "replayed", ""]


def test_a_binder_is_remembered_for_the_window() -> None:
    one = opened()
    one.claim(binder(1), NOW)
    assert one.claim(binder(1), NOW + WINDOW) == "replayed"
    assert one.claim(binder(1), NOW + WINDOW + 0.1) == ""


def test_a_new_filter_refuses_until_its_window_has_passed() -> None:
    one = ReplayFilter(NOW)
    assert one.claim(binder(1), NOW + WINDOW - 0.1) == "starting"
    assert one.claim(binder(1), NOW + WINDOW) == ""


def test_a_full_bucket_refuses_and_forgets_nothing() -> None:
    one = opened(buckets=1)
    assert [one.claim(binder(number), NOW + number / 10) for number in range(16)] == [""] * 16
    assert one.claim(binder(16), NOW + 2) == "full"
    assert all(one.claim(binder(number), NOW + 2) == "replayed" for number in range(16))
    assert one.claim(binder(16), NOW + WINDOW + 0.05) == "", "the oldest place is free again"
    assert one.claim(binder(17), NOW + WINDOW + 0.05) == "full"


def test_a_clock_that_went_back_lets_nothing_in() -> None:
    one = opened()
    one.claim(binder(1), NOW + 100)
    assert one.claim(binder(2), NOW + 99.5) == "", "adjusted by less than a second"
    assert one.claim(binder(3), NOW + 98) == "clock"
    assert one.claim(binder(1), NOW + 100) == "replayed"


def test_a_closed_filter_lets_nothing_in_nor_does_one_that_was_opened_again_at_once() -> None:
    one = opened()
    one.claim(binder(1), NOW)
    one.close()
    assert in_children(1, lambda _: int(one.claim(binder(2), NOW) == "closed")) == [1]
    one.open(NOW)
    assert one.claim(binder(2), NOW) == "starting"
    assert one.claim(binder(1), NOW + WINDOW) == "replayed"
    assert one.claim(binder(2), NOW + WINDOW) == ""


def test_processes_share_what_was_let_in() -> None:
    one = opened()
    assert in_children(1, lambda _: int(one.claim(binder(1), NOW) == "")) == [1]
    assert one.claim(binder(1), NOW) == "replayed"


@pytest.mark.parametrize("buckets", [1024, 8192])
def test_many_processes_with_the_same_hellos_never_let_one_in_twice(buckets: int) -> None:
    one, hellos = opened(buckets=buckets), 3000

    def hammer(_: int) -> int:
        return sum(1 << number for number in range(hellos) if one.claim(binder(number), NOW) == "")

    # as text in a pipe: decimal digits of 3000 bits
    answers = in_children(4, hammer)
    for first, one_answer in enumerate(answers):
        for other in answers[first + 1 :]:
            assert not one_answer & other, "let in by two processes"
    assert sum(answer.bit_count() for answer in answers) > hellos * 0.9, "and nearly all were let in by somebody"


def test_a_process_that_stopped_in_the_middle_blocks_nobody_and_one_that_dies_leaves_no_lock() -> None:
    one = opened(buckets=1)
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        one._lock(0)
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    assert one.claim(binder(1), NOW) == "busy"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert one.claim(binder(1), NOW) == ""
    os.close(ready)
    os.close(tell)
