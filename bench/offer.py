"""What a client of the bench offers in its hello, and the context that says so: the axes of every handshake measurement.

A row of a report is an `Offer`: one version, one group, what kind of certificate is wanted, full or resumed, with or
without a certificate of the client's own, with or without the wish for a staple. Certificates of servers are not verified: that
is the client's own work and would only make the client dearer. Resumption is never assumed: whoever measures looks at
`SSL_session_reused` of each handshake.

TLS 1.3 names signature algorithms apart from groups, TLS 1.2 chooses by cipher suite, and there the list of groups names
the curves of certificates as well: that is why P-256 stands behind every group of TLS 1.2.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from OpenSSL import SSL

from edge.tls.binding import SSL_SENT_AND_RECEIVED_SHUTDOWN, context_pointer, ffi, lib, string

__all__ = ["GROUPS", "VERSIONS", "Offer", "context", "group_name", "kept_session", "prepare", "staple_of"]

VERSIONS = ("1.3", "1.2")
GROUPS = ("X25519", "P-256", "X25519MLKEM768")

_SIGNATURES = {
    "ecdsa": b"ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384",
    "rsa": b"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pkcs1_sha256:rsa_pss_pss_sha256",
}
_SUITES = {
    "ecdsa": b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305",
    "rsa": b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305",
}
_FILETYPE_PEM = 1  # SSL_FILETYPE_PEM
_STATUS_TYPE_OCSP = 1  # TLSEXT_STATUSTYPE_ocsp


@dataclass(frozen=True, slots=True)
class Offer:
    """One row. `certificate` is "ecdsa", "rsa" or "" (the server's choice); `chain` and `key` are PEM files of the client's.

    With `request` each connection brings one, and every ticket is used once; with `early` as well it goes as early data.
    """

    version: str = "1.3"
    group: str = "X25519"
    certificate: str = ""
    resumed: bool = False
    staple: bool = False
    chain: str = ""
    key: str = ""
    request: bool = False
    early: bool = False

    @property
    def label(self) -> str:
        """The row's name: "TLS 1.3 full, X25519", "TLS 1.2 resumed, X25519, RSA, mutual"."""
        kind = "early data" if self.early else "resumed" if self.resumed else "full"
        parts = [f"TLS {self.version} {kind}", self.group]
        parts += [self.certificate.upper()] if self.certificate else []
        parts += ["mutual"] if self.chain else []
        parts += ["staple"] if self.staple else []
        parts += ["request"] if self.request and not self.early else []
        return ", ".join(parts)

    def full(self) -> Offer:
        """The same without resumption."""
        return replace(self, resumed=False)

    def facts(self) -> dict[str, Any]:
        """For JSON; `Offer(**facts)` gives it back."""
        return asdict(self)


def context(offer: Offer, alpn: tuple[bytes, ...] = (b"http/1.1",)) -> SSL.Context:
    """A client's context for `offer`. Raises ValueError for what this OpenSSL does not have, OSError for files it cannot read."""
    made = SSL.Context(SSL.TLS_METHOD)
    number = {"1.3": SSL.TLS1_3_VERSION, "1.2": SSL.TLS1_2_VERSION}.get(offer.version)
    if number is None:
        raise ValueError(f"there is no TLS version {offer.version} here (there are {', '.join(VERSIONS)})")
    made.set_min_proto_version(number)
    made.set_max_proto_version(number)
    made.set_verify(SSL.VERIFY_NONE)
    if alpn:
        made.set_alpn_protos(list(alpn))
    pointer = context_pointer(made)
    groups = offer.group if offer.version == "1.3" or offer.group == "P-256" else f"{offer.group}:P-256"
    if lib.SSL_CTX_set1_curves_list(pointer, groups.encode()) != 1:
        lib.ERR_clear_error()
        raise ValueError(f"this OpenSSL has no group {offer.group}")
    if offer.certificate:
        if offer.certificate not in _SIGNATURES:
            raise ValueError(f"no such kind of certificate: {offer.certificate} (there are {', '.join(_SIGNATURES)})")
        lib.SSL_CTX_set1_sigalgs_list(pointer, _SIGNATURES[offer.certificate])
        if offer.version == "1.2":
            made.set_cipher_list(_SUITES[offer.certificate])
    if offer.chain:
        for path in (offer.chain, offer.key):
            os.stat(path)
        if (
            lib.SSL_CTX_use_certificate_chain_file(pointer, offer.chain.encode()) != 1
            or lib.SSL_CTX_use_PrivateKey_file(pointer, offer.key.encode(), _FILETYPE_PEM) != 1
        ):
            lib.ERR_clear_error()
            raise ValueError(f"{offer.chain} and {offer.key} are no certificate with its key")
    return made


def prepare(ssl: Any, offer: Offer, name: str, session: Any = None) -> None:
    """Make a new `SSL *` a client of `name` (an address has no SNI) that resumes `session`, if any."""
    lib.SSL_set_connect_state(ssl)
    if name:
        lib.SSL_set_tlsext_host_name(ssl, name.encode())
    if offer.staple:
        lib.SSL_set_tlsext_status_type(ssl, _STATUS_TYPE_OCSP)
    if session is not None:
        lib.SSL_set_session(ssl, session)


def kept_session(ssl: Any) -> Any:
    """The session of a connection, as something that frees itself; None when there is none.

    The connection is marked shut down, because one that is freed otherwise makes its session unusable.
    """
    lib.SSL_set_shutdown(ssl, SSL_SENT_AND_RECEIVED_SHUTDOWN)
    session = lib.SSL_get1_session(ssl)
    return ffi.gc(session, lib.SSL_SESSION_free) if session else None


def staple_of(ssl: Any) -> bytes:
    """The OCSP response that the server showed, in DER; empty when it showed none."""
    response = ffi.new("const unsigned char **")
    length = lib.SSL_get_tlsext_status_ocsp_resp(ssl, response)
    return bytes(ffi.buffer(response[0], length)) if length > 0 else b""


def group_name(ssl: Any) -> str:
    """The group of the key exchange as OpenSSL calls it, or ""."""
    return string(lib.SSL_get0_group_name(ssl))
