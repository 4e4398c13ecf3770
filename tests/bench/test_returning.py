"""Clients that come back with a request: each ticket is used once, and early data counts only when it was answered."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from bench import conclusions, peers, returning, target
from bench.certificates import Leaf, issue
from bench.handshakes import Job, run
from bench.offer import Offer
from bench.probe import Prober, Refused
from bench.scenarios import SCENARIOS
from edge.tls.binding import SSL_OP_NO_ANTI_REPLAY, SSL_READ_EARLY_DATA_FINISH, context_pointer, ffi, lib
from tests.bench.serving import ANSWER, Threaded

AFTER = Offer(resumed=True, request=True)
EARLY = Offer(resumed=True, request=True, early=True)


class Server(Threaded):
    """A TLS 1.3 server that takes early data unless it `refuses`, and answers one request per connection.

    `early` counts the requests that came early. Its tickets allow `allowed` bytes of early data.
    """

    def __init__(self, leaf: Leaf, *, allowed: int = 16_384) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_certificate_chain_file(str(leaf.chain))
        self._context.use_privatekey_file(str(leaf.key))
        self._context.set_session_id(b"bench")
        self._context.set_options(SSL_OP_NO_ANTI_REPLAY)
        lib.SSL_CTX_set_max_early_data(context_pointer(self._context), allowed)
        self.early = 0
        self.refuses = False
        self.answer = ANSWER
        super().__init__()

    def serve(self, raw: socket.socket) -> None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with raw:
            ssl = ffi.gc(lib.SSL_new(context_pointer(self._context)), lib.SSL_free)
            lib.SSL_set_fd(ssl, raw.fileno())
            lib.SSL_set_accept_state(ssl)
            self._talk(ssl)
            lib.ERR_clear_error()

    def _talk(self, ssl: Any) -> None:
        data, count, answered = ffi.new("char[]", 4096), ffi.new("size_t *"), False
        while not self.refuses:  # a server that never reads early data refuses it
            result = lib.SSL_read_early_data(ssl, data, len(data), count)
            if count[0] and not answered:
                answered = lib.SSL_write_early_data(ssl, self.answer, len(self.answer), count) == 1
                self.early += 1
            if result == SSL_READ_EARLY_DATA_FINISH:
                break
            if result == 0:
                return
        if lib.SSL_do_handshake(ssl) == 1 and not answered and lib.SSL_read(ssl, data, len(data)) > 0:
            lib.SSL_write(ssl, self.answer, len(self.answer))
        while lib.SSL_read(ssl, data, len(data)) > 0:
            pass


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> Leaf:
    return issue(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(leaf: Leaf) -> Iterator[Server]:
    made = Server(leaf)
    yield made
    made.end()


@pytest.fixture
def _keep_garbage_collection() -> Iterator[None]:
    import gc

    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("_keep_garbage_collection")
@pytest.mark.parametrize("mode", ["closed", "open"])
@pytest.mark.parametrize("offer", [AFTER, EARLY], ids=["after", "early"])
def test_every_client_resumes_with_a_ticket_of_its_own(
    server: Server, offer: Offer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[Any] = []
    pick = returning.Visits._session
    monkeypatch.setattr(returning.Visits, "_session", lambda self: offered.append(pick(self)) or offered[-1])
    seen = run(Job("127.0.0.1", server.port, offer=offer, mode=mode, rate=50, seconds=0.3, connections=3))
    assert seen.count > 0
    assert seen.failed == 0
    assert seen.resumed == len(seen.durations)
    shown = [int(ffi.cast("intptr_t", each)) for each in offered if each is not None]
    assert len(set(shown)) == len(shown) > 3
    assert server.early >= (seen.count if offer.early else 0)
    assert offer.early or not server.early


@pytest.mark.usefixtures("_keep_garbage_collection")
def test_early_data_that_is_refused_fails_the_row(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning, "PATIENCE", 0.5)
    server.refuses = True
    with pytest.raises(RuntimeError, match="was not answered"):
        run(Job("127.0.0.1", server.port, offer=EARLY, seconds=0.1, connections=2))


def test_tickets_without_early_data_fail_the_row(leaf: Leaf) -> None:
    server = Server(leaf, allowed=0)
    try:
        with pytest.raises(RuntimeError, match="allow no early data"):
            run(Job("127.0.0.1", server.port, offer=EARLY, seconds=0.1, connections=2))
        with pytest.raises(Refused, match="allow no early data"):
            Prober(("127.0.0.1", server.port), "localhost", EARLY, "/").take()
    finally:
        server.end()


@pytest.mark.usefixtures("_keep_garbage_collection")
def test_another_answer_than_200_fails_the_row(server: Server) -> None:
    server.answer = b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(RuntimeError, match="another than 200"):
        run(Job("127.0.0.1", server.port, offer=EARLY, seconds=0.1, connections=2))


def test_one_early_request_is_taken_apart(server: Server) -> None:
    prober = Prober(("127.0.0.1", server.port), "localhost", EARLY, "/")
    for number in range(1, 4):
        taken = prober.take()
        assert taken.resumed
        assert taken.to_first_byte is not None
        assert taken.round_trips == 1
        assert server.early == number
    server.refuses = True
    with pytest.raises(Refused, match="not answered"):
        prober.take()
    with pytest.raises(Refused, match="none is to be sent"):
        Prober(("127.0.0.1", server.port), "localhost", EARLY, None).take()


def test_any_servers_early_data_is_a_row_and_a_sentence(server: Server) -> None:
    offers = target.matrix(["X25519"], ["1.3", "1.2"], early=True)
    assert [offer.label for offer in offers if offer.early] == ["TLS 1.3 early data, X25519"]
    assert not any(offer.early for offer in target.matrix(["X25519"], ["1.3"]))
    wanted = [Offer(), Offer(resumed=True), EARLY]
    rows = target.look(target.Address("localhost", server.port), wanted, count=2, path="/", progress=lambda _: None)
    assert [row.get("refused") for row in rows] == [None, None, None]
    said = " ".join(conclusions.of_handshakes({"handshakes": rows, "loops": []}))
    assert "after the hello with early data" in said


def test_the_rows_and_who_takes_part(leaf: Leaf, tmp_path: Path) -> None:
    row, beside = SCENARIOS["tls1.3-early"], SCENARIOS["tls1.3-resumed-request"]
    assert (row.offer, row.variant) == (EARLY, "early")
    assert (beside.offer, beside.variant) == (AFTER, "")
    assert [name for name, peer in peers.PEERS.items() if peer.early] == ["edge", "nginx", "haproxy"]
    for early in (False, True):
        job = peers.Job(tmp_path, leaf, 1, 2, 3, early=early)
        for name, word in (("edge", "early_data"), ("nginx", "ssl_early_data on"), ("haproxy", "allow-0rtt")):
            assert (word in peers.PEERS[name].configure("/opt/x", job)[1]) == early
