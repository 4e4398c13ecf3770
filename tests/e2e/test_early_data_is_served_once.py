"""Early data (0-RTT) through a running gateway: who is answered at once, who waits, and that no copy is ever served."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import hpack
import pytest
from hyperframe import frame as frames
from OpenSSL._util import lib

from .conftest import StartGateway, StartUpstream
from .early import EarlyClient, get, new_session, send_raw
from .gateway import Gateway, free_port, wait_for
from .h2raw import PREFACE
from .pki import Pki
from .upstreams import Conn, Request, ScriptedUpstream, by_path, plain_answer

COPIES = 40
LOGS = '[log]\naccess = { to = "$FOLDER/access.log", format = "json" }\nevents = { to = "$FOLDER/events.log", format = "json" }\n'


def config(pki: Pki, url: str, *, workers: int = 4, tls: str = 'early_data = "on"', more: str = "") -> str:
    return (
        f'[server]\nworkers = {workers}\nstate_dir = "$FOLDER/state"\nruntime_dir = "$FOLDER/run"\n{LOGS}'
        f"[tls]\n{tls}\n{pki.host()}"
        f'[[route]]\nhost = "localhost"\npath = "/"\nupstream = "{url}"\n'
        f'[[route]]\nhost = "localhost"\npath = "/early/"\nupstream = "{url}"\nearly_data = true\n'
        'limits = { request_body = "1KiB" }\n'
        f'[[route]]\npath = "/ping"\nrespond = {{ status = 200, body = "pong" }}\nearly_data = true\n{more}'
    )


def too_early(conn: Conn, request: Request) -> None:
    conn.read_body(request)
    conn.send(plain_answer(b"not yet", "425 Too Early" if request.values("early-data") else "200 OK"))


def large(conn: Conn, request: Request) -> None:
    conn.send(plain_answer(b"x" * 300_000))


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    return start_shared_upstream(by_path({"/early/425": too_early, "/early/large": large}))


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_shared(config(pki, upstream.url))


def seen(upstream: ScriptedUpstream, path: str) -> list[Request]:
    return [request for request in upstream.requests if request.path == path]


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def admin() -> tuple[int, str]:
    port = free_port()
    return port, f'[admin]\naddress = "127.0.0.1:{port}"\nopen = ["health", "metrics"]\n'


# --- answered at once ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_safe_request_is_answered_before_the_client_confirms(edge: Gateway, upstream: ScriptedUpstream, method: str) -> None:
    path = f"/early/first-{method}"
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(get(path, method=method)))
    assert client.read(b"\r\n\r\n", hold=True).startswith(b"HTTP/1.1 200")
    assert [request.values("early-data") for request in seen(upstream, path)] == [["1"]]
    client.flush()
    client.send(get("/early/second"))
    client.read(b"second")
    assert [request.values("early-data") for request in seen(upstream, "/early/second")][-1] == []
    assert edge.access_line(path=path)["early"] is True
    assert "early" not in edge.access_line(path="/early/second")
    assert client.resumed
    client.close()


def test_a_large_answer_goes_out_whole_and_in_order(edge: Gateway) -> None:
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(get("/early/large")))
    head, _, body = client.read(b"x" * 300_000, hold=True).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and body == b"x" * 300_000
    client.flush()
    client.send(get("/ping"))
    assert client.read(b"pong").endswith(b"pong")
    client.close()


def test_a_connection_that_is_to_close_says_goodbye_when_it_is_confirmed(edge: Gateway) -> None:
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(get("/early/last", "Connection: close")))
    client.read(b"/early/last", hold=True)
    assert not client.eof
    client.flush()
    client.read()
    assert client.clean
    client.close()


def test_http2_has_its_preface_and_a_request_in_early_data(edge: Gateway, upstream: ScriptedUpstream) -> None:
    encoder = hpack.Encoder()

    def request(sid: int, path: str, method: str) -> bytes:
        fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        head = frames.HeadersFrame(sid, data=encoder.encode(fields))
        head.flags |= {"END_HEADERS", "END_STREAM"}
        return bytes(head.serialize())

    first = EarlyClient(edge, alpn=b"h2")
    first.handshake()
    first.read(b"\0")
    client = EarlyClient(edge, first.session(), alpn=b"h2")
    flight = PREFACE + frames.SettingsFrame(0).serialize() + request(1, "/early/h2", "GET") + request(3, "/early/h2-post", "POST")
    client.connect(client.early(flight))
    client.read(b'"target": "/early/h2"', hold=True)
    assert [one.values("early-data") for one in seen(upstream, "/early/h2")] == [["1"]]
    assert seen(upstream, "/early/h2-post") == []
    client.flush()
    client.read(b'"target": "/early/h2-post"')
    assert [one.values("early-data") for one in seen(upstream, "/early/h2-post")] == [[]]
    client.close()


def test_openssls_own_client_sends_early_data(edge: Gateway, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    session, request = openssl_session(edge, tmp_path), tmp_path / "request"
    request.write_bytes(get("/early/openssl", "Connection: close"))
    said = openssl(edge, "-sess_in", str(session), "-early_data", str(request))
    assert "Early data was accepted" in said and '"target": "/early/openssl"' in said, said
    assert [one.values("early-data") for one in seen(upstream, "/early/openssl")] == [["1"]]


def openssl(gateway: Gateway, *options: str, request: bytes = b"") -> str:
    done = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{gateway.port}",
            "-servername",
            "localhost",
            "-tls1_3",
            "-ign_eof",
            *options,
        ],
        input=request,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def openssl_session(gateway: Gateway, folder: Path) -> Path:
    session = folder / "session.pem"
    assert "200" in openssl(gateway, "-sess_out", str(session), request=get("/ping", "Connection: close"))
    return session


# --- waiting ---


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (get("/early/post", method="POST", body=b"x" * 100), "/early/post"),
        (get("/early/delete", method="DELETE"), "/early/delete"),
        (get("/early/get-with-body", body=b"x"), "/early/get-with-body"),
        (get("/other", method="GET"), "/other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_requests_wait_for_the_end_of_the_handshake(
    edge: Gateway, upstream: ScriptedUpstream, request_: bytes, path: str
) -> None:
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(request_))
    client.read(b"never", hold=True, seconds=0.5)
    assert client.plain == b"" and seen(upstream, path) == []
    client.flush()
    assert client.read(b"}").startswith(b"HTTP/1.1 200")
    assert [request.values("early-data") for request in seen(upstream, path)] == [[]]
    assert "early" not in edge.access_line(path=path)
    client.close()


def test_what_waits_does_not_get_past_the_limit_of_its_body(edge: Gateway) -> None:
    body = b"400\r\n" + b"x" * 1024 + b"\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n"
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(get("/early/too-much", "Transfer-Encoding: chunked", method="POST") + body))
    assert client.read(b"\r\n\r\n").startswith(b"HTTP/1.1 413")
    client.close()


def test_requests_behind_one_that_waits_come_after_it(edge: Gateway) -> None:
    many = [get(f"/early/in-row-{number}") for number in range(100)]
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(get("/early/in-row", method="POST", body=b"x" * 900) + b"".join(many)))
    client.read(b"/early/in-row-99")
    found = re.findall(rb'"target": "/early/in-row-?(\d*)"', client.plain)
    assert found == [b"", *(str(number).encode() for number in range(100))]
    client.close()


def test_a_client_that_never_confirms_is_cut_off(start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(config(pki, upstream.url, workers=1, more='[limits]\nhandshake_timeout = "1s"\n'))
    client = EarlyClient(gateway, new_session(gateway))
    began = time.monotonic()
    client.connect(client.early(get("/early/never") + get("/early/waits", method="POST")))
    client.read(hold=True)
    client.close()
    assert client.eof and time.monotonic() - began > 0.5
    assert b"/early/never" in client.plain
    assert seen(upstream, "/early/waits") == []
    assert gateway.access_line(path="/early/waits")["fault"] == "handshake-timeout"


# --- 425 and the header field ---


def test_an_upstream_that_finds_it_too_early_is_believed(edge: Gateway) -> None:
    client = EarlyClient(edge, new_session(edge))
    client.connect(client.early(get("/early/425")))
    assert client.read(b"not yet", hold=True).startswith(b"HTTP/1.1 425 ")
    client.flush()
    client.send(get("/early/425"))
    assert b"HTTP/1.1 200" in client.read(b"HTTP/1.1 200")
    client.close()


def test_what_another_gateway_says_is_passed_on(edge: Gateway) -> None:
    client = EarlyClient(edge)
    client.handshake()
    client.send(get("/early/425", "Early-Data: 1"))
    assert client.read(b"not yet").startswith(b"HTTP/1.1 425 ")
    client.close()


# --- copies ---


def replay(gateway: Gateway, flight: bytes, copies: int = COPIES) -> list[socket.socket]:
    return [send_raw(gateway, flight) for _ in range(copies)]


def answered(sockets: list[socket.socket]) -> None:
    """Each got the server's flight: its hello was processed."""
    for raw in sockets:
        assert raw.recv(1)
        raw.close()


@pytest.mark.parametrize("request_", [get("/early/copied"), get("/early/copied", method="POST", body=b"x")], ids=["GET", "POST"])
def test_a_copy_is_never_served_whichever_worker_gets_it(
    start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream, request_: bytes
) -> None:
    port, more = admin()
    gateway = start_gateway(config(pki, upstream.url, more=more))
    before = len(seen(upstream, "/early/copied"))
    client = EarlyClient(gateway, new_session(gateway))
    flight = client.early(request_)
    client.connect(flight)
    client.read(b"/early/copied")
    assert len(seen(upstream, "/early/copied")) == before + 1
    answered(replay(gateway, flight))
    again = replay(gateway, flight, 4)
    client.send(get("/ping"))
    assert client.read(b"pong").endswith(b"pong")
    answered(again)
    assert len(seen(upstream, "/early/copied")) == before + 1
    client.close()

    def refused() -> int:  # busy: two workers had a copy in their hands at the same moment
        found = re.findall(r'edge_early_data_total{listener="main",result="(?:replayed|busy)"} (\d+)', metrics(port))
        return sum(map(int, found))

    wait_for(lambda: refused() == COPIES + 4, "all copies in the metrics")
    assert 'edge_early_data_total{listener="main",result="accepted"} 1.0' in metrics(port)


def test_copies_at_the_same_time_are_served_once(edge: Gateway, upstream: ScriptedUpstream) -> None:
    """Without an original: whichever comes first is it."""
    client = EarlyClient(edge, new_session(edge))
    flight = client.early(get("/early/race"))
    sockets = [socket.create_connection(("127.0.0.1", edge.port), timeout=60) for _ in range(COPIES)]
    for raw in sockets:
        raw.sendall(flight)
    answered(sockets)
    assert len(seen(upstream, "/early/race")) <= 1


@pytest.mark.parametrize("change", ["reload", "worker-killed"])
def test_a_copy_is_not_served_after_a_change(
    start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream, change: str
) -> None:
    gateway = start_gateway(config(pki, upstream.url, workers=1))
    path = f"/early/after-{change}"
    client = EarlyClient(gateway, new_session(gateway))
    flight = client.early(get(path))
    client.connect(flight)
    client.read(path.encode())
    client.close()
    CHANGES[change](gateway)
    answered(replay(gateway, flight, 5))
    assert len(seen(upstream, path)) == 1
    fresh = EarlyClient(gateway, new_session(gateway))
    fresh.connect(fresh.early(get(f"{path}-fresh")))
    fresh.read(path.encode(), hold=True)
    assert [one.values("early-data") for one in seen(upstream, f"{path}-fresh")] == [["1"]], "and new ones are taken as before"
    fresh.close()


def _reload(gateway: Gateway) -> None:
    gateway.config.write_text(gateway.config.read_text().replace('body = "pong"', 'body = "other"'))
    gateway.signal(signal.SIGHUP)
    gateway.event_line(event="reloaded")


def _kill_worker(gateway: Gateway) -> None:
    def workers() -> list[int]:
        names = {pid: Path(f"/proc/{pid}/comm") for pid in gateway.pids()}
        return [pid for pid, name in names.items() if name.exists() and name.read_text().startswith("edge-worker")]

    old = wait_for(workers, "the worker")
    os.kill(old[0], signal.SIGKILL)
    wait_for(lambda: [pid for pid in workers() if pid not in old], "another worker")


CHANGES: dict[str, Callable[[Gateway], None]] = {"reload": _reload, "worker-killed": _kill_worker}


def test_a_ticket_of_the_wrong_age_resumes_without_early_data(edge: Gateway, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    session, request = openssl_session(edge, tmp_path), tmp_path / "request"
    request.write_bytes(get("/early/stale", "Connection: close"))
    lines = session.read_text().splitlines()
    der = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    made = re.search(rb"\xa1\x06\x02\x04(....)", der, re.DOTALL)  # when it was made: [1] INTEGER
    assert made is not None
    aged = der.replace(made[0], b"\xa1\x06\x02\x04" + (int.from_bytes(made[1], "big") - 60).to_bytes(4, "big"))
    session.write_text(f"{lines[0]}\n{base64.encodebytes(aged).decode()}{lines[-1]}\n")
    said = openssl(edge, "-sess_in", str(session), "-early_data", str(request), request=get("/ping", "Connection: close"))
    assert "Early data was rejected" in said and "Reused, TLSv1.3" in said and "pong" in said, said
    assert seen(upstream, "/early/stale") == []


# --- where it is off ---


@pytest.fixture(scope="module")
def off(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_shared(config(pki, upstream.url, workers=1, tls=""))


def test_tickets_allow_none_where_it_is_off(off: Gateway, edge: Gateway) -> None:
    assert lib.SSL_SESSION_get_max_early_data(new_session(off)._session) == 0
    assert lib.SSL_SESSION_get_max_early_data(new_session(edge)._session) == 16_384


def test_turning_it_off_makes_its_tickets_worthless(start_gateway: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(config(pki, upstream.url, workers=2))
    client = EarlyClient(gateway, new_session(gateway))
    flight = client.early(get("/early/turned-off"))
    gateway.config.write_text(gateway.config.read_text().replace('early_data = "on"', 'early_data = "off"'))
    gateway.signal(signal.SIGHUP)
    gateway.event_line(event="reloaded")
    client.connect(flight)
    client.read(b"never", seconds=0.5)
    assert not client.resumed and seen(upstream, "/early/turned-off") == []
    client.close()
