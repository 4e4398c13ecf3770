"""Faults: what went wrong, whose fault it is, and what each protocol says about it.

Every failure in the data path is one `Fault`. It assigns blame (`side`), names itself with a stable kebab-case word
(`kind`, the same in logs, metrics and the manual), says whether the request may be tried again (`retry`), and carries
what each protocol answers: an HTTP status, a TLS alert, an HTTP/2 error code. OpenSSL's and h2's own error strings
never leave the rooms that know those libraries; `detail` is for the log alone and is never sent to a client.
"""

from __future__ import annotations

import enum
from typing import Self

__all__ = ["Alert", "Fault", "H2Code", "MethodNotAllowed", "Retry", "Side"]


class Side(enum.StrEnum):
    """Who is to blame."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    EDGE = "edge"


class Retry(enum.StrEnum):
    """Whether the same request may be sent again on another connection."""

    NO = "no"
    YES = "yes"
    IF_REUSED = "if-reused"


class Alert(enum.IntEnum):
    """TLS alert descriptions that the gateway itself sends (RFC 8446 section 6, RFC 7301 section 3.2)."""

    NONE = -1
    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    CERTIFICATE_REVOKED = 44
    ILLEGAL_PARAMETER = 47
    DECODE_ERROR = 50
    PROTOCOL_VERSION = 70
    INTERNAL_ERROR = 80
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNRECOGNIZED_NAME = 112
    NO_APPLICATION_PROTOCOL = 120


class H2Code(enum.IntEnum):
    """HTTP/2 error codes (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Fault(Exception):
    """One failure, with its blame and its answers.

    `status` is the HTTP status for the client when an answer is still possible, 0 when the connection or stream can
    only be broken. `kind` is stable and kebab-case, for example ``bad-content-length``.
    """

    __slots__ = ("alert", "detail", "h2_code", "kind", "retry", "side", "status")

    def __init__(
        self,
        side: Side,
        kind: str,
        *,
        detail: str = "",
        retry: Retry = Retry.NO,
        status: int = 0,
        alert: Alert = Alert.NONE,
        h2_code: H2Code = H2Code.PROTOCOL_ERROR,
    ) -> None:
        super().__init__(kind)
        self.side = side
        self.kind = kind
        self.detail = detail
        self.retry = retry
        self.status = status
        self.alert = alert
        self.h2_code = h2_code

    def kept(self) -> Self:
        """This fault, without the frames that it was raised through: to be asked for by whoever keeps it beyond its ``except``.

        They hold what they worked on, input and all, and most of them can be reached from their own variables: a stranger's
        mistakes would be garbage that only the collector finds.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self

    def __str__(self) -> str:
        return f"{self.side}: {self.kind}" + (f" ({self.detail})" if self.detail else "")


class MethodNotAllowed(Fault):
    """A route has the path but not the method: 405, and `allow` is the value of the answer's Allow (RFC 9110 section 15.5.6)."""

    __slots__ = ("allow",)

    def __init__(self, allow: bytes) -> None:
        super().__init__(Side.CLIENT, "method-not-allowed", status=405)
        self.allow = allow
