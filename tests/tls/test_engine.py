"""The server engine against a client that is not ours, in memory."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import trustme
from OpenSSL import SSL

from edge.errors import Alert, Fault, Side
from edge.settings.model import ClientAuthMode
from edge.tls.binding import CHUNK, NULL, lib
from edge.tls.choice import ServerContext
from edge.tls.client import ClientContext
from edge.wire.hello import HelloReader
from tests.records import ALERT
from tests.tls.peers import GROUPS, PKI, TLS12, TLS13, Client, connect, host, meet, pump, upstream_tls
from tests.wire.hellos import records

BOTH = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


@BOTH
def test_handshake_and_data_both_ways(version: int) -> None:
    meeting = meet(ServerContext(host()), Client(version=version, alpn=("h2", "http/1.1")))
    assert meeting.ok
    assert meeting.client.plain == b"hello"
    assert meeting.engine.receive(meeting.client.send(b"question")) == b"question"
    info = meeting.engine.info()
    assert info.version == ("TLSv1.2" if version == TLS12 else "TLSv1.3")
    assert info.suite == ("ECDHE-ECDSA-AES128-GCM-SHA256" if version == TLS12 else "TLS_AES_128_GCM_SHA256")
    assert info.group.lower() in ("x25519mlkem768", "x25519")
    assert not info.resumed
    assert info.alpn == b"h2"
    assert info.server_name == "a.test"
    assert info.peer is None


@BOTH
def test_byte_by_byte(version: int) -> None:
    client = Client(version=version)
    data = client.step()
    engine = ServerContext(host()).engine("a.test")
    plain = b""
    while data:
        for at in range(len(data)):
            plain += engine.receive(data[at : at + 1])
        data = client.step(engine.drain())
    assert engine.established
    for byte in client.send(b"in small pieces"):
        plain += engine.receive(bytes([byte]))
    assert plain == b"in small pieces"


def test_a_hello_in_one_byte_records() -> None:
    client = Client(groups="X25519MLKEM768:X25519")
    data = records(client.step()[5:], 1)
    assert len(data) > 8000
    hello = HelloReader(32768).feed(data)
    assert hello is not None
    engine = ServerContext(host()).engine(hello.sni)
    engine.receive(data)
    engine.receive(client.step(engine.drain()))
    assert engine.established


def test_data_with_the_last_flight() -> None:
    """TLS 1.3 clients may send Finished and a request in one segment."""
    client = Client(version=TLS13)
    engine = ServerContext(host()).engine("a.test")
    engine.receive(client.step())
    flight = client.step(engine.drain())
    assert client.done
    assert engine.receive(flight + client.send(b"request")) == b"request"
    assert engine.established


def test_ten_mebibytes_both_ways_and_in_all_buffers() -> None:
    ours, theirs = connect(ServerContext(host()))
    data = bytes(range(256)) * 4096 * 10
    ours.send(data)
    cipher = ours.drain()
    assert ours.drain() == b""
    assert theirs.receive(memoryview(cipher)) == data
    for start in range(0, len(data), 100_000):
        theirs.send(memoryview(data)[start : start + 100_000])
    assert ours.receive(bytearray(theirs.drain())) == data


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 65536, 262_144, 400_000])
def test_sizes_around_a_record(size: int) -> None:
    ours, theirs = connect(ServerContext(host()))
    data = bytes(range(251)) * (size // 251 + 1)
    ours.send(b"<")
    ours.send(bytearray(data[:size]))
    ours.send(b">")
    assert theirs.receive(ours.drain()) == b"<" + data[:size] + b">"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 65536])
def test_seal_is_send_and_drain(size: int) -> None:
    ours, theirs = connect(ServerContext(host()))
    assert theirs.receive(ours.seal(bytes(size))) == bytes(size)
    ours.send(b"<")
    assert theirs.receive(ours.seal(bytes(size))) == b"<" + bytes(size), "after what was queued before"
    assert ours.drain() == b""


def test_a_turns_sends_come_out_in_one_piece() -> None:
    ours, theirs = connect(ServerContext(host()))
    for number in range(2000):
        ours.send(b"%05d" % number * 8)
    assert theirs.receive(ours.drain()) == b"".join(b"%05d" % number * 8 for number in range(2000))
    assert ours.drain() == b""


def test_bios_hold_no_more_than_a_chunk() -> None:
    """What `send` leaves in the BIO between calls is a chunk's records at most; the rest has moved on."""
    ours, _ = connect(ServerContext(host()))
    for size in (CHUNK // 2, CHUNK // 2, 100, CHUNK, 3 * CHUNK, 7):
        ours.send(bytes(size))
        assert lib.BIO_get_mem_data(ours._wbio, NULL) <= CHUNK + 1024


@BOTH
def test_close_notify_both_ways(version: int) -> None:
    client = Client(version=version)
    meeting = meet(ServerContext(host()), client)
    engine = meeting.engine
    last = client.send(b"bye")
    client.connection.shutdown()
    assert engine.receive(last + client.output()) == b"bye"
    assert engine.closed
    engine.send(b"still here")  # half-closed: our side may go on
    engine.shutdown()
    client.step(engine.drain())
    with pytest.raises(SSL.ZeroReturnError):
        client.connection.recv(1)
    assert client.plain == b"hellostill here"
    assert engine.receive(b"") == b""


def test_close_notify_in_the_middle_of_much() -> None:
    ours, theirs = connect(ServerContext(host()))
    data = bytes(100_000)
    theirs.send(data)
    theirs.shutdown()
    cipher = theirs.drain()
    assert ours.receive(cipher + bytes(40_000)) == data
    assert ours.closed


def test_shutdown_before_the_handshake_does_nothing() -> None:
    engine = ServerContext(host()).engine("a.test")
    engine.shutdown()
    assert engine.drain() == b""
    engine.close()
    engine.close()
    assert not engine.closed


def test_fresh_bios_at_idle() -> None:
    ours, theirs = connect(ServerContext(host()))
    for _ in range(3):
        theirs.send(bytes(200_000))
        assert len(ours.receive(theirs.drain())) == 200_000
        before = ours._rbio
        ours.idle()
        theirs.idle()
        assert ours._rbio != before
    theirs.send(b"after")
    cipher = theirs.drain()
    ours.send(b"waiting")
    kept = ours._wbio
    ours.idle()
    assert ours._wbio == kept  # something lay in it
    assert ours.receive(cipher[:10]) == b""
    ours.idle()
    assert ours.receive(cipher[10:]) == b"after"
    assert theirs.receive(ours.drain()) == b"waiting"


def test_a_broken_record_is_a_fault_with_an_alert() -> None:
    ours, theirs = connect(ServerContext(host()))
    theirs.send(b"hello")
    cipher = bytearray(theirs.drain())
    cipher[-1] ^= 1
    with pytest.raises(Fault, match="bad-record") as raised:
        ours.receive(bytes(cipher))
    assert raised.value.side is Side.CLIENT
    with pytest.raises(Fault, match="alert-from-upstream") as raised:
        theirs.receive(ours.drain())
    assert raised.value.detail == "bad_record_mac"
    assert lib.ERR_get_error() == 0


def test_junk_after_the_hello() -> None:
    client = Client()
    engine = ServerContext(host()).engine("a.test")
    engine.receive(client.step())
    with pytest.raises(Fault) as raised:
        engine.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert raised.value.side is Side.CLIENT
    assert lib.ERR_get_error() == 0


@pytest.mark.parametrize(
    ("client", "kind", "alert"),
    [
        (Client(version=TLS13, groups="secp521r1"), "no-common-group", Alert.HANDSHAKE_FAILURE),
        (Client(version=TLS12, ciphers="ECDHE-ECDSA-AES128-SHA"), "no-common-cipher", Alert.HANDSHAKE_FAILURE),
        (Client(version=TLS13, suites="TLS_AES_128_CCM_SHA256"), "no-common-cipher", Alert.HANDSHAKE_FAILURE),
        (Client(version=TLS12, fallback=True), "fallback-refused", Alert.NONE),
        (Client(alpn=("acme-tls/1",)), "no-common-protocol", Alert.NO_APPLICATION_PROTOCOL),
    ],
)
def test_nothing_in_common(client: Client, kind: str, alert: Alert) -> None:
    meeting = meet(ServerContext(host()), client)
    assert meeting.fault is not None
    assert (meeting.fault.side, meeting.fault.kind, meeting.fault.alert) == (Side.CLIENT, kind, alert)
    assert "alert" in client.error or "no protocols" in client.error or "fallback" in client.error
    assert lib.ERR_get_error() == 0


def test_a_version_that_the_host_does_not_serve() -> None:
    meeting = meet(ServerContext(host(min_version="1.3")), Client(version=TLS12))
    assert meeting.fault is not None
    assert (meeting.fault.kind, meeting.fault.alert) == ("no-common-version", Alert.PROTOCOL_VERSION)


def test_the_clients_alert_is_named() -> None:
    """The client refuses our certificate and says so."""
    client = ClientContext(upstream_tls(trust=PKI.stranger_trust), "a.test").engine()
    engine = ServerContext(host()).engine("a.test")
    engine.receive(client.drain())
    with pytest.raises(Fault, match="upstream-certificate-unknown-ca"):
        client.receive(engine.drain())
    with pytest.raises(Fault) as raised:
        engine.receive(client.drain())
    assert (raised.value.kind, raised.value.detail) == ("alert-from-client", "unknown_ca")


@BOTH
def test_the_name_must_be_the_one_that_chose_the_context(version: int) -> None:
    context = ServerContext(host("a.test"))
    for chosen, sent in (("b.test", "a.test"), ("a.test", None), (None, "a.test")):
        client = Client(sni=sent, version=version)
        engine = context.engine(chosen)
        engine.receive(client.step())
        with pytest.raises(Fault, match="sni-mismatch"):
            engine.receive(client.step(engine.drain()))
        assert not engine.established


@pytest.mark.parametrize(("sent", "chosen"), [("A.Test", "a.test"), ("a.test.", "a.test"), ("127.0.0.1", None), (None, None)])
def test_the_names_comparison_is_canonical(sent: str | None, chosen: str | None) -> None:
    meeting = meet(ServerContext(host("a.test")), Client(sni=sent))
    assert meeting.ok
    assert meeting.engine.server_name == chosen


@BOTH
@pytest.mark.parametrize("mode", [ClientAuthMode.REQUIRE, ClientAuthMode.REQUEST])
def test_client_certificates(version: int, mode: ClientAuthMode) -> None:
    context = ServerContext(host(client_auth=mode))
    good = meet(context, Client(version=version, certificate=PKI.client()))
    assert good.ok
    peer = good.engine.info().peer
    assert peer is not None
    assert b"client.test" in peer.der
    stranger = meet(context, Client(version=version, certificate=PKI.client("strangers")))
    assert stranger.fault is not None
    assert stranger.fault.kind == "client-certificate-unknown-ca"
    assert stranger.client.error.endswith("unknown ca")
    without = meet(context, Client(version=version))
    if mode is ClientAuthMode.REQUIRE:
        assert without.fault is not None
        assert without.fault.kind == "client-certificate-missing"
        assert without.client.error
    else:
        assert without.ok
        assert without.engine.info().peer is None


def test_the_cas_are_announced() -> None:
    client = Client(certificate=PKI.client())
    assert meet(ServerContext(host(client_auth=ClientAuthMode.REQUIRE)), client).ok
    names = lib.SSL_get_client_CA_list(client.connection._ssl)
    assert lib.sk_X509_NAME_num(names) == 1


@pytest.mark.parametrize("groups", ["X25519", "P-256", "X25519MLKEM768", "P-384"])
def test_groups(groups: str) -> None:
    meeting = meet(ServerContext(host(groups=GROUPS)), Client(version=TLS13, groups=groups))
    assert meeting.ok
    named = {"P-256": "secp256r1", "P-384": "secp384r1"}.get(groups, groups)
    assert meeting.engine.info().group.lower() == named.lower()


def test_hello_retry_request() -> None:
    """The client guesses a group that the server lacks: a second hello goes straight to OpenSSL."""
    client = Client(version=TLS13, groups="P-521:X25519")
    meeting = meet(ServerContext(host()), client)
    assert meeting.ok
    assert meeting.engine.info().group.lower() == "x25519"


def test_a_second_hello_may_not_name_another_host() -> None:
    """Only OpenSSL reads it. The client is told before it has a byte of the answer."""
    for other in (b"b.test", b"a tes!", b"a.te\xe4t"):
        client = Client(version=TLS13, groups="P-521:X25519")
        engine = ServerContext(host("a.test", "b.test")).engine("a.test")
        engine.receive(client.step())
        hello = client.step(engine.drain())
        assert hello.count(b"a.test") == 1
        with pytest.raises(Fault, match="sni-mismatch") as raised:
            engine.receive(hello.replace(b"a.test", other))
        assert raised.value.alert is Alert.ILLEGAL_PARAMETER
        assert engine.drain() == bytes.fromhex("1503030002022f")


@BOTH
def test_what_a_broken_record_is_called(version: int) -> None:
    """The reason is that of TLS, not of the cryptography below it."""
    client = Client(version=version, secrets=[])
    engine = meet(ServerContext(host()), client).engine
    record = client.records().record(b"x")
    with pytest.raises(Fault) as raised:
        engine.receive(record[:-1] + bytes([record[-1] ^ 1]))
    assert raised.value.kind == "bad-record"


@BOTH
def test_user_canceled_before_close_notify(version: int) -> None:
    """Java ends its connections of TLS 1.3 so (RFC 8446 section 6.1)."""
    client = Client(version=version, secrets=[])
    engine = meet(ServerContext(host()), client).engine
    writer = client.records()
    assert engine.receive(writer.record(b"bye") + writer.record(b"\1\x5a", ALERT)) == b"bye"
    assert not engine.closed
    assert engine.receive(writer.record(b"\1\0", ALERT)) == b""
    assert engine.closed
    engine.shutdown()
    client.step(engine.drain())
    with pytest.raises(SSL.ZeroReturnError):
        client.connection.recv(1)


@BOTH
def test_a_fatal_alert_is_no_goodbye(version: int) -> None:
    client = Client(version=version, secrets=[])
    engine = meet(ServerContext(host()), client).engine
    with pytest.raises(Fault, match="alert-from-client"):
        engine.receive(client.records().record(b"\2\x28", ALERT))
    assert not engine.closed


@pytest.mark.parametrize("goodbye", [b"\x15\3\3\0\2\1\0", b"\x15\3\3\0\2\1\x5a\x15\3\3\0\2\1\0"])
def test_a_goodbye_in_the_handshake(goodbye: bytes) -> None:
    client = Client(version=TLS12)
    engine = ServerContext(host()).engine("a.test")
    engine.receive(client.step())
    with pytest.raises(Fault, match="client-closed"):
        engine.receive(goodbye)


@BOTH
def test_noise_is_counted(version: int) -> None:
    """Renegotiation is refused; what a flood of KeyUpdates does is tested against s_client."""
    client = Client(version=version)
    meeting = meet(ServerContext(host()), client)
    engine = meeting.engine
    assert (engine.disturbances, engine.empty_records, engine.unsettled) == (0, 0, False)
    if version == TLS12:
        client.connection.renegotiate()
        client.done = False
        assert engine.receive(client.step()) == b""
        assert (engine.disturbances, engine.empty_records, engine.unsettled) == (1, 0, True)
        client.step(engine.drain())
        assert client.error == "no renegotiation"
    else:
        cipher = client.send(b"x")
        assert engine.receive(cipher[:7]) == b""
        assert engine.receive(cipher[7:]) == b"x"
        assert not engine.unsettled


def test_a_lone_leaf_is_sent_alone() -> None:
    """OpenSSL would complete its chain with what clients are verified by."""
    leaf = PKI.clients.issue_cert("a.test", key_type=trustme.KeyType.ECDSA)
    own = host(client_auth=ClientAuthMode.REQUEST)
    lone = replace(
        own.certificates[0], chain_pem=leaf.cert_chain_pems[0].bytes(), key_pem=leaf.private_key_pem.bytes(), fingerprint="lone"
    )
    client = Client()
    assert meet(ServerContext(replace(own, certificates=(lone,))), client).ok
    chain = client.connection.get_peer_cert_chain()
    assert chain is not None
    assert len(chain) == 1


def test_engines_free_themselves() -> None:
    context = ServerContext(host())
    engine = context.engine("a.test")
    del engine
    gc.collect()
    ours, theirs = connect(context)
    pump(ours, theirs)
    ours.close()
    theirs.close()
