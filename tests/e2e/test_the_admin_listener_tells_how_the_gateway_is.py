"""Health, readiness, metrics and status, as probes, Prometheus, operators and strangers ask for them."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from .admin import Admin
from .clients import Wire
from .conftest import Curl, StartAdmin, StartGateway, StartUpstream
from .gateway import Gateway, free_port, wait_for
from .pki import Pki
from .upstreams import Conn, plain_answer

TOKEN = "0123456789abcdef0123456789abcdef"


def test_probes_and_operators_are_answered(start_admin: StartAdmin) -> None:
    admin = start_admin()
    status = admin.ask("/api/v1/status").json()
    ready = admin.ask("/readyz")
    assert ready.json() == {
        "ready": True, "state": "serving", "reasons": [], "degraded": [], "generation": 1, "digest": status["digest"],
    }  # fmt: skip
    live = admin.ask("/healthz")
    assert (live.status, live.json()["live"], live.json()["digest"]) == (200, True, status["digest"])
    assert [worker["state"] for worker in status["workers"]] == ["serving", "serving"]
    for answer in (ready, live):
        assert answer.fields["cache-control"] == "no-store"
        assert answer.fields["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.fields["content-security-policy"]
        assert answer.fields["server"] == "edge"
    assert admin.ask("/readyz", "-I").body == b""
    assert admin.ask("/nothing").status == 404
    assert admin.ask("/healthz", "-X", "POST").fields["allow"] == "GET, HEAD"
    assert admin.ask("/api/v1/reload").status == 405


def test_metrics_are_what_independent_parsers_read(start_admin: StartAdmin, run_curl: Curl) -> None:
    admin = start_admin()
    for _ in range(3):
        assert run_curl(admin.gateway, "/x").status == 200

    def requests() -> dict[str, float]:
        text = admin.ask("/metrics").body.decode()
        return {
            sample.labels["route"]: sample.value
            for family in prometheus(text)
            for sample in family.samples
            if sample.name == "edge_requests_total" and sample.labels["status"] == "2xx"
        }

    wait_for(lambda: sum(requests().values()) == 3, "three requests counted")
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    answer = admin.ask("/metrics", "-H", f"Accept: {accept}")
    assert answer.fields["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(answer.body.decode())}
    (sample,) = families["edge_certificate_not_after_seconds"].samples
    assert sample.value > time.time()
    assert sample.labels["hosts"] == "localhost"
    assert {one.value for one in families["edge_worker_up"].samples} == {1.0}
    (info,) = families["edge_config_info"].samples
    assert info.labels["digest"] == admin.ask("/readyz").json()["digest"]


def test_a_workers_death_shows_and_the_counts_go_on(start_admin: StartAdmin, run_curl: Curl) -> None:
    admin = start_admin()
    for _ in range(5):
        assert run_curl(admin.gateway, "/").status == 200

    def value(name: str) -> float:
        families = prometheus(admin.ask("/metrics").body.decode())
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    wait_for(lambda: value("edge_requests_total") == 5, "five requests counted")
    os.kill(admin.ask("/api/v1/status").json()["workers"][0]["pid"], signal.SIGKILL)
    wait_for(lambda: value("edge_worker_restarts_total") == 1 and value("edge_worker_up") == 2, "the worker to be replaced")
    assert value("edge_requests_total") == 5
    assert admin.ask("/readyz").status == 200


class Load:
    """Requests without a pause; what went wrong."""

    def __init__(self, gateway: Gateway, pki: Pki) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._gateway, self._pki, self._stop = gateway, pki, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(fresh,)) for fresh in (True, False, False)]
        for thread in self._threads:
            thread.start()

    def _run(self, fresh: bool) -> None:
        wire: Wire | None = None
        while not self._stop.is_set():
            try:
                wire = wire or Wire(self._gateway.port, self._pki.ca)
                if wire.get("/").status != 200:
                    self.failures.append("status")
                self.done += 1
                if fresh:
                    wire.close()
                    wire = None
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
                wire = None
        if wire is not None:
            wire.close()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_the_controllers_death_loses_nothing(start_admin: StartAdmin, pki: Pki) -> None:
    admin = start_admin()
    load = Load(admin.gateway, pki)
    try:
        for _ in range(3):
            old = admin.controller()
            os.kill(old, signal.SIGKILL)
            # the port stays open: who asks meanwhile waits for the next one
            wait_for(lambda old=old: admin.controller() != old, "another controller")  # type: ignore[misc]
        before = load.done
        wait_for(lambda: load.done > before + 50, "the load to go on")
    finally:
        load.end()
    assert load.failures == []
    assert admin.ask("/readyz").json()["degraded"] == []


def test_a_supervisor_that_stands_still_is_not_alive(start_admin: StartAdmin) -> None:
    admin = start_admin()
    admin.gateway.signal(signal.SIGSTOP)
    try:
        wait_for(lambda: admin.ask("/healthz").status == 503, "it to be seen")
        assert admin.ask("/healthz").json()["live"] is False
        assert "did not answer" in admin.ask("/readyz").json()["reasons"][0]
    finally:
        admin.gateway.signal(signal.SIGCONT)
    wait_for(admin.ready, "readiness")


def test_a_drain_is_unready_and_alive(start_admin: StartAdmin, start_upstream: StartUpstream, pki: Pki) -> None:
    asked, go = threading.Semaphore(0), threading.Event()

    def held(conn: Conn) -> None:
        conn.read_request()
        asked.release()
        go.wait(60)
        conn.send(plain_answer(b"done"))

    admin = start_admin(url=start_upstream(held).url)
    with Wire(admin.gateway.port, pki.ca) as wire:
        wire.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert asked.acquire(timeout=60)
        admin.gateway.signal(signal.SIGTERM)
        wait_for(lambda: admin.ask("/readyz").status == 503, "unreadiness")
        told = admin.ask("/readyz").json()
        assert (told["ready"], told["reasons"]) == (False, [told["state"]])
        assert told["state"] in ("leaving", "draining")
        assert admin.ask("/healthz").status == 200
        go.set()
        assert wire.read_response().body == b"done"
    assert admin.gateway.process.wait(60) == 0


def test_a_public_path_is_unready_while_connections_are_still_taken(start_admin: StartAdmin, run_curl: Curl) -> None:
    server = '[server]\nworkers = 2\ndrain_delay = "5m"\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n'
    admin = start_admin(more=f'[[route]]\npath = "/up"\nhealth = "ready"\n{server}')
    assert run_curl(admin.gateway, "/up").status == 200
    admin.gateway.signal(signal.SIGTERM)
    answer = wait_for(lambda: (found := run_curl(admin.gateway, "/up")).status == 503 and found, "unreadiness")
    assert (answer.body, answer.field("cache-control")) == (b"unready\n", "no-store")
    assert run_curl(admin.gateway, "/other").status == 200
    assert admin.ask("/readyz").json()["reasons"] == ["leaving"]
    assert admin.gateway.end() == 0  # the second signal: at once


def test_a_replaced_workers_public_health_never_wavers(start_admin: StartAdmin, run_curl: Curl) -> None:
    admin = start_admin(more='[[route]]\npath = "/up"\nhealth = "ready"\n')
    for _ in range(3):
        os.kill(admin.ask("/api/v1/status").json()["workers"][0]["pid"], signal.SIGKILL)
        found = [run_curl(admin.gateway, "/up") for _ in range(15)]
        assert {answer.status for answer in found} == {200}


def test_a_controller_that_stands_still_is_replaced(start_admin: StartAdmin) -> None:
    admin = start_admin()
    old = admin.controller()
    os.kill(old, signal.SIGSTOP)
    wait_for(lambda: any(event["event"] == "controller-hung" for event in admin.gateway.events()), "it to be seen")
    assert admin.controller() != old


def test_health_on_a_public_path(start_admin: StartAdmin, run_curl: Curl) -> None:
    admin = start_admin(more='[[route]]\npath = "/up"\nhealth = "ready"\n[[route]]\npath = "/live"\nhealth = "live"\n')
    for path in ("/up", "/live"):
        answer = run_curl(admin.gateway, path)
        assert (answer.status, answer.body, answer.field("cache-control")) == (200, b"ok\n", "no-store")
    assert run_curl(admin.gateway, "/up", "-I").field("content-length") == "3"
    assert run_curl(admin.gateway, "/up", plain=True).status == 200


# -- strangers -----------------------------------------------------------------------------------------------------------


def test_only_the_token_opens_what_is_not_open(start_admin: StartAdmin) -> None:
    admin = start_admin(f'token = "{TOKEN}"\nopen = ["health", "metrics"]\n')
    assert admin.ask("/metrics").status == 200
    refused = admin.ask("/api/v1/status")
    assert (refused.status, refused.fields["www-authenticate"]) == (401, 'Bearer realm="edge"')
    assert admin.ask("/api/v1/status", "-H", f"Authorization: Bearer {TOKEN}").status == 200
    for wrong in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "", " "):
        assert admin.ask("/api/v1/status", "-H", f"Authorization: Bearer {wrong}").json()["error"] == "wrong-token"
    assert admin.ask("/api/v1/reload", "-X", "POST").json()["error"] == "token-needed"
    assert admin.gateway.event_line(event="admin-refused")["path"] == "/api/v1/status"
    assert TOKEN not in admin.gateway.stderr + admin.gateway.events_path.read_text()


def test_a_socket_on_all_addresses_trusts_nobody(start_admin: StartAdmin) -> None:
    admin = start_admin('address = "0.0.0.0:$PORT"\n')
    assert admin.ask("/healthz").status == 200
    assert admin.ask("/metrics").json()["error"] == "not-open"
    assert admin.ask("/api/v1/status").json()["error"] == "not-open"


def test_pages_in_a_browser_are_kept_out(start_admin: StartAdmin) -> None:
    admin = start_admin()
    assert admin.ask("/api/v1/status", "-H", "Host: evil.example").status == 421
    assert admin.ask("/api/v1/status", "-H", "Host;").status in (400, 421)
    assert admin.ask("/api/v1/reload", "-X", "POST", "-H", "Origin: http://evil.example").status == 403
    assert admin.ask("/api/v1/reload", "-X", "POST", "-H", "Sec-Fetch-Site: cross-site").status == 403
    assert admin.ask("/api/v1/reload", "-d", '{"allow_weaker": false}', "-H", "Content-Type: text/plain").status == 415
    assert admin.ask("/api/v1/status", "-H", "X-Forwarded-For: 192.0.2.1").json()["error"] == "not-open"


def test_allowing_weaker_security_takes_the_token(start_admin: StartAdmin) -> None:
    admin = start_admin()
    body = ("-H", "Content-Type: application/json", "-d")
    assert admin.ask("/api/v1/reload", *body, '{"allow_weaker": true}').json()["error"] == "token-needed"
    assert admin.ask("/api/v1/reload", *body, '{"allow_weaker": 1}').status == 400
    assert admin.ask("/api/v1/reload", *body, '{"x": true}').status == 400
    assert admin.ask("/api/v1/reload", *body, "[" * 10_000).status == 400


@pytest.fixture
def raw() -> Iterator[Callable[[Admin], socket.socket]]:
    opened: list[socket.socket] = []

    def connect(admin: Admin) -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", admin.port), timeout=60))
        return opened[-1]

    yield connect
    for sock in opened:
        sock.close()


def _answered(sock: socket.socket) -> bytes:
    data = b""
    with suppress(ConnectionError):
        while part := sock.recv(65536):
            data += part
    return data


def _answer(sock: socket.socket) -> bytes:
    """As much as there is when its head has come; the client does not end its half, which would take the answer with it."""
    data = b""
    with suppress(ConnectionError):
        while b"\r\n\r\n" not in data and (part := sock.recv(65536)):
            data += part
    return data


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(600) + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 200_000,
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["long line", "long field", "many fields", "TLS", "two hosts", "two lengths", "long body", "absolute form", "CONNECT"],
)
def test_nonsense_is_refused_and_the_next_one_is_served(
    start_admin: StartAdmin, raw: Callable[[Admin], socket.socket], request_text: bytes
) -> None:
    admin = start_admin()
    sock = raw(admin)
    with suppress(OSError):
        sock.sendall(request_text)
    answer = _answer(sock)
    if answer or len(request_text) < 1000:  # a reset, for bytes that nobody reads, may take the answer with it
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer[:200]
    assert b"Traceback" not in answer and b"aiohttp" not in answer
    assert admin.ask("/readyz").status == 200
    assert admin.ask("/api/v1/status").json()["controller"]["restarts"] == 0
    assert "Traceback" not in admin.gateway.stderr


def test_slow_and_silent_clients_take_no_place_from_others(
    start_admin: StartAdmin, raw: Callable[[Admin], socket.socket]
) -> None:
    admin = start_admin()
    slow = [raw(admin) for _ in range(150)]
    for index, sock in enumerate(slow):
        with suppress(ConnectionError):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"[: index % 40])
    for _ in range(5):
        assert admin.ask("/readyz").status == 200
    descriptors = len(list(Path(f"/proc/{admin.controller()}/fd").iterdir()))
    assert descriptors < 64 + 40


def test_a_body_that_does_not_come_is_not_awaited(start_admin: StartAdmin, raw: Callable[[Admin], socket.socket]) -> None:
    admin = start_admin()
    sock = raw(admin)
    sock.sendall(
        b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{"
    )
    assert b" 408 " in _answered(sock)


# -- its address ---------------------------------------------------------------------------------------------------------


def test_a_default_port_that_is_taken_is_left_out(start_gateway: StartGateway, pki: Pki, run_curl: Curl) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def held() -> bool:
            with suppress(OSError):
                holder.bind(("127.0.0.1", 9901))
            return holder.getsockname()[1] == 9901

        wait_for(held, "the port, which a gateway of another test may have now")
        holder.listen()
        gateway = start_gateway(f'[admin]\nopen = ["health"]\n{pki.host("http://127.0.0.1:9")}')
        assert "127.0.0.1:9901: the port is taken" in gateway.event_line(event="admin-unavailable")["detail"]
        assert run_curl(gateway, "/").status in (502, 503)


def test_a_written_port_that_is_taken_is_an_error(start_gateway: StartGateway, pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AssertionError, match=rf"ended with 4:\n(.|\n)*admin listener on 127.0.0.1:{port}: the port is taken"):
            start_gateway(f'[admin]\naddress = "127.0.0.1:{port}"\n{pki.host("http://127.0.0.1:9")}')
