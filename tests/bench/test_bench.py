"""The bench's own arithmetic: what it reads from load generators, how rounds become ratios, and what it says about them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from bench import __main__ as command
from bench import load, peers, report
from bench.conclusions import LATE
from bench.handshakes import Seen
from bench.measure import Result, measure
from bench.reloads import percentile
from bench.rows import lateness
from bench.samples import Sample, Scenario, Site
from bench.scenarios import SCENARIOS

WRK = """Running 1s test @ https://127.0.0.1:1/small
  16890 requests in 1.00s, 4.11MB read
Requests/sec:  16880.29
"""
WRK_BAD = WRK + "  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 7\n"
H2LOAD = """finished in 1.0s, 30000.00 req/s
requests: 30500 total, 30500 started, 30000 done, 29990 succeeded, 10 failed, 3 errored, 4 timeout
status codes: 29990 2xx, 0 3xx, 8 4xx, 2 5xx
"""


def sample(value: float, errors: int = 0) -> Sample:
    return Sample(value, 1000, 1.0, 0.9, 0.5, errors)


def result(*rounds: dict[str, float]) -> Result:
    made = Result(SCENARIOS["h1-small"])
    made.rounds = [{name: sample(value * 1e-6) for name, value in each.items()} for each in rounds]
    return made


@pytest.mark.parametrize(("output", "errors"), [(WRK, 0), (WRK_BAD, 13)])
def test_wrk_is_read(monkeypatch: pytest.MonkeyPatch, output: str, errors: int) -> None:
    monkeypatch.setattr(load, "missing", lambda *_: [])
    monkeypatch.setattr(load, "run_pinned", lambda *_: (output, 0.25))
    assert load.h1(1, 0, 1.0) == load.Load(16890, errors, 1.0, 0.25)


def test_h2load_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "run_pinned", lambda *_: (H2LOAD, 0.25))
    assert load.h2(1, 0, 1.0, path="/small", connections=1, streams=1) == load.Load(29990, 17, 1.0, 0.25)


def test_resumption_that_does_not_happen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(500, 500, 0, 0, 1.0, 0.1, 0.1, [0.001] * 500, [])
    monkeypatch.setattr(load, "run_pinned", lambda *_: (seen.text(), 0.0))
    assert load.handshakes(1, 0, 1.0, "1.3-full").errors == 0
    assert load.handshakes(1, 0, 1.0, "1.3-resumed").errors > 400


def test_ratios_compare_samples_of_one_round() -> None:
    found = result({"nginx": 10, "edge": 20}, {"nginx": 20, "edge": 20}, {"nginx": 10, "edge": 15}).summary("edge")
    assert found is not None
    assert (found.ratio, found.ratio_low, found.ratio_high) == (1.5, 1.0, 2.0)
    assert found.value == pytest.approx(20)


def test_a_round_without_its_base_gives_a_value_and_no_ratio() -> None:
    found = result({"edge": 20}, {"nginx": 10, "edge": 30}).summary("edge")
    assert found is not None
    assert (found.ratio, found.rounds) == (3.0, 2)
    assert result({"nginx": 10}).summary("edge") is None


def test_the_sentence_says_the_ratio_and_when_nothing_is_proven() -> None:
    sure = report.sentence(result({"nginx": 10, "edge": 20}, {"nginx": 10, "edge": 22}))
    assert sure.startswith("edge spends 2.10 × nginx's CPU per small HTTP/1.1 request: 21.0 µs against 10.0 (within a round 2.00")
    assert "proven" not in sure
    assert "the range includes 1, so no difference is proven" in report.sentence(
        result({"nginx": 10, "edge": 9}, {"nginx": 10, "edge": 11})
    )
    assert "(a single round proves nothing)" in report.sentence(result({"nginx": 10, "edge": 20}))
    assert "no round has both" in report.sentence(result({"nginx": 10}, {"edge": 20}))
    assert "no valid figure" in report.sentence(result({"nginx": 10}))
    assert report.sentence(result({"edge": 10})) == "edge spends 10.0 µs of CPU per small HTTP/1.1 request."


def test_problems_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    made = result({"nginx": 10, "edge": 20})
    made.problems.append("h1-small: edge had 3 errors in round 2; the sample is not counted")
    report.show([made], ["nginx", "edge"], Console(width=200))
    out = capsys.readouterr().out
    assert "20.0 (2.00 ×?)" in out, "of one round"
    assert "! h1-small: edge had 3 errors" in out


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--scenario", "nothing"], ["--peers", "apache"], ["--bulk", "5000"], ["--seconds", "0"]]
)
def test_wrong_usage_is_exit_2_with_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith("bench: ")


def test_every_peer_has_a_configuration(tmp_path: Path) -> None:
    from bench.certificates import issue

    job = peers.Job(tmp_path, issue(tmp_path), 1, 2, 3)
    for name, peer in peers.PEERS.items():
        program, text = peer.configure(f"/opt/{name}", job)
        assert program[0] == f"/opt/{name}"
        assert "127.0.0.1" in text


def test_nginx_keeps_its_connections_to_the_origin_with_early_data_too(tmp_path: Path) -> None:
    """A field that is set in a server's block takes the place of all that are set outside of it."""
    from bench.certificates import issue

    _, text = peers.PEERS["nginx"].configure("nginx", peers.Job(tmp_path, issue(tmp_path), 1, 2, 3, early=True))
    outside, _, inside = text.partition("server {\n        listen")
    assert "Early-Data" in outside and 'Connection ""' in outside
    assert "proxy_set_header" not in inside.partition("location /sink")[0]


def test_percentiles() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([3.0], 0.99) == 3
    assert percentile([float(number) for number in range(100, 0, -1)], 0.99) == 100
    assert percentile([float(number) for number in range(1000)], 0.5) == 500


def test_a_scenario_may_be_for_some_targets_only() -> None:
    class Fake:
        running = {"edge": "edge", "nginx": "nginx", "caddy": "caddy"}  # noqa: RUF012

    scenario = Scenario("x", "x", "s", 1, lambda *_: sample(1.0), only=("nginx", "edge"))
    (made,) = measure([scenario], Fake(), Site(0, Path(), 1, 1), rounds=1, seconds=1, end=1e18, progress=lambda _: None)  # type: ignore[arg-type]
    assert sorted(made.rounds[0]) == ["edge", "nginx"]
    assert made.summary("caddy") is None


def test_what_only_ends_tls_relays_nothing() -> None:
    class Fake:
        running = {"edge": "edge", "hitch": "hitch", "granian": "granian"}  # noqa: RUF012

    scenarios = [Scenario("x", "x", "s", 1, lambda *_: sample(1.0), relayed=relayed) for relayed in (True, False)]
    made = measure(scenarios, Fake(), Site(0, Path(), 1, 1), rounds=1, seconds=1, end=1e18, progress=lambda _: None)  # type: ignore[arg-type]
    assert [sorted(result.rounds[0]) for result in made] == [["edge"], ["edge", "granian", "hitch"]]


def test_more_figures_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    made = Result(SCENARIOS["reload"])
    made.rounds = [{"edge": Sample(0.002, 9, 1.0, 0.1, 0, 0, {"reloads": 12, "sent again": 0, "operations": 9})}]
    report.show([made], ["edge"], Console(width=200))
    assert "edge: reloads 12.0; sent again 0.00" in capsys.readouterr().out


def doubtful(*rounds: dict[str, tuple[float, bool]]) -> Result:
    """Open-loop samples in seconds; with True the client was late."""
    made = Result(SCENARIOS["latency1.3-full"])
    for each in rounds:
        made.rounds.append(
            {
                name: Sample(
                    value, 600, 1.0, 0.3, 0.1, 0, {LATE: 4.0 if late else 0.1}, (value,) * 600, lateness(0.004 * late, value)
                )
                for name, (value, late) in each.items()
            }
        )
    return made


def test_a_sample_of_a_late_client_counts_only_where_there_is_none_better() -> None:
    made = doubtful(
        {"nginx": (0.002, False), "edge": (0.002, False), "envoy": (0.009, True)},
        {"nginx": (0.002, False), "edge": (0.030, True), "envoy": (0.008, True)},
    )
    edge, envoy = made.summary("edge"), made.summary("envoy")
    assert edge is not None
    assert (edge.value, edge.rounds, edge.aside, edge.doubtful, edge.ratio_high) == (2.0, 1, 1, 0, 1.0)
    assert envoy is not None
    assert (envoy.value, envoy.rounds, envoy.aside, envoy.doubtful) == (8.5, 2, 0, 2)
    latency = made.latency("edge")
    assert latency is not None
    assert (latency["count"], latency["greatest"], latency["late"]) == (600, 2.0, 0.1)
    assert made.doubts("edge").endswith(
        "in round 2 (the client was late itself by 4.0 ms (p99), of 30.0 ms that were measured); not counted"
    )
    assert "in rounds 1, 2" in made.doubts("envoy")
    assert "there is none better" in made.doubts("envoy")
    assert made.doubts("nginx") == ""


def test_a_client_may_be_a_little_late() -> None:
    assert lateness(0.0004, 0.001) == ""
    assert lateness(0.002, 0.100) == ""
    assert "late itself by 2.0 ms" in lateness(0.002, 0.010)


def test_a_ratio_of_a_late_client_proves_nothing() -> None:
    made = doubtful({"nginx": (0.010, True), "edge": (0.020, True)}, {"nginx": (0.010, True), "edge": (0.022, True)})
    assert report.sentence(made).endswith("the client was late itself, so nothing is proven.")


def test_few_details_are_one_line_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    made = Result(SCENARIOS["start"])
    made.rounds = [{name: Sample(0.1, 1, 1.0, 0.1, 0, 0, {"CPU, ms": cpu}) for name, cpu in (("nginx", 14.0), ("edge", 345.0))}]
    report.show([made], ["nginx", "edge"], Console(width=200))
    assert "  start, CPU, ms: nginx 14.0, edge 345\n" in capsys.readouterr().out


def test_a_table_of_many_targets_is_parted_rather_than_cut(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["nginx", "edge", "haproxy", "envoy", "caddy", "traefik", "granian", "hitch", "stunnel"]
    made = result(*({name: 10.0 + at for at, name in enumerate(names)} for _ in range(2)))
    report.show([made], names, Console(width=80))
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines()[1:-1])) <= 80
    assert all(name in out for name in names) and "1.80" in out


def test_a_failing_target_leaves_the_round_to_the_others() -> None:
    def take(target: object, site: Site, seconds: float) -> Sample:
        if target == "broken":
            raise RuntimeError("it fell over")
        return sample(1.0, errors=1 if target == "wrong" else 0)

    class Fake:
        running = {"fine": "fine", "broken": "broken", "wrong": "wrong"}  # noqa: RUF012

    scenario = Scenario("x", "x", "s", 1, take)
    site = Site(0, Path(), 1, 1)
    (made,) = measure([scenario], Fake(), site, rounds=2, seconds=1, end=1e18, progress=lambda _: None)  # type: ignore[arg-type]
    assert [list(each) for each in made.rounds] == [["fine"], ["fine"]]
    assert sorted(problem.split()[1] for problem in made.problems) == ["broken", "wrong", "wrong"]
