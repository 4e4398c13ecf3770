"""The bench's own client: both protocols without a socket, against servers over TLS, and in the place of wrk and h2load."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from bench import client, load
from bench.certificates import Leaf, issue
from bench.client import Job, run
from bench.exchanges import H1, H2
from bench.processes import environment
from bench.requests import requests

FIELDS = [("X-One", "1"), ("X-Two", "2")]


def test_http1_requests_are_written_in_full() -> None:
    exchange = H1("localhost", "/a", FIELDS, 3)
    exchange.begin()
    assert exchange.out == b"POST /a HTTP/1.1\r\nHost: localhost\r\nX-One: 1\r\nX-Two: 2\r\nContent-Length: 3\r\n\r\n\0\0\0"


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_http1_answers_end_where_they_end(part: int) -> None:
    answers = (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    ends = [answers.index(b"HTTP", 9), answers.rindex(b"HTTP"), len(answers)]
    exchange, start, done = H1("localhost", "/", [], 0), 0, []
    for end in ends:  # one request at a time: the next answer comes after the next request
        whole = answers[start:end]
        done.append(sum(exchange.feed(whole[at : at + part]) for at in range(0, len(whole), part)))
        start = end
    assert done == [1, 1, 1]
    assert exchange.errors == 0
    assert exchange.feed(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") == 1
    assert exchange.errors == 1


class Peer:
    """The server's side by the h2 library. `answer` is what each request gets; None: a reset."""

    def __init__(self, body: bytes = b"x" * 100, status: str = "200", *, window: int = 65_535) -> None:
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.conn.initiate_connection()
        self.conn.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.heads: list[list[tuple[str, str]]] = []
        self.uploads: dict[int, int] = {}
        self._body, self._status = body, status

    def feed(self, octets: bytes) -> bytes:
        for event in self.conn.receive_data(octets) if octets else []:
            if isinstance(event, h2.events.RequestReceived):
                self.heads.append([(str(name), str(value)) for name, value in event.headers])
            elif isinstance(event, h2.events.DataReceived):
                self.uploads[event.stream_id] = self.uploads.get(event.stream_id, 0) + len(event.data)
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                if not self._status:
                    self.conn.reset_stream(event.stream_id, 2)
                    continue
                self.conn.send_headers(event.stream_id, [(":status", self._status), ("content-type", "text/plain")])
                for at in range(0, len(self._body), 16_384):
                    self.conn.send_data(event.stream_id, self._body[at : at + 16_384])
                self.conn.end_stream(event.stream_id)
        return self.conn.data_to_send()


def converse(exchange: H2, peer: Peer, *, part: int = 1 << 20) -> int:
    """Until nobody has anything to say."""
    ended = 0
    while True:
        out, exchange.out = bytes(exchange.out), bytearray()
        said = peer.feed(out)
        if not out and not said:
            return ended
        ended += sum(exchange.feed(said[at : at + part]) for at in range(0, len(said), part))


@pytest.mark.parametrize("part", [1, 11, 1 << 20])
def test_http2_requests_are_what_the_library_understands(part: int) -> None:
    exchange, peer = H2("localhost", "/a", FIELDS, 0), Peer()
    for _ in range(3):
        exchange.begin()
    assert converse(exchange, peer, part=part) == 3
    exchange.begin()
    assert converse(exchange, peer, part=part) == 1
    assert exchange.errors == 0
    wanted = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/a"),
        ("x-one", "1"),
        ("x-two", "2"),
    ]
    assert peer.heads == [wanted] * 4


def test_fields_that_do_not_fit_into_the_table_arrive_all_the_same() -> None:
    fields = [(f"x-{number}", "y" * 100) for number in range(60)]
    exchange, peer = H2("localhost", "/", fields, 0), Peer()
    for _ in range(4):
        exchange.begin()
        assert converse(exchange, peer) == 1
    assert all(head[4:] == fields for head in peer.heads)


@pytest.mark.parametrize("window", [1000, 65_535, 1 << 20])
def test_uploads_keep_to_the_servers_windows(window: int) -> None:
    exchange, peer = H2("localhost", "/", [], 200_000), Peer(window=window)
    assert converse(exchange, peer) == 0  # both sides' settings
    exchange.begin()
    exchange.begin()
    assert converse(exchange, peer) == 2  # the library raises when a window is overrun
    assert set(peer.uploads.values()) == {200_000}


def test_large_answers_are_read_to_their_ends() -> None:
    exchange, peer = H2("localhost", "/", [], 0), Peer(b"z" * 500_000)
    exchange.begin()
    assert converse(exchange, peer, part=1000) == 1


@pytest.mark.parametrize("status", ["404", "503", "206", "299", ""])
def test_what_is_no_success_is_an_error(status: str) -> None:
    exchange, peer = H2("localhost", "/", [], 0), Peer(status=status)
    exchange.begin()
    assert converse(exchange, peer) == 1
    assert exchange.errors == (status != "206")


class Server:
    """TLS with threads; HTTP/1.1 or HTTP/2 as ALPN says. It closes each connection after `most` answers."""

    def __init__(self, leaf: Leaf) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(leaf.chain, leaf.key)
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listening.getsockname()[1]
        self.most = 1 << 30
        self.addresses: set[str] = set()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, (address, _) = self._listening.accept()
            except OSError:
                return
            self.addresses.add(address)
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(30)
        try:
            with self._context.wrap_socket(raw, server_side=True) as sock:
                if sock.selected_alpn_protocol() == "h2":
                    peer = Peer()
                    sock.sendall(peer.conn.data_to_send())
                    while octets := sock.recv(65_536):
                        sock.sendall(peer.feed(octets))
                    return
                for _ in itertools.repeat(None, self.most):
                    head = b""
                    while b"\r\n\r\n" not in head:
                        if not (part := sock.recv(65_536)):
                            return
                        head += part
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            raw.close()

    def end(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(issue(tmp_path))
    yield made
    made.end()


@pytest.mark.parametrize(("protocol", "streams"), [("h1", 1), ("h2", 5)])
def test_a_closed_loop_counts_what_was_answered(server: Server, protocol: str, streams: int) -> None:
    seen = run(Job(server.port, protocol, seconds=0.5, connections=3, streams=streams))
    assert seen.before == 3
    assert seen.count > 0
    assert seen.errors == 0
    assert 0 < seen.cpu <= seen.seconds


def test_many_connections_come_from_many_addresses_and_few_requests_are_under_way(server: Server) -> None:
    seen = run(Job(server.port, seconds=0.2, connections=60, in_flight=2))
    assert seen.before == 60
    assert seen.count >= 2
    assert len(server.addresses) == 50


def test_the_clock_waits_for_a_line_and_what_is_open_for_another(server: Server) -> None:
    command = [sys.executable, "-m", "bench.client", Job(server.port, seconds=0.2, connections=2, hold=True).text()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert client.Seen(**json.loads(process.stdout.readline())).before == 2
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_server_that_closes_is_said(server: Server) -> None:
    server.most = 2
    with pytest.raises(RuntimeError, match="closed a connection"):
        run(Job(server.port, seconds=5.0, connections=2))


def test_a_failing_client_ends_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(RuntimeError, match="handshake 1 of 1 failed"):
        load.own(Job(port, connections=1))


def test_several_processes_share_the_connections(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = load.Cores()
    cores.clients = [cores.load, cores.load]
    monkeypatch.setattr(load, "Cores", lambda: cores)
    found = load.own(Job(server.port, seconds=0.3, connections=5))
    assert found.count > 5
    assert found.errors == 0


def test_it_takes_the_place_of_missing_tools(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "missing", lambda *names: list(names))
    assert load.clients() == {"HTTP/1.1": "the bench's own client", "HTTP/2": "the bench's own client"}
    asked = []
    own = load.own

    def noted(job: client.Job) -> load.Load:
        asked.append(job)
        return own(job)

    monkeypatch.setattr(load, "own", noted)
    core = load.Cores().load
    for found in (
        load.h1(server.port, core, 0.3, fields=40, connections=2),
        load.h2(server.port, core, 0.3, path="/small", connections=2, streams=3),
    ):
        assert found.count > 0
        assert found.errors == 0
    assert [(job.protocol, job.connections, job.streams, len(job.fields)) for job in asked] == [("h1", 2, 1, 40), ("h2", 2, 3, 0)]
    assert all(not scenario.needs or scenario.needs == ("curl",) for scenario in requests())


def test_tools_that_are_there_are_named() -> None:
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not installed")
    assert load.clients()["HTTP/2"].startswith("h2load nghttp2/")
