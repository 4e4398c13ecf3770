"""The scenario of a rotation tells servers that keep their clients' sessions from those that forget them."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import conclusions, peers, rotation, ticket_keys
from bench.certificates import Leaf, issue
from bench.conclusions import RESUMED
from bench.samples import Sample, Site
from bench.scenarios import SCENARIOS
from tests.bench.serving import Threaded, answer_once


class Server(Threaded):
    """A TLS server that answers one request on each connection, and forgets its ticket keys when it is told to."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self.forget()
        super().__init__()

    def forget(self) -> None:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self._leaf.chain, self._leaf.key)
        self._context = made

    def serve(self, raw: socket.socket) -> None:
        answer_once(self._context, raw)


class Child:
    """As much of a target's process as the scenario looks at: two processes, one of which ends."""

    def __init__(self) -> None:
        self.looks = 0

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_port(self, port: int) -> None:
        pass

    def cpu_by_process(self) -> dict[int, float]:
        self.looks += 1
        used = self.looks / 1000
        return {1: used, 2: 1.0} if self.looks == 1 else {1: used}


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> Leaf:
    return issue(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(leaf: Leaf) -> Iterator[Server]:
    made = Server(leaf)
    yield made
    made.end()


@pytest.mark.parametrize("forgets", [False, True])
def test_who_forgets_is_told_from_who_does_not(server: Server, forgets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Target:
        def start(self, **how: Any) -> tuple[Child, int]:
            assert how["ticket_keys"]
            return Child(), server.port

    monkeypatch.setattr(rotation, "rotate", lambda *_: server.forget() if forgets else None)
    monkeypatch.setattr(rotation, "_SETTLED", 1.0)
    core = min(os.sched_getaffinity(0))
    sample: Sample = SCENARIOS["rotation"].take(Target(), Site(core, Path(), 1, 1), 1.0)  # type: ignore[arg-type]
    assert sample.value > 0
    assert sample.details[RESUMED["before"]] == 100
    assert sample.details[RESUMED["away"]] == (0 if forgets else 100)
    assert (sample.details[RESUMED["during"]] < 100) == forgets
    assert sample.details["CPU meanwhile, µs"] > 0, "a process that ended takes nothing back"


def test_every_target_has_its_keys_and_gets_others(tmp_path: Path, leaf: Leaf) -> None:
    assert SCENARIOS["rotation"].only == ticket_keys.TARGETS
    for name in ticket_keys.TARGETS:
        folder = tmp_path / name
        folder.mkdir()
        ticket_keys.place(name, folder)
        assert (folder / ticket_keys.KEYS).stat().st_mode & 0o077 == 0
        job = peers.Job(folder, leaf, 1, 2, 3, ticket_keys=True)
        assert str(folder / ticket_keys.KEYS) in peers.PEERS[name].configure("/opt/x", job)[1]
    assert len((tmp_path / "haproxy" / ticket_keys.KEYS).read_text().split()) == 3


def test_the_shares_are_said_in_a_sentence() -> None:
    details = dict(zip(RESUMED.values(), (100.0, 99.25, 100.0, 100.0), strict=True))
    summary = {"edge": {"details": details}, "nginx": {"details": details | {RESUMED["away"]: 0.0}}}
    facts = {"names": ["edge", "nginx"], "scenarios": [{"name": "rotation", "summary": summary}]}
    (said,) = conclusions._of_rotation(facts, "edge")
    assert "100 % of the clients that were away resume at edge (0 % at nginx)" in said
    assert "99.2 % during" in said
    assert conclusions._of_rotation(facts, "hitch") == []
