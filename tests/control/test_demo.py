"""The demo service answers as its page says, within its bounds, and ends with its supervisor."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from websockets.sync.client import connect

from tests.conftest import Spawn, can_connect, wait_until

_PROGRAM = "import sys; from edge.control import demo; demo.start(int(sys.argv[1])).run(0)"


@pytest.fixture(scope="module")
def service(spawn_for_module: Spawn, free_port: Callable[[], int]) -> Iterator[int]:
    port = free_port()
    process = spawn_for_module(sys.executable, "-c", _PROGRAM, str(port), stdin=subprocess.PIPE)
    yield from _until_it_listens(port, process)


def _until_it_listens(port: int, process: subprocess.Popen[bytes]) -> Iterator[int]:
    wait_until(lambda: can_connect(port) or process.poll() is not None)
    assert process.poll() is None
    yield port


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_the_page_and_its_parts(service: int) -> None:
    for path, kind in (("/", "text/html"), ("/demo.css", "text/css"), ("/demo.js", "text/javascript")):
        response, body = ask(service, "GET", path)
        assert response.status == 200
        assert response.headers.get_content_type() == kind
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["server"] == "edge-demo"
        assert body
    html = ask(service, "GET", "/")[1].decode()
    assert "style=" not in html
    assert "<script>" not in html


def test_an_asker_that_goes_away_is_no_error(spawn: Spawn, free_port: Callable[[], int]) -> None:
    port = free_port()
    process = spawn(sys.executable, "-c", _PROGRAM, str(port), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: can_connect(port))
    for path in ("/events?count=100&interval=1", "/bytes/1000000000", "/delay/0.01"):
        with socket.create_connection(("127.0.0.1", port)) as asker:
            asker.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ask(port, "GET", "/delay/0.3")[0].status == 200
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_inspect_tells_what_came(service: int) -> None:
    response, body = ask(service, "PUT", "/inspect?a=%20b", b"abc", **{"X-One": "1"})
    seen = json.loads(body)
    assert response.headers["content-type"] == "application/json"
    assert (seen["method"], seen["target"], seen["version"]) == ("PUT", "/inspect?a=%20b", "HTTP/1.1")
    assert ["X-One", "1"] in seen["headers"]
    assert seen["body"] == {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}


@pytest.mark.parametrize("size", [0, 1, 65536, 1_000_003])
def test_bodies_have_the_size_asked_for(service: int, size: int) -> None:
    response, body = ask(service, "GET", f"/bytes/{size}")
    assert (response.headers["content-length"], len(body)) == (str(size), size)


@pytest.mark.parametrize("code", [200, 204, 304, 404, 418, 503, 599])
def test_any_status(service: int, code: int) -> None:
    assert ask(service, "GET", f"/status/{code}")[0].status == code


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/bytes/99999999999", 400),
        ("/delay/61", 400),
        ("/delay/0.01", 200),
        ("/events?count=10001", 400),
        ("/events?count=x", 400),
        ("/status/600", 404),
        ("/ws", 426),
        ("/nowhere", 404),
    ],
)
def test_bounds(service: int, path: str, status: int) -> None:
    assert ask(service, "GET", path)[0].status == status


def test_events(service: int) -> None:
    response, body = ask(service, "GET", "/events?count=3&interval=1")
    assert response.headers["content-type"] == "text/event-stream"
    assert [line for line in body.decode().splitlines() if line.startswith("data: ")] == [
        "data: tick 1 of 3",
        "data: tick 2 of 3",
        "data: tick 3 of 3",
        "data: end",
    ]


def test_echo(service: int) -> None:
    body = bytes(range(256)) * 1000
    response, echoed = ask(service, "POST", "/echo", body, **{"Content-Type": "application/x-test"})
    assert echoed == body
    assert response.headers["content-type"] == "application/x-test"


def test_websocket_echo(service: int) -> None:
    with connect(f"ws://127.0.0.1:{service}/ws", proxy=None) as client:
        client.send("text")
        assert client.recv() == "text"
        client.send(b"\x00\x01")
        assert client.recv() == b"\x00\x01"


def test_it_ends_with_its_lifeline(spawn: Spawn, free_port: Callable[[], int]) -> None:
    port = free_port()
    process = spawn(sys.executable, "-c", _PROGRAM, str(port), stdin=subprocess.PIPE)
    next(_until_it_listens(port, process))
    assert ask(port, "GET", "/status/200")[0].status == 200
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
