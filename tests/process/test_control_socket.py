"""Who may ask gets answers, one after another, and cannot hold up or fill up the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.process import control_socket
from edge.process.control_socket import AlreadyRunning, Answer, ControlSocket, Peer, claim
from edge.process.errors import StartError
from edge.process.loop import Loop
from tests.conftest import busy_unix_socket


class Side:
    """A loop with a control socket that answers with what it was asked, or later when the request says so."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop(lambda error: self.failures.append(error))
        claimed = claim(os.fspath(folder))
        self.path = claimed.path
        self.server = ControlSocket(self.loop, claimed, self.handle)
        self.waiting: list[Answer] = []
        self.peers: list[Peer] = []
        self.failures: list[Exception] = []

    def handle(self, request: dict[str, Any], peer: Peer, answer: Answer) -> None:
        self.peers.append(peer)
        if request.get("defect"):
            raise LookupError("a defect")
        if request.get("later"):
            self.waiting.append(answer)
        else:
            answer({"ok": True, "asked": request, "pad": "x" * int(request.get("size", 0))})

    def turn(self) -> None:
        self.loop.later(0.0, lambda: None)  # so that it never waits
        self.loop.turn()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.setblocking(False)
        self.turn()
        return client

    def line(self, client: socket.socket) -> dict[str, Any]:
        data = b""
        for _ in range(10_000):
            self.turn()
            with contextlib.suppress(BlockingIOError):
                data += client.recv(1 << 20)
            if data.endswith(b"\n"):
                answer: dict[str, Any] = json.loads(data)
                return answer
        raise AssertionError(data)


@pytest.fixture
def side(short_tmp: Path) -> Iterator[Side]:
    made = Side(short_tmp)
    yield made
    made.server.close()
    made.loop.close()
    assert made.failures == []


def test_a_request_is_a_line_and_so_is_its_answer(side: Side) -> None:
    with side.connect() as client:
        client.send(b'{"op":"st')
        side.turn()
        client.send(b'atus"}\n')
        assert side.line(client) == {"version": 1, "ok": True, "asked": {"op": "status"}, "pad": ""}
    assert side.peers == [Peer(os.getpid(), os.geteuid())]


def test_only_its_owner_may_open_it(side: Side) -> None:
    assert stat.S_IMODE(os.stat(side.path).st_mode) == 0o600


def test_requests_are_answered_one_after_another(side: Side) -> None:
    with side.connect() as client:
        client.send(b'{"later":1}\n{"n":2}\n')
        side.turn()
        assert len(side.waiting) == 1
        with pytest.raises(BlockingIOError):
            client.recv(10)
        side.waiting[0]({"ok": True, "n": 1})
        side.turn()
        first, second = client.recv(1000).splitlines()
        assert json.loads(first) == {"version": 1, "ok": True, "n": 1}
        assert json.loads(second)["asked"] == {"n": 2}


def test_many_requests_at_once_are_answered_a_few_a_turn(side: Side) -> None:
    with side.connect() as client:
        many = 2000
        client.send(b"{}\n" * many)
        answered = 0
        for _ in range(many + 2):
            side.turn()
            with contextlib.suppress(BlockingIOError):
                came = client.recv(1 << 20).count(b"\n")
                assert came <= 2  # one when it is read, one by the clock
                answered += came
        assert answered == many


def test_a_defect_is_an_answer_too(side: Side) -> None:
    with side.connect() as client:
        client.send(b'{"defect":1}\n')
        assert side.line(client)["error"] == "internal-error"
        client.send(b'{"n":2}\n')
        assert side.line(client)["asked"] == {"n": 2}
    assert isinstance(side.failures.pop(), LookupError)


def test_what_is_no_object_is_refused(side: Side) -> None:
    with side.connect() as client:
        for line in (b"[]\n", b"{\n", b"\xff\n"):
            client.send(line)
            answer = side.line(client)
            assert (answer["ok"], answer["error"]) == (False, "bad-request")


def test_a_line_without_an_end_is_cut_off(side: Side) -> None:
    with side.connect() as client:
        for _ in range(10):
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                client.send(b"x" * 10_000)
            side.turn()
        assert client.recv(10) == b""


def test_a_large_answer_waits_for_its_reader(side: Side) -> None:
    with side.connect() as client:
        client.send(b'{"size":5000000}\n')
        for _ in range(5):
            side.turn()
        assert len(side.line(client)["pad"]) == 5_000_000


def test_there_is_a_bound_on_clients(side: Side) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(side.connect()) for _ in range(17)]
        assert clients[-1].recv(10) == b""
        clients[0].send(b"{}\n")
        assert side.line(clients[0])["ok"]


def test_an_answer_to_somebody_who_is_gone_is_dropped(side: Side) -> None:
    with side.connect() as client:
        client.send(b'{"later":1}\n')
        side.turn()
    side.turn()
    side.waiting[0]({"ok": True})


def test_who_asks_nothing_is_dropped(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_IDLE", 0.0)
    with side.connect() as client:
        for _ in range(3):
            side.turn()
        assert client.recv(10) == b""


def test_a_second_gateway_is_refused_and_a_dead_ones_socket_is_replaced(side: Side, short_tmp: Path) -> None:
    with pytest.raises(AlreadyRunning, match=rf"another gateway \(pid {os.getpid()}\) runs already"):
        claim(os.fspath(short_tmp))
    left = short_tmp / "left"
    left.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(left / "edge.sock"))
    claim(os.fspath(left)).give_up()
    assert not (left / "edge.sock").exists()


def test_the_end_takes_its_own_name_away_and_no_other(short_tmp: Path) -> None:
    side = Side(short_tmp)
    os.unlink(side.path)
    Path(side.path).write_text("another's")
    side.server.close()
    assert Path(side.path).exists()
    side.loop.close()


def test_a_gateway_that_is_too_busy_to_answer_keeps_its_name(short_tmp: Path) -> None:
    path = short_tmp / "edge.sock"
    with busy_unix_socket(path), pytest.raises(AlreadyRunning, match="too busy to answer"):
        claim(os.fspath(short_tmp))
    assert path.exists()


@pytest.mark.parametrize("spoil", ["file", "open", "long"])
def test_a_place_that_cannot_be_used_says_what_to_do(short_tmp: Path, spoil: str) -> None:
    place = short_tmp / "run"
    if spoil == "file":
        place.write_text("")
    elif spoil == "open":
        place.mkdir()
        place.chmod(0o777)
    else:
        place = short_tmp / ("x" * 100)
    with pytest.raises(StartError, match=r"no control socket .*Set server\.runtime_dir"):
        claim(os.fspath(place))
