"""Who is let in: judged in the handshake, with an alert; and again when a session is resumed, where nothing is verified."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from cryptography.x509 import DNSName, UniformResourceIdentifier

from edge.errors import Alert
from edge.settings.identity import coalesce_id, policy_id, same_terms
from edge.settings.model import ClientAuth, ClientAuthMode, ClientRule, Host
from edge.tls import clients
from edge.tls.binding import lib
from edge.tls.choice import ServerContext

from .peers import PKI, TLS12, TLS13, Client, Meeting, Workload, host, meet

BOTH = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
PAY = Workload(PKI.clients, UniformResourceIdentifier("spiffe://prod.example/ns/pay/sa/api"), DNSName("api.pay.test"))
OPS = Workload(PKI.clients, UniformResourceIdentifier("spiffe://prod.example/ns/ops/sa/api"), DNSName("api.ops.test"))
FORGED = Workload(PKI.strangers, UniformResourceIdentifier("spiffe://prod.example/ns/pay/sa/api"))
RULE = ClientRule(spiffe="spiffe://prod.example/ns/pay/*")


def guarded(*allow: ClientRule, mode: ClientAuthMode = ClientAuthMode.REQUIRE, **options: object) -> Host:
    return replace(host(), client_auth=ClientAuth(mode=mode, trust=PKI.client_trust, allow=allow, **options))  # type: ignore[arg-type]


def again(context: ServerContext, first: Meeting, version: int) -> Meeting:
    session = first.client.finish()
    assert session is not None
    return meet(context, Client(version=version, session=session, certificate=first.client.certificate))


@BOTH
@pytest.mark.parametrize("mode", [ClientAuthMode.REQUIRE, ClientAuthMode.REQUEST])
def test_only_those_whom_a_rule_admits_come_in(version: int, mode: ClientAuthMode) -> None:
    context = ServerContext(guarded(RULE, mode=mode))
    good = meet(context, Client(version=version, certificate=PAY))
    assert good.ok
    peer = good.engine.info().peer
    assert peer is not None
    assert peer.uris == ("spiffe://prod.example/ns/pay/sa/api",)
    assert peer.name == "CN=anybody"
    other = meet(context, Client(version=version, certificate=OPS))
    assert other.fault is not None
    assert (other.fault.kind, other.fault.alert) == ("client-certificate-not-allowed", Alert.BAD_CERTIFICATE)
    assert other.fault.detail == "spiffe://prod.example/ns/ops/sa/api"
    assert other.client.error.endswith("bad certificate")
    assert not other.engine.established
    forged = meet(context, Client(version=version, certificate=FORGED))
    assert forged.fault is not None
    assert forged.fault.kind == "client-certificate-unknown-ca", "rules do not stand for verification"


@BOTH
def test_who_is_refused_gets_no_ticket(version: int) -> None:
    refused = meet(ServerContext(guarded(RULE)), Client(version=version, certificate=OPS))
    assert refused.client.plain == b""
    session = refused.client.connection.get_session()
    assert session is None or not lib.SSL_SESSION_get_max_early_data(session._session)
    once_more = meet(ServerContext(guarded(RULE)), Client(version=version, certificate=OPS, session=session))
    assert once_more.fault is not None
    assert not once_more.ok


@BOTH
def test_a_session_is_resumed_and_knows_its_client(version: int) -> None:
    context = ServerContext(guarded(RULE))
    back = again(context, meet(context, Client(version=version, certificate=PAY)), version)
    assert back.ok
    info = back.engine.info()
    assert info.resumed
    assert info.peer is not None
    assert info.peer.uris == PAY.leaf.uris
    assert info.peer.name == "CN=anybody"


@BOTH
def test_a_ticket_does_not_outlive_its_rules(version: int) -> None:
    """What let a client in decides which tickets are good; the same names, certificates and keys do not."""
    first = meet(ServerContext(guarded()), Client(version=version, certificate=OPS))
    assert first.ok
    tightened = again(ServerContext(guarded(RULE)), first, version)
    assert tightened.fault is not None
    assert tightened.fault.kind == "client-certificate-not-allowed", "a full handshake"


@BOTH
def test_a_leaf_that_expires_ends_its_resumptions(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = Workload(PKI.clients, DNSName("a.test"), seconds=3600)
    context = ServerContext(guarded())
    first = meet(context, Client(version=version, certificate=brief))
    assert first.ok
    monkeypatch.setattr(clients, "time", lambda: time.time() + 3601)
    back = again(context, first, version)
    assert back.fault is not None
    assert back.fault.kind == "client-certificate-expired"
    assert back.client.plain == b""


@BOTH
def test_what_goes_wrong_in_the_callback_refuses(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(clients, "admitting", broken)
    met = meet(ServerContext(guarded(RULE)), Client(version=version, certificate=PAY))
    assert met.fault is not None
    assert (met.fault.kind, met.fault.detail) == ("internal-error", "RuntimeError: a mistake")
    assert not met.ok


@BOTH
def test_handshakes_that_are_interleaved_are_judged_each_by_its_own_host(version: int) -> None:
    pay, ops = ServerContext(guarded(RULE)), ServerContext(guarded(ClientRule(dns="api.ops.test")))
    pairs = [(pay, PAY, True), (ops, PAY, False), (pay, OPS, False), (ops, OPS, True)]
    running = []
    for context, certificate, fine in pairs:
        client = Client(version=version, certificate=certificate)
        hello = client.step()
        engine = context.engine("a.test")
        engine.receive(hello)
        running.append((client, engine, fine))
    for client, engine, fine in running:
        met = Meeting(client, engine)
        try:
            for _ in range(4):
                engine.receive(client.step(engine.drain()))
        except Exception as fault:
            met.fault = fault  # type: ignore[assignment]
        assert (met.fault is None) is fine


def test_the_authorities_are_announced_unless_they_are_not_to_be() -> None:
    for announce in (True, False):
        client = Client(certificate=PAY)
        assert meet(ServerContext(guarded(announce=announce)), client).ok
        names = lib.SSL_get_client_CA_list(client.connection._ssl)
        assert max(0, lib.sk_X509_NAME_num(names)) == int(announce)


def test_rules_decide_what_a_policy_is() -> None:
    one, other = guarded(RULE), guarded(ClientRule(dns="api.pay.test"))
    assert policy_id(one) != policy_id(other)
    assert coalesce_id(one) != coalesce_id(other)
    assert not same_terms(one, other)
    quiet = guarded(RULE, announce=False)
    assert policy_id(one) == policy_id(quiet), "what is announced says nothing about who comes in"
    assert same_terms(one, quiet)
