"""Staples reach the clients that ask for them, the right one of each certificate, and nobody else pays."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from OpenSSL import SSL

from edge.errors import Fault
from edge.settings.model import Certificate, Host, TlsPolicy
from edge.tls.choice import ServerContext
from edge.tls.older_key import OlderKeyEngine
from edge.tls.staples import PROCESS, Staple, Stapler, Staples, pack, unpack
from edge.tls.ticket_keys import Generation, KeyRing, TicketKey
from edge.wire.hello import HelloReader
from tests.authority import Authority, Issued
from tests.builders import fault_of

CA = Authority()
ECDSA = CA.leaf("localhost", responders=("http://127.0.0.1/",))
RSA = CA.leaf("localhost", with_rsa=True)
LATER = time.time() + 3600
VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


def _certificate(issued: Issued, key_type: str = "ecdsa", staple: str = "") -> Certificate:
    return Certificate(
        name="c", chain_pem=issued.chain_pem, key_pem=issued.key_pem, key_type=key_type, names=("localhost",), not_before=0.0,
        not_after=4e9, fingerprint=issued.fingerprint, staple=staple,
    )  # fmt: skip


def _context(*certificates: Certificate, ring: KeyRing | None = None) -> ServerContext:
    host = Host(names=("localhost",), listeners=("tls",), certificates=certificates, tls=TlsPolicy())
    return ServerContext(host, ring or KeyRing())


@pytest.fixture(autouse=True)
def _nothing_stays() -> object:
    yield
    PROCESS.replace({})


@dataclass
class Met:
    """What a client saw."""

    staples: list[bytes] = field(default_factory=list)
    leaf: str = ""
    done: bool = False
    fault: str = ""


def meet(context: ServerContext, version: str, *, asks: bool = True, sigalgs: bytes = b"", ticket: bytes = b"") -> Met:
    """A handshake in memory."""
    met = Met()
    settings = SSL.Context(SSL.TLS_CLIENT_METHOD)
    settings.set_min_proto_version(VERSIONS[version])
    settings.set_max_proto_version(VERSIONS[version])
    if sigalgs:
        SSL._lib.SSL_CTX_set1_sigalgs_list(settings._context, sigalgs)  # type: ignore[attr-defined]

    def seen(_connection: SSL.Connection, data: bytes, _: object) -> bool:
        met.staples.append(data)
        return True

    settings.set_ocsp_client_callback(seen)
    client = SSL.Connection(settings, None)
    client.set_tlsext_host_name(b"localhost")
    if asks:
        client.request_ocsp()
    client.set_connect_state()
    engine = None
    for _ in range(6):
        try:
            client.do_handshake()
            met.done = True
        except SSL.WantReadError:
            pass
        except SSL.Error:
            break
        try:
            flight = client.bio_read(65_536)
        except SSL.WantReadError:
            break
        if engine is None:
            hello = HelloReader(65_536).feed(flight)
            assert hello is not None
            engine = context.engine(hello.sni, ticket or hello.session_ticket)
        try:
            engine.receive(flight)
        except Fault as fault:
            met.fault = f"{fault.side} {fault.kind}"
        answer = engine.drain()
        if answer:
            client.bio_write(answer)
    leaf = client.get_peer_certificate(as_cryptography=True)
    met.leaf = leaf.fingerprint(hashes.SHA256()).hex() if leaf is not None else ""
    return met


@pytest.mark.parametrize("version", VERSIONS)
def test_who_asks_gets_the_staple_of_the_certificate_in_use(version: str) -> None:
    context = _context(_certificate(ECDSA), _certificate(RSA, "rsa"))
    answers = {one.fingerprint: CA.answer(one.certificate) for one in (ECDSA, RSA)}
    PROCESS.replace({name: Staple(answer, LATER) for name, answer in answers.items()})
    for issued, sigalgs in ((ECDSA, b"ECDSA+SHA256"), (RSA, b"rsa_pss_rsae_sha256:RSA+SHA256"), (ECDSA, b"ECDSA+SHA256")):
        met = meet(context, version, sigalgs=sigalgs)
        assert met.leaf == issued.fingerprint
        assert met.staples == [answers[issued.fingerprint]]
        found = ocsp.load_der_ocsp_response(met.staples[0])
        assert found.serial_number == issued.certificate.serial_number


@pytest.mark.parametrize("version", VERSIONS)
def test_who_does_not_ask_gets_none(version: str) -> None:
    context = _context(_certificate(ECDSA))
    PROCESS.replace({ECDSA.fingerprint: Staple(CA.answer(ECDSA.certificate), LATER)})
    sent = PROCESS.sent
    met = meet(context, version, asks=False)
    assert met.done
    assert not any(met.staples)
    assert PROCESS.sent == sent


@pytest.mark.parametrize("version", VERSIONS)
def test_a_staple_that_is_over_is_not_sent(version: str) -> None:
    context = _context(_certificate(ECDSA))
    PROCESS.replace({ECDSA.fingerprint: Staple(CA.answer(ECDSA.certificate), time.time() - 1)})
    met = meet(context, version)
    assert met.done
    assert not any(met.staples)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_must_staple_certificate_without_one_is_refused_where_that_is_asked_for(version: str) -> None:
    refusing = _context(_certificate(ECDSA, staple="refuse"))
    assert refusing.strict
    assert fault_of(refusing.admit).kind == "staple-missing"
    assert not meet(refusing, version).done
    PROCESS.replace({ECDSA.fingerprint: Staple(CA.answer(ECDSA.certificate), LATER)})
    refusing.admit()
    assert any(meet(refusing, version).staples)
    PROCESS.replace({})
    alerting = _context(_certificate(ECDSA, staple="alert"))
    assert not alerting.strict
    assert meet(alerting, version).done


@pytest.mark.parametrize("version", VERSIONS)
def test_of_two_certificates_only_the_one_without_a_staple_is_refused(version: str) -> None:
    context = _context(_certificate(ECDSA, staple="refuse"), _certificate(RSA, "rsa"))
    assert not context.strict
    assert not meet(context, version, sigalgs=b"ECDSA+SHA256").done
    assert meet(context, version, asks=False, sigalgs=b"ECDSA+SHA256").fault == "edge staple-missing"
    assert meet(context, version, asks=False, sigalgs=b"rsa_pss_rsae_sha256:RSA+SHA256").fault == ""
    assert meet(context, version, sigalgs=b"rsa_pss_rsae_sha256:RSA+SHA256").done
    PROCESS.replace({ECDSA.fingerprint: Staple(CA.answer(ECDSA.certificate), LATER)})
    assert meet(context, version, asks=False, sigalgs=b"ECDSA+SHA256").fault == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_that_only_names_an_older_key_is_no_way_around_it(version: str) -> None:
    old, new = Generation(b"o" * 32, time.time() - 2, 4e9), Generation(b"n" * 32, time.time() - 1, 4e9)
    ring = KeyRing()
    ring.update([old, new], new)
    context = _context(_certificate(ECDSA, staple="refuse"), _certificate(RSA, "rsa"), ring=ring)
    forged = TicketKey(old.secret, context.policy_id, 0).name + bytes(160)
    assert type(context.engine("localhost", forged)) is OlderKeyEngine
    assert meet(context, version, asks=False, sigalgs=b"ECDSA+SHA256", ticket=forged).fault == "edge staple-missing"
    assert meet(context, version, asks=False, sigalgs=b"rsa_pss_rsae_sha256:RSA+SHA256", ticket=forged).done


def test_what_is_packed_is_unpacked() -> None:
    held = {"ab": Staple(b"\0\xff", 1.5), "cd": Staple(b"", 2.0)}
    assert unpack(pack(held)) == held
    for broken in (b"", b"{}x", b'[["a"]]', b'[["a", 1, 2]]'):
        with pytest.raises(ValueError, match="no staples"):
            unpack(broken)


def test_a_stapler_of_no_certificate_refuses_nobody() -> None:
    assert not Stapler((), Staples()).strict
