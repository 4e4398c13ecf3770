"""The one place that names what the gateway uses of the OpenSSL binding.

pyOpenSSL's `SSL.Connection` costs about 70 microseconds more per handshake than the functions under it, so the engines
call those directly. They are no public interface: a later release of cryptography may rename or drop one. Each is
therefore named here and looked up at import. What is missing is reported all at once, at start-up, in a sentence that
says which versions are installed, and never as an AttributeError under load.

Nothing else in the project may import `OpenSSL._util`. The functions are typed `Any`: cffi knows no better.

Invariant of this room: the thread's OpenSSL error queue is empty between calls. Whoever makes a call that can fail
empties the queue (`reasons`), because `SSL_get_error` would blame the next connection for what it finds there.
"""

from __future__ import annotations

from typing import Any

import cryptography
import OpenSSL
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

__all__ = [
    "BUFFER", "BUFFER_SIZE", "CHUNK", "NULL", "SSL_AD_REASON_OFFSET", "SSL_MODE_NO_AUTO_CHAIN", "SSL_OP_NO_ANTI_REPLAY",
    "SSL_OP_PRIORITIZE_CHACHA", "SSL_READ_EARLY_DATA_FINISH", "SSL_READ_EARLY_DATA_SUCCESS", "SSL_SENT_AND_RECEIVED_SHUTDOWN",
    "BindingError", "buffer", "check", "context_pointer", "ffi", "from_buffer", "lib", "missing", "new_bio", "reasons", "string",
]  # fmt: skip

CHUNK = 16_384
"""Bytes that go into a memory BIO before it is drained: BIOs never shrink, and a record's plaintext is as long as this."""

BUFFER_SIZE = 320 * 1024
"""Bytes of the buffer that all engines share: 256 KiB of plaintext, with the overhead of its records and room for one more."""

# Constants of OpenSSL's public headers that the binding does not name; part of its stable ABI.
SSL_OP_PRIORITIZE_CHACHA = 1 << 21
SSL_MODE_NO_AUTO_CHAIN = 8
SSL_OP_NO_ANTI_REPLAY = 1 << 24
SSL_READ_EARLY_DATA_SUCCESS = 1
SSL_READ_EARLY_DATA_FINISH = 2
SSL_SENT_AND_RECEIVED_SHUTDOWN = 3
SSL_AD_REASON_OFFSET = 1000

_FUNCTIONS = (
    "BIO_free", "BIO_get_mem_data", "BIO_new", "BIO_new_mem_buf", "BIO_read", "BIO_s_mem", "BIO_write", "ERR_GET_REASON",
    "ERR_clear_error", "ERR_get_error", "EVP_PKEY_free", "EVP_get_digestbyname",
    "OPENSSL_free", "OPENSSL_malloc", "ERR_reason_error_string",
    "PEM_read_bio_PrivateKey", "PEM_read_bio_X509", "SSL_CIPHER_get_name",
    "SSL_CTX_add_client_CA", "SSL_CTX_set1_curves_list", "SSL_CTX_set1_sigalgs_list", "SSL_CTX_set_alpn_protos",
    "SSL_CTX_set_alpn_select_cb", "SSL_CTX_set_cert_store", "SSL_CTX_set_cipher_list", "SSL_CTX_set_default_passwd_cb",
    "SSL_CTX_set_max_early_data",
    "SSL_CTX_set_tlsext_status_arg", "SSL_CTX_set_tlsext_status_cb",
    "SSL_CTX_set_verify", "SSL_CTX_use_PrivateKey", "SSL_SESSION_free", "SSL_do_handshake",
    "SSL_free",
    "SSL_get0_alpn_selected", "SSL_get0_group_name", "SSL_get0_param", "SSL_get0_verified_chain",
    "SSL_get1_session", "SSL_get_certificate", "SSL_get_current_cipher",
    "SSL_get_error", "SSL_get_peer_cert_chain", "SSL_get_peer_certificate", "SSL_get_servername", "SSL_get_verify_result",
    "SSL_new", "SSL_read", "SSL_read_early_data", "SSL_session_reused", "SSL_set_accept_state", "SSL_set_bio",
    "SSL_set_connect_state",
    "SSL_get_shutdown", "SSL_set_info_callback", "SSL_set_session", "SSL_set_shutdown", "SSL_set_tlsext_host_name",
    "SSL_set_tlsext_status_ocsp_resp", "SSL_shutdown",
    "SSL_version", "SSL_write", "SSL_write_early_data", "X509_STORE_CTX_get0_cert", "X509_STORE_CTX_get1_chain",
    "X509_STORE_CTX_get_current_cert",
    "X509_STORE_CTX_get_error_depth", "X509_STORE_CTX_set_error",
    "X509_STORE_add_cert", "X509_STORE_free", "X509_STORE_new", "X509_STORE_set_flags",
    "X509_STORE_up_ref", "X509_VERIFY_PARAM_set1_host", "X509_VERIFY_PARAM_set1_ip", "X509_VERIFY_PARAM_set_hostflags",
    "X509_digest", "X509_free", "X509_get_pubkey", "X509_get_subject_name", "X509_get_default_cert_file",
    "X509_verify_cert", "X509_verify_cert_error_string",
    "i2d_PUBKEY_bio", "i2d_X509_NAME", "i2d_X509_bio", "sk_X509_free", "sk_X509_num", "sk_X509_value",
)  # fmt: skip
_CONSTANTS = (
    "SSL_CB_EXIT", "SSL_ERROR_SYSCALL", "SSL_ERROR_WANT_READ", "SSL_ERROR_ZERO_RETURN", "SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER",
    "SSL_MODE_ENABLE_PARTIAL_WRITE", "SSL_MODE_RELEASE_BUFFERS", "SSL_OP_CIPHER_SERVER_PREFERENCE",
    "SSL_OP_NO_COMPRESSION", "SSL_OP_NO_RENEGOTIATION", "SSL_OP_NO_TICKET", "SSL_RECEIVED_SHUTDOWN", "SSL_TLSEXT_ERR_ALERT_FATAL",
    "SSL_TLSEXT_ERR_NOACK",
    "SSL_TLSEXT_ERR_OK", "SSL_VERIFY_FAIL_IF_NO_PEER_CERT", "SSL_VERIFY_PEER", "TLS1_2_VERSION", "TLS1_3_VERSION",
    "TLSEXT_NAMETYPE_host_name", "X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS", "X509_V_ERR_CERT_REJECTED", "X509_V_ERR_CERT_REVOKED",
    "X509_V_FLAG_PARTIAL_CHAIN",
)  # fmt: skip


class BindingError(ImportError):
    """The installed binding lacks something that the engines call."""


def missing(binding: Any) -> list[str]:
    """The names that `binding` does not offer; empty when all is well."""
    return [name for name in (*_FUNCTIONS, *_CONSTANTS) if not hasattr(binding, name)]


def check(binding: Any) -> None:
    """Raise `BindingError` unless `binding` offers everything that this room uses."""
    absent = missing(binding)
    if absent:
        raise BindingError(
            f"this version of edge cannot drive the installed TLS library: cryptography {cryptography.__version__} with "
            f"pyOpenSSL {OpenSSL.__version__} lacks {', '.join(absent)}; install the versions that edge was released with"
        )


check(lib)

NULL: Any = ffi.NULL
buffer: Any = ffi.buffer
from_buffer: Any = ffi.from_buffer

BUFFER: Any = ffi.new("char[]", BUFFER_SIZE)
"""The one buffer of this thread: filled and emptied within one call of an engine, never across two."""

_MEMORY: Any = lib.BIO_s_mem()


def new_bio() -> Any:
    """An empty memory BIO."""
    return lib.BIO_new(_MEMORY)


def context_pointer(context: SSL.Context) -> Any:
    """The `SSL_CTX *` of a pyOpenSSL context. It lives as long as `context` does."""
    return context._context


def string(pointer: Any) -> str:
    """A C string that OpenSSL owns, or ``""`` for NULL."""
    return ffi.string(pointer).decode("latin-1") if pointer else ""


_LIBRARY_BIT = 23  # ERR_LIB_OFFSET
_SSL_LIBRARY = 20  # ERR_LIB_SSL
_COMMON = 1 << 18  # ERR_RFLAGS_OFFSET: flags of reasons, which those of TLS do not have


def reasons() -> tuple[int, str]:
    """Empty the error queue. The reason number of the first error that is one of TLS (0: none), and all reasons in words.

    Each part of OpenSSL numbers its reasons by itself, beside those that all have in common ("asn1 lib": some other part failed);
    errors of its cryptography come before what they mean for TLS.
    """
    first = 0
    words: list[str] = []
    while code := lib.ERR_get_error():
        reason = lib.ERR_GET_REASON(code)
        if not first and code >> _LIBRARY_BIT & 0xFF == _SSL_LIBRARY and reason < _COMMON:
            first = reason
        words.append(string(lib.ERR_reason_error_string(code)) or f"error {code:#x}")
    return first, "; ".join(dict.fromkeys(words))
