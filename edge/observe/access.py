"""What the gateway writes down: one record for each request and one for each failed handshake.

Records are plain carriers with `__slots__`: the data path sets attributes, the log turns them into a line when the
exchange is over. Whatever a client or an upstream sent stands here as the bytes that came, and only `readable` turns
such bytes into text: what is not printable becomes an escape, so no sender can end a line, start another one, or
speak to a terminal.
"""

from __future__ import annotations

from edge.errors import Alert

__all__ = ["AccessRecord", "HandshakeFailure", "readable"]


def readable(value: bytes | str) -> str:
    """Text that is safe in any log: UTF-8 where it is UTF-8, ``\\xNN`` for every other byte and for control characters."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return text if text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class AccessRecord:
    """One request, from its first byte to the end of its answer. Times are microseconds, sizes are bytes of bodies.

    A connection's requests may use one record, one after the other: what is about the connection stays, with what the
    log made of it (`frame`). What the log made of all else but the times, the id and the fault is in `kept`: it is to be None
    when any of that changes.
    """

    __slots__ = (
        "alpn", "blame", "bytes_in", "bytes_out", "client_ip", "client_san", "client_serial", "client_subject", "detail",
        "early", "fault", "frame", "group", "head", "host", "ja4", "kept", "listener", "method", "path", "peer", "peer_port",
        "protocol", "referer", "request_id", "resumed", "route", "sni", "status", "suite", "t_connect_us", "t_decide_us",
        "t_first_byte_us", "t_total_us", "time", "tls_version", "tries", "upstream", "user_agent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.time = 0.0  # POSIX seconds of the request's first byte
        self.request_id: bytes | str = ""
        self.peer = ""
        self.peer_port = 0
        self.listener = ""
        self.client_ip = ""  # of the client for whom a trusted proxy, the peer, speaks; "": the peer itself
        self.sni: str | None = None
        self.tls_version = ""  # "" on plain listeners, as the next ones
        self.suite = ""
        self.group = ""
        self.resumed = False
        self.early = False  # answered before the handshake was confirmed
        self.alpn: bytes | str = b""
        self.ja4 = ""
        self.client_subject = ""  # "": no certificate, or one without a subject
        self.client_san = ""  # its first URI, else its first DNS name
        self.client_serial = ""  # in hexadecimal digits; "": no certificate
        self.method: bytes | str = b""
        self.host: bytes | str = b""  # the authority
        self.path: bytes | str = b""  # the target as it came, with its query
        self.protocol = ""  # "HTTP/1.1", "HTTP/2"
        self.status = 0  # 0: no answer was sent
        self.bytes_in = 0
        self.bytes_out = 0
        self.upstream = ""  # the endpoint's URL; "": answered by edge itself
        self.route = ""  # the path pattern
        self.tries = 0
        self.t_decide_us = 0  # until the upstream was chosen, or the answer
        self.t_connect_us = 0  # waiting for a connection to the upstream
        self.t_first_byte_us = 0  # until the response's head
        self.t_total_us = 0
        self.fault: str = ""  # kind
        self.blame: str = ""  # "client", "upstream" or "edge"
        self.detail = ""
        self.user_agent: bytes | str = b""
        self.referer: bytes | str = b""
        self.head: object = None  # of the request that stands here, for whoever fills the record again
        self.frame: tuple[bytes, bytes] | None = None  # JSON of what is about the connection, kept by the log
        self.kept: tuple[bytes, bytes] | None = None  # JSON of what stands before the times, and behind them


class HandshakeFailure:
    """One connection that never got as far as a request."""

    __slots__ = (
        "alert", "alpn", "blame", "detail", "ja4", "kind", "listener", "peer", "peer_port", "sni", "stage", "time",
        "us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.time = 0.0  # POSIX seconds
        self.peer = ""
        self.peer_port = 0
        self.listener = ""
        self.sni: str | None = None
        self.alpn: tuple[bytes, ...] = ()  # as offered
        self.ja4 = ""
        self.stage = ""  # "hello", "choose", "handshake"
        self.kind = ""
        self.blame: str = ""
        self.detail = ""
        self.alert: Alert = Alert.NONE  # what the peer was told
        self.us = 0  # since the connection was accepted
