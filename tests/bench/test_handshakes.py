"""The client side of the bench: what it counts, verified resumption, percentiles that claim no more than the samples carry."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench import __main__ as command
from bench import rows, target
from bench.certificates import Leaf, issue
from bench.conclusions import LATE, of_handshakes
from bench.handshakes import Job, Seen, run
from bench.latency import Latency, curve, percentile
from bench.offer import Offer
from bench.probe import Prober, Refused
from bench.processes import environment
from bench.samples import Site
from tests.bench.serving import Threaded, answer_once


class Server(Threaded):
    """A TLS server of threads that answers one request on each connection."""

    def __init__(self, leaf: Leaf, *, tickets: bool = True) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(leaf.chain, leaf.key)
        if not tickets:
            self._context.num_tickets = 0
            self._context.options |= ssl.OP_NO_TICKET
        self.stall = 0.0  # seconds, once, from the first connection on
        self.accepted = threading.Event()
        super().__init__()

    def came(self) -> None:
        self.accepted.set()
        threading.Event().wait(self.stall)
        self.stall = 0.0

    def serve(self, raw: socket.socket) -> None:
        answer_once(self._context, raw)


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> Leaf:
    return issue(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(leaf: Leaf) -> Iterator[Server]:
    made = Server(leaf)
    yield made
    made.end()


@pytest.mark.parametrize(("version", "round_trips"), [("1.3", 1), ("1.2", 2)])
def test_a_full_handshake_is_taken_apart(server: Server, version: str, round_trips: int) -> None:
    taken = Prober(("127.0.0.1", server.port), "localhost", Offer(version), "/").take()
    assert (taken.round_trips, taken.resumed, taken.certificate, taken.group) == (round_trips, False, "ecdsa", "x25519")
    assert min(taken.tcp, taken.hello_to_flight, taken.flight_to_finished) > 0
    assert taken.to_first_byte
    assert 400 < taken.flight < 5000
    assert taken.handshake == taken.hello_to_flight + taken.flight_to_finished


@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_resumption_is_verified_and_costs_fewer_bytes(server: Server, version: str) -> None:
    full = Prober(("127.0.0.1", server.port), "localhost", Offer(version), "/").take()
    prober = Prober(("127.0.0.1", server.port), "localhost", Offer(version, resumed=True), "/")
    for _ in range(3):
        taken = prober.take()
        assert taken.resumed
        assert taken.round_trips == 1
        assert taken.flight < full.flight


def test_a_group_and_a_certificate_that_are_not_there_are_refused(server: Server) -> None:
    with pytest.raises(Refused, match="alert"):
        Prober(("127.0.0.1", server.port), "localhost", Offer("1.3", certificate="rsa"), "/").take()
    with pytest.raises(ValueError, match="no group"):
        Prober(("127.0.0.1", server.port), "localhost", Offer("1.3", "X1"), "/")


def test_a_server_without_tickets_is_said_not_to_resume(leaf: Leaf) -> None:
    server = Server(leaf, tickets=False)
    try:
        rows = target.look(
            target.Address("127.0.0.1", server.port), [Offer("1.3", resumed=True)], count=1, path="/", progress=lambda _: None
        )
    finally:
        server.end()
    assert "resume" in rows[0]["refused"]


@pytest.fixture
def _keep_garbage_collection() -> Iterator[None]:
    import gc

    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("_keep_garbage_collection")
@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_a_closed_loop_counts_what_it_did(server: Server, version: str, resumed: bool) -> None:
    seen = run(Job("127.0.0.1", server.port, offer=Offer(version, resumed=resumed), seconds=0.2, connections=3))
    assert seen.count > 0
    assert seen.failed == 0
    assert seen.resumed == (len(seen.durations) if resumed else 0)
    again = Seen.read(seen.text())
    assert again.durations == pytest.approx(seen.durations, abs=1e-6)


@pytest.mark.usefixtures("_keep_garbage_collection")
def test_an_open_loop_charges_a_stall_to_everybody_who_was_due_meanwhile(server: Server) -> None:
    server.stall = 0.5
    seen = run(Job("127.0.0.1", server.port, mode="open", rate=100, seconds=0.5, connections=4))
    assert (seen.count, seen.failed) == (50, 0)
    found = Latency.of(seen.durations)
    # only 4 were in flight; a closed loop would have said 0.5 s four times and nothing of the other 46
    assert found is not None
    assert found.p50 is not None
    assert found.p50 > 0.1


def test_a_client_that_got_no_processor_is_found_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped for half a second while handshakes are due: the server looks slow, and is not."""

    def starved(job: Job, core: int | None) -> Seen:
        command = [sys.executable, "-m", "bench.handshakes", job.text()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True) as client:
            assert server.accepted.wait(30)
            client.send_signal(signal.SIGSTOP)
            threading.Event().wait(0.5)
            client.send_signal(signal.SIGCONT)
            out, _ = client.communicate(timeout=60)
        return Seen.read(out.splitlines()[-1])

    class Child:
        def cpu(self) -> float:
            return 0.0

    class Fake:
        port, child = server.port, Child()

        def variant(self, name: str) -> Fake:
            return self

    monkeypatch.setattr(rows, "drive", starved)
    monkeypatch.setattr(rows, "RATE", 300.0)
    row = next(scenario for scenario in rows.handshakes() if scenario.name == "latency1.3-full")
    sample = row.take(Fake(), Site(0, Path(), 1, 1), 2.0)  # type: ignore[arg-type]
    assert sample.value > 0.3, "whoever was due meanwhile has waited"
    assert sample.details[LATE] > 300
    assert sample.doubt.startswith("the client was late itself by")


def test_the_worst_lateness_stands_in_where_p99_has_too_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes that were held up by the limit in flight say nothing of the client, and leave fewer that do."""
    seen = Seen(600, 600, 0, 0, 1.0, 0.1, 0.1, [0.02] * 600, [0.0001] * 300 + [0.009])

    class Child:
        def cpu(self) -> float:
            return 0.0

    class Fake:
        port, child = 1, Child()

        def variant(self, name: str) -> Fake:
            return self

    monkeypatch.setattr(rows, "drive", lambda *_: seen)
    row = next(scenario for scenario in rows.handshakes() if scenario.name == "latency1.3-full")
    sample = row.take(Fake(), Site(0, Path(), 1, 1), 1.0)  # type: ignore[arg-type]
    assert sample.details[LATE] == 9.0
    assert sample.doubt


def test_percentiles_claim_no_more_than_the_samples_carry() -> None:
    assert percentile(range(1, 101), 50) == 50.5
    assert percentile(range(499), 99) is None
    assert percentile(range(501), 99) == 495
    assert percentile([], 50) is None
    assert percentile([7.0], 50) == 7.0
    assert [share for share, _ in curve(range(100))][-1] == 95
    found = Latency.of([0.001] * 20)
    assert found is not None
    assert found.milliseconds() == {
        "count": 20, "least": 1.0, "mean": 1.0, "greatest": 1.0, "p50": 1.0, "p90": None, "p99": None, "p999": None,
    }  # fmt: skip
    assert Latency.of([]) is None


def test_a_client_that_was_the_limit_says_so() -> None:
    seen = Seen(10, 10, 0, 0, 1.0, 0.99, 0.99, [0.001] * 10, [])
    assert "client was the limit" in target.told([seen], Offer(), 0.0)["client_limit"]
    late = Seen(10, 10, 0, 0, 1.0, 0.1, 0.1, [0.001] * 10, [0.004] * 10)
    assert "late" in target.told([late], Offer(), 10.0)["client_limit"]
    assert target.told([late], Offer(), 10.0)["client_late_ms"] == 4.0
    assert target.told([Seen(10, 10, 0, 0, 1.0, 0.1, 0.1, [0.001], [0.0001])], Offer(), 10.0)["client_limit"] == ""


@pytest.mark.parametrize(
    ("text", "host", "port"), [("127.0.0.1", "127.0.0.1", 443), ("127.0.0.1:8443", "127.0.0.1", 8443), ("[::1]:1", "::1", 1)]
)
def test_targets_are_read(text: str, host: str, port: int) -> None:
    made = target.parse_target(text)
    assert (made.host, made.port, made.name, made.loopback) == (host, port, "", True)


@pytest.mark.parametrize("arguments", [
    ["--target", "127.0.0.1:x"], ["--target", "[::1"], ["--target", "127.0.0.1", "--rate", "5"],
    ["--target", "127.0.0.1", "--count", "0"], ["--target", "127.0.0.1", "--client-cert", "x"],
    ["--target", "127.0.0.1", "--groups", "X25519MLKEM768", "--versions", "1.2"],
])  # fmt: skip
def test_wrong_usage_is_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["handshake", *arguments]) == 2
    assert capsys.readouterr().err.startswith("bench: ")


def test_load_on_a_stranger_needs_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["handshake", "--target", "192.0.2.1", "--seconds", "1"]) == 2
    assert "say --yes" in capsys.readouterr().err


def test_the_command_writes_and_says_what_it_found(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["handshake", "--target", f"localhost:{server.port}", "--count", "2", "--seconds", "0.2", "--rate", "50"]
    code = target.main(
        [*arguments[1:], "--versions", "1.3", "--groups", "X25519", "--output", str(tmp_path / "found.json")], Console(width=100)
    )
    out = capsys.readouterr().out
    assert code == 0, out
    assert "It speaks TLS 1.3" in out
    assert "TLS 1.3 resumption works (verified on each of 2)" in out
    assert (tmp_path / "found.json").exists()
    assert "It speaks TLS 1.3" in (tmp_path / "found.html").read_text()


def test_nothing_at_all_is_said_plainly() -> None:
    row = {"label": "x", "offer": Offer().facts(), "refused": "connection refused"}
    assert of_handshakes({"handshakes": [row], "loops": []}) == ["No handshake came about: connection refused."]
