"""Rehearsal of a host: handshakes in memory, before any client sees its new context.

Every certificate is asked for alone, in every version that the host speaks, by a client that takes what it gets: it looks at
the leaf that was really sent and at the protocol that was agreed on. Whether clients will trust the chain is not its question; a
private CA is nobody's error. A host that asks for client certificates meets a client that has none and one with a
certificate of its own making: the first is let in only by ``request``, the second never.

About half a millisecond of processor for each handshake; client contexts are made once for each way of asking.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from edge.errors import Fault
from edge.settings.model import ClientAuthMode, Host
from edge.tls.binding import context_pointer, lib, reasons
from edge.tls.choice import HostTable, ServerContext
from edge.tls.context import VERSIONS
from edge.wire.hello import HelloReader

__all__ = ["Rehearsed", "rehearse"]

_SIGNATURES = {
    "ecdsa": b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512",
    "rsa": b"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:RSA+SHA256:RSA+SHA384:RSA+SHA512",
    "ed25519": b"ed25519",
}
_GROUPS = ("X25519", "prime256v1", "secp384r1", "secp521r1")  # the curves that keys of certificates lie on are among them
_ROUNDS = 8  # flights of one handshake, at most
_FLIGHT = 65_536  # bytes
_NOT_FITTING = frozenset({"no-common-cipher", "no-common-signature"})  # a version that leaves a certificate unused


class Rehearsed(NamedTuple):
    """What came of a host's rehearsal: sentences."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class _Ask(NamedTuple):
    """How a client asks."""

    version: str
    key_type: str
    ciphers: tuple[str, ...]
    ciphersuites: tuple[str, ...]
    groups: tuple[str, ...]
    alpn: tuple[str, ...]
    stranger: bool = False  # with a certificate that nobody has signed


class _Outcome(NamedTuple):
    failure: str  # the kind of the server's fault, or what else was in the way; "": the handshake was completed
    detail: str
    leaf: str = ""  # SHA-256 of its DER, hex; "" when none was sent
    alpn: str = ""


@lru_cache(maxsize=1)
def _stranger() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rehearsal")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    begin, end = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2020, 2120)]
    return builder.not_valid_before(begin).not_valid_after(end).sign(key, hashes.SHA256()), key


@lru_cache(maxsize=256)
def _client(ask: _Ask) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    pointer = context_pointer(context)
    context.set_min_proto_version(VERSIONS[ask.version])
    context.set_max_proto_version(VERSIONS[ask.version])
    if ask.ciphers:
        context.set_cipher_list(":".join(ask.ciphers).encode())
    if ask.ciphersuites:
        context.set_tls13_ciphersuites(":".join(ask.ciphersuites).encode())
    lib.SSL_CTX_set1_curves_list(pointer, ":".join(ask.groups).encode())
    lib.SSL_CTX_set1_sigalgs_list(pointer, _SIGNATURES[ask.key_type])
    if ask.alpn:
        context.set_alpn_protos([name.encode() for name in ask.alpn])
    if ask.stranger:
        certificate, key = _stranger()
        context.use_certificate(certificate)
        context.use_privatekey(key)
    return context


def rehearse(table: HostTable, host: Host) -> Rehearsed:
    """Try what clients of a host of `table` will do. About a millisecond for each certificate. Never raises."""
    problems: list[str] = []
    warnings: list[str] = []
    where = host.names[0]
    for version in _versions(host):
        unfit: list[str] = []
        for key_type, fingerprint in ((one.key_type, one.fingerprint) for one in host.certificates):
            told = f"host {where}: {key_type} certificate, TLS {version}"
            outcome = _meet(table, host, _ask(host, version, key_type))
            if outcome.failure in _NOT_FITTING:
                unfit.append(f"{told}: never used, no cipher suite or signature fits it")
                continue
            problems += [f"{told}: {problem}" for problem in _judged(host, outcome, fingerprint)]
        if len(unfit) == len(host.certificates):
            problems.append(
                f"host {where}: nobody can connect with TLS {version}: no cipher suite or signature fits a certificate"
            )
        else:
            warnings += unfit
    if host.client_auth.mode is not ClientAuthMode.OFF and not problems:
        problems += _meet_stranger(table, host)
    return Rehearsed(tuple(problems), tuple(warnings))


def _versions(host: Host) -> list[str]:
    return [version for version in VERSIONS if host.tls.min_version <= version <= host.tls.max_version]


def _ask(host: Host, version: str, key_type: str, *, stranger: bool = False) -> _Ask:
    tls = host.tls
    known = tls.groups or _GROUPS
    groups = dict.fromkeys([name for name in _GROUPS if name in known] + [*known, *_GROUPS])  # the cheapest key share first
    return _Ask(version, key_type, tls.ciphers, tls.ciphersuites, tuple(groups), tls.alpn, stranger)


def _judged(host: Host, outcome: _Outcome, fingerprint: str) -> Iterator[str]:
    """What is wrong with a handshake without a client certificate."""
    required = host.client_auth.mode is ClientAuthMode.REQUIRE
    failure = outcome.failure
    if required and not failure:
        yield "a client without a certificate was let in"
    elif failure and not (required and failure == "client-certificate-missing"):
        yield f"the handshake failed: {failure}{', ' if outcome.detail else ''}{outcome.detail}"
        return
    if outcome.leaf != fingerprint:
        yield "another certificate was shown" if outcome.leaf else "no certificate was shown"
    if host.tls.alpn and not required and outcome.alpn != host.tls.alpn[0]:
        yield f"the protocol agreed on is {outcome.alpn or 'none'} instead of {host.tls.alpn[0]}"


def _meet_stranger(table: HostTable, host: Host) -> Iterator[str]:
    version = _versions(host)[-1]
    outcome = _meet(table, host, _ask(host, version, host.certificates[0].key_type, stranger=True))
    if not outcome.failure:
        yield f"host {host.names[0]}: a client with a certificate that nobody has signed was let in"


def _name(host: Host) -> str | None:
    """What a client of the host says as SNI; None for an address."""
    name = host.names[0]
    if name.startswith("*."):
        return "rehearsal" + name[1:]
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name
    return None


def _meet(table: HostTable, host: Host, ask: _Ask) -> _Outcome:
    client = SSL.Connection(_client(ask), None)
    client.set_connect_state()
    name = _name(host)
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    error = _step(client)
    flight = _output(client)
    try:
        hello = HelloReader(_FLIGHT).feed(flight)
    except Fault:
        hello = None
    if hello is None:  # with these suites and signatures there is nothing that a client could offer
        return _Outcome("no-common-cipher", error)
    try:
        context = table.choose(hello.sni) if name is not None else _context_of(table, host)
    except Fault as refused:
        return _Outcome(refused.kind, refused.detail)
    if not isinstance(context, ServerContext):
        return _Outcome("misled", "the name leads to another host, which passes TLS through")
    engine = context.engine(hello.sni)
    failure = detail = ""
    for _ in range(_ROUNDS):
        try:
            engine.receive(flight)
        except Fault as failed:
            failure, detail = failed.kind, failed.detail
        answer = engine.drain()
        if answer:
            client.bio_write(answer)
            error = _step(client) or error
        flight = _output(client)
        if failure or not flight:
            break
    if not failure and not engine.established:
        failure, detail = "incomplete", error
    leaf = client.get_peer_certificate(as_cryptography=True)
    shown = hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest() if leaf is not None else ""
    outcome = _Outcome(failure, detail, shown, client.get_alpn_proto_negotiated().decode("ascii", "replace"))
    client.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
    engine.close()
    return outcome


def _context_of(table: HostTable, host: Host) -> ServerContext:
    """An address is in no hello: its host is found by itself."""
    return next(context for context in table.contexts if context.host == host)


def _step(client: SSL.Connection) -> str:
    """Go on with the client's handshake; what it has against it."""
    try:
        client.do_handshake()
    except SSL.WantReadError:
        return ""
    except SSL.Error as error:
        reasons()
        return str(error.args[0][0][2]) if error.args and error.args[0] else "error"
    return ""


def _output(client: SSL.Connection) -> bytes:
    out = b""
    try:
        while True:
            out += client.bio_read(_FLIGHT)
    except SSL.WantReadError:
        return out
