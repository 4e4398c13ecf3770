"""The commands that ask a running gateway: what a person reads, what a script gets, and every way of not getting an answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.cli.main import main
from tests.cli.scripted import Scripted

NOW = 1_790_000_000.0
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gateway(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    scripted = Scripted(short_tmp / "edge.sock")
    yield scripted
    scripted.close()


@pytest.fixture
def run(gateway: Scripted, capsys: pytest.CaptureFixture[str]) -> Run:
    def ask(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(gateway.path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


def worker(number: int, pid: int, since: float, **more: Any) -> dict[str, Any]:
    return {"number": number, "pid": pid, "state": "serving", "since": since, "restarts": 0, **more}


STATUS: dict[str, Any] = {
    "ok": True, "pid": 4711, "generation": 3, "digest": "1a2b3c4d5e6f" + "0" * 52,
    "since": NOW - 7200, "started": NOW - 3 * 86_400,
    "ready": True, "state": "serving", "config": "/etc/edge/edge.toml", "degraded": [],
    "workers": [
        worker(1, 4712, NOW - 7200, connections=12, accepted=900, lag_ms=0.31),
        worker(2, 4713, NOW - 60, connections=11, accepted=20, lag_ms=2.0, restarts=1),
    ],
    "listeners": [{"name": "https", "address": ["0.0.0.0:443", "[::]:443"], "urls": ["https://0.0.0.0:443"]}],
    "reloads": {"accepted": 2, "refused": 1, "last": {"at": NOW - 7200, "ok": True, "detail": ""}},
    "controller": {"state": "serving", "pid": 4714, "since": NOW - 7200},
}  # fmt: skip


# --- whether there is somebody to ask ---


def test_nobody_there_is_3(short_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = short_tmp / "no.sock"
    assert main(["status", "--socket", str(missing)]) == 3
    err = capsys.readouterr().err
    assert f"no running gateway; looked at {missing}" in err
    assert "Start one: edge run" in err


def test_a_socket_that_was_left_is_3(gateway: Scripted, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    left = gateway.path.with_name("left.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(left))
    assert main(["status", "--socket", str(left)]) == 3
    assert "the gateway that made it is gone" in capsys.readouterr().err


def test_somebody_elses_is_4(gateway: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.replies["status"] = STATUS
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)  # not who answers
    if os.getuid():
        code, out, err = run("status")
        assert (code, out) == (4, "")
        assert "belongs to another user" in err

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edge.cli.ask.ask_at", denied)
    code, _, err = run("status")
    assert code == 4
    assert "Permission denied" in err
    assert "as the user who started the gateway" in err


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "the connection ended without an answer"),
        (b"not json\n", "what came is no answer"),
        (b"[]\n", "what came is no answer"),
        ({"ok": False, "error": "busy", "detail": "a reload runs"}, "busy: a reload runs"),
        ({"ok": False, "error": "unknown-operation", "detail": ""}, "of a version that does not know this"),
    ],
)
def test_no_good_answer_is_1(gateway: Scripted, run: Run, reply: Any, says: str) -> None:
    gateway.replies["status"] = reply
    code, out, err = run("status")
    assert (code, out) == (1, "")
    assert says in err


def test_a_gateway_that_is_silent_ends_with_its_timeout(short_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short_tmp / "s"))
        listening.listen(1)
        assert main(["reload", "--timeout", "50ms", "--socket", str(short_tmp / "s")]) == 1
    assert "no answer within 0.05 s" in capsys.readouterr().err


def test_the_socket_is_found_by_the_file(gateway: Scripted, short_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.replies["status"] = STATUS
    more = short_tmp / "more.toml"
    more.write_text('[server]\nruntime_dir = "${env:EDGE_TEST_RUNTIME:-.}"\n', encoding="utf-8")
    file = short_tmp / "edge.toml"
    file.write_text('include = "more.toml"\nnonsense = 1\n', encoding="utf-8")
    assert main(["status", "--config", str(file)]) == 0
    file.write_text(f'[server]\nruntime_dir = "{short_tmp}/elsewhere"\n', encoding="utf-8")
    assert main(["status", "--config", str(file)]) == 3
    assert f"looked at {short_tmp}/elsewhere/edge.sock\n" in capsys.readouterr().err
    file.write_text('[server]\nruntime_dir = "."\n[limits]\nstreams = \n', encoding="utf-8")  # a slip of the pen
    assert main(["status", "--config", str(file)]) == 0


def test_a_bare_edge_says_what_runs(gateway: Scripted, run: Run) -> None:
    gateway.replies["status"] = STATUS
    assert run()[1].endswith(
        f"A gateway runs here: serving, generation 3 (1a2b3c4d5e6f) since {STAMP}, 2 h ago. "
        f"Its socket is {gateway.path}; more: edge status.\n"
    )


# --- status ---

STAMP = "2026-09-21 12:13:20"


def test_status_reads_well(gateway: Scripted, run: Run) -> None:
    gateway.replies["status"] = STATUS
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert (
        out
        == f"""\
serving, generation 3 (1a2b3c4d5e6f) since {STAMP}, 2 h ago
process     pid 4711, started 2026-09-18 14:13:20, 3 days ago
settings    /etc/edge/edge.toml
listener    https: https://0.0.0.0:443
clients     23 connections in 2 workers
reloads     2 accepted, 1 refused; the last one 2 h ago: accepted
controller  serving, pid 4714, 2 h ago

WORKER  PID   STATE    SINCE      CLIENTS  ACCEPTED  LAG     RESTARTS
1       4712  serving  2 h ago    12       900       0.3 ms  0
2       4713  serving  1 min ago  11       20        2.0 ms  1
degraded: nothing
"""
    )


def test_a_degraded_gateway_is_1(gateway: Scripted, run: Run) -> None:
    gateway.replies["status"] = {**STATUS, "degraded": ["worker 2 is not serving", "the file changed\x1b[2J, but was refused"]}
    code, out, _ = run("status")
    assert code == 1
    assert "degraded: worker 2 is not serving\ndegraded: the file changed\\x1b[2J, but was refused\n" in out
    gateway.replies["status"] = {**STATUS, "ready": False, "state": "draining"}
    assert run("status")[0] == 1


def test_status_for_scripts(gateway: Scripted, run: Run) -> None:
    gateway.replies["status"] = STATUS
    code, out, _ = run("status", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["version"], told["generation"], len(told["workers"])) == (1, 3, 2)
    assert "ok" not in told


def test_status_waits_until_it_is_ready(gateway: Scripted, run: Run) -> None:
    def soon(_: dict[str, Any]) -> dict[str, Any]:
        return {**STATUS, "ready": len(gateway.requests) > 2}

    gateway.replies["status"] = soon
    assert run("status", "--wait")[0] == 0
    assert len(gateway.requests) == 4  # the last one is what is shown
    gateway.replies["status"] = {**STATUS, "ready": False}
    code, _, err = run("status", "--wait", "--timeout", "1ms")
    assert code == 1
    assert "not ready yet" in err


def test_watching_ends_with_ctrl_c(gateway: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.replies["status"] = STATUS
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    code, out, _ = run("status", "--watch", "--interval", "5s")
    assert (code, sleeps) == (0, [5.0, 5.0])
    assert out.count("generation 3") == 2


# --- reload, stop, upgrade ---

WEAKER = [
    {
        "weaker": True,
        "kind": "client_auth",
        "where": "host a.example",
        "text": "3 hosts lose client_auth (require → off): a, b, c",
    },
    {"weaker": False, "kind": "route-added", "where": "route a.example/x", "text": "route a.example/x added"},
]


def test_a_reload_says_what_is_live(gateway: Scripted, run: Run) -> None:
    gateway.replies["reload"] = {
        "ok": True,
        "generation": 4,
        "digest": "f" * 64,
        "changes": WEAKER[1:],
        "warnings": ["a warning"],
    }
    code, out, err = run("reload")
    assert (code, err) == (0, "a warning\n")
    assert out == "  route a.example/x added\nlive: generation 4, 1 change (ffffffffffff)\n"
    gateway.replies["reload"] = {"ok": True, "generation": 5, "digest": "f" * 64, "changes": [], "warnings": []}
    assert run("reload", "--allow-weaker")[1] == "live: generation 5, nothing changed (ffffffffffff)\n"
    assert [request["allow_weaker"] for request in gateway.requests] == [False, True]


def test_a_weakening_reload_needs_to_be_meant(gateway: Scripted, run: Run) -> None:
    gateway.replies["reload"] = {"ok": False, "error": "weaker", "detail": "1 change weakens security", "changes": WEAKER}
    code, out, err = run("reload")
    assert (code, out) == (1, "")
    assert err == (
        "! 3 hosts lose client_auth (require → off): a, b, c\n"
        "  route a.example/x added\n"
        "refused: 2 changes, 1 of them weakens security. What ran goes on.\n"
        "      If that is meant: edge reload --allow-weaker\n"
    )


def test_a_mistake_shows_its_line(gateway: Scripted, run: Run) -> None:
    problem = "edge.toml:3:9: error: unknown key 'nmae'\n  nmae = 1\n  ^^^^ write name\x07"
    gateway.replies["reload"] = {"ok": False, "error": "invalid-settings", "detail": "1 error", "problems": [problem]}
    code, out, err = run("reload")
    assert (code, out) == (1, "")
    assert err.startswith("edge.toml:3:9: error: unknown key 'nmae'\n  nmae = 1\n  ^^^^ write name\\x07\n")
    assert err.endswith("refused: invalid-settings. What ran goes on.\n")
    code, out, _ = run("reload", "--json")
    assert code == 1
    assert json.loads(out)["error"] == "invalid-settings"
    assert json.loads(out)["reloaded"] is False


def test_stop(gateway: Scripted, run: Run) -> None:
    gateway.replies["stop"] = {"ok": True, "pid": 4711, "drain": 30.0}
    assert run("stop") == (0, "stopping: pid 4711 takes no new connections, open ones have 30 s to finish\n", "")
    assert json.loads(run("stop", "--json")[1])["pid"] == 4711


def test_stop_waits_until_it_is_gone(gateway: Scripted, run: Run) -> None:
    gateway.replies["stop"] = {"ok": True, "pid": 4711, "drain": 30.0}

    def successor(_: dict[str, Any]) -> dict[str, Any]:
        return {**STATUS, "pid": 4711 if len(gateway.requests) < 4 else 9999}

    gateway.replies["status"] = successor
    code, out, err = run("stop", "--wait")
    assert (code, err) == (0, "pid 4711 drains, at most 30 s\n")
    assert out.startswith("stopped after ")
    gateway.replies["status"] = STATUS
    code, _, err = run("stop", "--wait", "--timeout", "20ms")
    assert code == 1
    assert "still runs" in err


def test_upgrade(gateway: Scripted, run: Run) -> None:
    gateway.replies["upgrade"] = {"ok": True, "pid": 5000, "in_place": False}
    assert run("upgrade") == (0, "upgraded: pid 5000 serves; what was open finishes in the old program\n", "")
    gateway.replies["upgrade"] = {"ok": True, "pid": 1, "in_place": True}
    assert run("upgrade")[1].startswith("upgrading in place: pid 1 ")
    gateway.replies["upgrade"] = {
        "ok": False,
        "error": "upgrade-failed",
        "detail": "it ended with status 1",
        "said": "edge: no\x07\n",
    }
    assert run("upgrade") == (1, "", "  edge: no\\x07\nedge: upgrade-failed: it ended with status 1\n")
    assert json.loads(run("upgrade", "--json")[1])["upgraded"] is False


# --- certs ---


def certificate(name: str, days: float, hosts: list[str], before: float = -10) -> dict[str, Any]:
    return {
        "name": name, "key_type": "ecdsa", "names": hosts, "hosts": hosts, "fingerprint": name.ljust(64, "0"),
        "not_before": NOW + before * 86_400, "not_after": NOW + days * 86_400,
    }  # fmt: skip


def test_certs(gateway: Scripted, run: Run) -> None:
    many = [f"{letter}.example" for letter in "abcdef"]
    found = [
        {**certificate("/c/b.pem", 80, many), "staple": {"state": "not-applicable", "until": None}},
        {**certificate("/c/a.pem", 3.5, ["a.example"]), "staple": {"state": "good", "until": NOW + 3 * 86_400}},
        {
            **certificate("/c/old.pem", -2, ["old.example"]),
            "staple": {"state": "revoked", "until": NOW + 60, "detail": "the authority says so"},
        },
    ]
    gateway.replies["certs"] = {"ok": True, "certificates": found}
    code, out, _ = run("certs")
    assert code == 0
    assert (
        out
        == """\
EXPIRES     LEFT            KEY    STAPLE           HOSTS                            CERTIFICATE
2026-09-19  expired 2 days  ecdsa  REVOKED          old.example                      /c/old.pem
2026-09-25  3 days          ecdsa  good for 3 days  a.example                        /c/a.pem
2026-12-10  80 days         ecdsa  not applicable   a.example, b.example and 4 more  /c/b.pem
/c/old.pem: staple: the authority says so
"""
    )
    code, out, err = run("certs", "--expiring", "7d")
    assert (code, len(out.splitlines())) == (1, 4)
    assert err == "2 of 3 certificates expire within 7 days\nWhat to do: edge help runbooks\n"
    gateway.replies["certs"] = {"ok": True, "certificates": found[:1]}
    assert run("certs", "--expiring", "7d") == (0, "", "none of 1 certificate expires within 7 days\n")
    assert json.loads(run("certs", "--json")[1])["certificates"][0]["seconds_left"] == 80 * 86_400


# --- failures ---


def entry(
    kind: str, sni: str | None, count: int = 1, age: float = 130, detail: str = "", stage: str = "choose"
) -> dict[str, Any]:
    return {
        "kind": kind, "blame": "client", "stage": stage, "sni": sni, "peer": "192.0.2.7", "listener": "https", "count": count,
        "first": NOW - 500, "last": NOW - age, "detail": detail,
    }  # fmt: skip


def failing(*workers: list[dict[str, Any]]) -> dict[str, Any]:
    values = [{"total": 40, "left_out": 0, "failures": entries} for entries in workers]
    return {
        "ok": True,
        "at": NOW,
        "silent": [],
        "workers": [{"number": at, "value": value} for at, value in enumerate(values, 1)],
    }


def test_failures_are_sentences(gateway: Scripted, run: Run) -> None:
    gateway.replies["failures"] = failing(
        [entry("unknown-sni", "old.example", 6), entry("alert-from-client", "a.example", detail="unknown_ca", age=20)],
        [entry("unknown-sni", "old.example"), entry("no-common-version", "a.example", age=10),
         entry("not-tls", None, stage="hello", age=5)],
    )  # fmt: skip
    code, out, err = run("failures")
    assert code == 0
    assert (
        out
        == """\
unknown-sni  7 times, last 2 min ago
    192.0.2.7 asked for old.example on https: no host has the name that the client asked for.
    Add the host; a stranger's scanner is normal.
alert-from-client  20 s ago
    192.0.2.7 asked for a.example on https: the client ended the handshake (unknown_ca).
    When it is unknown_ca or bad_certificate, it does not trust the chain: is an intermediate missing? edge check tells.
no-common-version  10 s ago
    192.0.2.7 asked for a.example on https: the client offers only old versions of TLS.
    A client from before 2014, or a scanner.
not-tls  5 s ago
    192.0.2.7 connected on https: the first bytes are no TLS; plain HTTP gets an answer that says so.
    The client should say https://.
"""
    )
    assert err == "10 failed handshakes from 1 client; 80 since the workers started\n"
    _, out, err = run("failures", "--since", "15s")
    assert "unknown-sni" not in out
    assert err == "2 failed handshakes in the last 15 s from 1 client; 80 since the workers started\n"


def test_failures_for_scripts_and_none(gateway: Scripted, run: Run) -> None:
    gateway.replies["failures"] = failing([entry("no-sni", None)])
    (told,) = json.loads(run("failures", "--json")[1])["failures"]
    assert told["text"] == "192.0.2.7 named no host on https: the client sent no name."
    assert told["kind"] == "no-sni"
    gateway.replies["failures"] = {**failing([]), "silent": [2]}
    assert run("failures") == (0, "", "no failed handshakes\nno answer from worker 2\n")


def test_every_kind_of_failure_has_a_sentence() -> None:
    """Each fault that the page of errors lists under handshakes reads as a sentence: no leftovers of the table."""
    import re

    from edge.cli.faults import about, page_of_errors, sentence

    part = page_of_errors().partition("## Handshakes")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `") and "`fault`" not in line]
    kinds = [kind for row in rows for kind in re.findall(r"`([a-z-]+)`", row)]
    assert len(kinds) > 20
    for kind in kinds:
        assert about(kind)
        means, remedy = sentence(kind, "because")
        assert means.endswith("(because)")
        assert "`" not in means + remedy
        assert "detail" not in means
    assert sentence("never-heard-of", "") == ("never heard of", "")
    assert sentence("client-certificate-expired", "")[0] == "client certificate expired"


# --- upstreams ---


def endpoint(url: str, **more: Any) -> dict[str, Any]:
    return {
        "upstream": "app", "endpoint": url, "weight": 1, "checked": True, "healthy": True, "ejected_for": 0.0, "failures": 0,
        "trouble": "", "active": 2, "connections": 5, "idle": 3, "waiting": 0, **more,
    }  # fmt: skip


TABLE = """\
UPSTREAM  ENDPOINT            STATE                             REQUESTS  OPEN  IDLE  WAITING
app       http://10.0.0.1:80  well                              4         10    6     0
app       http://10.0.0.2:80  unwell                            0         0     0     0
app       http://10.0.0.3:80  aside for 12 s in 1 of 2 workers  4         10    6     0
-         http://10.0.0.4:80  well, not checked                 4         10    6     0
http://10.0.0.2:80: check: status 503
http://10.0.0.3:80: upstream: connect-failed (refused)
"""


def test_upstreams(gateway: Scripted, run: Run) -> None:
    down = endpoint("http://10.0.0.2:80", healthy=False, trouble="check: status 503", active=0, connections=0, idle=0)
    aside = endpoint(
        "http://10.0.0.3:80", ejected_for=12.4, checked=False, failures=3, trouble="upstream: connect-failed (refused)"
    )
    inline = endpoint("http://10.0.0.4:80", upstream="http://10.0.0.4:80", checked=False)
    one = {"endpoints": [endpoint("http://10.0.0.1:80"), down, aside, inline], "left_out": 0}
    two = {
        "endpoints": [endpoint("http://10.0.0.1:80"), down, endpoint("http://10.0.0.3:80", checked=False), inline],
        "left_out": 0,
    }
    gateway.replies["upstreams"] = {
        "ok": True,
        "silent": [],
        "workers": [{"number": 1, "value": one}, {"number": 2, "value": two}],
    }
    code, out, err = run("upstreams")
    assert (code, err) == (1, "4 endpoints, 2 not well\n")
    assert out == TABLE
    failing = endpoint("http://10.0.0.5:80", failures=2, trouble="upstream: upstream-pin-mismatch")
    gateway.replies["upstreams"] = {"ok": True, "workers": [{"number": 1, "value": {"endpoints": [failing], "left_out": 0}}]}
    code, out, _ = run("upstreams")
    assert (code, "failing, 2 in a row" in out, "http://10.0.0.5:80: upstream: upstream-pin-mismatch\n" in out) == (0, True, True)
    gateway.replies["upstreams"] = {"ok": True, "workers": [{"number": 1, "value": {"endpoints": [inline], "left_out": 0}}]}
    assert run("upstreams")[0] == 0
    assert json.loads(run("upstreams", "--json")[1])["endpoints"][0]["workers"] == 1


# --- top ---


def histogram(*counts: int) -> dict[str, Any]:
    from edge.observe.metrics import METRICS

    buckets = [float(count) for count in counts] + [0.0] * (len(METRICS["edge_request_seconds"].buckets) + 1 - len(counts))
    return {"count": sum(buckets), "sum": 1.0, "buckets": buckets}


def test_top(gateway: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {
        "edge_connections": [[["https"], 7.0]],
        "edge_connections_accepted_total": [[["https"], 100.0]],
        "edge_handshakes_total": [[["https", "TLSv1.3", "X25519", "no"], 50.0]],
        "edge_requests_total": [[["/v1/", "2xx", "HTTP/2"], 1000.0]],
        "edge_request_seconds": [[["/v1/"], histogram(1000)]],
    }
    after = {
        "edge_connections": [[["https"], 9.0]],
        "edge_connections_accepted_total": [[["https"], 120.0]],
        "edge_handshakes_total": [[["https", "TLSv1.3", "X25519", "no"], 65.0], [["https", "TLSv1.3", "X25519", "yes"], 5.0]],
        "edge_handshake_failures_total": [[["https", "unknown-sni", "client", "choose"], 1.0]],
        "edge_requests_total": [[["/v1/", "2xx", "HTTP/2"], 2990.0], [["/v1/", "5xx", "HTTP/2"], 10.0]],
        "edge_request_seconds": [[["/v1/"], histogram(1000, 1000, 1000)]],
        "edge_response_body_bytes_total": [[["/v1/"], 5_000_000.0]],
        "edge_upstream_requests_total": [[["app", "http://10.0.0.1:80", "2xx"], 2000.0]],
    }
    gateway.replies["metrics"] = lambda _: {"ok": True, "metrics": before if len(gateway.requests) == 1 else after}
    clock = iter([10.0, 10.0, 12.0])
    monkeypatch.setattr("edge.cli.top.time", type("Clock", (), {"monotonic": lambda: next(clock), "sleep": lambda seconds: None}))
    monkeypatch.setattr("edge.control.client.time", type("Clock", (), {"monotonic": lambda: 0.0}))
    code, out, err = run("top")
    assert (code, err) == (0, "")
    assert (
        out
        == """\
edge top: each second, over the last 2 s
connections           9  open; 10.0 new
handshakes         10.0  25% resumed
  failed           0.50  unknown-sni 0.50
requests           1000  2xx 995, 5xx 5.0
  faults              0
  latency        1.0 ms  median; p90 2.2 ms, p99 2.5 ms
bytes in            0 B  of bodies; out 2.5 MB

ROUTE  REQUESTS  5XX  MEDIAN  P99
/v1/   1000      5.0  1.0 ms  2.5 ms
UPSTREAM  ENDPOINT            REQUESTS  NOT CONNECTED
app       http://10.0.0.1:80  1000      0
"""
    )


# --- usage ---


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["reload", "--timeout", "soon"], "is not a duration: for example 30s"),
        (["certs", "--expiring", "0"], "is not a duration"),
        (["failures", "--snce", "1m"], "Did you mean: --since"),
        (["diff", "-", "-"], "only one of the two can be stdin"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in err
