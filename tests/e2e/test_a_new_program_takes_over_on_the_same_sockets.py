"""Upgrade in place: the new program serves on the old one's sockets, or it cannot; nobody outside notices either."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .clients import Wire, curl
from .conftest import StartGateway
from .early import EarlyClient, get, new_session, send_raw
from .gateway import PATIENCE, Gateway, deadline, wait_for
from .h2raw import H2Client
from .pki import Pki
from .upstreams import ScriptedUpstream

LOAD = 6  # seconds


def ask(edge: Gateway, op: str, **more: object) -> dict[str, Any]:
    """One question to the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(edge.folder / "run" / "edge.sock"))
        sock.sendall(json.dumps({"op": op, **more}).encode() + b"\n")
        with sock.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
            return answer


def second(edge: Gateway) -> int:
    """Start another gateway on the same directory: the pid that it names when it is refused."""
    done = subprocess.run(
        [*edge.program, "run", "--config", str(edge.config)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    found = re.search(r"another gateway \(pid (\d+)\) runs already: it holds .*/edge\.lock", done.stderr)
    assert found is not None, done.stderr
    assert done.returncode != 0
    return int(found[1])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def upgraded(start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway; whatever took over from it ends with the test."""
    made: list[Gateway] = []

    def start(server: str = "", *, workers: int = 2) -> Gateway:
        made.append(
            start_gateway(
                f"""
                [server]
                workers = {workers}
                drain = "5s"
                state_dir = "$FOLDER/state"
                runtime_dir = "$FOLDER/run"
                {server}
                {pki.host(echo_upstream.url)}
                [limits]
                requests_per_connection = "off"
                """
            )
        )
        made[-1].event_line(event="serving")
        wait_for(lambda: len(made[-1].pids()) == workers + 2, "the controller")
        return made[-1]

    yield start
    for edge in made:
        for pid in {event["pid"] for event in edge.events() if event.get("event") == "serving"}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            wait_for(lambda pid=pid: gone(pid), f"the end of {pid}")  # type: ignore[misc]


class Streams(threading.Thread):
    """HTTP/2 with four requests at a time on one connection, which is replaced after GOAWAY as browsers do it: what was asked
    before must be answered. (h2load takes GOAWAY for a failure.)"""

    def __init__(self, edge: Gateway, ca: Path) -> None:
        super().__init__()
        self._edge, self._ca = edge, ca
        self.stopping = threading.Event()
        self.done = 0
        self.connections = 0
        self.failed: list[object] = []
        self.start()

    def run(self) -> None:
        while not self.stopping.is_set() and not self.failed:
            try:
                with H2Client(self._edge.port, self._ca) as client:
                    self.connections += 1
                    while client.goaway is None and not self.stopping.is_set():
                        for sid in self._ask(client):
                            self._take(client, sid)
            except (OSError, EOFError, AssertionError) as error:
                self.failed.append(repr(error))

    def _ask(self, client: H2Client) -> list[int]:
        try:
            return [client.request("/") for _ in range(4)]
        except ConnectionError:  # closed in between: what it says last stands behind it
            client.closed()
            if client.goaway != 0 or any(not stream.over for sid, stream in client.streams.items() if sid <= client.goaway_last):
                raise
            return []

    def _take(self, client: H2Client, sid: int) -> None:
        try:
            stream = client.response(sid)
        except (EOFError, ConnectionError):
            if client.goaway != 0 or sid <= client.goaway_last:
                raise
            return  # it came after the last call, is told so, and may be asked again
        if stream.status == 200:
            self.done += 1
        elif stream.reset != 7:  # REFUSED_STREAM: the same
            self.failed.append(stream.status)


@contextlib.contextmanager
def load(edge: Gateway, ca: Path) -> Iterator[list[Streams]]:
    """HTTP/2 and HTTP/1.1 connections that are kept and used all the time. Nothing of it may fail."""
    command = ["h2load", "-D", str(LOAD), "--warm-up-time=0", "-c", "8", "--h1", f"https://localhost:{edge.port}/"]
    http1 = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    http2 = [Streams(edge, ca) for _ in range(4)]
    try:
        yield http2
    finally:
        for one in http2:
            one.stopping.set()
            one.join(60)
        said = http1.communicate(timeout=60)[0]
    assert re.search(r" 0 failed, 0 errored, 0 timeout", said), said
    assert [one.failed for one in http2] == [[]] * 4
    assert all(one.done > 20 for one in http2)


def handshakes(edge: Gateway, ca: Path, until: Callable[[], bool]) -> int:
    """New connections, one after another, in which nothing may fail. Returns their number."""
    done, within = 0, deadline(PATIENCE)
    while not until():
        assert within(), "the load does not move on"
        with Wire(edge.port, ca) as wire:
            assert wire.get("/").status == 200
        done += 1
    return done


def test_nothing_fails_under_load(upgraded: Callable[..., Gateway], pki: Pki) -> None:
    edge = upgraded()
    old = edge.process.pid
    with load(edge, pki.ca) as streams:
        handshakes(edge, pki.ca, lambda: all(one.done > 20 or one.failed for one in streams))
        edge.signal(signal.SIGUSR2)
        done = handshakes(edge, pki.ca, lambda: all(one.connections > 1 or one.failed for one in streams))
    assert done > 5
    new = edge.event_line(event="upgraded")["pid"]
    assert new != old
    assert edge.event_line(event="took-over")["pid"] == old
    assert edge.process.wait(60) == 0
    status = ask(edge, "status")
    assert (status["pid"], status["ready"]) == (new, True)
    assert curl(edge, "/", ca=pki.ca).status == 200


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_the_number_of_workers_may_differ(upgraded: Callable[..., Gateway], pki: Pki, before: int, after: int) -> None:
    edge = upgraded(workers=before)
    edge.config.write_text(edge.config.read_text().replace(f"workers = {before}", f"workers = {after}"))
    answer = ask(edge, "upgrade")
    assert answer["ok"], answer
    edge.process.wait(60)
    status = ask(edge, "status")
    assert len(status["workers"]) == after
    for _ in range(30):
        assert curl(edge, "/", ca=pki.ca).status == 200


def test_it_can_be_done_again_and_again(upgraded: Callable[..., Gateway], pki: Pki) -> None:
    edge = upgraded(workers=1)
    pids = [edge.process.pid]
    for _ in range(3):
        answer = ask(edge, "upgrade")
        assert answer["ok"], answer
        pids.append(answer["pid"])
        assert ask(edge, "status")["pid"] == answer["pid"]
        wait_for(lambda: gone(pids[-2]), "the end of the one before")
        assert second(edge) == answer["pid"]
    assert len(set(pids)) == 4
    assert curl(edge, "/", ca=pki.ca).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("how", ["beside", "in-place"])
def test_tickets_of_the_old_program_are_good_in_the_new_one(
    upgraded: Callable[..., Gateway], pki: Pki, how: str, version: ssl.TLSVersion
) -> None:
    edge = upgraded(f'upgrade = "{how}"')
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.minimum_version = context.maximum_version = version

    def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", edge.port), timeout=60) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert sock.recv(64).startswith(b"HTTP/1.1 200")
            return sock.session, sock.session_reused

    session, resumed = visit(None)
    assert not resumed
    assert ask(edge, "upgrade")["ok"]
    edge.event_line(event="took-over", mode="in-place" if how == "in-place" else "succeed")
    wait_for(lambda: len([event for event in edge.events() if event.get("event") == "serving"]) == 2, "the new program")
    for _ in range(6):
        assert visit(session)[1]


@pytest.mark.parametrize("how", ["beside", "in-place"])
def test_what_the_old_program_took_as_early_data_is_no_early_data_to_the_new_one(
    upgraded: Callable[..., Gateway], pki: Pki, echo_upstream: ScriptedUpstream, how: str
) -> None:
    """The new program has the keys of the tickets and does not know what was let in, so it lets nothing in at first."""
    route = f'[[route]]\nhost = "localhost"\npath = "/early/"\nupstream = "{echo_upstream.url}"\nearly_data = true\n'
    edge = upgraded(f'upgrade = "{how}"\n[tls]\nearly_data = "on"\n{route}')

    def seen(path: str) -> list[list[str]]:
        return [request.values("early-data") for request in echo_upstream.requests if request.path == path]

    path = f"/early/{how}"
    client = EarlyClient(edge, new_session(edge, "/"))
    flight = client.early(get(path))
    client.connect(flight)
    client.read(path.encode(), hold=True)
    client.close()
    old = edge.pids()[1:]
    assert ask(edge, "upgrade")["ok"]
    wait_for(lambda: len([event for event in edge.events() if event.get("event") == "serving"]) == 2, "the new program")
    wait_for(lambda: all(map(gone, old)), "the end of the old workers")
    fresh = EarlyClient(edge, new_session(edge, "/"))
    fresh.connect(fresh.early(get(f"{path}-fresh")))
    fresh.read(b"never", hold=True, seconds=0.5)
    fresh.close()
    for _ in range(8):
        with send_raw(edge, flight) as raw:
            assert raw.recv(1)
    assert (seen(path), seen(f"{path}-fresh")) == ([["1"]], [])


FAILURES = {
    "there is no such program": (["/nonexistent/edge"], "/nonexistent/edge cannot be started: No such file or directory", ""),
    "it ends at once": ([sys.executable, "-c", "import sys; sys.exit('out of luck')"], "it ended with status 1", "out of luck"),
    "a package is missing": ([sys.executable, "-c", "import nonexistent_package"], "it ended with status 1", "No module named"),
    "it is killed": ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "it ended with signal SIGKILL", ""),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_program_that_fails_changes_nothing(upgraded: Callable[..., Gateway], pki: Pki, name: str) -> None:
    command, why, said = FAILURES[name]
    edge = upgraded(f"upgrade_command = {json.dumps(command)}", workers=1)
    with Wire(edge.port, pki.ca) as held:
        assert held.get("/").status == 200
        answer = ask(edge, "upgrade")
        assert (answer["ok"], answer["error"], answer["detail"]) == (False, "upgrade-failed", why)
        assert said in answer["said"]
        event = edge.event_line(event="upgrade-failed")
        assert (event["level"], event["detail"]) == ("error", why)
        assert held.get("/").status == 200
    status = ask(edge, "status")
    assert (status["pid"], status["ready"]) == (edge.process.pid, True)
    assert curl(edge, "/", ca=pki.ca).status == 200
    assert len(edge.pids()) == 3  # supervisor, worker, controller


def test_settings_that_the_new_program_refuses_change_nothing(upgraded: Callable[..., Gateway], pki: Pki) -> None:
    edge = upgraded(workers=1)
    good = edge.config.read_text()
    edge.config.write_text(good + "\n[nonsense]\n")
    answer = ask(edge, "upgrade")
    assert answer["error"] == "upgrade-failed"
    assert "nonsense" in answer["said"]
    edge.config.write_text(good.replace(f":{edge.port}", ":1"))
    assert curl(edge, "/", ca=pki.ca).status == 200
    edge.config.write_text(good)
    assert ask(edge, "upgrade")["ok"]


def test_a_program_that_never_gets_ready_is_given_up_when_the_gateway_stops(upgraded: Callable[..., Gateway]) -> None:
    edge = upgraded(f'upgrade_command = ["{sys.executable}", "-c", "import time; time.sleep(600)"]', workers=1)
    edge.signal(signal.SIGUSR2)
    wait_for(lambda: len(edge.pids()) == 4, "the new program")
    assert ask(edge, "upgrade")["error"] == "busy"
    pids = edge.pids()
    edge.signal(signal.SIGTERM)
    assert edge.process.wait(60) == 0
    assert "the gateway is stopped" in edge.event_line(event="upgrade-failed")["detail"]
    assert all(gone(pid) for pid in pids)


def test_in_place_the_process_stays_and_its_workers_drain(upgraded: Callable[..., Gateway], pki: Pki) -> None:
    edge = upgraded('upgrade = "in-place"')
    pid, before = edge.process.pid, set(edge.pids())
    with load(edge, pki.ca) as streams:
        handshakes(edge, pki.ca, lambda: all(one.done > 20 or one.failed for one in streams))
        answer = ask(edge, "upgrade")
        assert (answer["ok"], answer["pid"], answer["in_place"]) == (True, pid, True)
        handshakes(edge, pki.ca, lambda: all(one.connections > 1 or one.failed for one in streams))
    edge.event_line(event="took-over", mode="in-place")
    wait_for(lambda: all(gone(old) for old in before - {pid}), "the end of the old workers")
    wait_for(lambda: len(edge.pids()) == 4, "two workers and a controller")
    assert not before & set(edge.pids()) - {pid}
    status = ask(edge, "status")
    assert (status["pid"], len(status["workers"]), status["ready"]) == (pid, 2, True)
    assert second(edge) == pid
    assert curl(edge, "/", ca=pki.ca).status == 200
    assert edge.end(10) == 0


def test_in_place_a_failed_rehearsal_changes_nothing(upgraded: Callable[..., Gateway], pki: Pki) -> None:
    edge = upgraded('upgrade = "in-place"', workers=1)
    good, pids = edge.config.read_text(), edge.pids()
    edge.config.write_text(good + "\n[nonsense]\n")
    answer = ask(edge, "upgrade")
    assert answer["error"] == "upgrade-failed"
    assert "nonsense" in answer["said"]
    assert edge.pids() == pids
    assert curl(edge, "/", ca=pki.ca).status == 200
