"""Families of scenarios: what a target is told for each place on an axis, and what the report makes of the figures."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import peers
from bench.axes import AXES, families, of_growth, size
from bench.certificates import issue_many
from bench.conclusions import OWN_CLIENT, figure, of_doubts
from bench.markup import lookup
from bench.measure import Result
from bench.page import page
from bench.plot import growth
from bench.report import compose, show
from bench.samples import Sample, Site
from bench.scenarios import SCENARIOS


def composed(costs: dict[str, dict[str, float]]) -> dict[str, Any]:
    results = []
    for name, each in costs.items():
        made = Result(SCENARIOS[name])
        made.rounds = [{target: Sample(cost / 1e6, 1000, 1.0, 0.9, 0.5, 0) for target, cost in each.items()}] * 2
        results.append(made)
    facts = {"when": "2026-11-22T00:00:00+00:00", "command": ["bench"], "machine": {"cpu": "x", "kernel": "y"}, "rounds": 2}
    return compose(facts, results, ["edge", "nginx"])


def test_every_scenario_of_a_family_has_its_axis_and_its_place() -> None:
    named: dict[str, list[float]] = {}
    for scenario in SCENARIOS.values():
        if scenario.axis:
            named.setdefault(scenario.axis, []).append(scenario.x)
    assert set(named) == set(AXES)
    assert sorted(named["workers"]) == [1, 2, 4]
    assert sorted(named["connections"]) == [10, 100, 1000, 10_000]
    assert sorted(named["hosts"]) == sorted(named["routes"]) == [1, 10, 100, 1000]
    assert sorted(named["h1-down"]) == sorted(named["h2-down"]) == [0, 1 << 10, 1 << 14, 1 << 16, 1 << 20]
    assert sorted(named["h1-up"]) == sorted(named["h2-up"]) == [1 << 14, 1 << 20]
    assert sorted(named["h1-fields"]) == sorted(named["h2-fields"]) == [0, 10, 40]
    assert all(each.fresh for each in SCENARIOS.values() if each.axis in ("workers", "connections", "hosts", "routes"))
    assert [name for name, each in SCENARIOS.items() if each.axis and each.core] == [
        "h1-small",
        "h1-headers",
        "h2-small",
        "h2-64k",
    ]


def test_the_sentence_of_a_family_is_its_last_place_over_its_first() -> None:
    facts = composed(
        {
            "routes-1000": {"edge": 40.8, "nginx": 30},
            "routes-1": {"edge": 40, "nginx": 20},
            "hosts-1": {"edge": 400, "nginx": 400},
            "hosts-1000": {"nginx": 420},
            "h1-0": {"edge": 30, "nginx": 20},
            "h1-1m": {"edge": 1500, "nginx": 1600},
        }
    )
    said = of_growth(facts)
    assert said == [
        "A request on the last of 1,000 routes costs 1.02 times one where there is 1 at edge (1.02 to 1.02; nginx 1.50).",
        "An HTTP/1.1 answer of 1 MiB costs 50.0 times one of 0 B at edge (50.00 to 50.00; nginx 80.0).",
    ]
    assert set(said) <= set(facts["conclusions"])
    assert not [words for words in facts["conclusions"] if "the last of 1 route" in words], "one sentence for the family"
    found = families(facts)
    assert [family.name for family in found] == ["hosts", "routes", "h1-down"]
    assert found[1].line(facts, "edge") == [(1, pytest.approx(40)), (1000, pytest.approx(40.8))]
    assert found[0].line(facts, "edge") == [(1, pytest.approx(400))]


def test_a_core_run_shows_its_scenarios_one_by_one() -> None:
    facts = composed({"h1-small": {"edge": 30, "nginx": 20}, "h1-headers": {"edge": 33, "nginx": 22}})
    assert families(facts) == []
    assert len(facts["conclusions"]) == 3, "one for each, and that two rounds are few"


def test_a_place_alone_is_no_family() -> None:
    facts = composed({"routes-1000": {"edge": 30, "nginx": 20}})
    assert families(facts) == []
    assert "the last of 1,000 routes" in facts["conclusions"][0]


def test_the_terminal_has_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    made = Result(SCENARIOS["connections-10000"])
    made.rounds = [{"edge": Sample(4e-5, 9, 1.0, 0.1, 0, 0, {"memory, MiB": 300.0})}]
    show([made], ["edge"], Console(width=120))
    out = capsys.readouterr().out
    assert "connections-10000" in out
    assert "memory, MiB: edge 300" in out


def test_sizes_are_said_as_people_do() -> None:
    assert [size(each) for each in (0, 1 << 10, 1 << 16, 1 << 20)] == ["0 B", "1 KiB", "64 KiB", "1 MiB"]


def test_every_peer_is_told_of_hosts_routes_and_workers(tmp_path: Path) -> None:
    leafs = issue_many(tmp_path / "many", 3)
    job = peers.Job(tmp_path, leafs[0], 1, 2, 3, workers=4, hosts=leafs, routes=12, connections=12_288)
    for name, peer in peers.PEERS.items():
        if name == "granian":
            with pytest.raises(RuntimeError, match="one certificate"):
                peer.configure(name, job)
            continue
        program, text = peer.configure(name, job)
        told = " ".join([*program, text, *(path.read_text() for path in tmp_path.glob("*.*[pt]"))])
        assert str(leafs[2].chain) in told or str(leafs[2].both) in told, name
        if peer.relays:
            assert "/service-0011" in told, name
            assert "4" in told.replace("443", ""), name


def test_the_page_has_a_plot_and_a_table_for_each_family_with_the_figures_of_the_json() -> None:
    facts = composed(
        {
            "connections-10": {"edge": 30, "nginx": 20},
            "connections-100": {"edge": 31},
            "connections-1000": {"edge": 33, "nginx": 22},
            "h1-small": {"edge": 30, "nginx": 20},
            "h1-fields-40": {"edge": 60, "nginx": 40},
        }
    )
    facts["scenarios"][0]["summary"]["edge"]["details"] = {"memory, MiB": 44.0}
    text = page(json.loads(json.dumps(facts)))
    shown = re.findall(r'data-at="([^"]*)">([^<]*)<', text)
    for place, words in shown:
        assert words.removesuffix(" ×") == figure(lookup(facts, place)), place
    places = {place for place, _ in shown}
    assert {f"scenarios/{number}/summary/edge/value" for number in range(5)} < places
    assert {"growth/0/grows/edge/ratio", "growth/1/grows/nginx/high", "scenarios/0/summary/edge/details/memory, MiB"} < places
    assert "Cost by open connections" in text
    assert "HTTP/1.1: cost by request fields" in text
    assert text.count('class="line ') == 4
    assert text.count("<figcaption>") == 1, "only the core scenario stands on its own as well"


@pytest.mark.parametrize(
    "line", [[(1, 5.0)], [(1, 40.0), (1000, 41.0)], [(0, 9.0), (1, 10.0), (1000, 9999.0)], [(1, 1e-3), (1000, 1e6)]]
)
def test_lines_stay_inside_of_their_plot(line: list[tuple[float, float]]) -> None:
    drawn = growth({"edge": ("subject", line)}, [(x, str(x)) for x in (0, 1, 1000)], "things", "µs")
    assert drawn is not None
    assert drawn.count("<circle") == len(line)
    for number in map(float, re.findall(r' (?:cx|cy|y1|y2|x1|x2)="([^"]*)"', drawn)):
        assert 0 <= number <= 760
    for down in map(float, re.findall(r' cy="([^"]*)"', drawn)):
        assert 13 <= down <= 265
    assert growth({"edge": ("subject", [])}, [(1, "1")], "things", "µs") is None


def test_the_report_says_which_client_it_was_and_when_the_load_was_the_limit() -> None:
    facts = composed({"h1-small": {"edge": 30, "nginx": 20}, "h2-small": {"edge": 40, "nginx": 20}})
    facts["clients"] = {"HTTP/1.1": "wrk 4.1", "HTTP/2": OWN_CLIENT}
    facts["scenarios"][1]["summary"]["edge"] |= {"load_busy": 0.99, "busy": 0.5}
    said = "\n".join(of_doubts(facts))
    assert "h2load is not installed: requests over HTTP/2 come from the bench's own client." in said
    assert "With edge the load's core, client and upstream together, was full and the server's was not in h2-small:" in said
    assert "wrk 4.1" in page(facts)


def test_too_few_descriptors_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4096, 4096))
    with pytest.raises(RuntimeError, match="10,000 connections need more descriptors than the 4,096"):
        SCENARIOS["connections-10000"].take(None, Site(0, Path(), 1, 1), 1.0)  # type: ignore[arg-type]
