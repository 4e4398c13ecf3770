"""From what happened on a connection to the records that the log writes.

Times of the loop's clock become POSIX times by an offset that is taken anew with each date (once a second), so a
line's time follows the machine's clock while durations never jump.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edge.errors import Fault
from edge.http.message import ConnectionInfo
from edge.net.tell import Failures
from edge.observe.access import AccessRecord, HandshakeFailure

if TYPE_CHECKING:
    from edge.net.hub import Hub
    from edge.observe.log import Log
    from edge.relay.exchange import Exchange
    from edge.wire.hello import ClientHello

__all__ = ["Journal"]

_BATCH = 64
_VERSIONS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}


class Journal:
    __slots__ = ("_hub", "_log", "_pending", "failures")

    def __init__(self, hub: Hub, log: Log) -> None:
        self._hub = hub
        self._log = log
        self._pending: list[Exchange] = []  # over, but not written down yet
        self.failures = Failures()

    def use(self, log: Log) -> None:
        """Write to another log from now on."""
        self.flush()
        self._log = log

    def _record(self, conn: ConnectionInfo) -> AccessRecord:
        """The record of a connection's requests, with what is about the connection."""
        conn.record = record = AccessRecord()
        record.peer = conn.peer
        record.peer_port = conn.peer_port
        record.listener = conn.listener.name
        if conn.secure:
            record.sni = conn.sni
            record.tls_version = conn.tls_version
            record.suite = conn.suite
            record.group = conn.group
            record.resumed = conn.resumed
            record.alpn = conn.alpn
            record.ja4 = conn.ja4
            record.client_subject = conn.client_subject
        return record

    def exchange(self, exchange: Exchange) -> None:
        """One request is over, however it ended. Its line is made in a batch: that costs half, the code stays cached."""
        exchange.ended_at = self._hub.now
        self._pending.append(exchange)
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the log."""
        pending, self._pending = self._pending, []
        for exchange in pending:
            self._write(exchange)

    def _write(self, exchange: Exchange) -> None:
        head, conn, started = exchange.head, exchange.conn, exchange.started
        record = conn.record
        if not isinstance(record, AccessRecord):
            record = self._record(conn)
        record.time = started + self._hub.posix_offset()
        record.request_id = exchange.request_id
        record.method = head.method
        record.host = head.authority
        record.path = head.target
        record.protocol = _VERSIONS[head.version]
        record.status = exchange.status
        record.bytes_in = exchange.body_in
        record.bytes_out = exchange.body_out
        record.upstream = exchange.endpoint.endpoint.url if exchange.endpoint is not None else ""
        record.route = exchange.plan.name if exchange.plan is not None else ""
        record.tries = exchange.tries
        decided, connected, first = exchange.decided_at, exchange.connected_at, exchange.first_byte_at
        record.t_decide_us = int((decided - started) * 1e6)
        record.t_connect_us = int((connected - decided) * 1e6) if connected else 0
        record.t_first_byte_us = int((first - connected) * 1e6) if first else 0
        record.t_total_us = int((exchange.ended_at - started) * 1e6)
        fault = exchange.fault
        if fault is None:
            record.fault = record.blame = record.detail = ""
        else:
            record.fault, record.blame, record.detail = fault.kind, fault.side, fault.detail
        if record.fields is not head.fields:
            record.fields = head.fields
            record.user_agent = record.referer = b""
            for name, value in head.fields:
                if name == b"user-agent":
                    record.user_agent = value
                elif name == b"referer":
                    record.referer = value
        self._log.access(record)

    def handshake_failed(self, conn: ConnectionInfo, hello: ClientHello | None, fault: Fault, stage: str, seconds: float) -> None:
        """A connection ended before it carried a request."""
        record = HandshakeFailure()
        record.time = time.time()
        record.peer = conn.peer
        record.peer_port = conn.peer_port
        record.listener = conn.listener.name
        if hello is not None:
            record.sni = hello.sni
            record.alpn = hello.alpn
            record.ja4 = hello.ja4()
        record.stage = stage
        record.kind = fault.kind
        record.blame = fault.side
        record.detail = fault.detail
        record.alert = fault.alert
        record.us = int(seconds * 1e6)
        self._log.failure(record)
        self.failures.add(record)

    def event(self, name: str, **fields: object) -> None:
        """Something happened to the gateway itself."""
        self._log.event(name, level=_LEVELS.get(name, "info"), **fields)


_LEVELS = {
    "accept-failed": "error",
    "internal-error": "error",
    "connection-refused": "warning",
    "protocol-error": "warning",
    "upstream-name-unresolved": "warning",
    "upstream-pin-mismatch": "error",
    "upstream-unwell": "warning",
}
