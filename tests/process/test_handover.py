"""What one program leaves to the next: everything arrives, in any number, and what cannot be read is said."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from edge.process.channel import Channel, pair
from edge.process.errors import StartError
from edge.process.handover import VARIABLE, Estate, Heir, Mode, Predecessor, leave
from edge.process.inherited import Passed


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def taken(theirs: Channel) -> tuple[Predecessor, dict[str, str]]:
    environ = {VARIABLE: str(os.dup(theirs.sock.fileno())), "PATH": "/bin"}
    found = Predecessor.taken_from(environ)
    assert found is not None
    return found, environ


def test_everything_arrives(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(250)]  # more than one message's
    null = os.open(os.devnull, os.O_RDONLY)
    estate = Estate(
        Mode.SUCCEED,
        {"generation": 7},
        [Passed(f"listener {number}", sock, number % 2 == 0) for number, sock in enumerate(listening)],
        {"control": null},
        {"tickets": b"secret" * 50_000, "empty": b""},
        [Heir(42, "worker 1", null)],
    )
    leave(ours, estate)
    if ours.waiting:
        ours.flush()
    found, environ = taken(theirs)
    assert environ == {"PATH": "/bin"}
    assert (found.mode, found.estate.facts, found.estate.sections) == (Mode.SUCCEED, {"generation": 7}, estate.sections)
    inherited = found.inherited()
    assert [(one.name, one.activated, one.sock.getsockname()) for one in inherited.passed] == [
        (one.name, one.activated, one.sock.getsockname()) for one in estate.sockets
    ]
    assert not any(one.sock.get_inheritable() for one in inherited.passed)
    (heir,) = found.estate.children
    assert (heir.pid, heir.name) == (42, "worker 1")
    assert os.readlink(f"/proc/self/fd/{found.estate.named['control']}") == os.devnull
    os.close(heir.channel)
    os.close(null)
    inherited.close()
    found.close()
    for sock in listening:
        sock.close()


def test_a_section_is_no_file_and_no_message(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    leave(ours, Estate(Mode.SUCCEED, sections={"tickets": b"very secret"}))
    assert b"very secret" not in theirs.sock.recv(65536, socket.MSG_PEEK)


@pytest.mark.parametrize(("word", "sent"), [("rehearsed", {"is": "rehearsed"}), ("refuse", {"is": "refused", "why": "no"})])
def test_the_first_word_counts(ends: tuple[Channel, Channel], word: str, sent: dict[str, str]) -> None:
    ours, theirs = ends
    leave(ours, Estate(Mode.REHEARSE))
    found, _ = taken(theirs)
    getattr(found, word)(*(["no"] if word == "refuse" else []))
    found.refuse("too late")
    assert ours.receive() == [(sent, [])]
    found.close()


def test_an_ordinary_start_has_no_predecessor() -> None:
    assert Predecessor.taken_from({"PATH": "/bin"}) is None


@pytest.mark.parametrize("number", ["nonsense", "-1", "9999"])
def test_a_variable_that_means_nothing_is_an_error(number: str) -> None:
    with pytest.raises(StartError, match="nothing to take over"):
        Predecessor.taken_from({VARIABLE: number})


def test_half_an_estate_is_an_error(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send({"is": "estate", "version": 1, "mode": "succeed", "facts": {}})
    ours.close()
    with pytest.raises(StartError, match="has not left everything"):
        taken(theirs)


def test_another_version_is_an_error(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send({"is": "estate", "version": 2, "mode": "succeed", "facts": {}})
    with pytest.raises(StartError, match="restart instead of upgrading"):
        taken(theirs)
