"""Rows with a staple mean what they say: a real response, given as each peer takes it, and a server without one fails the row."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from bench import peers
from bench.handshakes import Job, run
from bench.offer import Offer
from bench.probe import Prober
from bench.scenarios import SCENARIOS
from bench.stapling import Stapling, wait_staple
from edge.tls.ocsp import question, verify
from tests.bench.serving import ANSWER, Threaded


class Server(Threaded):
    """A TLS server that shows `response` to clients that ask, "" to none, and answers one request."""

    def __init__(self, stapling: Stapling, response: bytes) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_certificate_chain_file(str(stapling.given.leaf.chain))
        self._context.use_privatekey_file(str(stapling.given.leaf.key))
        self.response = response
        self._context.set_ocsp_server_callback(lambda *_: self.response)
        super().__init__()

    def serve(self, raw: socket.socket) -> None:
        connection = SSL.Connection(self._context, raw)
        connection.set_accept_state()
        try:
            connection.do_handshake()
            if connection.recv(4096):
                connection.sendall(ANSWER)
        except SSL.Error:
            pass
        finally:
            raw.close()


@pytest.fixture(scope="module")
def stapling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stapling]:
    with Stapling(tmp_path_factory.mktemp("run") / "stapling") as made:
        yield made


@pytest.fixture
def server(stapling: Stapling) -> Iterator[Server]:
    made = Server(stapling, stapling.given.response.read_bytes())
    yield made
    made.end()


@pytest.fixture
def _keep_garbage_collection() -> Iterator[None]:
    import gc

    yield
    gc.enable()
    gc.unfreeze()


def test_the_response_is_a_good_one_and_the_responder_gives_it(stapling: Stapling) -> None:
    asked = question(stapling.given.leaf.chain.read_bytes())
    response = stapling.given.response.read_bytes()
    assert verify(asked, response, time.time()).until > time.time() + 3600
    for data in (None, b"a question"):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(stapling.url, data, timeout=10) as answer:
            assert answer.read() == response


@pytest.mark.usefixtures("_keep_garbage_collection")
@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_a_staple_is_seen(server: Server, version: str) -> None:
    address = ("127.0.0.1", server.port)
    assert Prober(address, "localhost", Offer(version, staple=True), "/").take().stapled
    assert not Prober(address, "localhost", Offer(version), "/").take().stapled
    wait_staple(server.port)
    seen = run(Job("127.0.0.1", server.port, offer=Offer(version, staple=True), seconds=0.2, connections=2))
    assert seen.count > 0
    assert seen.failed == 0


@pytest.mark.usefixtures("_keep_garbage_collection")
@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_a_server_without_a_staple_fails_the_row(server: Server, version: str) -> None:
    server.response = b""
    with pytest.raises(RuntimeError, match="showed no staple"):
        run(Job("127.0.0.1", server.port, offer=Offer(version, staple=True), seconds=0.1, connections=2))
    with pytest.raises(RuntimeError, match="no staple within"):
        wait_staple(server.port, 0.0)


def test_the_rows_ask_for_it_and_have_one_beside_that_does_not() -> None:
    for version in ("1.3", "1.2"):
        row, beside = (SCENARIOS[f"tls{version}-full-{kind}"] for kind in ("staple", "unstapled"))
        assert row.variant == beside.variant == "staple"
        assert row.offer == Offer(version, staple=True)
        assert beside.offer == Offer(version)


def test_each_peer_is_given_it_or_says_that_it_cannot(stapling: Stapling, tmp_path: Path) -> None:
    given = stapling.given
    job = peers.Job(tmp_path, given.leaf, 1, 2, 3, staple=given.response)
    assert given.response == given.leaf.both.with_name(given.leaf.both.name + ".ocsp")  # where HAProxy looks for it
    unable = []
    for name, peer in peers.PEERS.items():
        try:
            _, text = peer.configure(f"/opt/{name}", job)
        except RuntimeError:
            unable.append(name)
        else:
            assert str(given.response) in text or name in ("edge", "haproxy", "caddy", "traefik")
    assert unable == ["granian", "stunnel"]
