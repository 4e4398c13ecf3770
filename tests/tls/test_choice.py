"""Which context a name chooses, and that nothing leads from one policy to another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.errors import Alert, Fault, Side
from edge.settings.model import ClientAuth, ClientAuthMode, Host, TlsPolicy
from edge.tls import clients
from edge.tls.binding import ffi
from edge.tls.choice import HostTable, ServerContext, build_table
from edge.tls.trust import TrustError
from tests import builders
from tests.tls.peers import INTERMEDIATE, PKI, TLS12, TLS13, Client, Meeting, host, meet

BOTH = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


def table(*hosts: Host, no_sni: str | None = None) -> HostTable:
    return build_table(builders.settings(hosts=hosts), builders.listener(no_sni=no_sni))


def test_exact_then_wildcard_then_refused() -> None:
    exact, wild = host("api.wild.test"), host("*.wild.test")
    found = table(exact, wild)
    assert found.choose("api.wild.test").host is exact
    assert found.choose("other.wild.test").host is wild
    for name in ("wild.test", "a.b.wild.test", "x.test"):
        with pytest.raises(Fault, match="unknown-sni") as raised:
            found.choose(name)
        assert raised.value.side is Side.CLIENT
        assert raised.value.alert is Alert.UNRECOGNIZED_NAME


def test_no_sni() -> None:
    one, two = host("a.test"), host("b.test")
    assert table(one, two, no_sni="b.test").choose(None).host is two
    with pytest.raises(Fault, match="no-sni") as raised:
        table(one, two).choose(None)
    assert raised.value.alert is Alert.UNRECOGNIZED_NAME


def test_contexts_are_shared_among_listeners_and_generations() -> None:
    one = host("a.test")
    cache: dict[Host, ServerContext] = {}
    first = build_table(builders.settings(hosts=(one,)), builders.listener(), cache)
    again = build_table(builders.settings(hosts=(replace(one),)), builders.listener(), cache)
    assert again.choose("a.test") is first.choose("a.test")
    changed = replace(one, tls=replace(one.tls, alpn=("http/1.1",)))
    assert build_table(builders.settings(hosts=(changed,)), builders.listener(), cache).choose("a.test") is not first.choose(
        "a.test"
    )


def test_only_the_listeners_hosts() -> None:
    elsewhere = replace(host("b.test"), listeners=("other",))
    found = table(host("a.test"), elsewhere)
    assert [context.host.names for context in found.contexts] == [("a.test",)]


def test_identities() -> None:
    open_host = ServerContext(host("a.test"))
    guarded = ServerContext(host("a.test", client_auth=ClientAuthMode.REQUIRE))
    assert open_host.policy_id != guarded.policy_id
    assert open_host.coalesce_id != guarded.coalesce_id
    assert len(open_host.policy_id) == len(open_host.coalesce_id) == 32


def test_settings_that_openssl_does_not_take() -> None:
    for changes in ({"groups": ("no-such-group",)}, {"ciphers": ("NO-SUCH-CIPHER",)}, {"ciphersuites": ("TLS_NOTHING",)}):
        with pytest.raises(TrustError):
            ServerContext(host(**changes))
    certificate = PKI.certificate("a.test")
    other = replace(certificate, key_pem=PKI.certificate("b.test").key_pem)
    with pytest.raises(TrustError, match=r"certificate a\.test"):
        ServerContext(Host(names=("a.test",), listeners=("tls",), certificates=(other,), tls=TlsPolicy()))
    with pytest.raises(TrustError, match="trusts no CA"):
        ServerContext(replace(host(), client_auth=ClientAuth(mode=ClientAuthMode.REQUIRE)))


# --- no way around client authentication ---


def through(found: HostTable, client: Client) -> Meeting:
    """A connection as the listener makes it: the hello's name chooses."""
    return meet(found.choose(client.sni), client)


@BOTH
def test_a_host_that_demands_a_certificate_gets_one(version: int) -> None:
    """The verify mode is the chosen context's; exchanging contexts in a callback would keep the first one's."""
    found = table(host("open.test"), host("guarded.test", client_auth=ClientAuthMode.REQUIRE))
    assert through(found, Client("open.test", version=version)).ok
    refused = through(found, Client("guarded.test", version=version))
    assert refused.fault is not None
    assert refused.fault.kind == "client-certificate-missing"


@BOTH
def test_the_protocols_bounds_are_the_chosen_hosts(version: int) -> None:
    found = table(host("old.test"), host("new.test", min_version="1.3"))
    assert through(found, Client("old.test", version=version)).ok
    new = through(found, Client("new.test", version=version))
    assert new.ok == (version == TLS13)


@BOTH
def test_a_session_of_an_open_host_opens_no_other(version: int) -> None:
    found = table(host("open.test"), host("guarded.test", client_auth=ClientAuthMode.REQUIRE))
    first = Client("open.test", version=version)
    assert through(found, first).ok
    session = first.finish()
    again = Client("open.test", version=version, session=session)
    same = through(found, again)
    assert same.ok
    assert same.engine.info().resumed
    session = again.finish()
    refused = through(found, Client("guarded.test", version=version, session=session))
    assert refused.fault is not None
    assert refused.fault.kind == "client-certificate-missing"


@BOTH
def test_a_session_verified_under_one_ca_is_nothing_under_another(version: int) -> None:
    one = host("a.test", client_auth=ClientAuthMode.REQUIRE)
    two = replace(one, client_auth=replace(one.client_auth, trust=PKI.stranger_trust))
    client = Client("a.test", version=version, certificate=PKI.client())
    assert through(table(one), client).ok
    session = client.finish()
    assert session is not None
    refused = through(table(two), Client("a.test", version=version, session=session))
    assert refused.fault is not None
    assert refused.fault.kind == "client-certificate-missing"


@BOTH
def test_resumption_under_client_authentication_keeps_the_certificate(version: int) -> None:
    context = ServerContext(host(client_auth=ClientAuthMode.REQUIRE))
    client = Client(version=version, certificate=PKI.client())
    assert meet(context, client).ok
    again = meet(context, Client(version=version, session=client.finish()))
    assert again.ok
    info = again.engine.info()
    assert info.resumed
    assert info.peer is not None
    assert b"client.test" in info.peer.der


@BOTH
def test_a_certificate_that_expired_since_does_not_resume(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ServerContext(host(client_auth=ClientAuthMode.REQUIRE))
    client = Client(version=version, certificate=PKI.client())
    assert meet(context, client).ok
    session = client.finish()
    again = Client(version=version, session=session)
    assert meet(context, again).ok
    again.finish()
    monkeypatch.setattr(clients, "time", lambda: 1e12)
    refused = meet(context, Client(version=version, session=session))
    assert refused.fault is not None
    assert refused.fault.kind == "client-certificate-expired"
    assert not refused.engine.established


@BOTH
def test_tickets_off(version: int) -> None:
    context = ServerContext(host(tickets=False))
    client = Client(version=version)
    assert meet(context, client).ok
    again = meet(context, Client(version=version, session=client.finish()))
    assert again.ok
    assert not again.engine.info().resumed


# --- certificates, suites, protocols ---


@BOTH
def test_an_rsa_and_an_ecdsa_certificate_on_one_name(version: int) -> None:
    context = ServerContext(host(rsa=True))
    for kind, sigalgs in (("ECPublicKey", "ECDSA+SHA256"), ("RSAPublicKey", "RSA-PSS+SHA256:RSA+SHA256")):
        client = Client(version=version, sigalgs=sigalgs)
        assert meet(context, client).ok
        chain = client.connection.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        assert [type(certificate.public_key()).__name__ for certificate in chain] == [kind] * 2  # leaf and intermediate


def test_suites_are_ours_to_choose_unless_the_client_lacks_aes() -> None:
    context = ServerContext(host())
    aes = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    assert meet(context, Client(version=TLS13, suites=aes)).engine.info().suite == "TLS_AES_128_GCM_SHA256"
    chacha = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    assert meet(context, Client(version=TLS13, suites=chacha)).engine.info().suite == "TLS_CHACHA20_POLY1305_SHA256"
    ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
    assert meet(context, Client(version=TLS12, ciphers=ciphers)).engine.info().suite == "ECDHE-ECDSA-AES128-GCM-SHA256"


def test_post_quantum_first() -> None:
    for groups in ("X25519MLKEM768:X25519", "X25519:X25519MLKEM768", "*X25519/*X25519MLKEM768"):
        assert meet(ServerContext(host()), Client(version=TLS13, groups=groups)).ok
    assert (
        meet(ServerContext(host()), Client(version=TLS13, groups="*X25519:*X25519MLKEM768")).engine.info().group
        == "X25519MLKEM768"
    )


@BOTH
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("h2", "http/1.1"), b"h2"),
        (("http/1.1", "h2"), b"h2"),
        (("http/1.1",), b"http/1.1"),
        (("x", "http/1.1"), b"http/1.1"),
        (("http/1.0", "http/1.1"), b"http/1.1"),
        (("http/1.0",), b"http/1.0"),
        ((), b""),
    ],
)
def test_alpn(version: int, offered: tuple[str, ...], chosen: bytes) -> None:
    context = ServerContext(host())
    for _ in range(2):  # the second time from memory
        client = Client(version=version, alpn=offered)
        meeting = meet(context, client)
        assert meeting.ok
        assert meeting.engine.info().alpn == client.connection.get_alpn_proto_negotiated() == chosen


@BOTH
def test_alpn_without_overlap(version: int) -> None:
    client = Client(version=version, alpn=("acme-tls/1",))
    meeting = meet(ServerContext(host()), client)
    assert meeting.fault is not None
    assert meeting.fault.kind == "no-common-protocol"
    assert client.error.endswith("no application protocol")


def test_alpn_on_a_resumed_connection() -> None:
    context = ServerContext(host())
    client = Client(alpn=("h2",))
    meet(context, client)
    again = meet(context, Client(alpn=("h2",), session=client.finish()))
    assert again.engine.info().resumed
    assert again.engine.info().alpn == b"h2"


def test_the_memo_of_protocols_is_bounded() -> None:
    context = ServerContext(host())
    chooser = ffi.from_handle(context._alive)
    for number in range(1000):
        assert chooser.choose(b"\x02h2" + b"\x05%05d" % number) is not None
        assert chooser.choose(b"\x05%05d" % number) is None
    assert len(chooser._memo) <= 256
    assert chooser.choose(bytes([200]) + bytes(200)) is None


def test_profiles() -> None:
    modern = ServerContext(host(min_version="1.3", ciphers=()))
    assert meet(modern, Client(version=TLS13)).ok
    assert INTERMEDIATE.min_version == "1.2"
