"""h2load and wrk: many streams and connections at once, and not one failure."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from .conftest import Nginx, StartGateway
from .gateway import Gateway, wait_for
from .pki import Pki


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, nginx_upstream: Nginx) -> Gateway:
    return start_shared('[limits]\nrequests_per_connection = "off"\n' + pki.host(nginx_upstream.url))


def run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("arguments", [["-m", "10"], ["-m", "100"], ["--h1"]], ids=["10 streams", "100 streams", "http1"])
def test_h2load_finishes_every_request(edge: Gateway, arguments: list[str]) -> None:
    before = len(edge.access())
    out = run("h2load", "-n", "3000", "-c", "20", *arguments, f"https://localhost:{edge.port}/small")
    assert re.search(r"requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout", out), out
    assert "status codes: 3000 2xx" in out
    wait_for(lambda: len(edge.access()) >= before + 3000, "a log line for each")


def test_h2load_moves_large_bodies(edge: Gateway) -> None:
    out = run("h2load", "-n", "60", "-c", "3", "-m", "10", f"https://localhost:{edge.port}/megabyte")
    assert "60 succeeded, 0 failed, 0 errored" in out
    assert re.search(r"traffic: .*\(\d+\) total.*, (\d+\.\d+)MB \((\d+)\) data", out)
    assert f"({60 << 20}) data" in out


def test_h2load_uploads(edge: Gateway, tmp_path_factory: pytest.TempPathFactory) -> None:
    body = tmp_path_factory.mktemp("body") / "body"
    body.write_bytes(bytes(100_000))
    out = run("h2load", "-n", "300", "-c", "5", "-m", "10", "-d", str(body), f"https://localhost:{edge.port}/no-content")
    assert "300 succeeded, 0 failed, 0 errored" in out


def test_wrk_sees_no_errors(edge: Gateway) -> None:
    out = run("wrk", "-t1", "-c20", "-d1s", f"https://127.0.0.1:{edge.port}/small")
    assert "Non-2xx" not in out
    assert "Socket errors" not in out
    assert int(re.search(r"(\d+) requests in", out)[1]) > 0  # type: ignore[index]


def test_new_connections_for_every_request_work(edge: Gateway) -> None:
    out = run("h2load", "--h1", "-n", "200", "-c", "200", f"https://localhost:{edge.port}/small")
    assert "200 succeeded, 0 failed, 0 errored" in out
