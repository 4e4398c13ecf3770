"""Which clients a host lets in: what is asked after OpenSSL has verified their certificate, in the handshake itself.

OpenSSL calls `verify_callback` for each certificate of the chain, the client's own last, when signatures, dates and purposes are
known to be right. Our answer there makes a refusal an alert, sent before the handshake is complete: the client learns why, and no
ticket leaves. The callback is one for all contexts, made at import. Which connection it is called for is known without asking
OpenSSL: a thread processes one handshake at a time (`UNDER_WAY`).

On a resumed connection nothing is verified again, and the callback is not called. The same questions are asked about the leaf
that the ticket holds, when the handshake is done; then there is no alert any more, only an end. Rules cannot have changed since
the ticket was made, because they are part of the policy identity; dates have.

Invariant: whatever goes wrong in the callback refuses.
"""

from __future__ import annotations

from time import time
from typing import Any

from edge.errors import Alert, Fault, Side
from edge.settings.client_rules import ClientLeaf, admitting
from edge.settings.model import ClientAuth, ClientAuthMode
from edge.tls.binding import buffer, ffi, lib
from edge.tls.pins import der
from edge.tls.subject import subject

__all__ = ["UNDER_WAY", "ClientCheck", "leaf_of", "verify_callback"]

_REJECTED: int = lib.X509_V_ERR_CERT_REJECTED


class ClientCheck:
    """The demands of one host on the certificates of its clients, beyond the chain that OpenSSL verifies."""

    __slots__ = ("_allow", "_required", "wants_chain")

    def __init__(self, auth: ClientAuth) -> None:
        self._allow = auth.allow
        self.wants_chain = auth.chain
        self._required = auth.mode is ClientAuthMode.REQUIRE

    def objection(self, leaf: ClientLeaf) -> Fault | None:
        """Why a client is not let in, or None."""
        if self._allow and admitting(self._allow, leaf) is None:
            return Fault(Side.CLIENT, "client-certificate-not-allowed", detail=leaf.label, alert=Alert.BAD_CERTIFICATE)
        return None

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


class _UnderWay:
    """The call of a handshake that is under way: what is to be asked, and what came of it."""

    __slots__ = ("check", "fault", "leaf")

    def __init__(self) -> None:
        self.check: ClientCheck | None = None
        self.fault: Fault | None = None
        self.leaf: ClientLeaf | None = None  # what was let in


UNDER_WAY = _UnderWay()


@ffi.callback("int(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
def verify_callback(ok: int, store: Any) -> int:
    """For `SSL_CTX_set_verify`."""
    check = UNDER_WAY.check
    if not ok or check is None:
        return 0
    if lib.X509_STORE_CTX_get_error_depth(store):
        return 1
    leaf = ClientLeaf(der(lib.X509_STORE_CTX_get0_cert(store), lib.i2d_X509_bio))
    try:
        fault = check.objection(leaf)
    except Exception as error:  # nothing catches it beyond
        fault = Fault(Side.EDGE, "internal-error", detail=f"{type(error).__name__}: {error}", alert=Alert.BAD_CERTIFICATE)
    if fault is None:
        UNDER_WAY.leaf = leaf
        return 1
    UNDER_WAY.fault = fault
    lib.X509_STORE_CTX_set_error(store, _REJECTED)
    return 0


def leaf_of(ssl: Any) -> ClientLeaf | None:
    """The certificate that the peer showed, now or when the session began that was resumed."""
    certificate = lib.SSL_get_peer_certificate(ssl)
    if not certificate:
        return None
    out = ffi.new("unsigned char **")
    size = lib.i2d_X509_NAME(lib.X509_get_subject_name(certificate), out)
    name = subject(buffer(out[0], size)[:]) if size > 0 else ""
    lib.OPENSSL_free(out[0])
    leaf = ClientLeaf(der(certificate, lib.i2d_X509_bio), name)
    lib.X509_free(certificate)
    return leaf
