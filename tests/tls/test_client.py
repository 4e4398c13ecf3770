"""The client engine against our server engine: verification, resumption, and what it sends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from edge.errors import Fault, Side
from edge.settings.client_rules import normal_name
from edge.settings.model import ClientAuthMode, Crl, Trust
from edge.tls import trust
from edge.tls.choice import ServerContext
from edge.tls.client import SESSIONS, ClientContext
from edge.wire.hello import HelloReader
from tests.tls.peers import PKI, connect, host, pump, upstream_tls


def refused(context: ClientContext, server: ServerContext, sni: str | None) -> Fault:
    theirs, ours = context.engine(), server.engine(sni)
    with pytest.raises(Fault) as raised:
        pump(theirs, ours)
    assert raised.value.side is Side.UPSTREAM
    assert raised.value.status == 502
    assert not theirs.established
    return raised.value


@pytest.mark.parametrize("policy", [{"max_version": "1.2"}, {"min_version": "1.3"}], ids=["1.2", "1.3"])
def test_chain_and_name(policy: dict[str, str]) -> None:
    server = ServerContext(host("a.test", **policy))
    ours, theirs = connect(server, ClientContext(upstream_tls(), "a.test"))
    assert ours.info().server_name == "a.test"
    info = theirs.info()
    assert info.alpn == b"h2"
    assert info.peer is not None
    wrong = ServerContext(host("b.test", **policy))
    fault = refused(ClientContext(upstream_tls(), "a.test"), wrong, "a.test")
    assert (fault.kind, fault.detail) == ("upstream-certificate-wrong-name", "hostname mismatch")
    stranger = refused(ClientContext(upstream_tls(trust=PKI.stranger_trust), "a.test"), server, "a.test")
    assert stranger.kind == "upstream-certificate-unknown-ca"


def test_wildcards_cover_one_label() -> None:
    server = ServerContext(host("*.wild.test"))
    theirs, ours = ClientContext(upstream_tls(), "x.wild.test").engine(), server.engine("x.wild.test")
    pump(theirs, ours)
    assert theirs.established
    for name in ("x.y.wild.test", "wild.test"):
        assert refused(ClientContext(upstream_tls(), name), server, name).kind == "upstream-certificate-wrong-name"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "[::1]"])
def test_addresses_are_verified_and_not_sent_as_names(address: str) -> None:
    server = ServerContext(host("127.0.0.1", "::1"))
    theirs, ours = ClientContext(upstream_tls(), address).engine(), server.engine(None)
    pump(theirs, ours)
    assert theirs.established
    assert ours.info().server_name is None
    other = ServerContext(host("127.0.0.2"))
    assert refused(ClientContext(upstream_tls(), address), other, None).kind == "upstream-certificate-wrong-name"


@pytest.mark.parametrize("name", ["", ".", ".a.test", "ä.test"])
def test_names_that_would_verify_anything_are_errors(name: str) -> None:
    with pytest.raises(trust.TrustError):
        ClientContext(upstream_tls(), name)


def test_the_settings_name_wins() -> None:
    context = ClientContext(upstream_tls(server_name="a.test"), "10.0.0.1")
    theirs, ours = context.engine(), ServerContext(host("a.test")).engine("a.test")
    pump(theirs, ours)
    assert theirs.established


def test_verification_off() -> None:
    context = ClientContext(upstream_tls(verify=False, trust=PKI.stranger_trust), "b.test")
    theirs, ours = context.engine(), ServerContext(host("a.test")).engine("b.test")
    pump(theirs, ours)
    assert theirs.established
    nameless = ClientContext(upstream_tls(verify=False), "")
    theirs, ours = nameless.engine(), ServerContext(host("a.test")).engine(None)
    pump(theirs, ours)
    assert theirs.established


def test_the_version_floor() -> None:
    theirs = ClientContext(upstream_tls(min_version="1.3"), "a.test").engine()
    with pytest.raises(Fault, match="no-common-version"):
        ServerContext(host(max_version="1.2")).engine("a.test").receive(theirs.drain())


def test_a_plain_server_behind_https() -> None:
    theirs = ClientContext(upstream_tls(), "a.test").engine()
    with pytest.raises(Fault) as raised:
        theirs.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert raised.value.kind == "upstream-not-tls"


def test_an_intermediate_may_be_the_anchor() -> None:
    anchor = Trust(name="issuer", ca_pem=PKI.issuer.cert_pem.bytes())
    connect(ServerContext(host()), ClientContext(upstream_tls(trust=anchor), "a.test"))


def test_what_the_hello_says() -> None:
    hello = HelloReader(32768).feed(ClientContext(upstream_tls(alpn=("http/1.1",)), "a.test").engine().drain())
    assert hello is not None
    assert hello.sni == "a.test"
    assert hello.alpn == (b"http/1.1",)
    assert hello.groups[0] == 0x11EC
    assert set(hello.versions) == {0x0303, 0x0304}


def resumed(server: ServerContext, context: ClientContext, endpoint: str = "") -> bool:
    ours, theirs = connect(server, context, endpoint)
    ours.send(b"answer")
    assert theirs.receive(ours.drain()) == b"answer"
    found = theirs.info().resumed
    assert found == ours.info().resumed
    theirs.close()
    ours.close()
    return found


@pytest.mark.parametrize("policy", [{"max_version": "1.2"}, {"min_version": "1.3"}], ids=["1.2", "1.3"])
def test_resumption(policy: dict[str, str]) -> None:
    server = ServerContext(host(**policy))
    context = ClientContext(upstream_tls(), "a.test")
    assert [resumed(server, context) for _ in range(4)] == [False, True, True, True]
    assert not resumed(server, ClientContext(upstream_tls(), "a.test"))


def test_sessions_are_kept_by_endpoint_and_bounded() -> None:
    one, two = ServerContext(host()), ServerContext(host())
    context = ClientContext(upstream_tls(), "a.test")
    assert not resumed(one, context, "one")
    assert not resumed(two, context, "two")
    assert resumed(one, context, "one")
    assert resumed(two, context, "two")
    for number in range(SESSIONS + 5):
        resumed(one, context, str(number))
    assert len(context._sessions) == SESSIONS
    assert "one" not in context._sessions


def test_a_session_is_kept_when_the_connection_ends_without_data() -> None:
    server = ServerContext(host())
    context = ClientContext(upstream_tls(), "a.test")
    ours, theirs = connect(server, context)
    theirs.close()
    ours.close()
    assert resumed(server, context)


def test_a_failed_handshake_leaves_no_session() -> None:
    context = ClientContext(upstream_tls(trust=PKI.stranger_trust), "a.test")
    refused(context, ServerContext(host()), "a.test")
    assert not context._sessions


def test_a_server_that_demands_a_certificate() -> None:
    server = ServerContext(host(client_auth=ClientAuthMode.REQUIRE))
    theirs, ours = ClientContext(upstream_tls(), "a.test").engine(), server.engine("a.test")
    ours.receive(theirs.drain())
    theirs.receive(ours.drain())
    with pytest.raises(Fault, match="client-certificate-missing"):
        ours.receive(theirs.drain())
    with pytest.raises(Fault) as raised:
        theirs.receive(ours.drain())
    assert (raised.value.kind, raised.value.detail) == ("alert-from-upstream", "certificate_required")


def test_the_system_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust.system_pem.cache_clear()
    trust._store.cache_clear()
    monkeypatch.setattr(trust, "SYSTEM_PLACES", (f"{tmp_path}/none.pem", f"{tmp_path}/ca.pem"))
    (tmp_path / "ca.pem").write_bytes(PKI.root.cert_pem.bytes())
    system = Trust(name="system", system=True)
    connect(ServerContext(host()), ClientContext(upstream_tls(trust=system), "a.test"))
    both = replace(PKI.stranger_trust, system=True)
    connect(ServerContext(host()), ClientContext(upstream_tls(trust=both), "a.test"))
    trust.system_pem.cache_clear()
    trust._store.cache_clear()
    monkeypatch.setattr(trust, "SYSTEM_PLACES", (f"{tmp_path}/none.pem",))
    with pytest.raises(trust.TrustError, match="no system trust store"):
        ClientContext(upstream_tls(trust=system), "a.test")
    trust.system_pem.cache_clear()


def test_an_empty_store() -> None:
    with pytest.raises(trust.TrustError, match="without a certificate"):
        ClientContext(upstream_tls(trust=Trust(name="empty", ca_pem=b"nothing")), "a.test")


@pytest.mark.parametrize("check", ["leaf", "chain"])
def test_revoked_upstreams_are_refused(check: str) -> None:
    server = ServerContext(host("a.test"))
    leaf, issuer = x509.load_pem_x509_certificates(server.host.certificates[0].chain_pem)

    def listing(certificate: x509.Certificate, *, serial: int = 0, late: bool = False) -> Trust:
        name = normal_name(certificate.issuer)
        number = (serial or certificate.serial_number).to_bytes(20, "big")
        crl = Crl(issuer=name, name=name, serials=number, width=20, this_update=0.0, next_update=1.0 if late else 4e9)
        return replace(PKI.trust, crls=(crl,), crl_check=check)

    revoked = refused(ClientContext(upstream_tls(trust=listing(leaf)), "a.test"), server, "a.test")
    assert (revoked.kind, revoked.status) == ("upstream-certificate-revoked", 502)
    unknown = refused(ClientContext(upstream_tls(trust=listing(leaf, serial=1, late=True)), "a.test"), server, "a.test")
    assert unknown.kind == "upstream-certificate-revocation-unknown"
    connect(server, ClientContext(upstream_tls(trust=listing(leaf, serial=1)), "a.test"))
    above = ClientContext(upstream_tls(trust=listing(issuer)), "a.test")
    if check == "chain":
        assert refused(above, server, "a.test").kind == "upstream-certificate-revoked"
    else:
        connect(server, above)
