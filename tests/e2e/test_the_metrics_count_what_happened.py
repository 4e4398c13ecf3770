"""What /metrics says after traffic that is known: exact counts, across workers, and across a worker's death."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hyperframe import frame as frames
from prometheus_client.parser import text_string_to_metric_families as parse

from edge.observe.metrics import METRICS, STATED

from .clients import curl
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway, free_port, wait_for
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn, ScriptedUpstream, echo

_PROBES = 1  # connections by which the fixture sees that the gateway is there
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Metrics:
    """Asks a gateway's admin listener."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def text(self) -> str:
        with urllib.request.urlopen(self._url, timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def values(self) -> Values:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in parse(self.text())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of `name` that have all of `labels`."""
        wanted = set(labels.items())
        return sum(value for (found, with_labels), value in self.values().items() if found == name and wanted <= set(with_labels))

    def becomes(self, expected: float, name: str, **labels: str) -> None:
        """Wait until it is exactly this: requests are counted a moment after their end."""
        what = f"{name} {labels} = {expected}"
        wait_for(lambda: self.value(name, **labels) == expected, f"{what}, is {self.value(name, **labels)}")


Start = Callable[..., tuple[Gateway, Metrics]]


@pytest.fixture
def start(start_gateway: StartGateway, tmp_path: Path) -> Start:
    def begin(toml: str, *, workers: int = 2) -> tuple[Gateway, Metrics]:
        port = free_port()
        server = f'[server]\nworkers = {workers}\nstate_dir = "{tmp_path}/s"\nruntime_dir = "{tmp_path}/r"\n'
        gateway = start_gateway(f'{server}[admin]\naddress = "127.0.0.1:{port}"\n{toml}')
        metrics = Metrics(port)
        wait_for(lambda: _listens(port), "the admin listener")
        metrics.becomes(_PROBES, "edge_connections_accepted_total", listener="main")
        return gateway, metrics

    return begin


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def s_client(gateway: Gateway, pki: Pki, *arguments: str) -> str:
    done = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{gateway.port}",
            "-servername",
            "localhost",
            "-CAfile",
            str(pki.ca),
            *arguments,
        ],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_requests_are_counted_by_route_status_and_protocol(start: Start, pki: Pki, echo_upstream: ScriptedUpstream) -> None:
    gateway, metrics = start(
        f"""
        {pki.host(echo_upstream.url)}
        [[route]]
        path = "/fixed"
        respond = {{ status = 404, body = "nothing" }}
        """
    )
    sent = b"x" * 1000
    received = 0
    for version in ("--http1.1", "--http2"):
        for _ in range(5):
            received += len(curl(gateway, "/echo", version, "--data-binary", "@-", ca=pki.ca, stdin=sent).body)
        for _ in range(3):
            curl(gateway, "/fixed", version, ca=pki.ca)
    for protocol in ("HTTP/1.1", "HTTP/2"):
        metrics.becomes(5, "edge_requests_total", route="localhost/", status="2xx", protocol=protocol)
        metrics.becomes(3, "edge_requests_total", route="/fixed", status="4xx", protocol=protocol)
    assert metrics.value("edge_requests_total") == 16
    assert metrics.value("edge_request_seconds_count", route="localhost/") == 10
    assert metrics.value("edge_request_seconds_bucket", route="localhost/", le="+Inf") == 10
    assert 0 < metrics.value("edge_request_seconds_sum", route="localhost/") < 20
    assert metrics.value("edge_request_body_bytes_total", route="localhost/") == 10 * len(sent)
    assert metrics.value("edge_response_body_bytes_total", route="localhost/") == received
    assert metrics.value("edge_response_body_bytes_total", route="/fixed") == 6 * len("nothing")
    metrics.becomes(16 + _PROBES, "edge_connections_accepted_total", listener="main")
    metrics.becomes(0, "edge_connections", listener="main")
    assert metrics.value("edge_upstream_requests_total", upstream=echo_upstream.url, status="2xx") == 10
    assert metrics.value("edge_upstream_first_byte_seconds_count") == 10
    connects = metrics.value("edge_upstream_connects_total", endpoint=echo_upstream.url)
    assert 1 <= connects <= 10
    metrics.becomes(10, "edge_upstream_pool_total", endpoint=echo_upstream.url)
    assert metrics.value("edge_upstream_pool_total", endpoint=echo_upstream.url, result="miss") == connects
    metrics.becomes(2, "edge_upstream_endpoint_up", endpoint=echo_upstream.url)
    assert metrics.value("edge_worker_cpu_seconds_total") > 0
    assert metrics.value("edge_loop_lag_seconds_count") > 0


def test_what_is_shown_is_what_the_catalogue_says(start: Start, pki: Pki, echo_upstream: ScriptedUpstream) -> None:
    gateway, metrics = start(pki.host(echo_upstream.url))
    curl(gateway, "/", ca=pki.ca)
    metrics.becomes(1, "edge_requests_total")
    metrics.becomes(2, "edge_worker_up")
    known = {metric.name.removesuffix("_total"): metric for metric in (*METRICS.values(), *STATED)}
    shown = {family.name: family for family in parse(metrics.text())}
    for name, family in shown.items():
        assert (family.type, family.documentation) == (known[name].kind, known[name].help)
    only_after = {"edge_last_reload_success", "edge_last_reload_time_seconds"}
    assert {metric.name.removesuffix("_total") for metric in STATED} - set(shown) <= only_after
    processes = {dict(labels)["process"] for name, labels in metrics.values() if name == "edge_resident_bytes"}
    assert processes == {"supervisor", "controller", "worker 1", "worker 2"}


def test_handshakes_are_counted_by_what_was_negotiated_and_by_how_they_fail(start: Start, pki: Pki) -> None:
    gateway, metrics = start(f"{pki.host('http://127.0.0.1:9')}", workers=1)
    for _ in range(3):
        s_client(gateway, pki, "-tls1_3", "-groups", "X25519")
    s_client(gateway, pki, "-tls1_2", "-groups", "P-256")
    session = gateway.folder / "session"
    s_client(gateway, pki, "-tls1_2", "-groups", "P-256", "-sess_out", str(session))
    assert "Reused" in s_client(gateway, pki, "-tls1_2", "-sess_in", str(session))
    s_client(gateway, pki, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", "unknown.test"],
        input=b"", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    curl(gateway, "/", ca=None)  # which does not trust us
    labels = {"listener": "main"}
    metrics.becomes(3, "edge_handshakes_total", version="TLSv1.3", group="x25519", resumed="no", **labels)
    metrics.becomes(2, "edge_handshakes_total", version="TLSv1.2", group="secp256r1", resumed="no", **labels)
    metrics.becomes(1, "edge_handshakes_total", version="TLSv1.2", group="", resumed="yes", **labels)
    metrics.becomes(1, "edge_handshake_seconds_count", resumed="yes", **labels)
    metrics.becomes(1, "edge_handshake_failures_total", kind="unknown-sni", blame="client", stage="hello", **labels)
    metrics.becomes(3, "edge_handshake_failures_total", blame="client", **labels)
    assert metrics.value("edge_handshakes_total") == metrics.value("edge_handshake_seconds_count") == 6
    assert metrics.value("edge_connections_accepted_total") == 9 + _PROBES


def test_failures_of_upstreams_are_counted(start: Start, pki: Pki) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    gateway, metrics = start(
        f"""
        {pki.host("app")}
        [upstream.app]
        endpoints = ["{dead}"]
        health = {{ path = "/", interval = "1s", timeout = "500ms", fall = 1 }}
        """,
        workers=1,
    )
    assert curl(gateway, "/", ca=pki.ca).status == 502
    metrics.becomes(1, "edge_requests_total", route="localhost/", status="5xx")
    metrics.becomes(1, "edge_upstream_requests_total", upstream="app", endpoint=dead, status="5xx")
    metrics.becomes(1, "edge_faults_total", kind="connect-failed", blame="upstream")
    metrics.becomes(0, "edge_upstream_endpoint_up", upstream="app", endpoint=dead)
    assert metrics.value("edge_upstream_connect_failures_total", upstream="app", endpoint=dead, kind="connect-failed") >= 2
    assert metrics.value("edge_upstream_checks_total", upstream="app", endpoint=dead, result="failed") >= 1
    assert metrics.value("edge_upstream_connects_total", upstream="app") == 0


def test_a_retry_is_counted_at_its_upstream(start: Start, pki: Pki, echo_upstream: ScriptedUpstream) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    upstream = f'[upstream.app]\nendpoints = ["{dead}", "{echo_upstream.url}"]\nbalance = "round_robin"\n'
    gateway, metrics = start(f"{pki.host('app')}\n{upstream}", workers=1)
    metrics.becomes(0, "edge_upstream_retries_total", upstream="app")
    for _ in range(2):
        assert curl(gateway, "/", ca=pki.ca).status == 200
    metrics.becomes(2, "edge_upstream_requests_total", upstream="app", endpoint=echo_upstream.url, status="2xx")
    assert metrics.value("edge_upstream_retries_total", upstream="app") == 1
    assert metrics.value("edge_upstream_connect_failures_total", upstream="app", endpoint=dead) == 1


def test_counts_go_on_when_a_worker_is_killed_and_gauges_forget_it(
    start: Start, pki: Pki, echo_upstream: ScriptedUpstream
) -> None:
    gateway, metrics = start(pki.host(echo_upstream.url), workers=1)
    for _ in range(4):
        curl(gateway, "/", ca=pki.ca)
    with socket.create_connection(("127.0.0.1", gateway.port)):
        metrics.becomes(4, "edge_requests_total", status="2xx")
        metrics.becomes(1, "edge_connections", listener="main")
        before = metrics.values()
        os.kill(_worker(gateway), signal.SIGKILL)
        metrics.becomes(0, "edge_connections", listener="main")
    metrics.becomes(1, "edge_worker_restarts_total", worker="1")
    after = metrics.values()
    for (name, labels), value in before.items():
        if name.endswith(("_total", "_count", "_bucket", "_sum")):
            assert after[name, labels] >= value, name
    for _ in range(3):
        assert curl(gateway, "/", "--retry", "5", "--retry-connrefused", ca=pki.ca).status == 200
    metrics.becomes(7, "edge_requests_total", status="2xx")
    metrics.becomes(7, "edge_request_seconds_count", route="localhost/")


def test_counts_survive_a_reload_and_what_left_the_settings_is_measured_no_more(
    start: Start, pki: Pki, echo_upstream: ScriptedUpstream
) -> None:
    gateway, metrics = start(f"""
        {pki.host(echo_upstream.url)}
        [upstream.gone]
        endpoints = ["http://127.0.0.1:9"]
    """)
    for _ in range(4):
        assert curl(gateway, "/", ca=pki.ca).status == 200
    metrics.becomes(4, "edge_requests_total", route="localhost/")
    metrics.becomes(2, "edge_upstream_endpoint_up", upstream="gone")
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("[upstream.gone]", "[upstream.new]"))
    gateway.signal(signal.SIGHUP)
    metrics.becomes(1, "edge_reloads_total", result="accepted")
    metrics.becomes(2, "edge_upstream_endpoint_up", upstream="new")
    wait_for(
        lambda: (
            not any(("upstream", "gone") in labels for name, labels in metrics.values() if name == "edge_upstream_endpoint_up")
        ),
        "the gauges of what is gone to go",
    )
    for _ in range(4):
        assert curl(gateway, "/", ca=pki.ca).status == 200
    metrics.becomes(8, "edge_requests_total", route="localhost/")
    metrics.becomes(8 + _PROBES, "edge_connections_accepted_total", listener="main")
    assert metrics.value("edge_config_generation") == 2
    assert metrics.value("edge_last_reload_success") == 1
    gateway.config.write_text("nonsense")
    gateway.signal(signal.SIGHUP)
    metrics.becomes(1, "edge_reloads_total", result="refused")
    assert metrics.value("edge_last_reload_success") == 0
    assert metrics.value("edge_requests_total", route="localhost/") == 8


def test_tunnels_are_counted_but_not_timed(start: Start, pki: Pki, start_upstream: StartUpstream) -> None:
    """A WebSocket of an hour says nothing about how fast anybody answers."""
    upstream = start_upstream(echo)
    gateway, metrics = start(pki.host(upstream.url), workers=1)
    curl(
        gateway, "/", "--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
        "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", ca=pki.ca,
    )  # fmt: skip
    curl(gateway, "/", ca=pki.ca)
    metrics.becomes(2, "edge_requests_total")
    metrics.becomes(1, "edge_request_seconds_count")


def test_what_attackers_do_is_counted(start: Start, pki: Pki, start_upstream: StartUpstream, h2: Callable[..., H2Client]) -> None:
    upstream = start_upstream(_never_answers)
    gateway, metrics = start(f"{pki.host(upstream.url)}\n[limits]\nconnections = 2\nh2_resets = 20\n", workers=1)
    client = h2(gateway)
    for _ in range(3):
        sid = client.request("/")
        client.send_frame(frames.RstStreamFrame(sid, error_code=8))
    metrics.becomes(3, "edge_faults_total", kind="stream-reset", blame="client")
    metrics.becomes(3, "edge_requests_total", status="4xx", protocol="HTTP/2")
    with contextlib.suppress(OSError):  # it is closed before all are sent
        for _ in range(1000):
            sid = client.request("/")
            client.send_frame(frames.RstStreamFrame(sid, error_code=8))
    # the connection, and the streams that were open on it
    wait_for(lambda: metrics.value("edge_faults_total", kind="h2-reset-flood", blame="client") >= 1, "the flood counted")
    metrics.becomes(0, "edge_connections")
    updates = subprocess.Popen(
        [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{gateway.port}",
            "-servername",
            "localhost",
            "-tls1_3",
            "-CAfile",
            str(pki.ca),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert updates.stdin is not None
    metrics.becomes(1, "edge_connections")
    for _ in range(5):
        updates.stdin.write(b"k\n")
        updates.stdin.flush()
    updates.stdin.write(b"Q\n")
    updates.stdin.close()
    assert updates.wait(60) == 0
    metrics.becomes(0, "edge_connections")
    assert metrics.value("edge_tls_disturbances_total", listener="main") >= 1
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        metrics.becomes(3, "edge_connections_refused_total", listener="main", reason="limit")
        metrics.becomes(2, "edge_connections", listener="main")


def _never_answers(connection: Conn) -> None:
    while connection.some():
        pass


def _worker(gateway: Gateway) -> int:
    """The process that accepts connections of clients."""
    port = f"{gateway.port:04X}"
    line = next(line.split() for line in Path("/proc/net/tcp").read_text().splitlines() if f":{port} 00000000:0000 0A" in line)
    inode = f"socket:[{line[9]}]"
    owners = [pid for pid in gateway.pids()[1:] if inode in {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}]
    (found,) = owners
    return found
