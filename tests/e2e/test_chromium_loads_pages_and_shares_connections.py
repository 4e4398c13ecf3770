"""Headless Chromium: loads a page over HTTP/2, and two hosts of one wildcard share a connection."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import StartGateway, StartUpstream
from .gateway import Gateway
from .pki import Pki
from .upstreams import Conn, Request, ScriptedUpstream, by_path, plain_answer

PAGE = b"""<!doctype html><title>page</title><p id=out>waiting</p><script>
Promise.all(ASKS.map(url => fetch(url, OPTIONS).then(answer => answer.text())))
  .then(texts => { document.getElementById("out").textContent = "got " + texts.join(" and "); },
        error => { document.getElementById("out").textContent = "failed " + error; });
</script>"""


def page(asks: str, options: str = "{}") -> bytes:
    html = PAGE.replace(b"ASKS", asks.encode()).replace(b"OPTIONS", options.encode())
    return plain_answer(html, "200 OK", "Content-Type: text/html")


def shared(conn: Conn, request: Request) -> None:
    """Asks the neighbour with credentials, as for an image: browsers keep connections with and without apart."""
    port = request.target.partition("=")[2]
    conn.send(page(f"['/one', 'https://b.wild.test:{port}/two']", '{mode: "no-cors", credentials: "include"}'))


def script(conn: Conn, request: Request) -> None:
    conn.send(plain_answer(b"script", "200 OK", "Content-Type: text/plain", "Access-Control-Allow-Origin: *"))


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("chromium is not installed")


def dom(url: str, pki: Pki, profile: Path, rules: str) -> str:
    """The page's DOM after its scripts have run."""
    spki = ",".join((pki.localhost.spki_sha256, pki.wild.spki_sha256))
    done = subprocess.run(
        [
            chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--disable-dev-shm-usage", "--disable-features=LocalNetworkAccessChecks", f"--user-data-dir={profile}",
            f"--ignore-certificate-errors-spki-list={spki}", f"--host-resolver-rules={rules}", "--virtual-time-budget=8000",
            "--dump-dom", url,
        ],
        capture_output=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    return done.stdout.decode(errors="replace")


@pytest.fixture
def upstream(start_upstream: StartUpstream) -> ScriptedUpstream:
    return start_upstream(
        by_path(
            {
                "/page": lambda conn, _: conn.send(page("['/one', '/two', '/three']")),
                "/shared": shared,
                "/one": script,
                "/two": script,
                "/three": script,
            }
        )
    )


@pytest.fixture
def edge(start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_gateway(
        f"""
        {pki.host(upstream.url)}
        {pki.host(upstream.url, "a.wild.test", pki.wild)}
        {pki.host(upstream.url, "b.wild.test", pki.wild)}
        """
    )


def test_a_page_and_what_it_fetches_come_over_one_http2_connection(edge: Gateway, pki: Pki, tmp_path: Path) -> None:
    html = dom(f"{edge.url}/page", pki, tmp_path / "profile", "MAP localhost 127.0.0.1")
    assert "got script and script and script" in html
    lines = [edge.access_line(path=path) for path in ("/page", "/one", "/two", "/three")]
    assert {line["protocol"] for line in lines} <= {"HTTP/2", "HTTP/2.0"}
    assert len({line["peer_port"] for line in lines}) == 1


def test_two_hosts_of_one_wildcard_share_an_http2_connection(
    edge: Gateway, pki: Pki, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    rules = "MAP *.wild.test 127.0.0.1"
    html = dom(f"https://a.wild.test:{edge.port}/shared?port={edge.port}", pki, tmp_path / "profile", rules)
    assert "got script and " in html
    first = edge.access_line(path="/one")
    second = edge.access_line(path="/two")
    assert [line["host"].partition(":")[0] for line in (first, second)] == ["a.wild.test", "b.wild.test"]
    assert first["peer_port"] == second["peer_port"], "coalesced"
    assert 421 not in [line["status"] for line in edge.access()]


def test_the_demo_page_loads(edge: Gateway, start_gateway: StartGateway, pki: Pki, demo_upstream: str, tmp_path: Path) -> None:
    gateway = start_gateway(pki.host(demo_upstream))
    html = dom(f"{gateway.url}/", pki, tmp_path / "profile", "MAP localhost 127.0.0.1")
    assert "<html" in html.lower()
    assert gateway.access_line(path="/")["status"] == 200
