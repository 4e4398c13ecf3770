"""WebSockets: over HTTP/1.1 with Upgrade and over HTTP/2 with extended CONNECT (RFC 8441), to one real server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway, wait_for
from .h2raw import H2Client
from .pki import Pki
from .upstreams import Conn


def talk(websocket: ServerConnection) -> None:
    for message in websocket:
        if message == "bye":
            websocket.close(4001, "as you wish")
            return
        websocket.send(message)


def choose(websocket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("chat") if "chat" in offered else None


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with serve(talk, "127.0.0.1", 0, max_size=None, select_subprotocol=choose) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, service: str) -> Gateway:
    return start_shared(pki.host(service), plain=True)


@pytest.fixture
def websocket(edge: Gateway, pki: Pki) -> Iterator[ClientConnection]:
    context = ssl.create_default_context(cafile=str(pki.ca))
    with connect(f"wss://localhost:{edge.port}/ws", ssl=context, sock=dial(edge.port), max_size=None, proxy=None) as websocket:
        yield websocket


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def test_messages_of_all_sizes_come_back(websocket: ClientConnection) -> None:
    messages: list[str | bytes] = ["", "short", "ü" * 1000, os.urandom(125), os.urandom(70_000), os.urandom(3_000_000)]
    for message in messages:
        websocket.send(message)
        assert websocket.recv(10) == message


def test_pings_are_answered_by_the_far_end(websocket: ClientConnection) -> None:
    assert websocket.ping(b"hello").wait(60)


def test_the_far_ends_close_code_arrives(websocket: ClientConnection) -> None:
    websocket.send("bye")
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(5)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as you wish")


def test_subprotocols_are_negotiated_with_the_far_end(edge: Gateway, pki: Pki) -> None:
    context = ssl.create_default_context(cafile=str(pki.ca))
    with connect(
        f"wss://localhost:{edge.port}/", ssl=context, sock=dial(edge.port), subprotocols=[Subprotocol("chat")], proxy=None
    ) as websocket:
        assert websocket.subprotocol == "chat"


def test_a_plain_listener_tunnels_too(edge: Gateway) -> None:
    with connect(f"ws://localhost:{edge.plain_port}/", sock=dial(edge.plain_port), proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv(5) == "hello"


def test_what_the_client_sends_before_the_answer_is_not_lost(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    hello = Frame(Opcode.TEXT, b"early").serialize(mask=True)
    wire.send(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + hello
    )
    answer = wire.read_response()
    assert (answer.status, answer.get("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert wire.exactly(7) == Frame(Opcode.TEXT, b"early").serialize(mask=False)


def test_an_upgrade_that_the_upstream_declines_is_an_ordinary_answer(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki
) -> None:
    def decline(conn: Conn) -> None:
        while True:
            conn.read_request()
            conn.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    gateway = start_gateway(pki.host(start_upstream(decline).url))
    context = ssl.create_default_context(cafile=str(pki.ca))
    with pytest.raises(InvalidStatus) as caught:
        connect(f"wss://localhost:{gateway.port}/", ssl=context, sock=dial(gateway.port), proxy=None)
    assert caught.value.response.status_code == 403


class Ends:
    """An upstream that agrees to any upgrade, and says what it heard and that it heard the end."""

    def __init__(self, farewell: bytes = b"") -> None:
        self.farewell = farewell
        self.heard = b""
        self.over = threading.Event()

    def __call__(self, conn: Conn) -> None:
        request = conn.read_request()
        key = request.values("sec-websocket-key")[0].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        conn.send(b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n" + self.farewell)
        if self.farewell:
            return
        try:
            while part := conn.some():
                self.heard += part
        except ConnectionError:
            pass
        self.over.set()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("end", [Wire.close, Wire.reset], ids=["closed", "reset"])
def test_a_client_that_leaves_ends_the_upstreams_side(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], end: Callable[[Wire], None]
) -> None:
    upstream = Ends()
    wire = h1(start_gateway(pki.host(start_upstream(upstream).url)))
    wire.send(UPGRADE)
    assert wire.read_response().status == 101
    wire.send(b"last words")
    wait_for(lambda: upstream.heard == b"last words", "the last words")
    end(wire)
    assert upstream.over.wait(60)


def test_an_upstream_that_leaves_ends_the_clients_side(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], h2: Callable[..., H2Client]
) -> None:
    gateway = start_gateway(pki.host(start_upstream(Ends(b"farewell")).url))
    wire = h1(gateway)
    wire.send(UPGRADE)
    assert wire.read_response().status == 101
    assert wire.rest() == b"farewell"
    client = h2(gateway)
    stream = client.response(open_h2_websocket(client))
    assert (bytes(stream.body), stream.reset) == (b"farewell", None)


def open_h2_websocket(client: H2Client) -> int:
    client.ping()
    assert client.settings[8] == 1, "SETTINGS_ENABLE_CONNECT_PROTOCOL"
    sid = client.new_stream()
    client.headers(
        sid,
        [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "localhost"),
            (":path", "/ws"), ("sec-websocket-version", "13"),
        ],
        end=False,
    )  # fmt: skip
    client.until(lambda: client.streams[sid].fields or client.streams[sid].over)
    return sid


def test_extended_connect_opens_a_websocket_on_http2(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sid = open_h2_websocket(client)
    stream = client.streams[sid]
    assert stream.status == 200
    assert stream.get("sec-websocket-accept") is None
    client.data(sid, Frame(Opcode.TEXT, b"over h2").serialize(mask=True))
    client.until(lambda: len(stream.body) >= 9)
    assert bytes(stream.body) == Frame(Opcode.TEXT, b"over h2").serialize(mask=False)
    client.data(sid, Frame(Opcode.TEXT, b"bye").serialize(mask=True))
    client.until(lambda: b"as you wish" in stream.body)
    client.data(sid, Frame(Opcode.CLOSE, b"\x0f\xa1").serialize(mask=True), end=True)
    assert client.response(sid).reset in (None, 0)


def test_a_large_message_passes_an_http2_websocket(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sid = open_h2_websocket(client)
    message = os.urandom(300_000)
    client.upload(sid, Frame(Opcode.BINARY, message).serialize(mask=True), end=False)
    expected = Frame(Opcode.BINARY, message).serialize(mask=False)
    client.until(lambda: len(client.streams[sid].body) >= len(expected))
    assert bytes(client.streams[sid].body) == expected


def test_two_http2_websockets_and_a_request_share_a_connection(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sids = [open_h2_websocket(client) for _ in range(2)]
    for sid in sids:
        client.data(sid, Frame(Opcode.TEXT, b"%d" % sid).serialize(mask=True))
    for sid in sids:
        while len(client.streams[sid].body) < 3:
            client.pump()
        assert bytes(client.streams[sid].body) == Frame(Opcode.TEXT, b"%d" % sid).serialize(mask=False)


def test_a_reset_stream_closes_the_upstreams_side(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h2: Callable[..., H2Client]
) -> None:
    upstream = Ends()
    gateway = start_gateway(pki.host(start_upstream(upstream).url))
    client = h2(gateway)
    sid = open_h2_websocket(client)
    assert client.streams[sid].status == 200
    client.wire.send(b"\0\0\4\3\0" + sid.to_bytes(4, "big") + b"\0\0\0\x08")
    assert upstream.over.wait(60)


def half_closing(conn: Conn) -> None:
    """Ends its own direction at once on ``/first``; else hears the client to its end and then answers."""
    request = conn.read_request()
    key = request.values("sec-websocket-key")[0].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accepted = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
    conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
    conn.send(b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n")
    if request.path == "/first":
        conn.sock.shutdown(socket.SHUT_WR)
    heard = 0
    while part := conn.some():
        heard += len(part)
    request.body = b"%d" % heard
    if request.path != "/first":
        conn.send(b"heard %d" % heard + bytes(300_000))


def half_close(wire: Wire) -> None:
    """Say that no more comes, and go on reading."""
    if isinstance(wire.sock, ssl.SSLSocket):
        wire.sock.setblocking(False)
        with contextlib.suppress(ssl.SSLError):
            wire.sock.unwrap()  # sends close_notify; the peer's is not waited for
        wire.sock.settimeout(60)
    else:
        wire.sock.shutdown(socket.SHUT_WR)


def test_a_client_may_end_its_direction_first(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], h2: Callable[..., H2Client]
) -> None:
    gateway = start_gateway(pki.host(start_upstream(half_closing).url), plain=True)
    wire = h1(gateway, plain=True)
    wire.send(UPGRADE)
    assert wire.read_response().status == 101
    wire.send(bytes(200_000))
    half_close(wire)
    assert wire.rest() == b"heard 200000" + bytes(300_000)
    client = h2(gateway)
    sid = open_h2_websocket(client)
    client.upload(sid, bytes(200_000))
    stream = client.response(sid)
    assert (bytes(stream.body), stream.reset) == (b"heard 200000" + bytes(300_000), None)
    assert [gateway.access_line(protocol=name).get("fault") for name in ("HTTP/1.1", "HTTP/2")] == [None, None]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_upstream_may_end_its_direction_first(
    start_gateway: StartGateway, start_upstream: StartUpstream, pki: Pki, h1: Callable[..., Wire], version: ssl.TLSVersion
) -> None:
    upstream = start_upstream(half_closing)
    wire = h1(start_gateway(pki.host(upstream.url)), version=version)
    wire.send(UPGRADE.replace(b"GET / ", b"GET /first "))
    assert wire.read_response().status == 101
    assert wire.ended()
    wire.send(bytes(200_000))
    half_close(wire)
    wait_for(lambda: upstream.requests[0].body == b"200000", "all that the client said")
