"""One gateway at a time has a directory, however many start in the same instant, and whoever is refused hears who has it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge.process.control_lock import AlreadyRunning, ControlLock
from edge.process.control_socket import Claim, claim, inherit
from edge.process.errors import StartError


def in_child(work: object) -> tuple[int, int]:
    """Run `work` in a fork, which says how it went; its process id and the descriptor to read that from."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        said = b"died"
        try:
            said = work().encode()  # type: ignore[operator]
        finally:
            os.write(theirs, said)
            os._exit(0)
    os.close(theirs)
    return pid, ours


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_that_start_in_one_instant_one_has_it(short_tmp: Path, left_behind: bool) -> None:
    if left_behind:  # by one that was killed: the name that all of them have to take
        claimed = claim(os.fspath(short_tmp))
        claimed.sock.close()
        claimed.lock.leave()
    start, go = os.pipe()
    still, end = os.pipe()

    def attempt() -> str:
        os.close(go)
        os.close(end)
        os.read(start, 1)
        try:
            held = claim(os.fspath(short_tmp))
        except AlreadyRunning as error:
            return str(error)
        os.write(said[1], b"%d" % os.getpid())
        os.read(still, 1)
        held.give_up()
        return "mine"

    said = os.pipe()
    children = [in_child(attempt) for _ in range(12)]
    os.close(go)
    winner = int(os.read(said[0], 32))
    words = {pid: os.read(out, 1000).decode() for pid, out in children if pid != winner}
    os.close(end)
    words |= {pid: os.read(out, 1000).decode() for pid, out in children if pid == winner}
    for pid, out in children:
        os.waitpid(pid, 0)
        os.close(out)
    for descriptor in (start, still, *said):
        os.close(descriptor)
    assert words.pop(winner) == "mine"
    assert set(words.values()) == {f"another gateway (pid {winner}) runs already: it holds {short_tmp}/edge.lock"}


def test_its_end_gives_it_up_however_it_comes(short_tmp: Path) -> None:
    def held() -> str:
        ControlLock.take(os.fspath(short_tmp))
        return "held"

    pid, out = in_child(held)
    assert os.read(out, 100) == b"held"
    os.waitpid(pid, 0)
    os.close(out)
    lock = ControlLock.take(os.fspath(short_tmp))
    assert Path(lock.path).read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(os.stat(lock.path).st_mode) == 0o600
    lock.close()
    lock.close()
    assert Path(lock.path).read_text() == ""


def test_who_takes_over_has_it_when_the_one_before_has_left(short_tmp: Path) -> None:
    old = claim(os.fspath(short_tmp))
    new = inherit(os.fspath(short_tmp), os.dup(old.sock.fileno()), os.dup(old.lock.descriptor))
    old.lock.leave()
    with pytest.raises(AlreadyRunning, match="it holds"):
        ControlLock.take(os.fspath(short_tmp))
    old.sock.close()
    new.give_up()
    ControlLock.take(os.fspath(short_tmp)).close()


def test_a_program_of_before_there_was_a_lock_can_be_taken_over(short_tmp: Path) -> None:
    old = claim(os.fspath(short_tmp))
    old.lock.close()
    os.unlink(old.lock.path)
    new: Claim = inherit(os.fspath(short_tmp), os.dup(old.sock.fileno()), None)
    old.sock.close()
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
        claim(os.fspath(short_tmp))
    new.give_up()


@pytest.mark.parametrize("spoil", ["link", "folder", "pipe"])
def test_a_file_that_is_none_is_refused(short_tmp: Path, spoil: str) -> None:
    place = short_tmp / "edge.lock"
    if spoil == "link":
        (short_tmp / "target").write_text("precious")
        place.symlink_to(short_tmp / "target")
    elif spoil == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(StartError, match=r"no control socket beside .*Set server\.runtime_dir"):
        ControlLock.take(os.fspath(short_tmp))
    if spoil == "link":
        assert (short_tmp / "target").read_text() == "precious"


def test_a_failed_claim_leaves_the_lock_to_others(short_tmp: Path) -> None:
    long = short_tmp / ("x" * 100)
    with pytest.raises(StartError, match="longer than 107"):
        claim(os.fspath(long))
    ControlLock.take(os.fspath(long)).close()
