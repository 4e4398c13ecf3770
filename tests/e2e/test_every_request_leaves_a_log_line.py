"""Logs: one JSON line for each request and each failed handshake, reopened on SIGUSR1, and never in the way of traffic."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from .clients import Wire
from .conftest import StartGateway
from .gateway import Gateway, wait_for
from .h2raw import H2Client
from .pki import Pki
from .upstreams import ScriptedUpstream


@pytest.fixture
def edge(start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream) -> Gateway:
    return start_gateway(pki.host(echo_upstream.url), plain=True)


def test_a_line_says_everything_about_a_request(edge: Gateway, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    before = time.time()
    fields = "Host: localhost\nUser-Agent: tests\nReferer: https://elsewhere.test/\nContent-Length: 3"
    answer = wire.ask(f"POST /things/1?q=%41 HTTP/1.1\n{fields}\n\nabc")
    assert answer.status == 200
    line = edge.access_line(path="/things/1?q=%41")
    expected = {
        "peer": "127.0.0.1",
        "peer_port": wire.raw_port,
        "listener": "main",
        "sni": "localhost",
        "tls": "TLSv1.3",
        "resumed": False,
        "alpn": "http/1.1",
        "method": "POST",
        "host": "localhost",
        "status": 200,
        "protocol": "HTTP/1.1",
        "bytes_in": 3,
        "bytes_out": len(answer.body),
        "upstream": echo_upstream.url,
        "tries": 1,
        "user_agent": "tests",
        "referer": "https://elsewhere.test/",
    }
    assert {key: line.get(key) for key in expected} == expected
    assert line["suite"].startswith("TLS_")
    assert line["group"]
    assert line["ja4"].startswith("t13")
    assert line["id"] in [value for name, value in answer.json()["fields"] if name == "x-request-id"]
    for phase in ("decide_us", "connect_us", "first_byte_us", "total_us"):
        assert 0 <= line[phase] < 5_000_000
    assert sum(line[phase] for phase in ("decide_us", "connect_us", "first_byte_us")) <= line["total_us"]
    assert not line.get("blame")
    assert before - 1 < datetime.fromisoformat(line["time"]).timestamp() < time.time() + 1


def test_http2_and_plain_lines_differ_where_they_should(
    edge: Gateway, h1: Callable[..., Wire], h2: Callable[..., H2Client]
) -> None:
    assert h2(edge).get("/two").status == 200
    assert edge.access_line(path="/two")["protocol"] == "HTTP/2"
    assert h1(edge, plain=True).get("/plain").status == 200
    line = edge.access_line(path="/plain")
    assert line["listener"] == "plain"
    assert not line.get("tls")


def test_whom_a_trusted_proxy_speaks_for_stands_in_the_line(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire], h2: Callable[..., H2Client]
) -> None:
    edge = start_gateway('[trusted_proxies]\nfrom = ["127.0.0.0/8"]\n' + pki.host(echo_upstream.url))
    wire, told = h1(edge), "X-Forwarded-For: 203.0.113.66, 198.51.100.{}"
    wire.get("/one", told.format(1))
    wire.get("/two", told.format(2))
    wire.get("/none")
    assert h2(edge).get("/h2", (b"x-forwarded-for", b"2001:db8::5")).status == 200
    clients = {path: edge.access_line(path=path).get("client_ip") for path in ("/one", "/two", "/none", "/h2")}
    assert clients == {"/one": "198.51.100.1", "/two": "198.51.100.2", "/none": None, "/h2": "2001:db8::5"}


def test_what_a_stranger_tells_of_itself_does_not(edge: Gateway, h1: Callable[..., Wire]) -> None:
    h1(edge).get("/claim", "X-Forwarded-For: 203.0.113.66")
    assert "client_ip" not in edge.access_line(path="/claim")


def test_refused_requests_have_lines_too(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"GET /bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
    assert wire.read_response().status == 400
    line = edge.access_line(status=400)
    assert line["blame"] == "client"
    assert line["fault"]


def test_control_characters_cannot_break_a_line(edge: Gateway, h1: Callable[..., Wire]) -> None:
    h1(edge).get("/log", 'User-Agent: a"b\\c\tend', "Referer: \xff\xfe")
    assert edge.access_line(path="/log")["user_agent"] == 'a"b\\c\\tend'


def test_a_failed_handshake_has_a_line_with_its_reason(edge: Gateway, h1: Callable[..., Wire]) -> None:
    with pytest.raises(ssl.SSLError):
        h1(edge, sni="stranger.test")
    line = edge.event_line(sni="stranger.test")
    assert line["fault"] == "unknown-sni"
    assert line["peer"] == "127.0.0.1"
    assert line["ja4"].startswith("t13")
    assert line["listener"] == "main"


def test_secrets_are_not_logged(edge: Gateway, h1: Callable[..., Wire]) -> None:
    h1(edge).get("/", "Authorization: Bearer hunter2", "Cookie: session=hunter2")
    edge.access_line(path="/")
    edge.end()
    for path in edge.folder.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()


def test_logs_are_reopened_on_sigusr1(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    assert wire.get("/before").status == 200
    edge.access_line(path="/before")
    rotated = edge.access_path.with_suffix(".1")
    edge.access_path.rename(rotated)
    edge.signal(signal.SIGUSR1)
    wait_for(edge.access_path.exists, "the new file")
    assert wire.get("/after").status == 200
    assert "/before" not in [line["path"] for line in edge.access()]
    edge.access_line(path="/after")
    assert b"/after" not in rotated.read_bytes()


def test_every_one_of_many_requests_has_its_line(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    for _ in range(10):
        for sid in [client.request(f"/many/{client._next}") for _ in range(30)]:
            assert client.response(sid).status == 200
    wait_for(lambda: sum(line["path"].startswith("/many/") for line in edge.access()) >= 300, "300 lines")
    assert len({line["id"] for line in edge.access()}) == 300


def test_lines_are_on_disk_after_the_end(edge: Gateway, h1: Callable[..., Wire]) -> None:
    assert h1(edge).get("/last").status == 200
    edge.end()
    assert edge.access()[-1]["path"] == "/last"


def with_log(pki: Pki, upstream: ScriptedUpstream, to: str) -> str:
    return (
        f'[log]\naccess = {{ to = "{to}", format = "json" }}\nevents = {{ to = "$FOLDER/events.log", format = "json" }}\n'
        + pki.host(upstream.url)
    )


def test_a_blocked_pipe_drops_lines_and_never_traffic(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, tmp_path: Path, h2: Callable[..., H2Client]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        client = h2(start_gateway(with_log(pki, echo_upstream, str(fifo))))
        long = "/" + "x" * 2000
        for _ in range(10):
            for sid in [client.request(long) for _ in range(50)]:
                assert client.response(sid).status == 200
        read = bytearray()
        with contextlib.suppress(BlockingIOError):
            while part := os.read(reader, 65_536):
                read += part
        lines = bytes(read).split(b"\n")
        for line in lines[:-1]:
            json.loads(line)  # whole lines only
        assert client.get("/after").status == 200
    finally:
        os.close(reader)


def test_a_full_disk_drops_lines_and_never_traffic(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    wire = h1(start_gateway(with_log(pki, echo_upstream, "/dev/full")))
    for _ in range(50):
        assert wire.get("/").status == 200


def test_the_log_can_go_to_stdout_and_to_nothing(
    start_gateway: StartGateway, pki: Pki, echo_upstream: ScriptedUpstream, h1: Callable[..., Wire]
) -> None:
    loud = start_gateway(with_log(pki, echo_upstream, "stdout"))
    assert h1(loud).get("/said").status == 200
    loud.end()
    assert b'"/said"' in (loud.folder / "stdout").read_bytes()
    quiet = start_gateway(with_log(pki, echo_upstream, "off").replace('{ to = "off", format = "json" }', '"off"'))
    assert h1(quiet).get("/unsaid").status == 200
    quiet.end()
    assert b"/unsaid" not in (quiet.folder / "stdout").read_bytes()
