"""Certificates and keys from memory into OpenSSL's contexts, and the certificates that one trusts.

A store's certificates are anchors, whether they are self-signed or not: who lists an intermediate CA means to trust
that one and not its whole root. Purposes and dates are checked all the same.

The operating system's store is read once per process, from where the distributions keep it, because the OpenSSL
inside the binding was built to look in a place that does not exist on this machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from edge.settings.model import Certificate, Trust
from edge.tls.binding import NULL, context_pointer, ffi, from_buffer, lib, reasons, string

__all__ = ["Store", "SYSTEM_PLACES", "TrustError", "store_of", "system_pem", "use_certificate"]

SYSTEM_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, the BSDs
    "/usr/local/etc/openssl@3/cert.pem",
)


class TrustError(ValueError):
    """A chain, a key or a store that OpenSSL does not take."""


def use_certificate(context: SSL.Context, certificate: Certificate) -> None:
    """Add a chain and its key. Contexts hold one of each key type, each with a chain of its own.

    The binding has no call that attaches a chain to one certificate of several except the one that reads a file; so
    the chain stands in a file that has no name. The key never leaves memory. Raises TrustError.
    """
    path, handle = _nameless(certificate.chain_pem)
    try:
        context.use_certificate_chain_file(path)
        _use_key(context, certificate.key_pem)
        context.check_privatekey()
    except SSL.Error as error:
        reasons()
        raise TrustError(f"certificate {certificate.name}: {error}") from None
    finally:
        os.close(handle)


def _use_key(context: SSL.Context, pem: bytes) -> None:
    """Like pyOpenSSL's `use_privatekey`, but from PEM in one step, at a third of the cost. Raises SSL.Error."""
    bio = lib.BIO_new_mem_buf(from_buffer(pem), len(pem))
    try:
        # the last argument is a passphrase: without one, OpenSSL would ask on the terminal for that of an encrypted key
        key = lib.PEM_read_bio_PrivateKey(bio, NULL, NULL, from_buffer(b"\0"))
    finally:
        lib.BIO_free(bio)
    if key == NULL:
        raise SSL.Error(reasons())
    try:
        if lib.SSL_CTX_use_PrivateKey(context_pointer(context), key) != 1:
            raise SSL.Error(reasons())
    finally:
        lib.EVP_PKEY_free(key)


def _nameless(data: bytes) -> tuple[str, int]:
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("chain", os.MFD_CLOEXEC)
        path = f"/proc/self/fd/{handle}"
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
        path = f"/dev/fd/{handle}"
    os.write(handle, data)
    os.lseek(handle, 0, os.SEEK_SET)
    return path, handle


def _certificates(pem: bytes) -> Iterator[Any]:
    """The `X509 *` of each certificate in `pem`; each is freed when the next one is asked for."""
    bio = lib.BIO_new_mem_buf(from_buffer(pem), len(pem))
    try:
        while certificate := lib.PEM_read_bio_X509(bio, NULL, NULL, NULL):
            yield certificate
            lib.X509_free(certificate)
    finally:
        lib.BIO_free(bio)
        reasons()  # "no start line" is how the end is said


class Store:
    """An `X509_STORE`, shared by the contexts that trust the same certificates."""

    __slots__ = ("pem", "pointer")

    def __init__(self, pem: bytes) -> None:
        self.pem = pem
        self.pointer: Any = ffi.gc(lib.X509_STORE_new(), lib.X509_STORE_free)
        count = 0
        for certificate in _certificates(pem):
            count += lib.X509_STORE_add_cert(self.pointer, certificate)
        if not count:
            raise TrustError("a trust store without a certificate")
        lib.X509_STORE_set_flags(self.pointer, lib.X509_V_FLAG_PARTIAL_CHAIN)

    def attach(self, context: Any) -> None:
        """Make it the store of an `SSL_CTX *`."""
        lib.X509_STORE_up_ref(self.pointer)
        lib.SSL_CTX_set_cert_store(context, self.pointer)

    def announce(self, context: Any) -> None:
        """Let a server's CertificateRequest name these CAs, so that clients can pick the certificate that fits."""
        for certificate in _certificates(self.pem):
            lib.SSL_CTX_add_client_CA(context, certificate)


@lru_cache(maxsize=1)
def system_pem() -> bytes:
    """The operating system's CA certificates. Raises TrustError when none of the known places has any."""
    places = (*SYSTEM_PLACES, string(lib.X509_get_default_cert_file()))
    for place in places:
        try:
            pem = Path(place).read_bytes()
        except OSError:
            continue
        if b"-----BEGIN CERTIFICATE-----" in pem:
            return pem
    raise TrustError(f"no system trust store found (looked for {', '.join(places)}); name a CA file in [trust.NAME]")


@lru_cache(maxsize=64)
def _store(ca_pem: bytes, system: bool) -> Store:
    return Store(ca_pem + b"\n" + system_pem() if system else ca_pem)


def store_of(trust: Trust) -> Store:
    """The store of a named trust, made once. Raises TrustError."""
    return _store(trust.ca_pem, trust.system)
