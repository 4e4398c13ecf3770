"""Early data (RFC 8446 section 2.3): taken once, from those who may, and answered before the handshake is over."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from edge.errors import Fault
from edge.settings.identity import policy_id
from edge.settings.model import ClientAuthMode
from edge.tls.binding import ffi, lib
from edge.tls.choice import ServerContext
from edge.tls.early import MAX_EARLY_DATA, EarlyEngine
from edge.tls.replay import ReplayFilter
from edge.tls.ticket_keys import Generation, KeyRing
from edge.wire.hello import ClientHello, HelloReader
from tests.tls.peers import Client, host, meet

NOW = 1_700_000_000.0
GENERATION = Generation(b"g" * 32, time.time(), 1e12)


def ring(*generations: Generation) -> KeyRing:
    made = KeyRing()
    generations = generations or (GENERATION,)
    made.update(generations, generations[-1])
    return made


def context(keys: KeyRing | None = None, **tls: Any) -> ServerContext:
    return ServerContext(host(**{"early_data": True, **tls}), keys or ring())


def session_of(server: ServerContext, **options: Any) -> Any:
    client = Client(**options)
    assert meet(server, client).ok
    return client.finish()


def first_flight(client: Client, early: bytes) -> bytes:
    """The ClientHello and the early data behind it."""
    count = ffi.new("size_t *")
    assert lib.SSL_write_early_data(client.connection._ssl, early, len(early), count) == 1, "the ticket allows it"
    return client.output()


def hello_of(data: bytes) -> ClientHello:
    hello = HelloReader(65536).feed(data)
    assert hello is not None
    return hello


def flight_records(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def filter_() -> ReplayFilter:
    return ReplayFilter(NOW, window_passed=True)


class Early:
    """A server engine, and when it was confirmed."""

    def __init__(self, server: ServerContext, sni: str | None = "a.test") -> None:
        self.confirmed = 0
        self.engine: EarlyEngine = server.early_engine(sni, self.on_confirmed)

    def on_confirmed(self) -> None:
        self.confirmed += 1


@pytest.mark.parametrize("size", [1, 100, MAX_EARLY_DATA])
def test_early_data_is_read_and_answered_before_the_handshake_is_over(size: int) -> None:
    server = context()
    client = Client(session=session_of(server))
    sent = b"x" * size
    data = first_flight(client, sent)
    hello = hello_of(data)
    assert hello.early_data
    assert server.early_refusal(hello, filter_(), NOW) == ""
    one = Early(server)
    assert one.engine.receive(data) == sent
    assert one.engine.established and not one.engine.confirmed and not one.confirmed
    assert one.engine.info().resumed
    answer = one.engine.seal(b"answer " * 10_000)
    second = client.step(answer)
    assert client.plain == b"answer " * 10_000
    assert one.engine.receive(second + client.send(b"more")) == b"more"
    assert one.engine.confirmed and one.confirmed == 1


@pytest.mark.parametrize("split", ["records", "bytes"])
def test_the_second_flight_in_pieces(split: str) -> None:
    server = context()
    client = Client(session=session_of(server))
    one = Early(server)
    data = first_flight(client, b"early")
    plain = b"".join(one.engine.receive(record) for record in flight_records(data))
    assert plain == b"early"
    second = client.step(one.engine.seal(b"first answer")) + client.send(b"late")
    pieces = flight_records(second) if split == "records" else [second[at : at + 1] for at in range(len(second))]
    got = b""
    for piece in pieces:
        got += one.engine.receive(piece)
        client.step(one.engine.seal(b"+"))
    assert got == b"late"
    assert one.confirmed == 1 and one.engine.confirmed
    assert client.plain == b"first answer" + b"+" * len(pieces)
    one.engine.idle()
    assert one.engine.receive(client.send(b"after idle")) == b"after idle"
    one.engine.shutdown()
    client.step(one.engine.drain())
    assert client.finish() is not None


def test_a_hello_without_early_bytes_behind_it() -> None:
    server = context()
    client = Client(session=session_of(server))
    one = Early(server)
    records = flight_records(first_flight(client, b"early"))
    assert one.engine.receive(records[0]) == b"" and not one.engine.established
    assert one.engine.receive(records[1] + b"".join(records[2:])) == b"early"


def test_too_much_early_data_is_a_fault() -> None:
    keys = ring()
    generous = context(keys)
    lib.SSL_CTX_set_max_early_data(generous._pointer, 4 * MAX_EARLY_DATA)
    client = Client(session=session_of(generous))
    one = Early(context(keys))
    data = first_flight(client, b"x" * MAX_EARLY_DATA)
    assert len(one.engine.receive(data)) == MAX_EARLY_DATA
    with pytest.raises(Fault):
        one.engine.receive(first_flight(client, b"x" * 200))


def test_a_copy_is_let_in_once_by_whichever_filter_is_shared() -> None:
    server, shared = context(), filter_()
    data = first_flight(Client(session=session_of(server)), b"early")
    assert server.early_refusal(hello_of(data), shared, NOW) == ""
    assert server.early_refusal(hello_of(data), shared, NOW + 5) == "replayed"
    engine = server.engine("a.test", hello_of(data).session_ticket)
    assert engine.receive(data) == b"", "refused by TLS, and skipped"
    assert not engine.established


def test_the_binder_is_what_makes_a_hello_unique() -> None:
    server, shared = context(), filter_()
    session = session_of(server)
    clients = [Client(session=session) for _ in range(2)]
    hellos = [hello_of(first_flight(client, b"early")) for client in clients]
    assert [len(hello.binder) for hello in hellos] == [32, 32]
    assert [server.early_refusal(hello, shared, NOW) for hello in hellos] == ["", ""]


def test_refused_early_data_is_skipped_and_the_handshake_goes_on() -> None:
    server = context()
    client = Client(session=session_of(server))
    data = first_flight(client, b"x" * 16_000)
    engine = server.engine("a.test", hello_of(data).session_ticket)
    plain = engine.receive(data)
    plain += engine.receive(client.step(engine.drain()) + client.send(b"again"))
    assert (plain, engine.established, engine.info().resumed) == (b"again", True, True)


def test_the_protocol_is_known_before_the_handshake_is_over() -> None:
    server = context()
    session = session_of(server, alpn=("http/1.1",))
    client = Client(session=session, alpn=("http/1.1",))
    one = Early(server)
    assert one.engine.receive(first_flight(client, b"early")) == b"early"
    assert one.engine.alpn() == b"http/1.1"


@pytest.mark.parametrize("tls", [{"early_data": False}, {"tickets": False}])
def test_tickets_allow_it_only_where_it_is_on(tls: dict[str, bool]) -> None:
    server = ServerContext(host(**{"early_data": True, **tls}), ring())
    session = session_of(server)
    assert lib.SSL_SESSION_get_max_early_data(session._session) == 0
    assert server.early_refusal(ClientHello(), filter_(), NOW) == "off"


def test_never_with_client_certificates() -> None:
    server = ServerContext(host(early_data=True, client_auth=ClientAuthMode.REQUEST), ring())
    assert not server.takes_early_data
    assert lib.SSL_SESSION_get_max_early_data(session_of(server)._session) == 0


def test_turning_it_on_is_another_policy() -> None:
    one = host(early_data=True)
    assert policy_id(one) != policy_id(replace(one, tls=replace(one.tls, early_data=False)))


def test_only_tickets_of_ours_under_the_newest_key() -> None:
    keys = ring()
    server = context(keys)
    data = first_flight(Client(session=session_of(server)), b"early")
    hello = hello_of(data)
    newer = Generation(b"n" * 32, time.time(), 1e12)
    keys.update((GENERATION, newer), newer)
    assert server.early_refusal(hello, filter_(), NOW) == "older"
    keys.update((newer,), newer)
    assert server.early_refusal(hello, filter_(), NOW) == "ticket"
    forged = hello_of(data)
    forged.session_ticket = forged.session_ticket[:-1] + bytes([forged.session_ticket[-1] ^ 1])
    assert context().early_refusal(forged, filter_(), NOW) == "ticket"


def test_the_name_is_compared_before_anything_is_given_out() -> None:
    server = context()
    one = Early(server, sni="b.test")
    with pytest.raises(Fault) as caught:
        one.engine.receive(first_flight(Client(session=session_of(server)), b"early"))
    assert caught.value.kind == "sni-mismatch"


def test_muted_early_data_goes_to_nobody() -> None:
    server = context()
    client = Client(session=session_of(server))
    one = Early(server)
    records = flight_records(first_flight(client, b"early"))
    count = ffi.new("size_t *")
    one.engine.receive(b"".join(records))
    one.engine.muted = True
    assert lib.SSL_write_early_data(client.connection._ssl, b"more", 4, count) == 1
    assert one.engine.receive(client.output()) == b""
