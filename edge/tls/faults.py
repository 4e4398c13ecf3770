"""What OpenSSL's errors mean: from its reason numbers to the gateway's own words.

OpenSSL's strings are for people and change between releases; its reason numbers are part of its ABI. They end in this
module: outside of it there are only Faults, whose kinds are stable, and whose `detail` quotes OpenSSL for the log.
A reason of 1000 and more is an alert that the peer sent (RFC 8446 section 6).

The kinds of a server engine blame the client (``no-common-cipher``, ``client-certificate-expired``, …); those of a client
engine blame the upstream, answer 502, and are called ``upstream-`` and the same.
"""

from __future__ import annotations

from typing import Any

from edge.errors import Alert, Fault, Side
from edge.tls.binding import SSL_AD_REASON_OFFSET, lib, reasons, string

__all__ = ["ALERTS", "REASONS", "handshake_fault"]

ALERTS = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
    42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
    46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
    51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
    86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
    110: "unsupported_extension", 112: "unrecognized_name", 113: "bad_certificate_status_response",
    115: "unknown_psk_identity", 116: "certificate_required",
    120: "no_application_protocol",
}  # fmt: skip

_VERIFY_FAILED = 134
REASONS: dict[int, tuple[str, Alert, str]] = {
    # number: (our kind, the alert that OpenSSL sent, OpenSSL's own words, which a test compares)
    101: ("no-common-group", Alert.HANDSHAKE_FAILURE, "no suitable key share"),
    118: ("no-common-signature", Alert.HANDSHAKE_FAILURE, "no suitable signature algorithm"),
    123: ("bad-signature", Alert.NONE, "bad signature"),
    132: ("key-update-flood", Alert.NONE, "too many key updates"),
    156: ("not-tls", Alert.NONE, "http request"),
    191: ("no-common-version", Alert.PROTOCOL_VERSION, "no protocols available"),
    193: ("no-common-cipher", Alert.HANDSHAKE_FAILURE, "no shared cipher"),
    199: ("certificate-missing", Alert.NONE, "peer did not return a certificate"),
    226: ("staple-missing", Alert.INTERNAL_ERROR, "clienthello tlsext"),  # our callback refused (`edge.tls.staples`)
    235: ("no-common-protocol", Alert.NO_APPLICATION_PROTOCOL, "no application protocol"),
    244: ("wrong-message", Alert.UNEXPECTED_MESSAGE, "unexpected message"),
    245: ("wrong-message", Alert.UNEXPECTED_MESSAGE, "unexpected record"),
    258: ("no-common-version", Alert.PROTOCOL_VERSION, "unsupported protocol"),
    266: ("no-common-version", Alert.PROTOCOL_VERSION, "wrong ssl version"),
    267: ("not-tls", Alert.PROTOCOL_VERSION, "wrong version number"),
    281: ("bad-record", Alert.NONE, "decryption failed or bad record mac"),
    294: ("cut-short", Alert.NONE, "unexpected eof while reading"),
    295: ("no-common-group", Alert.HANDSHAKE_FAILURE, "no suitable groups"),
    298: ("empty-records", Alert.NONE, "record too small"),
    373: ("fallback-refused", Alert.NONE, "inappropriate fallback"),
    376: ("no-common-signature", Alert.HANDSHAKE_FAILURE, "no shared signature algorithms"),
    396: ("no-common-version", Alert.PROTOCOL_VERSION, "version too low"),
    409: ("alert-flood", Alert.NONE, "too many warn alerts"),
    410: ("no-common-group", Alert.HANDSHAKE_FAILURE, "no shared groups"),
}

_VERIFY = {  # X509_V_ERR_…: what is wrong with the peer's certificate
    2: "unknown-ca", 18: "unknown-ca", 19: "unknown-ca", 20: "unknown-ca", 21: "unknown-ca",
    9: "not-yet-valid", 10: "expired", 22: "chain-too-long", 23: "revoked", 26: "wrong-purpose",
    62: "wrong-name", 64: "wrong-name",
}  # fmt: skip


def handshake_fault(ssl: Any, side: Side) -> Fault:
    """Empty the error queue into one Fault. `side` is the peer's.

    Its `alert` is for the log: OpenSSL has written the alert itself, and the engine's `drain` gives it.
    """
    reason, words = reasons()
    upstream = side is Side.UPSTREAM
    alert = Alert.NONE
    if not words and ssl and lib.SSL_get_shutdown(ssl) & lib.SSL_RECEIVED_SHUTDOWN:
        return Fault(side, f"{side}-closed", detail="a goodbye in the handshake", status=502 if upstream else 0)
    if reason == _VERIFY_FAILED:
        result = lib.SSL_get_verify_result(ssl)
        words = string(lib.X509_verify_cert_error_string(result))
        kind = "certificate-" + _VERIFY.get(result, "invalid")
    elif reason >= SSL_AD_REASON_OFFSET:
        name = ALERTS.get(reason - SSL_AD_REASON_OFFSET, str(reason - SSL_AD_REASON_OFFSET))
        kind, words = f"alert-from-{side}", name
    else:
        kind, alert, _ = REASONS.get(reason, ("tls-error", Alert.NONE, ""))
        if kind == "staple-missing":
            return Fault(Side.EDGE, kind, alert=alert)
    if upstream:
        kind = kind if kind.startswith("alert-") else f"upstream-{kind}"
        return Fault(side, kind, detail=words, status=502)
    if kind.startswith("certificate-"):
        kind = f"client-{kind}"
    return Fault(side, kind, detail=words, alert=alert)
