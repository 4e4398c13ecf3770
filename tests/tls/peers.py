"""Hosts with real certificates, and clients that are not ours (pyOpenSSL's connections over memory BIOs)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from OpenSSL import SSL

from edge.errors import Fault
from edge.settings.client_rules import ClientLeaf
from edge.settings.model import Certificate, ClientAuth, ClientAuthMode, Host, TlsPolicy, Trust, UpstreamTls
from edge.tls.binding import lib
from edge.tls.choice import ServerContext
from edge.tls.client import ClientContext, ClientEngine
from edge.tls.engine import Engine
from edge.tls.server_engine import ServerEngine
from edge.wire.hello import HelloReader
from tests.records import RecordWriter, keep_secrets

TLS12, TLS13 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION
GROUPS = ("X25519MLKEM768", "X25519", "prime256v1", "secp384r1")
SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
)  # fmt: skip
INTERMEDIATE = TlsPolicy(ciphers=CIPHERS, ciphersuites=SUITES, groups=GROUPS)


class Workload:
    """A client certificate with exactly these names, and its key, in the form that `Client` takes."""

    def __init__(self, ca: trustme.CA, *sans: x509.GeneralName, subject: str = "CN=anybody", seconds: float = 86_400) -> None:
        issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
        issuer_key = load_pem_private_key(ca.private_key_pem.bytes(), None)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(subject))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
        )
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
        self.certificate = builder.sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]
        self.leaf = ClientLeaf(self.certificate.public_bytes(Encoding.DER))
        self.cert_chain_pems = [trustme.Blob(self.certificate.public_bytes(Encoding.PEM))]
        self.private_key_pem = trustme.Blob(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Pki:
    """One CA with an intermediate for servers, two for clients."""

    def __init__(self) -> None:
        self.root = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.issuer = self.root.create_child_ca(key_type=trustme.KeyType.ECDSA)
        self.rsa_issuer = self.root.create_child_ca(key_type=trustme.KeyType.RSA)
        self.clients = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.strangers = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.trust = Trust(name="servers", ca_pem=self.root.cert_pem.bytes())
        self.client_trust = Trust(name="clients", ca_pem=self.clients.cert_pem.bytes())
        self.stranger_trust = Trust(name="strangers", ca_pem=self.strangers.cert_pem.bytes())

    @lru_cache  # noqa: B019 -- one object for the whole session
    def certificate(self, *names: str, rsa: bool = False) -> Certificate:
        issuer = self.rsa_issuer if rsa else self.issuer
        key_type = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        leaf = issuer.issue_cert(*names, key_type=key_type)
        pems = [blob.bytes() for blob in leaf.cert_chain_pems]
        fingerprint = x509.load_pem_x509_certificate(pems[0]).fingerprint(hashes.SHA256()).hex()
        return Certificate(
            name=names[0], chain_pem=b"".join(pems), key_pem=leaf.private_key_pem.bytes(), key_type="rsa" if rsa else "ecdsa",
            names=names, not_before=0, not_after=4e9, fingerprint=fingerprint,
        )  # fmt: skip

    @lru_cache  # noqa: B019
    def client(self, ca: str = "clients") -> trustme.LeafCert:
        return getattr(self, ca).issue_cert("client.test", key_type=trustme.KeyType.ECDSA)


PKI = Pki()


def host(*names: str, rsa: bool = False, ecdsa: bool = True, client_auth: ClientAuthMode | None = None, **tls: Any) -> Host:
    names = names or ("a.test",)
    certificates = []
    if ecdsa:
        certificates.append(PKI.certificate(*names))
    if rsa:
        certificates.append(PKI.certificate(*names, rsa=True))
    auth = ClientAuth(mode=client_auth, trust=PKI.client_trust) if client_auth else ClientAuth()
    return Host(
        names=names, listeners=("tls",), certificates=tuple(certificates), tls=replace(INTERMEDIATE, **tls), client_auth=auth
    )


@dataclass
class Client:
    """A client of pyOpenSSL: not our engine, so that both sides do not share one mistake."""

    sni: str | None = "a.test"
    version: int | None = None
    alpn: tuple[str, ...] = ()
    certificate: trustme.LeafCert | Workload | None = None
    session: SSL.Session | None = None
    groups: str = ""
    sigalgs: str = ""
    ciphers: str = ""
    suites: str = ""
    fallback: bool = False
    secrets: list[bytes] | None = None  # []: `records` will be asked for
    plain: bytes = b""
    error: str = ""
    done: bool = False
    connection: SSL.Connection = field(init=False)

    def __post_init__(self) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.context = context
        if self.version:
            context.set_min_proto_version(self.version)
            context.set_max_proto_version(self.version)
        if self.sigalgs:
            assert lib.SSL_CTX_set1_sigalgs_list(context._context, self.sigalgs.encode()) == 1
        if self.groups:
            assert lib.SSL_CTX_set1_curves_list(context._context, self.groups.encode()) == 1
        if self.ciphers:
            context.set_cipher_list(self.ciphers.encode())
        if self.suites:
            context.set_tls13_ciphersuites(self.suites.encode())
        if self.alpn:
            context.set_alpn_protos([name.encode() for name in self.alpn])
        if self.fallback:
            context.set_mode(0x80)  # SSL_MODE_SEND_FALLBACK_SCSV
        if self.secrets is not None:
            self.secrets = keep_secrets(context)
        if self.certificate:
            chain = x509.load_pem_x509_certificates(b"".join(blob.bytes() for blob in self.certificate.cert_chain_pems))
            context.use_certificate(chain[0])
            for above in chain[1:]:
                context.add_extra_chain_cert(above)
            context.use_privatekey(load_pem_private_key(self.certificate.private_key_pem.bytes(), None))  # type: ignore[arg-type]
        self.connection = SSL.Connection(context, None)
        if self.sni is not None:
            self.connection.set_tlsext_host_name(self.sni.encode())
        self.connection.set_connect_state()
        if self.session is not None:
            # pyOpenSSL's own call wants the session's context, and a new client has a new one
            assert lib.SSL_set_session(self.connection._ssl, self.session._session) == 1

    def step(self, data: bytes = b"") -> bytes:
        """Take what the server sent; what goes to the server."""
        while data:
            data = data[self.connection.bio_write(data) :]
        try:
            if not self.done:
                self.connection.do_handshake()
                self.done = True
            while True:
                self.plain += self.connection.recv(65536)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            pass
        except SSL.Error as error:
            self.error = error.args[0][0][2] if error.args and error.args[0] else "error"
        return self.output()

    def output(self) -> bytes:
        out = b""
        try:
            while True:
                out += self.connection.bio_read(65536)
        except SSL.WantReadError:
            return out

    def send(self, data: bytes) -> bytes:
        sent, out = 0, b""
        while sent < len(data):
            sent += self.connection.send(data[sent : sent + 16384])
            out += self.output()
        return out

    def records(self) -> RecordWriter:
        """To write records by hand from now on; not before the handshake is done."""
        assert self.secrets is not None
        return RecordWriter(self.connection, self.secrets)

    def finish(self) -> SSL.Session | None:
        """End politely; the session to resume."""
        session = self.connection.get_session()
        self.connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        return session


@dataclass
class Meeting:
    """What came of a client and a server."""

    client: Client
    engine: ServerEngine
    fault: Fault | None = None
    plain: bytes = b""
    flights: list[bytes] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.client.done and self.engine.established and not self.client.error and self.fault is None


def meet(context: ServerContext, client: Client, *, greet: bool = True) -> Meeting:
    """The whole way of a connection: hello, choice (already made), handshake; the server sends `hello` when `greet`."""
    data = client.step()
    hello = HelloReader(65536).feed(data)
    assert hello is not None
    engine = context.engine(hello.sni, hello.session_ticket)
    meeting = Meeting(client, engine)
    for _ in range(8):
        try:
            meeting.plain += engine.receive(data)
        except Fault as fault:
            meeting.fault = fault
            client.step(engine.drain())
            return meeting
        if greet and engine.established:
            engine.send(b"hello")
            greet = False
        flight = engine.drain()
        meeting.flights.append(flight)
        data = client.step(flight)
        if not data:
            break
    return meeting


def pump(left: Engine, right: Engine) -> tuple[bytes, bytes]:
    """Carry bytes between two of our engines until both are silent; what each of them read."""
    read_left = read_right = b""
    while True:
        to_right = left.drain()
        if to_right:
            read_right += right.receive(to_right)
        to_left = right.drain()
        if to_left:
            read_left += left.receive(to_left)
        if not to_left and not to_right:
            return read_left, read_right


def upstream_tls(**changes: Any) -> UpstreamTls:
    return UpstreamTls(**{"trust": PKI.trust, **changes})


def connect(server: ServerContext, client: ClientContext | None = None, endpoint: str = "") -> tuple[ServerEngine, ClientEngine]:
    """A server engine and a client engine with the handshake done."""
    theirs = (client or ClientContext(upstream_tls(), server.host.names[0])).engine(endpoint)
    ours = server.engine(server.host.names[0])
    pump(theirs, ours)
    assert theirs.established
    assert ours.established
    return ours, theirs
