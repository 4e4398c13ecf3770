"""Who is let in: judged in the handshake, with an alert; and again when a session is resumed, where nothing is verified."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from cryptography.x509 import DNSName, RFC822Name, UniformResourceIdentifier

from edge.errors import Alert, Fault
from edge.settings.identity import coalesce_id, policy_id, same_terms
from edge.settings.model import ClientAuth, ClientAuthMode, ClientRule, Crl, Host, Trust
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
    crl = Crl(issuer="cn=x", name="CN=x", serials=bytes(20), width=20, this_update=0.0, next_update=4e9)
    listed = replace(PKI.client_trust, crls=(crl,), crl_check="leaf")
    strict = replace(one, client_auth=replace(one.client_auth, trust=listed))
    newer = replace(one, client_auth=replace(one.client_auth, trust=replace(listed, crls=(replace(crl, serials=bytes(40)),))))
    assert policy_id(strict) == policy_id(newer)
    for another in (strict, newer, guarded(RULE, forward="leaf"), guarded(RULE, max_age=60.0)):
        assert coalesce_id(one) != coalesce_id(another), "neither revocation nor what upstreams are told may be got around"
    assert coalesce_id(strict) != coalesce_id(newer)
    quiet = guarded(RULE, announce=False)
    assert policy_id(one) == policy_id(quiet), "what is announced says nothing about who comes in"
    assert same_terms(one, quiet)


ODD = {
    "NUL": Workload(PKI.clients, DNSName("api.pay.test\0.evil.test")),
    "NUL before": Workload(PKI.clients, DNSName("evil.test\0.pay.test")),
    "wildcard": Workload(PKI.clients, DNSName("*.pay.test")),
    "common name": Workload(PKI.clients, subject="CN=api.pay.test"),
    "as a URI": Workload(PKI.clients, UniformResourceIdentifier("api.pay.test")),
    "as an address": Workload(PKI.clients, RFC822Name("x@api.pay.test")),
    "too many": Workload(PKI.clients, *(DNSName(f"n{number}.test") for number in range(1500)), DNSName("api.pay.test")),
    "twice in one": Workload(
        PKI.clients, UniformResourceIdentifier("spiffe://prod.example/ns/pay/a"), UniformResourceIdentifier("spiffe://x.test/b")
    ),
}


@BOTH
@pytest.mark.parametrize("odd", ODD)
def test_odd_certificates_are_nobodys(version: int, odd: str) -> None:
    context = ServerContext(guarded(ClientRule(dns="*.pay.test"), RULE))
    met = meet(context, Client(version=version, certificate=ODD[odd]))
    assert met.fault is not None
    assert met.fault.kind == "client-certificate-not-allowed"
    assert not met.ok
    assert meet(context, Client(version=version, certificate=PAY)).ok


def test_what_is_no_certificate_is_told_as_broken_tls() -> None:
    """OpenSSL's reason is that its ASN.1 failed, which is no reason of TLS, and no alert's number either."""
    client = Client(version=TLS12, certificate=PAY)
    engine = ServerContext(guarded()).engine("a.test")
    engine.receive(client.step())
    flight = client.step(engine.drain())
    assert flight.count(PAY.leaf.der) == 1
    with pytest.raises(Fault) as raised:
        engine.receive(flight.replace(PAY.leaf.der, b"\x31" + PAY.leaf.der[1:]))
    assert raised.value.kind == "tls-error"
    assert "asn1" in raised.value.detail
    assert engine.drain() == bytes.fromhex("15030300020232")


@BOTH
def test_a_client_that_is_its_own_anchor_is_judged_too(version: int) -> None:
    """Its chain is one certificate; nothing above it is verified, and the rules hold all the same."""
    anchored = Trust(name="one", ca_pem=OPS.cert_chain_pems[0].bytes())
    for rule, fine in ((RULE, False), (ClientRule(dns="api.ops.test"), True)):
        one = replace(guarded(rule), client_auth=replace(guarded(rule).client_auth, trust=anchored))
        met = meet(ServerContext(one), Client(version=version, certificate=OPS))
        assert met.ok is fine
        assert (met.fault is None) is fine


@BOTH
def test_a_flight_in_pieces_is_judged_once_it_is_whole(version: int) -> None:
    for certificate, fine in ((PAY, True), (OPS, False)):
        client = Client(version=version, certificate=certificate)
        engine = ServerContext(guarded(RULE)).engine("a.test")
        data, fault = client.step(), None
        try:
            while data:
                for at in range(0, len(data), 7):
                    engine.receive(data[at : at + 7])
                data = client.step(engine.drain())
        except Fault as raised:
            fault = raised
        assert engine.established is fine
        assert (fault is None) is fine


@BOTH
@pytest.mark.parametrize("check", ["leaf", "chain"])
def test_revocation_is_looked_up_in_the_handshake_and_on_resumption(version: int, check: str) -> None:
    def revoking(*serials: int, until: float = 4e9) -> Host:
        width = 20
        data = b"".join(sorted(serial.to_bytes(width, "big") for serial in serials))
        name = PAY.leaf.issuer
        crl = Crl(issuer=name, name=name, serials=data, width=width, this_update=0.0, next_update=until)
        auth = ClientAuth(mode=ClientAuthMode.REQUIRE, trust=replace(PKI.client_trust, crls=(crl,), crl_check=check))
        return replace(host(), client_auth=auth)

    number = PAY.certificate.serial_number
    first = meet(ServerContext(revoking(1, 2, number + 1)), Client(version=version, certificate=PAY))
    assert first.ok
    session = first.client.finish()
    back = meet(ServerContext(revoking(1, number)), Client(version=version, certificate=PAY, session=session))
    assert back.fault is not None
    assert back.fault.kind == "client-certificate-revoked"
    assert back.client.plain == b""
    full = meet(ServerContext(revoking(number)), Client(version=version, certificate=PAY))
    assert full.fault is not None
    assert (full.fault.kind, full.fault.alert) == ("client-certificate-revoked", Alert.CERTIFICATE_REVOKED)
    assert full.client.error.endswith("revoked")
    old = meet(ServerContext(revoking(1, until=1.0)), Client(version=version, certificate=PAY))
    assert old.fault is not None
    assert old.fault.kind == "client-certificate-revocation-unknown"


def test_what_is_known_of_certificates_is_bounded() -> None:
    context = ServerContext(guarded(RULE))
    first = meet(context, Client(certificate=PAY)).engine.info().peer
    assert meet(context, Client(certificate=PAY)).engine.info().peer is first
    assert len(clients._known) <= clients._MOST_KNOWN
    assert all(len(der) <= clients._USUAL for der in clients._known)
