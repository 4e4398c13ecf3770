"""Which clients a host lets in: what is asked after OpenSSL has verified their certificate, in the handshake itself.

`verify_chain` verifies in OpenSSL's place, and remembers for a few minutes what came of it (`edge.tls.verified`).

Where there is something to ask, OpenSSL calls `verify_callback` for each certificate of the chain, the client's own last, when
signatures, dates and purposes are known to be right. Our answer there makes a refusal an alert, sent before the handshake is
complete: the client learns why, and no ticket leaves. A callback is one for all contexts, made at import. Which connection it
is called for is known without asking OpenSSL: a thread processes one handshake at a time (`UNDER_WAY`).

On a resumed connection nothing is verified again, and no callback is called. The same questions are asked about the leaf
that the ticket holds, when the handshake is done; then there is no alert any more, only an end. Rules cannot have changed since
the ticket was made, because they are part of the policy identity; dates and what is revoked have.

Invariant: whatever goes wrong in the callback refuses.
"""

from __future__ import annotations

from time import time
from typing import Any

from cryptography import x509

from edge.errors import Alert, Fault, Side
from edge.settings.client_rules import ClientLeaf, admitting
from edge.settings.model import ClientAuth, ClientAuthMode
from edge.tls.binding import buffer, ffi, lib
from edge.tls.pins import der
from edge.tls.revocation import Revocation, revocation_of
from edge.tls.subject import subject
from edge.tls.verified import Verified

__all__ = ["UNDER_WAY", "ClientCheck", "leaf_of", "verify_callback", "verify_chain"]

_MOST_KNOWN = 256
_DIRECT = 2  # certificates of a chain without an intermediate
_USUAL = 4096  # octets of a certificate that is worth remembering
_known: dict[bytes, ClientLeaf] = {}

_verify = lib.X509_verify_cert

_OK = 0  # X509_V_OK
_REJECTED: int = lib.X509_V_ERR_CERT_REJECTED
_REVOKED: int = lib.X509_V_ERR_CERT_REVOKED


class ClientCheck:
    """The demands of one host on the certificates of its clients, beyond the chain that OpenSSL verifies."""

    __slots__ = ("_allow", "_required", "_revocation", "asks", "verified", "wants_chain")

    def __init__(self, auth: ClientAuth) -> None:
        self._allow = auth.allow
        self._revocation = revocation_of(auth.trust)
        self.wants_chain = auth.chain
        self.asks = bool(auth.allow) or self._revocation is not None
        self._required = auth.mode is ClientAuthMode.REQUIRE
        whole = self.wants_chain or (self._revocation is not None and self._revocation.whole_chain)
        self.verified = None if whole else Verified()  # None: the whole chain is looked at each time

    def objection(self, leaf: ClientLeaf) -> Fault | None:
        """Why a client is not let in, or None."""
        if self._revocation is not None:
            fault = _revoked(self._revocation, leaf)
            if fault is not None:
                return fault
        if self._allow and admitting(self._allow, leaf) is None:
            return Fault(Side.CLIENT, "client-certificate-not-allowed", detail=leaf.label, alert=Alert.BAD_CERTIFICATE)
        return None

    def objection_to_issuer(self, certificate: Any) -> Fault | None:
        """The same for what stands above it, an ``X509 *``."""
        revocation = self._revocation
        if revocation is None or not revocation.whole_chain:
            return None
        issuer = ClientLeaf(der(certificate, lib.i2d_X509_bio))
        return None if issuer.certificate.issuer == issuer.certificate.subject else _revoked(revocation, issuer)

    def objection_later(self, leaf: ClientLeaf | None) -> Fault | None:
        """The same for a certificate that was verified some time ago, or for none."""
        if leaf is None:
            return Fault(Side.CLIENT, "client-certificate-missing") if self._required else None
        try:
            ends = leaf.certificate.not_valid_after_utc.timestamp()
        except ValueError:
            ends = 0.0
        if ends < time():
            return Fault(Side.CLIENT, "client-certificate-expired", detail="since it was verified")
        return self.objection(leaf)


def _revoked(revocation: Revocation, leaf: ClientLeaf) -> Fault | None:
    try:
        found = revocation.objection(leaf)
    except ValueError:
        found = "revocation-unknown", "the certificate cannot be read"
    if found is None:
        return None
    alert = Alert.CERTIFICATE_REVOKED if found[0] == "revoked" else Alert.BAD_CERTIFICATE
    return Fault(Side.CLIENT, f"client-certificate-{found[0]}", detail=found[1], alert=alert)


class _UnderWay:
    """The call of a handshake that is under way: what is to be asked, and what came of it."""

    __slots__ = ("check", "fault", "leaf")

    def __init__(self) -> None:
        self.check: ClientCheck | None = None
        self.fault: Fault | None = None
        self.leaf: ClientLeaf | None = None  # what was let in


UNDER_WAY = _UnderWay()


@ffi.callback("int(X509_STORE_CTX *, void *)", error=0)  # type: ignore[untyped-decorator]
def verify_chain(store: Any, _: Any) -> int:
    """For `edge.tls.verify_field`, in the place of `X509_verify_cert`: what that finds, or found a moment ago."""
    check = UNDER_WAY.check
    verified = check.verified if check is not None else None
    if check is None or verified is None:
        return 1 if _verify(store) == 1 else 0
    certificate = lib.X509_STORE_CTX_get0_cert(store)
    encoded, now = der(certificate, lib.i2d_X509_bio), time()
    if verified.holds(encoded, now):
        lib.X509_STORE_CTX_set_error(store, _OK)
        return _answer(check, store, certificate, encoded)
    if _verify(store) != 1:
        return 0
    if len(encoded) <= _USUAL:
        verified.add(encoded, now, lambda: _first_end(store))
    return 1


def _first_end(store: Any) -> float:
    """When the first certificate of a verified chain expires, in POSIX seconds; 0 when that cannot be read, or one stands between
    the leaf and its anchor."""
    chain = lib.X509_STORE_CTX_get1_chain(store)
    count = lib.sk_X509_num(chain)
    direct = 0 < count <= _DIRECT
    encoded = []
    for index in range(count):
        certificate = lib.sk_X509_value(chain, index)
        if direct:
            encoded.append(der(certificate, lib.i2d_X509_bio))
        lib.X509_free(certificate)
    lib.sk_X509_free(chain)
    try:
        ends = [x509.load_der_x509_certificate(one).not_valid_after_utc.timestamp() for one in encoded]
    except ValueError:
        return 0.0
    return min(ends, default=0.0)


@ffi.callback("int(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
def verify_callback(ok: int, store: Any) -> int:
    """For `SSL_CTX_set_verify`."""
    check = UNDER_WAY.check
    if not ok or check is None:
        return 0
    if not lib.X509_STORE_CTX_get_error_depth(store):
        return _answer(check, store, lib.X509_STORE_CTX_get0_cert(store))
    try:
        fault = check.objection_to_issuer(lib.X509_STORE_CTX_get_current_cert(store))
    except Exception as error:
        fault = _internal(error)
    return 1 if fault is None else _refused(store, fault)


def _answer(check: ClientCheck, store: Any, certificate: Any, encoded: bytes = b"") -> int:
    """Whether the client with this certificate comes in: 1 or 0."""
    try:
        leaf = _leaf(certificate, encoded)
        fault = check.objection(leaf)
    except Exception as error:
        return _refused(store, _internal(error))
    if fault is not None:
        return _refused(store, fault)
    UNDER_WAY.leaf = leaf
    return 1


def _refused(store: Any, fault: Fault) -> int:
    UNDER_WAY.fault = fault
    lib.X509_STORE_CTX_set_error(store, _REVOKED if fault.alert is Alert.CERTIFICATE_REVOKED else _REJECTED)
    return 0


def _internal(error: Exception) -> Fault:
    """Nothing catches it beyond a callback."""
    return Fault(Side.EDGE, "internal-error", detail=f"{type(error).__name__}: {error}", alert=Alert.BAD_CERTIFICATE)


def leaf_of(ssl: Any) -> ClientLeaf | None:
    """The certificate that the peer showed, now or when the session began that was resumed."""
    certificate = lib.SSL_get_peer_certificate(ssl)
    if not certificate:
        return None
    leaf = _leaf(certificate)
    lib.X509_free(certificate)
    return leaf


def _leaf(certificate: Any, encoded: bytes = b"") -> ClientLeaf:
    """What is known of a certificate is shared by all connections of its client. `encoded`: its DER, where that is known."""
    encoded = encoded or der(certificate, lib.i2d_X509_bio)
    leaf = _known.get(encoded)
    if leaf is None:
        out = ffi.new("unsigned char **")
        size = lib.i2d_X509_NAME(lib.X509_get_subject_name(certificate), out)
        name = subject(buffer(out[0], size)[:]) if size > 0 else ""
        lib.OPENSSL_free(out[0])
        leaf = ClientLeaf(encoded, name)
        if len(encoded) <= _USUAL:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[encoded] = leaf
    return leaf
