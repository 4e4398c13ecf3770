"""The page stands alone, shows the figures of the JSON, and opens with sentences that are made from them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.conclusions import figure, of_doubts, of_handshakes, of_peers
from bench.markup import Markup, lookup, tag
from bench.measure import Result
from bench.offer import Offer
from bench.page import page
from bench.plot import latency
from bench.report import compose, write
from bench.samples import Sample
from bench.scenarios import SCENARIOS

MACHINE = {"cpu": "a <fast> one", "cores": 2, "kernel": "Linux 6", "load_average": [0.1, 0.2, 0.3]}
COSTS = {
    "tls1.3-full": {"nginx": 400, "edge": 320, "envoy": 260},
    "tls1.3-resumed": {"nginx": 300, "edge": 128, "envoy": 200},
    "tls1.3-full-rsa": {"nginx": 700, "edge": 992, "envoy": 755},
    "tls1.3-full-mlkem": {"edge": 384},
    "h1-small": {"nginx": 20, "edge": 30},
}


def run() -> dict[str, Any]:
    results = []
    for name, costs in COSTS.items():
        made = Result(SCENARIOS[name])
        for number in range(3):
            made.rounds.append(
                {target: Sample(cost * (1 + number / 50) / 1e6, 1000, 0.5, 0.9, 0.4, 0) for target, cost in costs.items()}
            )
        results.append(made)
    results[0].floors = [{"crypto": crypto, "kernel": 60.0} for crypto in (130.0, 140.0, 120.0)]
    made = Result(SCENARIOS["latency1.3-full"])
    durations = tuple(0.001 + number / 1e6 for number in range(2000))
    for _ in range(3):
        made.rounds.append({name: Sample(0.003, 2000, 3.3, 0.3, 0.1, 0, {}, durations) for name in ("nginx", "edge")})
    made.problems.append("latency1.3-full: envoy <failed> in round 1")
    facts = {
        "when": "2026-11-21T23:00:00+00:00",
        "command": ["bench", "--peers", "nginx,edge,envoy", "it's"],
        "machine": MACHINE,
        "versions": {"nginx": "1.22"},
        "rounds": 3,
        "seconds": 0.5,
        "configurations": {"nginx": "worker_processes 1; # <&>"},
        "counters": {
            "events": ["instructions:u", "cycles:u"],
            "problems": ["h1-small: <envoy> was not counted in pass 1"],
            "scenarios": {
                "tls1.3-full": {
                    name: [{"instructions:u": count + each, "cycles:u": 1_000_000.0} for each in (-9.0, 9.0)]
                    for name, count in (("nginx", 2.4e6), ("edge", 1.2e6))
                }
            },
        },
    }
    return compose(facts, [*results, made], ["nginx", "edge", "envoy"])


def handshake() -> dict[str, Any]:
    found = {"count": 20, "least": 0.5, "mean": 0.7, "greatest": 2.0, "p50": 0.62, "p90": 0.9, "p99": None, "p999": None}
    row = {
        "offer": Offer().facts(),
        "label": "TLS 1.3 full, X25519", "count": 20, "not_as_asked": 0, "group": "x25519",
        "suite": "TLS_AES_128_GCM_SHA256",
        "alpn": "http/1.1", "early_data": 16_384, "failed": 2,
        "certificate": "ecdsa", "stapled": False, "flight_bytes": 15_000, "sent_bytes": 400, "round_trips": 1,
        "beyond_first_window": True, "handshake_ms": found,
        "phases_ms": {"tcp": 0.05, "hello_to_flight": 0.4, "flight_to_finished": 0.2, "to_first_byte": None},
    }  # fmt: skip
    loop = {
        "label": row["label"], "offer": row["offer"], "mode": "open", "wanted_rate": 600.0, "rate": 599.0, "count": 20,
        "resumed": 0,
        "failed": 1, "client_busy": 0.3, "client_late_ms": 1.25, "client_limit": "the client was late itself",
        "handshake_ms": found,
        "curve": [[0.0, 0.5], [50.0, 0.62], [90.0, 0.9]],
    }  # fmt: skip
    refused = {"label": "TLS 1.2 full, X25519", "offer": row["offer"] | {"version": "1.2"}, "refused": "alert <70>"}
    facts: dict[str, Any] = {
        "version": 1, "kind": "handshake", "when": "2026-11-21T23:00:00+00:00", "command": ["bench"], "machine": MACHINE,
        "target": {"given": "example.com", "ip": "192.0.2.1", "port": 443, "name": "example.com", "loopback": False},
        "handshakes": [row, refused], "loops": [loop],
    }  # fmt: skip
    return facts | {"conclusions": of_handshakes(facts)}


class Reader(HTMLParser):
    """Every tag with its attributes, and the text below each `data-at`."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[tuple[str, str]] = []
        self._place = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._place = dict(attrs).get("data-at") or ""

    def handle_data(self, data: str) -> None:
        if self._place:
            self.figures.append((self._place, data))
        self._place = ""


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


@pytest.mark.parametrize("facts", [run(), handshake()], ids=["peers", "handshake"])
def test_the_page_needs_nothing_but_itself(facts: dict[str, Any]) -> None:
    text = page(facts)
    names = {name for name, _ in read(text).tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "image", "use", "a"})
    for _, attributes in read(text).tags:
        assert set(attributes).isdisjoint({"src", "href", "srcset", "action", "style", "xlink:href"})
        assert not [name for name in attributes if name.startswith("on")]
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in style


@pytest.mark.parametrize("facts", [run(), handshake()], ids=["peers", "handshake"])
def test_every_figure_of_the_page_is_the_one_of_the_json(facts: dict[str, Any]) -> None:
    figures = read(page(facts)).figures
    assert len(figures) >= 9
    again = json.loads(json.dumps(facts))
    for place, text in figures:
        value = lookup(again, place)
        assert text.removesuffix(" ×") in (figure(value), f"{value:,}"), place


def test_what_a_scenario_says_beside_its_value_is_on_the_page() -> None:
    facts = run()
    assert "More figures" not in page(facts)
    facts["scenarios"][0]["summary"]["edge"]["details"] = {"resumed, %": 99.5}
    assert ("scenarios/0/summary/edge/details/resumed, %", "99.5") in read(page(facts)).figures


def test_everything_that_was_found_is_on_the_page() -> None:
    facts = run()
    text = page(facts)
    shown = {place for place, _ in read(text).figures}
    for number, scenario in enumerate(facts["scenarios"]):
        for name in scenario["summary"]:
            assert f"scenarios/{number}/summary/{name}/value" in shown
    for words in (
        "envoy &lt;failed&gt;",
        "a &lt;fast&gt; one",
        "worker_processes 1; # &lt;&amp;&gt;",
        "bench --peers nginx,edge,envoy &#x27;it",
    ):
        assert words in text
    assert text.count('class="line ') == 2


def test_the_conclusions_are_made_from_the_figures() -> None:
    said = "\n".join(run()["conclusions"])
    assert "edge spends 326 µs per full TLS 1.3 handshake, 0.80 of nginx (0.80 to 0.80)." in said
    assert "Resumption of a TLS 1.3 handshake saves 60% at edge (60% to 60%)." in said
    assert "RSA 2048 costs 3.10 times ECDSA P-256 at edge" in said
    assert "X25519MLKEM768 costs 1.20 times X25519" in said
    assert "The cheapest full TLS 1.3 handshake here is envoy's: 265 µs, 0.81 of edge (0.81 to 0.81)." in said
    assert "3.00 ms at edge, 3.00 ms at nginx; within a round 1.00 (1.00 to 1.00; the range includes 1, so no" in said
    assert "edge spends 1.50 × nginx's CPU per small HTTP/1.1 request" in said
    assert "59% of that is not crypto (57% to 64%): 60.0 µs are the kernel's, 130 µs edge's own (126 to 153)." in said
    assert "edge executes 1,200 thousand instructions per full TLS 1.3 handshake, 0.50 of nginx's, in 1.00 of its cycles" in said


def test_what_a_single_round_and_a_range_do_not_prove_is_said() -> None:
    facts = run()
    for scenario in facts["scenarios"]:
        scenario["rounds"] = scenario["rounds"][:1]
    part = facts["floor"]["parts"][0]
    part |= {"rest_low": -4.0}
    said = "\n".join(of_peers(facts))
    assert "saves 60% at edge, by a single round, which proves nothing" in said
    assert "RSA 2048 costs 3.10 times ECDSA P-256 at edge (server CPU, TLS 1.3; a single round proves nothing)." in said
    assert "edge's own (-4.00 to 153), which proves no share of its own" in said
    facts = run()
    facts["scenarios"][1]["rounds"][0]["edge"]["value"] = 1.0
    assert "is not shown to save anything at edge" in "\n".join(of_peers(facts))


def test_a_busy_machine_is_said() -> None:
    facts = run()
    facts["machine"] = MACHINE | {"load_average": [5.0, 5.0, 5.0]}
    for scenario in facts["scenarios"]:
        for found in scenario["summary"].values():
            found["busy"] = 0.4
    said = "\n".join(of_doubts(facts))
    assert "load average 5.00 on 2 cores" in said
    assert "In 9 of 9 closed loops" not in said
    assert "closed loops neither the server nor the client had a full core (the server's down to 40%)" in said
    assert of_doubts(run()) == [
        "3 rounds are few: of two equal targets the ratios of all rounds lie on one side of 1 by chance in 25% of runs."
    ]


def test_a_late_client_and_a_full_one_are_said() -> None:
    facts = run()
    facts["scenarios"][-1]["summary"]["edge"]["doubtful"] = 3
    facts["scenarios"][-1]["summary"]["nginx"]["aside"] = 2
    facts["scenarios"][-1]["latency"]["edge"]["late"] = 2.5
    facts["scenarios"][0]["summary"]["edge"] |= {"load_busy": 0.99, "busy": 0.6}
    said = "\n".join([*of_peers(facts), *of_doubts(facts)])
    assert "the client was late itself in every sample of edge, by up to 2.50 ms" in said
    assert "2 samples of it did not count" in said
    assert "The client's core was full in tls1.3-full with edge" in said


def test_the_conclusions_of_one_target() -> None:
    said = "\n".join(handshake()["conclusions"])
    assert "It speaks TLS 1.3; a full TLS 1.3 handshake takes 0.62 ms here" in said
    assert "TLS 1.3 is not resumed" in said
    assert "early data (0-RTT)" in said
    assert "2 of the handshakes failed" in said
    assert "longer than TCP's first window" in said
    assert "599 a second of 600 wanted, median 0.62 ms, too few samples for p99; 1 failed." in said


def test_json_and_page_are_written_beside_each_other(tmp_path: Path) -> None:
    facts = run()
    write(tmp_path / "new" / "one.json", facts)
    written = json.loads((tmp_path / "new" / "one.json").read_text())
    assert written["conclusions"] == facts["conclusions"]
    assert "durations" not in written["scenarios"][-1]["rounds"][0]["edge"]
    assert (tmp_path / "new" / "one.html").read_text() == page(written)


def test_whatever_is_no_element_is_escaped() -> None:
    assert tag("p", "<b>", tag("i", "&"), title='"x"') == '<p title="&quot;x&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert isinstance(tag("p"), Markup)


def test_the_latency_plot_ends_where_the_samples_do() -> None:
    drawn = latency({"one": ("c0", [(0, 1.0), (50, 2.0), (90, 3.0), (99, 9.0)]), "none": ("c1", [])})
    assert drawn is not None
    assert "99 %" in drawn
    assert "99.9 %" not in drawn
    assert len(re.findall(r"<path", drawn)) == 1
    assert latency({"none": ("c1", [])}) is None
