"""A chain that was verified a moment ago is not verified again, and everything else about its client is asked each time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import trustme
from cryptography.x509 import DNSName, UniformResourceIdentifier

from edge.errors import Alert, Fault
from edge.settings.client_rules import ClientRule
from edge.settings.model import ClientAuth, ClientAuthMode, Crl, Host
from edge.tls import clients, verify_field
from edge.tls.choice import ServerContext
from edge.tls.trial import TrialError, TrialServer
from edge.tls.verified import LONGEST, MOST, Verified
from edge.tls.verify_field import VerifyFieldError

from .peers import PKI, TLS12, TLS13, Client, Meeting, Workload, host, meet

BOTH = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
REQUIRE = ClientAuthMode.REQUIRE
PAY = Workload(PKI.clients, UniformResourceIdentifier("spiffe://prod.example/ns/pay/sa/api"))
OPS = Workload(PKI.clients, UniformResourceIdentifier("spiffe://prod.example/ns/ops/sa/api"))
CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")
RULE = ClientRule(spiffe="spiffe://prod.example/ns/pay/*")


class Verifications:
    """How often OpenSSL was asked."""

    def __init__(self) -> None:
        self._real = clients._verify
        self.count = 0

    def __call__(self, store: Any) -> int:
        self.count += 1
        found: int = self._real(store)
        return found


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Verifications:
    counting = Verifications()
    monkeypatch.setattr(clients, "_verify", counting)
    return counting


def asking(**options: object) -> Host:
    return replace(host(), client_auth=ClientAuth(mode=REQUIRE, trust=PKI.client_trust, **options))  # type: ignore[arg-type]


def revoking(*serials: int, check: str = "leaf") -> ClientAuth:
    data = b"".join(sorted(serial.to_bytes(20, "big") for serial in serials))
    name = PAY.leaf.issuer
    crl = Crl(issuer=name, name=name, serials=data, width=20, this_update=0.0, next_update=4e9)
    return ClientAuth(mode=REQUIRE, trust=replace(PKI.client_trust, crls=(crl,), crl_check=check))


def comes(context: ServerContext, version: int, certificate: Any = PAY) -> Meeting:
    return meet(context, Client(version=version, certificate=certificate))


# --- in the handshake ---


@BOTH
@pytest.mark.parametrize("rules", [(), (RULE,)], ids=["any", "rules"])
def test_a_chain_is_verified_twice_and_then_known(
    version: int, rules: tuple[ClientRule, ...], verifications: Verifications
) -> None:
    context = ServerContext(asking(allow=rules))
    for expected in (1, 2, 2, 2):
        met = comes(context, version)
        assert met.ok
        peer = met.engine.info().peer
        assert peer is not None
        assert peer.der == PAY.leaf.der
        assert verifications.count == expected
    assert comes(ServerContext(asking(allow=rules)), version).ok
    assert verifications.count == 3, "each context knows for itself"


@BOTH
def test_intermediates_have_to_come_each_time(version: int, verifications: Verifications) -> None:
    context = ServerContext(asking())
    between = PKI.clients.create_child_ca(key_type=trustme.KeyType.ECDSA)
    below = Workload(between, UniformResourceIdentifier("spiffe://prod.example/ns/pay/sa/api"))
    alone_chain, whole_chain = below.cert_chain_pems, [*below.cert_chain_pems, between.cert_pem]
    for number in range(1, 5):
        below.cert_chain_pems = whole_chain
        assert comes(context, version, below).ok
        assert verifications.count == 2 * number - 1
        below.cert_chain_pems = alone_chain
        alone = comes(context, version, below)
        assert alone.fault is not None
        assert alone.fault.kind == "client-certificate-unknown-ca"
        assert alone.client.error.endswith("unknown ca")


@BOTH
def test_who_is_unknown_is_verified_however_many_are_known(version: int, verifications: Verifications) -> None:
    context = ServerContext(asking())
    forged = Workload(PKI.strangers, UniformResourceIdentifier("spiffe://prod.example/ns/pay/sa/api"))
    for _ in range(3):
        assert comes(context, version).ok
        met = comes(context, version, forged)
        assert met.fault is not None
        assert met.fault.kind == "client-certificate-unknown-ca"
        assert not met.ok
    assert verifications.count == 2 + 3


def test_a_known_certificate_without_its_key_is_worth_nothing() -> None:
    """In TLS 1.2 the proof travels in the clear, so it can be spoiled on the way."""
    context = ServerContext(asking())
    for _ in range(3):
        assert comes(context, TLS12).ok
    thief = Client(version=TLS12, certificate=PAY)
    engine = context.engine("a.test")
    engine.receive(thief.step())
    flight = bytearray(thief.step(engine.drain()))
    ends = flight.index(CHANGE_CIPHER_SPEC)
    flight[ends - 1] ^= 1  # of the signature in CertificateVerify (RFC 5246 section 7.4.8)
    with pytest.raises(Fault, match="signature"):
        engine.receive(bytes(flight))
    assert not engine.established


@BOTH
def test_rules_are_asked_each_time(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ServerContext(asking(allow=(RULE,)))
    for _ in range(3):
        assert comes(context, version).ok
        refused = comes(context, version, OPS)
        assert refused.fault is not None
        assert (refused.fault.kind, refused.fault.alert) == ("client-certificate-not-allowed", Alert.BAD_CERTIFICATE)
    monkeypatch.setattr(clients, "admitting", lambda *_: None)
    known = comes(context, version)
    assert known.fault is not None
    assert (known.fault.kind, known.client.error[-15:]) == ("client-certificate-not-allowed", "bad certificate")
    assert not known.engine.established


@BOTH
def test_revocation_is_looked_up_each_time(version: int, verifications: Verifications) -> None:
    context = ServerContext(replace(host(), client_auth=revoking(1)))
    for _ in range(3):
        assert comes(context, version).ok
    assert verifications.count == 2
    check = context.check
    assert check is not None
    later = clients.ClientCheck(revoking(PAY.certificate.serial_number))
    later.verified = check.verified
    context.check = later
    revoked = comes(context, version)
    assert verifications.count == 2
    assert revoked.fault is not None
    assert (revoked.fault.kind, revoked.fault.alert) == ("client-certificate-revoked", Alert.CERTIFICATE_REVOKED)
    assert revoked.client.error.endswith("revoked")


@BOTH
def test_a_mistake_refuses_a_known_client_too(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ServerContext(asking())
    for _ in range(3):
        assert comes(context, version).ok

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(clients.ClientCheck, "objection", broken)
    met = comes(context, version)
    assert met.fault is not None
    assert (met.fault.kind, met.fault.detail) == ("internal-error", "RuntimeError: a mistake")
    assert not met.ok


@BOTH
@pytest.mark.parametrize("auth", [revoking(1, check="chain"), replace(revoking(1), chain=True)], ids=["lists", "forwarded"])
def test_where_the_whole_chain_matters_it_is_verified_each_time(
    version: int, auth: ClientAuth, verifications: Verifications
) -> None:
    context = ServerContext(replace(host(), client_auth=auth))
    check = context.check
    assert check is not None
    assert check.verified is None
    for _ in range(3):
        assert comes(context, version).ok
    assert verifications.count == 0, "OpenSSL does it by itself"


@BOTH
def test_a_chain_is_known_until_its_first_certificate_expires(
    version: int, verifications: Verifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Workload(PKI.clients, DNSName("a.test"), seconds=60)
    context = ServerContext(asking())
    for _ in range(3):
        assert comes(context, version, brief).ok
    assert verifications.count == 2
    begun = time.time()
    for later, expected in ((59.0 - 5.0, 2), (61.0, 3)):
        monkeypatch.setattr(clients, "time", lambda later=later: begun + later)
        assert comes(context, version, brief).ok, "OpenSSL's own clock has not moved"
        assert verifications.count == expected


def test_interleaved_handshakes_know_each_its_own(verifications: Verifications) -> None:
    one, other = ServerContext(asking()), ServerContext(asking())
    for _ in range(3):
        assert comes(one, TLS13).ok
    assert verifications.count == 2
    running = []
    for context in (one, other):
        client = Client(version=TLS13, certificate=PAY)
        engine = context.engine("a.test")
        engine.receive(client.step())
        running.append((client, engine))
    for client, engine in running:
        engine.receive(client.step(engine.drain()))
        assert engine.established
    assert verifications.count == 3


# --- what is kept ---


def test_what_is_kept_ends() -> None:
    known = Verified()
    known.add(b"leaf", 100.0, lambda: 1e9)
    assert not known.holds(b"leaf", 100.0)
    known.add(b"leaf", 110.0, lambda: 1e9)
    assert known.holds(b"leaf", 110.0)
    assert known.holds(b"leaf", 110.0 + LONGEST - 0.1)
    assert not known.holds(b"leaf", 110.0 + LONGEST)
    assert not known.holds(b"leaf", 109.9), "the clock was set back"
    known.add(b"leaf", 200.0, lambda: 210.0)
    assert known.holds(b"leaf", 209.0)
    assert not known.holds(b"leaf", 210.0)
    known.add(b"leaf", 300.0, lambda: 0.0)
    assert not known.holds(b"leaf", 300.0)


def test_what_is_kept_is_bounded_and_clients_who_came_once_are_not_looked_at() -> None:
    known = Verified()

    def never() -> float:
        raise AssertionError

    for number in range(3 * MOST):
        known.add(number.to_bytes(4, "big"), 1.0, never)
        assert len(known._spans) <= MOST


# --- the field ---


def test_the_field_is_proven_here() -> None:
    assert verify_field.verify_field() == verify_field.verify_field()


def _failing(*_: object) -> bool:
    raise TrialError("no handshake")


@pytest.mark.parametrize(
    ("place", "name", "instead"),
    [
        (TrialServer, "admits", lambda *_: True),
        (TrialServer, "admits", lambda *_: False),
        (TrialServer, "admits", _failing),
        (TrialServer, "image", lambda *_: bytes(2048)),
        (TrialServer, "image", lambda *_: b"\1" * 2048),
        (verify_field, "identity", lambda: (PAY.certificate, None)),
        (verify_field, "Memory", lambda: (_ for _ in ()).throw(OSError("no map"))),
    ],
)
def test_each_doubt_is_a_failure(place: object, name: str, instead: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, name, instead)
    assert isinstance(verify_field._outcome.__wrapped__(), VerifyFieldError)


@BOTH
def test_without_the_field_each_chain_is_verified(
    version: int, verifications: Verifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_field, "_outcome", lambda: VerifyFieldError("the field is not empty"))
    context = ServerContext(asking(allow=(RULE,)))
    for _ in range(3):
        assert comes(context, version).ok
        assert comes(context, version, OPS).fault is not None
    assert verifications.count == 0, "OpenSSL does it by itself"
