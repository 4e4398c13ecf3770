"""The commands of an operator against a gateway that runs: what they say is true, and they end as scripts need it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from .conftest import Curl, StartGateway
from .gateway import Gateway, wait_for
from .pki import Pki
from .upstreams import ScriptedUpstream


@pytest.fixture
def edge(start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Gateway:
    return start_gateway(
        f"""
        [server]
        workers = 2
        drain = "2s"
        state_dir = "$FOLDER/state"
        runtime_dir = "$FOLDER/run"
        {pki.host(echo_upstream.url)}
        """
    )


def told(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.command(*arguments, "--json").stdout)
    assert found["version"] == 1
    return found


def test_status_says_how_it_is(edge: Gateway, run_curl: Curl) -> None:
    whole = [*edge.program, "status", "--wait", "--timeout", "60s", "--config", str(edge.config)]
    assert subprocess.run(whole, capture_output=True, timeout=90, check=False).returncode == 0
    assert run_curl(edge, "/").status == 200

    def counted() -> dict[str, Any] | None:
        status = told(edge, "status")
        return status if any(worker["accepted"] for worker in status["workers"]) else None

    status = wait_for(counted, "a worker that has told of its connection")
    assert (status["generation"], status["state"], status["ready"], len(status["workers"])) == (1, "serving", True, 2)
    shown = edge.command("status").stdout
    assert shown.startswith("serving, generation 1 (")
    assert str(edge.port) in shown
    assert edge.command().stdout.count("A gateway runs here: serving, generation 1") == 1


def test_certs(edge: Gateway) -> None:
    (certificate,) = told(edge, "certs")["certificates"]
    assert certificate["seconds_left"] > 0
    assert "localhost" in certificate["hosts"]
    assert edge.command("certs", "--expiring", "1s").returncode == 0
    assert edge.command("certs", "--expiring", "999999d").returncode == 1


def test_failures_are_said_in_sentences(edge: Gateway) -> None:
    for name, *more in (("localhost", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), ("stranger.example",), ("stranger.example",)):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-servername", name, *more]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)

    def all_three() -> dict[str, dict[str, Any]] | None:
        found = told(edge, "failures")
        return {one["kind"]: one for one in found["failures"]} if found["total"] == 3 else None

    failures = wait_for(all_three, "three failures")
    assert failures["unknown-sni"]["count"] == 2
    assert (
        failures["unknown-sni"]["text"]
        == "127.0.0.1 asked for stranger.example on main: no host has the name that the client asked for."
    )
    assert (
        "127.0.0.1 asked for localhost on main: the client offers only old versions of TLS"
        in failures["no-common-version"]["text"]
    )
    shown = edge.command("failures", "--since", "1m")
    assert "Add the host; a stranger's scanner is normal." in shown.stdout
    assert "3 failed handshakes in the last 1 min from 1 client" in shown.stderr


def test_upstreams_and_top(edge: Gateway, run_curl: Curl, echo_upstream: ScriptedUpstream) -> None:
    assert run_curl(edge, "/").status == 200
    (endpoint,) = told(edge, "upstreams")["endpoints"]
    assert (endpoint["endpoint"], endpoint["workers"], endpoint["unwell_in"]) == (echo_upstream.url, 2, 0)
    assert edge.command("upstreams").returncode == 0
    top = told(edge, "top", "--interval", "100ms")
    assert top["connections"] >= 0
    assert "requests" in edge.command("top", "--interval", "100ms").stdout


def test_diff_compares_what_runs_with_the_file(edge: Gateway) -> None:
    assert told(edge, "diff")["same"] is True
    text = edge.config.read_text(encoding="utf-8")
    edge.config.write_text(text + "[limits]\nstreams = 500\n", encoding="utf-8")
    done = edge.command("diff")
    assert done.returncode == 1
    assert done.stdout.startswith("! everywhere (listener main and route localhost/): limits.streams 100 → 500")
    edge.config.write_text("# moved\n" + text, encoding="utf-8")
    assert edge.command("diff").returncode == 0


def test_stop_waits_until_it_is_gone(edge: Gateway) -> None:
    done = edge.command("stop", "--wait")
    assert (done.returncode, done.stdout[:14]) == (0, "stopped after ")
    assert edge.command("status").returncode == 3
    assert edge.command("stop").returncode == 3


def test_reload_takes_the_file_and_asks_before_it_weakens(edge: Gateway, run_curl: Curl) -> None:
    text = edge.config.read_text(encoding="utf-8")
    route = '[[route]]\npath = "/new"\nrespond = { status = 200, body = "new" }\n'
    edge.config.write_text(text + route, encoding="utf-8")
    done = edge.command("reload")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "  route */new added")
    assert done.stdout.splitlines()[1].startswith("live: generation 2, 1 change (")
    assert run_curl(edge, "/new").body == b"new"

    edge.config.write_text(text + route + "[limits]\nstreams = 500\n", encoding="utf-8")
    done = edge.command("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("! everywhere (")
    assert done.stderr.endswith("What ran goes on.\n      If that is meant: edge reload --allow-weaker\n")
    status = edge.command("status")
    assert status.returncode == 1
    assert "1 accepted, 1 refused" in status.stdout
    assert edge.command("reload", "--allow-weaker").returncode == 0
    assert told(edge, "status")["generation"] == 3
    assert edge.command("status").returncode == 0

    edge.config.write_text(text + "[limts]\n", encoding="utf-8")
    done = edge.command("reload")
    assert done.returncode == 1
    assert "unknown key 'limts'" in done.stderr
    assert "^~~~~" in done.stderr
    assert run_curl(edge, "/new").body == b"new"
