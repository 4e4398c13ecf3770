"""Tickets: who can use whose, over generations, policies, contexts and a HelloRetryRequest (facts F1, F2, F7, F13 to F15)."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from edge.settings.model import ClientAuth, ClientAuthMode, Host, Trust
from edge.tls import layout as layout_module
from edge.tls.choice import ServerContext
from edge.tls.layout import LayoutError, layout
from edge.tls.older_key import OlderKeyEngine
from edge.tls.ticket_keys import MOST, Generation, KeyRing, pack, unpack
from edge.wire.hello import HelloReader
from tests.tls.peers import PKI, TLS12, TLS13, Client, Meeting, host, meet

BOTH = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
RETRY = "X448:P-256"  # the client's share is of the first, the server takes only the second


def generation() -> Generation:
    return Generation(os.urandom(32), time.time(), 4e9)


def ring_of(*generations: Generation) -> KeyRing:
    """The last one issues."""
    ring = KeyRing()
    ring.update(generations, generations[-1])
    return ring


def visit(context: ServerContext, version: int, session: object = None, **options: object) -> tuple[Meeting, object]:
    client = Client(version=version, session=session, **options)  # type: ignore[arg-type]
    meeting = meet(context, client)
    return meeting, client.finish()


def resumed(meeting: Meeting) -> bool:
    assert meeting.ok, meeting.client.error
    return meeting.engine.info().resumed


# --- the layout ---


def test_the_layout_is_proven_here() -> None:
    found = layout()
    assert found.tickets is not None
    assert found is layout()


def test_a_failed_proof_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "_outcome", lambda: LayoutError("the key's name stands in 2 places"))
    ring = KeyRing()
    context = ServerContext(host(), ring)
    first, session = visit(context, TLS13)
    assert not resumed(first)
    with pytest.raises(LayoutError):
        ring.update([one := generation()], one)
    assert ring.newest is None
    assert ring.generations == ()
    assert resumed(visit(context, TLS13, session)[0])  # OpenSSL's own keys go on
    quiet = ServerContext(host(tickets=False), ring)
    assert not resumed(visit(quiet, TLS13, visit(quiet, TLS13)[1])[0])


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("_fits", lambda *_: False),
        ("_fits", lambda *_: True),
        ("ticket_of", lambda *_: b"short"),
        ("ticket_of", lambda *_: bytes(200)),
        ("Memory", lambda: (_ for _ in ()).throw(OSError("no map"))),
    ],
)
def test_each_doubt_is_a_failure(name: str, instead: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, name, instead)
    assert isinstance(layout_module._outcome.__wrapped__(), LayoutError)


def test_what_is_found_must_do_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "_find", lambda *_: replace(layout(), mac=32))
    outcome = layout_module._outcome.__wrapped__()
    assert not isinstance(outcome, LayoutError)  # which half is which does not matter to contexts that agree
    monkeypatch.setattr(layout_module.TrialServer, "resumes", lambda *_: True)
    assert isinstance(layout_module._outcome.__wrapped__(), LayoutError)
    monkeypatch.setattr(layout_module.TrialServer, "resumes", lambda *_: False)
    assert isinstance(layout_module._outcome.__wrapped__(), LayoutError)


def test_an_unclear_number_of_tickets_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module.TrialServer, "bytes_after_handshake", lambda *_: 1)
    found = layout_module._outcome.__wrapped__()
    assert not isinstance(found, LayoutError)
    assert found.tickets is None
    assert not found.set_tickets(None, 0)


# --- contexts, processes, generations ---


@BOTH
@pytest.mark.parametrize("groups", ["", RETRY])
def test_contexts_that_were_made_apart_take_each_others_tickets(version: int, groups: str) -> None:
    one = generation()
    _, session = visit(ServerContext(host(), ring_of(one)), version)
    assert resumed(visit(ServerContext(host(), ring_of(one)), version, session, groups=groups)[0])
    assert not resumed(visit(ServerContext(host(), ring_of(generation())), version, session, groups=groups)[0])


@BOTH
@pytest.mark.parametrize("groups", ["", RETRY])
def test_a_rotation_loses_nobody(version: int, groups: str) -> None:
    """F14: the old generation opens its tickets, the newest issues; TLS 1.2 keeps its ticket."""
    old, new = generation(), generation()
    ring = ring_of(old)
    context = ServerContext(host(), ring)
    _, session = visit(context, version)
    ring.update([old, new], new)
    meeting, renewed = visit(context, version, session, groups=groups)
    assert isinstance(meeting.engine, OlderKeyEngine)
    assert resumed(meeting)
    again, _ = visit(context, version, renewed)
    assert resumed(again)
    assert isinstance(again.engine, OlderKeyEngine) is (version == TLS12)
    ring.update([new], new)
    assert resumed(visit(context, version, renewed)[0]) is (version == TLS13)
    assert not resumed(visit(context, version, session)[0])


@BOTH
def test_a_chain_of_resumptions_with_certificates_ends_with_its_generation(version: int) -> None:
    """F15: the renewing ticket is under the old generation too."""
    old, new = generation(), generation()
    ring = ring_of(old)
    context = ServerContext(host(client_auth=ClientAuthMode.REQUIRE), ring)
    _, session = visit(context, version, certificate=PKI.client())
    ring.update([old, new], new)
    for groups in ("", RETRY, ""):
        meeting, session = visit(context, version, session, groups=groups)
        assert resumed(meeting)
        assert meeting.engine.info().peer is not None
    ring.update([new], new)
    without, _ = visit(context, version, session)
    assert without.fault is not None
    assert without.fault.kind.endswith("certificate-missing")


@BOTH
def test_two_handshakes_of_different_generations_do_not_meet(version: int) -> None:
    old, new = generation(), generation()
    ring = ring_of(old)
    context = ServerContext(host(), ring)
    _, first = visit(context, version)
    ring.update([old, new], new)
    _, second = visit(context, version)
    clients = [Client(version=version, session=session) for session in (first, second, None)]  # type: ignore[arg-type]
    hellos = [client.step() for client in clients]
    engines = [context.engine("a.test", name) for name in (ring_ticket(hello) for hello in hellos)]
    for engine, hello in zip(engines, hellos, strict=True):
        engine.receive(hello)
    for client, engine in zip(clients, engines, strict=True):
        data = client.step(engine.drain())
        while data:
            engine.receive(data)
            data = client.step(engine.drain())
    assert [engine.info().resumed for engine in engines] == [True, True, False]


def ring_ticket(hello: bytes) -> bytes:
    from edge.wire.hello import HelloReader

    found = HelloReader(65536).feed(hello)
    assert found is not None
    return found.session_ticket


@BOTH
def test_a_handshake_that_outlives_its_key_issues_under_the_newest(version: int) -> None:
    """Between the hello and the end of the handshake the old generation is over and wiped."""
    old, new = generation(), generation()
    ring = ring_of(old)
    context = ServerContext(host(client_auth=ClientAuthMode.REQUEST), ring)
    _, session = visit(context, version)
    ring.update([old, new], new)
    client = Client(version=version, session=session)  # type: ignore[arg-type]
    hello = client.step()
    engine = context.engine("a.test", ring_ticket(hello))
    engine.receive(hello)
    ring.update([new], new)
    data = client.step(engine.drain())
    while data:
        engine.receive(data)
        data = client.step(engine.drain())
    assert engine.info().resumed
    _, fresh = visit(context, version)
    assert resumed(visit(ServerContext(context.host, ring_of(new)), version, fresh)[0])


@BOTH
def test_a_hello_in_pieces_still_resumes_under_the_old_key(version: int) -> None:
    old, new = generation(), generation()
    ring = ring_of(old)
    context = ServerContext(host(), ring)
    _, session = visit(context, version)
    ring.update([old, new], new)
    client = Client(version=version, session=session, groups=RETRY)  # type: ignore[arg-type]
    data = client.step()
    engine = context.engine("a.test", ring_ticket(data))
    while data:
        for at in range(0, len(data), 50):
            engine.receive(data[at : at + 50])
        data = client.step(engine.drain())
    assert engine.info().resumed


# --- policies ---


def changed(**auth: object) -> Host:
    return replace(host(), client_auth=ClientAuth(**{"mode": ClientAuthMode.REQUIRE, "trust": PKI.client_trust, **auth}))  # type: ignore[arg-type]


TIGHTER = {
    "a certificate is required": (host(), changed()),
    "it was only asked for": (changed(mode=ClientAuthMode.REQUEST), changed()),
    "of another CA": (changed(trust=PKI.stranger_trust), changed()),
    "less deep": (changed(depth=4), changed(depth=1)),
    "more than the system's": (changed(trust=Trust(name="clients", ca_pem=PKI.client_trust.ca_pem, system=True)), changed()),
    "other suites": (host(), host(ciphers=("ECDHE-ECDSA-AES256-GCM-SHA384",), ciphersuites=("TLS_AES_256_GCM_SHA384",))),
    "another name": (host("a.test", "b.test"), host("a.test")),
}


@BOTH
@pytest.mark.parametrize("case", TIGHTER)
def test_a_ticket_from_before_a_policy_changed_is_worth_nothing(version: int, case: str) -> None:
    """F13, with the same generations: a reload that tightens a policy."""
    before, after = TIGHTER[case]
    ring = ring_of(generation())
    certificate = PKI.client("strangers" if before.client_auth.trust is PKI.stranger_trust else "clients")
    _, session = visit(ServerContext(before, ring), version, certificate=certificate)
    meeting, _ = visit(ServerContext(after, ring), version, session)
    if after.client_auth.mode is ClientAuthMode.REQUIRE:
        assert meeting.fault is not None
        assert meeting.fault.kind.endswith("certificate-missing")
    else:
        assert not resumed(meeting)


@BOTH
def test_the_same_policy_built_again_takes_its_tickets(version: int) -> None:
    ring = ring_of(generation())
    for made in (host(), changed()):
        _, session = visit(ServerContext(made, ring), version, certificate=PKI.client())
        renewed = replace(made, certificates=(PKI.certificate("a.test", "b.test"),))
        assert resumed(visit(ServerContext(renewed, ring), version, session)[0])


# --- what a ticket claims, and what it proves ---


@BOTH
def test_a_name_is_a_claim_and_the_hmac_is_the_proof(version: int) -> None:
    old, new = generation(), generation()
    ring = ring_of(old)
    context, other = ServerContext(host(), ring), ServerContext(host("b.test"), ring)
    _, session = visit(context, version)
    ticket = ring_ticket(Client(version=version, session=session).step())  # type: ignore[arg-type]
    ring.update([old, new], new)
    assert context.tickets.is_ours(ticket)
    assert ring.knows(ticket)
    for at in (16, 40, len(ticket) - 1):
        forged = bytearray(ticket)
        forged[at] ^= 1
        assert context.tickets.named(bytes(forged)) is not None
        assert not context.tickets.is_ours(bytes(forged))
    for junk in (b"", ticket[:16], ticket[:79], bytes(200), b"x" + ticket):
        assert not context.tickets.is_ours(junk)
    assert not other.tickets.is_ours(ticket)
    ring.update([new], new)
    assert not context.tickets.is_ours(ticket)
    assert not ring.knows(ticket)


def test_a_key_that_is_over_is_wiped() -> None:
    old, new = generation(), generation()
    ring = ring_of(old)
    context = ServerContext(host(), ring)
    key = context.tickets.newest
    assert key is not None
    ring.update([new], new)
    assert key.wiped
    assert bytes(key._mac) == bytes(32)
    context.tickets.write(key)  # does nothing
    _, session = visit(context, TLS13)
    assert resumed(visit(ServerContext(host(), ring_of(new)), TLS13, session)[0])


def test_contexts_that_are_gone_are_forgotten() -> None:
    ring = ring_of(generation())
    for _ in range(50):
        ServerContext(host(), ring)
    ring.update([one := generation()], one)
    assert len(ring._contexts) == 0


# --- tickets off ---


def test_tickets_off_sends_none() -> None:
    """With TLS 1.3 the server writes nothing after the client's Finished."""
    meeting = meet(ServerContext(host(tickets=False)), Client(version=TLS13), greet=False)
    assert meeting.ok
    assert meeting.flights[1:] == [b""]
    meeting = meet(ServerContext(host()), Client(version=TLS13), greet=False)
    assert 200 < len(meeting.flights[1]) < 300


def test_one_ticket_for_each_handshake() -> None:
    """Whether it was full or resumed, so that a client that uses each ticket once never runs out of them."""
    context = ServerContext(host())
    _, session = visit(context, TLS13)
    for groups in ("", RETRY):
        meeting = meet(context, Client(version=TLS13, session=session, groups=groups), greet=False)  # type: ignore[arg-type]
        assert resumed(meeting)
        assert 200 < len(meeting.flights[-1]) < 300


# --- on the wire between processes ---


def test_a_parcel_comes_back_equal() -> None:
    generations = [generation() for _ in range(3)]
    assert unpack(pack(generations, generations[1])) == (generations, generations[1])
    assert "secret" not in repr(generations[0])
    assert repr(generations[0].secret) not in repr(generations[0])
    good = pack(generations, generations[0])
    for bad in (
        b"",
        b"x" + good,
        good[:-1],
        good + b"\0",
        pack(generations, generation()),
        pack([generation()] * (MOST + 1), generation()),
    ):
        with pytest.raises(ValueError, match="secret"):
            unpack(bad)


# --- what became of a ticket, in words ---


@BOTH
def test_what_became_of_a_ticket(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = generation(), generation()
    ring = ring_of(old)
    context, other = ServerContext(host(), ring), ServerContext(host("b.test"), ring)
    _, session = visit(context, version)
    ticket = ring_ticket(Client(version=version, session=session).step())  # type: ignore[arg-type]
    assert context.ticket_result(ticket, resumed=True) == "resumed"
    assert context.ticket_result(ticket, resumed=False) == "expired"
    assert context.ticket_result(ticket[:-1] + bytes([ticket[-1] ^ 1]), resumed=False) == "forged"
    assert other.ticket_result(ticket, resumed=False) == "foreign"
    ring.update([new], new)
    assert context.ticket_result(ticket, resumed=False) == "unknown"


@BOTH
def test_a_ticket_past_its_lifetime_is_refused_by_openssl(version: int) -> None:
    context = ServerContext(host(ticket_lifetime=1.0), ring_of(generation()))
    _, session = visit(context, version)
    time.sleep(2.1)  # OpenSSL reads the clock itself, in whole seconds
    meeting, _ = visit(context, version, session)
    assert not resumed(meeting)


@BOTH
def test_generations_that_live_for_other_hosts_are_over_here(version: int) -> None:
    """Else a chain of renewed tickets would live as long as the longest tickets of any host."""
    now = time.time()
    old, new = Generation(os.urandom(32), now - 4000, 4e9), Generation(os.urandom(32), now - 200, 4e9)
    auth = ClientAuthMode.REQUIRE
    short, long = host("short.test", client_auth=auth, ticket_lifetime=100.0), host("long.test", client_auth=auth)
    for each, takes in ((short, False), (long, True)):
        ring = ring_of(old)
        context = ServerContext(each, ring)
        certificate = PKI.client()
        client = Client(version=version, sni=each.names[0], certificate=certificate)
        assert not resumed(meet(context, client))
        session = client.finish()
        ring.update([new, old], new)
        again = Client(version=version, sni=each.names[0], certificate=certificate, session=session)
        hello = HelloReader(65536).feed(again.step())
        assert hello is not None
        assert context.tickets.is_ours(hello.session_ticket) is takes
        assert context.ticket_result(hello.session_ticket, resumed=False) == "expired"
        again = Client(version=version, sni=each.names[0], certificate=certificate, session=session)
        assert resumed(meet(context, again)) is takes
