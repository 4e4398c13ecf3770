"""Reloads, renewed certificates and killed workers while real clients go on: nothing fails, and what is on disk is served."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge.control.client import ask

from .conftest import Curl, Nginx, StartGateway, StartUpstream
from .gateway import Gateway, lasting_descriptors, wait_for
from .pki import Leaf, Pki
from .upstreams import Conn

_TUNNELS = 6


class Place:
    """The files of one host's certificate, which renewals overwrite."""

    def __init__(self, folder: Path, pki: Pki) -> None:
        self.leaf = Leaf(folder / "live.pem", folder / "live.key")
        self._pki = pki
        self.renewals = [pki.server(f"renewal-{number}", "localhost", "127.0.0.1") for number in range(2)]
        self.take(0)

    def take(self, number: int, *, pause: float = 0.0) -> str:
        """Put a renewal in place; returns its fingerprint."""
        return self._put(self.renewals[number % 2], pause)

    def expired(self) -> str:
        """Put one in place whose time is over; returns its fingerprint."""
        return self._put(self._pki.server("expired", "localhost", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)))

    def _put(self, source: Leaf, pause: float = 0.0) -> str:
        """Chain first; each file appears in one step."""
        for index, (old, new) in enumerate(((source.chain, self.leaf.chain), (source.key, self.leaf.key))):
            if index and pause:
                time.sleep(pause)
            beside = new.with_suffix(".new")
            shutil.copy(old, beside)
            os.replace(beside, new)
        return fingerprint(source.chain.read_text())


def fingerprint(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 25] + "\n")).hexdigest()


def served(gateway: Gateway) -> str:
    """The fingerprint of the certificate that openssl s_client is shown."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", "localhost"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    text = done.stdout.decode()
    return fingerprint(text[text.index("-----BEGIN CERTIFICATE") : text.index("-----END CERTIFICATE") + 26])


@pytest.fixture
def place(tmp_path: Path, pki: Pki) -> Place:
    return Place(tmp_path, pki)


@pytest.fixture
def start(start_gateway: StartGateway, nginx_upstream: Nginx, short_tmp: Path, pki: Pki, place: Place) -> Callable[..., Gateway]:
    def begin(more: str = "", routes: str = "") -> Gateway:
        server = f'[server]\nworkers = 2\ndrain = "5s"\nstate_dir = "{short_tmp}"\nruntime_dir = "{short_tmp}"\n{more}\n'
        limits = '[limits]\nrequests_per_connection = "off"\n'
        gateway = start_gateway(server + limits + pki.host(nginx_upstream.url, leaf=place.leaf) + routes, plain=True)
        gateway.event_line(event="serving")
        return gateway

    return begin


def reload(gateway: Gateway, short_tmp: Path) -> subprocess.CompletedProcess[bytes]:
    """`edge reload`."""
    command = [sys.executable, "-m", "edge.cli.main", "reload", "--socket", str(short_tmp / "edge.sock")]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=Path(__file__).parents[2])


class Generators:
    """h2load on connections that stay (HTTP/2) and on new connections (HTTP/1.1), again and again."""

    def __init__(self, gateway: Gateway) -> None:
        url = f"https://localhost:{gateway.port}/small"
        self._commands = [
            ["h2load", "-D", "2", "-c", "4", "-m", "4", url],
            ["h2load", "--h1", "-n", "60", "-c", "60", url],
        ]
        self._stop = threading.Event()
        self.outputs: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(command,)) for command in self._commands]

    def _run(self, command: list[str]) -> None:
        while not self._stop.is_set():
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            self.outputs.append(done.stdout.decode() + done.stderr.decode())

    def __enter__(self) -> Generators:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def assert_no_failure(self) -> None:
        assert len(self.outputs) >= 2
        for output in self.outputs:
            assert re.search(r"[1-9]\d* succeeded, 0 failed, 0 errored, 0 timeout", output), output
            assert re.search(r"status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx", output), output


_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def talk(conn: Conn) -> None:
    """A WebSocket that sends every byte back."""
    key = conn.read_head().values("sec-websocket-key")[0]
    accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
    fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}"
    conn.send(f"HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\n".encode())
    while True:
        conn.send(conn.some())


class Steady:
    """The bench's open-loop load: handshakes, requests on connections that stay, and WebSockets, each one accounted for."""

    def __init__(self, gateway: Gateway, pki: Pki) -> None:
        load = ["--handshakes", "10", "--requests", "15", "--connections", "3", "--websockets", str(_TUNNELS)]
        command = [sys.executable, "-m", "bench.openloop", str(gateway.port), "--ca", str(pki.ca), "--tunnel", "/socket", *load]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )
        self.result: dict[str, Any] = {}

    def __enter__(self) -> Steady:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.result = json.loads(self._process.communicate(timeout=240)[0])
        finally:
            self._process.kill()

    def assert_no_failure(self) -> None:
        assert self.result["failed"] == 0, self.result["failures"]
        assert self.result["again"] == 0
        assert self.result["websockets"] == _TUNNELS
        assert all(len(seen) > 20 for seen in self.result["seen"].values())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_fifty_reloads_with_renewed_certificates_fail_nothing(
    start: Callable[..., Gateway], place: Place, short_tmp: Path, start_upstream: StartUpstream, pki: Pki
) -> None:
    gateway = start('watch = "off"', routes=f'[[route]]\npath = "/socket"\nupstream = "{start_upstream(talk).url}"\n')
    with Generators(gateway) as load, Steady(gateway, pki) as steady:
        for number in range(1, 51):
            wanted = place.take(number)
            if number % 10 == 5:
                done = reload(gateway, short_tmp)
                assert done.returncode == 0, done
                assert f"live: generation {number + 1}," in done.stdout.decode()
            elif number % 2:
                assert ask(short_tmp / "edge.sock", {"op": "reload"}, 60.0)["generation"] == number + 1
            else:
                gateway.signal(signal.SIGHUP)
                gateway.event_line(event="reloaded", generation=number + 1)
            if number % 10 == 0:
                assert served(gateway) == wanted
    load.assert_no_failure()
    steady.assert_no_failure()
    assert not [event for event in gateway.events() if event.get("event") in ("internal-error", "child-ended")]


@pytest.mark.timeout(1800)
def test_many_renewals_leave_nothing(
    start: Callable[..., Gateway], place: Place, short_tmp: Path, start_upstream: StartUpstream, pki: Pki
) -> None:
    count = int(os.environ.get("EDGE_SOAK_RELOADS", "40"))
    gateway = start('watch = "off"', routes=f'[[route]]\npath = "/socket"\nupstream = "{start_upstream(talk).url}"\n')
    wait_for(
        lambda: ask(short_tmp / "edge.sock", {"op": "status"}, 60.0)["controller"]["pid"], "the controller, which comes last"
    )
    family = gateway.pids()

    def renew(first: int, last: int) -> None:
        for number in range(first, last):
            place.take(number)
            assert ask(short_tmp / "edge.sock", {"op": "reload"}, 60.0)["generation"] == number + 1

    def held() -> tuple[int, int]:
        """Pages of memory and open descriptors of all processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in family)
        return pages, sum(map(lasting_descriptors, family))

    with Steady(gateway, pki) as steady:
        warm = max(20, count // 5)
        renew(1, warm)
        pages, descriptors = held()
        renew(warm, warm + count)
        assert held()[0] < pages * 1.1
        # A connection that just began has no row yet.
        wait_for(lambda: held()[1] <= descriptors + 2, "descriptors are given back")
    steady.assert_no_failure()
    assert gateway.pids() == family


def owners(gateway: Gateway, clients: Sequence[socket.socket]) -> list[int]:
    """The worker that serves each connection."""
    by_inode = {}
    for pid in gateway.pids():
        if "edge-worker" in Path(f"/proc/{pid}/comm").read_text():
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    by_inode[os.readlink(descriptor)] = pid
    by_port = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == gateway.port:
            by_port[int(fields[2].partition(":")[2], 16)] = by_inode.get(f"socket:[{fields[9]}]", 0)
    return [by_port[client.getsockname()[1]] for client in clients]


def get(client: ssl.SSLSocket) -> int:
    """The status of one request. Raises EOFError or OSError when the connection is gone."""
    client.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with client.makefile("rb") as file:
        status = file.readline().split()
        if not status:
            raise EOFError
        length = 0
        while (line := file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        file.read(length)
    return int(status[1])


def test_a_killed_worker_takes_its_own_connections_along_and_no_other(
    start: Callable[..., Gateway], run_curl: Curl, pki: Pki
) -> None:
    gateway = start()
    context = ssl.create_default_context(cafile=str(pki.ca))
    with contextlib.ExitStack() as stack:
        clients: list[ssl.SSLSocket] = []
        serving: list[int] = []
        while len(clients) < 20 or len(set(serving)) < 2:
            raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
            clients.append(stack.enter_context(context.wrap_socket(raw, server_hostname="localhost")))
            get(clients[-1])
            serving = owners(gateway, clients)
            assert len(clients) < 200
        victim = serving[0]
        os.kill(victim, signal.SIGKILL)
        assert run_curl(gateway, "/small").status == 200
        for client, worker in zip(clients, serving, strict=True):
            if worker == victim:
                with pytest.raises((EOFError, ConnectionError, ssl.SSLError)):
                    get(client)
            else:
                assert get(client) == 200


def test_an_expired_certificate_is_a_warning_and_is_served(start: Callable[..., Gateway], place: Place, short_tmp: Path) -> None:
    gateway = start('watch = "off"')
    expired = place.expired()
    done = reload(gateway, short_tmp)
    assert done.returncode == 0, done
    assert b"expired" in done.stdout + done.stderr
    assert served(gateway) == expired


def test_workers_that_are_killed_or_stopped_fail_no_new_connection(start: Callable[..., Gateway], run_curl: Curl) -> None:
    gateway = start()
    workers = [pid for pid in gateway.pids() if "edge-worker" in Path(f"/proc/{pid}/comm").read_text()]
    for number, back in ((signal.SIGKILL, None), (signal.SIGSTOP, signal.SIGCONT)):
        os.kill(workers[0 if back is None else 1], number)
        if back is not None:
            gateway.event_line(event="worker-stalled", pid=workers[1])
        try:
            for _ in range(15):
                assert run_curl(gateway, "/small").status == 200
        finally:
            if back is not None:
                os.kill(workers[1], back)
    gateway.event_line(event="worker-recovered")


def test_a_renewed_certificate_is_taken_over_by_itself(start: Callable[..., Gateway], place: Place) -> None:
    gateway = start()
    wanted = place.take(1, pause=1.5)  # in between, chain and key do not fit
    gateway.event_line(event="reloaded", by="a change on disk")
    assert served(gateway) == wanted
    assert not [event for event in gateway.events() if event["event"] == "reload-refused"]


def test_a_renewal_does_not_take_half_written_settings_live(start: Callable[..., Gateway], place: Place, run_curl: Curl) -> None:
    gateway = start()
    gateway.config.write_text("[[half written")
    wanted = place.take(1)
    gateway.event_line(event="reloaded")
    assert served(gateway) == wanted
    assert run_curl(gateway, "/small").status == 200


def test_settings_are_taken_over_by_themselves_where_that_was_asked_for(start: Callable[..., Gateway], run_curl: Curl) -> None:
    gateway = start('watch = "all"')
    route = '[[route]]\nhost = "localhost"\npath = "/new"\nrespond = { status = 204 }\n'
    gateway.config.write_text(gateway.config.read_text() + route)
    gateway.event_line(event="reloaded", by="a change on disk")
    assert run_curl(gateway, "/new").status == 204


@pytest.mark.parametrize("spoil", ["key", "gone", "toml"])
def test_what_is_broken_on_disk_never_takes_down_what_runs(
    start: Callable[..., Gateway], place: Place, short_tmp: Path, run_curl: Curl, spoil: str
) -> None:
    gateway = start('watch = "off"')
    if spoil == "key":
        place.leaf.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    elif spoil == "gone":
        place.leaf.chain.unlink()
    else:
        gateway.config.write_text('[server]\nworkers = "many"\n')
    done = reload(gateway, short_tmp)
    assert done.returncode == 1
    assert b"What ran goes on." in done.stderr
    assert run_curl(gateway, "/small").status == 200
    worker = next(pid for pid in gateway.pids() if "edge-worker" in Path(f"/proc/{pid}/comm").read_text())
    os.kill(worker, signal.SIGKILL)  # its successor needs nothing from the disk
    wait_for(lambda: [e for e in gateway.events() if e["event"] == "child-ended"], "the end of the worker")
    for _ in range(10):
        assert run_curl(gateway, "/small").status == 200


def test_everything_ends_with_the_supervisor(start: Callable[..., Gateway]) -> None:
    gateway = start()
    family = gateway.pids()
    gateway.process.kill()
    gateway.process.wait(60)
    wait_for(lambda: not [pid for pid in family if Path(f"/proc/{pid}/stat").exists() and not _zombie(pid)], "all end")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port), timeout=60)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
