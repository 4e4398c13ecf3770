"""From what happened on a connection to the records that the log writes, and to the counters.

Requests are counted where their lines are made, a batch at a time.

Times of the loop's clock become POSIX times by an offset that is taken anew with each date (once a second), so a
line's time follows the machine's clock while durations never jump.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edge.errors import Fault
from edge.http.message import ConnectionInfo
from edge.net.tallies import EndpointTally, RouteTally
from edge.net.tell import Failures
from edge.observe.access import AccessRecord, HandshakeFailure
from edge.policy.forwarded import Prepared

if TYPE_CHECKING:
    from edge.net.hub import Hub
    from edge.observe.counters import Cell, Counters, Histogram
    from edge.observe.log import Log
    from edge.relay.exchange import Exchange
    from edge.relay.pipe import Pipe
    from edge.settings.model import Endpoint, Listener, Upstream
    from edge.tls.engine import TlsInfo
    from edge.wire.hello import ClientHello

__all__ = ["Journal"]

_BATCH = 64
_VERSIONS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}


class Journal:
    __slots__ = ("_counters", "_early", "_faults", "_handshakes", "_hub", "_log", "_nowhere", "_pending", "_tickets", "failures")

    def __init__(self, hub: Hub, log: Log, counters: Counters) -> None:
        self._hub = hub
        self._log = log
        self._counters = counters
        self._nowhere = RouteTally(counters, "")  # requests without a route
        self._faults: dict[tuple[str, str], Cell] = {}
        self._handshakes: dict[tuple[str, str, str, bool], tuple[Cell, Histogram]] = {}
        self._tickets: dict[tuple[str, str], Cell] = {}
        self._early: dict[tuple[str, str], Cell] = {}
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
            record.early = conn.early
            record.alpn = conn.alpn
            record.ja4 = conn.ja4
            leaf = conn.client
            if leaf is not None:
                record.client_subject = leaf.name
                record.client_san = leaf.label
                record.client_serial = leaf.serial
        return record

    def exchange(self, exchange: Exchange) -> None:
        """One request is over, however it ended. Its line is made in a batch: that costs half, the code stays cached."""
        exchange.ended_at = self._hub.now
        self._pending.append(exchange)
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the log, and count it: neighbours of the same route, endpoint, status and version together."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        offset = self._hub.posix_offset()
        like = pending[0]
        plan, endpoint, status, version = like.plan, like.endpoint, like.status, like.head.version
        number = body_in = body_out = 0
        times: list[float] = []
        waits: list[float] = []
        for exchange in pending:
            if (
                exchange.plan is not plan
                or exchange.endpoint is not endpoint
                or exchange.status != status
                or exchange.head.version != version
            ):
                self._add(like, number, times, waits, body_in, body_out)
                like = exchange
                plan, endpoint, status, version = like.plan, like.endpoint, like.status, like.head.version
                number = body_in = body_out = 0
                times.clear()
                waits.clear()
            number += 1
            body_in += exchange.body_in
            body_out += exchange.body_out
            self._write(exchange, offset, times, waits)
        self._add(like, number, times, waits, body_in, body_out)

    def _write(self, exchange: Exchange, offset: float, times: list[float], waits: list[float]) -> None:
        """Write one line. Its time goes to `times`, unless it is a tunnel's, and the upstream's to `waits`."""
        record = exchange.conn.record
        if not isinstance(record, AccessRecord):
            record = self._record(exchange.conn)
        plan, endpoint = exchange.plan, exchange.endpoint
        route = plan.name if plan is not None else ""
        upstream = endpoint.endpoint.url if endpoint is not None else ""
        if (
            exchange.head is not record.head
            or route is not record.route
            or upstream is not record.upstream
            or exchange.status != record.status
            or exchange.body_in != record.bytes_in
            or exchange.body_out != record.bytes_out
            or exchange.tries != record.tries
        ):
            _describe(record, exchange, route, upstream)
        started, decided, connected = exchange.started, exchange.decided_at, exchange.connected_at
        first, ended = exchange.first_byte_at, exchange.ended_at
        record.time = started + offset
        record.request_id = exchange.request_id
        record.t_decide_us = int((decided - started) * 1e6) if decided != started else 0
        record.t_connect_us = int((connected - decided) * 1e6) if connected and connected != decided else 0
        waited = 0
        if first:
            wait = first - connected
            waits.append(wait)
            waited = int(wait * 1e6)
        record.t_first_byte_us = waited
        record.t_total_us = waited if first == ended and connected == started else int((ended - started) * 1e6)
        if not exchange.head.protocol:  # a tunnel's time says nothing of anybody's speed
            times.append(ended - started)
        fault = exchange.fault
        if fault is not None:
            record.fault, record.blame, record.detail = fault.kind, fault.side, fault.detail
            self._count_fault(fault)
        elif record.fault:
            record.fault = record.blame = record.detail = ""
        self._log.access(record)

    def _add(self, like: Exchange, number: int, times: list[float], waits: list[float], body_in: int, body_out: int) -> None:
        """Add `number` requests that are like one."""
        plan, endpoint = like.plan, like.endpoint
        tally = self._nowhere if plan is None else plan.tally
        if not isinstance(tally, RouteTally):
            assert plan is not None
            plan.tally = tally = RouteTally(self._counters, plan.name)
        tally.add(number, like.head.version, like.status, times, body_in, body_out)
        if endpoint is not None:
            target = endpoint.tally
            if not isinstance(target, EndpointTally):
                assert like.forward is not None
                name = like.forward.terms.target.name
                endpoint.tally = target = EndpointTally(self._counters, name, endpoint.endpoint.url)
            target.add(number, like.status, waits)

    def _count_fault(self, fault: Fault) -> None:
        key = fault.kind, fault.side
        cell = self._faults.get(key)
        if cell is None:
            cell = self._faults[key] = self._counters.counter("edge_faults_total", *key)
        cell.add()

    def handshake_done(self, listener: Listener, info: TlsInfo, seconds: float) -> None:
        """A client's handshake is complete, `seconds` after its connection was accepted."""
        key = listener.name, info.version, info.group, info.resumed
        found = self._handshakes.get(key)
        if found is None:
            resumed = "yes" if info.resumed else "no"
            found = self._handshakes[key] = (
                self._counters.counter("edge_handshakes_total", listener.name, info.version, info.group, resumed),
                self._counters.histogram("edge_handshake_seconds", listener.name, resumed),
            )
        found[0].add()
        found[1].observe(seconds)

    def ticket_came(self, listener: Listener, result: str) -> None:
        """A client showed a ticket, and this became of it."""
        key = listener.name, result
        cell = self._tickets.get(key)
        if cell is None:
            cell = self._tickets[key] = self._counters.counter("edge_tickets_total", *key)
        cell.add()

    def early_data_came(self, listener: Listener, result: str) -> None:
        """A client offered early data, and this became of it."""
        key = listener.name, result
        cell = self._early.get(key)
        if cell is None:
            cell = self._early[key] = self._counters.counter("edge_early_data_total", *key)
        cell.add()

    def stream(self, pipe: Pipe) -> None:
        """A stream is over: one line for the whole of it."""
        conn = pipe.conn
        record = self._record(conn)
        record.time = pipe.started + self._hub.posix_offset()
        record.protocol = "TLS" if pipe.passthrough and conn.secure else "TCP"
        record.host = conn.sni or ""
        record.bytes_in, record.bytes_out = pipe.received, pipe.sent
        record.upstream = pipe.endpoint.endpoint.url if pipe.endpoint is not None else ""
        record.tries = pipe.tries
        record.t_connect_us = int((pipe.connected_at - pipe.started) * 1e6) if pipe.connected_at else 0
        record.t_total_us = int((pipe.ended_at - pipe.started) * 1e6)
        if pipe.fault is not None:
            record.fault, record.blame, record.detail = pipe.fault.kind, pipe.fault.side, pipe.fault.detail
        self._log.access(record)
        listener, mode = conn.listener.name, "passthrough" if pipe.passthrough else "tcp"
        counters = self._counters
        counters.counter("edge_streams_total", listener, mode, record.fault).add()
        counters.counter("edge_stream_bytes_total", listener, mode, "in").add(pipe.received)
        counters.counter("edge_stream_bytes_total", listener, mode, "out").add(pipe.sent)

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
        self._counters.counter("edge_handshake_failures_total", record.listener, fault.kind, fault.side, stage).add()

    def refused(self, listener: Listener, reason: str) -> None:
        """A connection was not taken."""
        self._counters.counter("edge_connections_refused_total", listener.name, reason).add()

    def protocol_error(self, conn: ConnectionInfo, fault: Fault) -> None:
        """A client broke the protocol in a way that no exchange can tell of."""
        self.event("protocol-error", peer=conn.peer, listener=conn.listener.name, fault=fault.kind, detail=fault.detail)
        self._count_fault(fault)

    def retried(self, upstream: Upstream) -> None:
        """A request is tried again."""
        self._counters.counter("edge_upstream_retries_total", upstream.name).add()

    def dialled(self, upstream: Upstream, endpoint: Endpoint, fault: Fault | None, version: str, *, resumed: bool) -> None:
        """A connection to an endpoint stands, with TLS of that `version` where there is TLS, or could not be had."""
        if fault is None:
            self._counters.counter("edge_upstream_connects_total", upstream.name, endpoint.url).add()
            if version:
                word = "yes" if resumed else "no"
                self._counters.counter("edge_upstream_handshakes_total", upstream.name, version, word).add()
        else:
            self._counters.counter("edge_upstream_connect_failures_total", upstream.name, endpoint.url, fault.kind).add()

    def unpinned(self, upstream: Upstream, mode: str) -> None:
        """An upstream's chain holds no pinned key."""
        self._counters.counter("edge_upstream_pin_mismatches_total", upstream.name, mode).add()

    def checked(self, upstream: Upstream, endpoint: Endpoint, ok: bool) -> None:
        """An active health check is over."""
        result = "ok" if ok else "failed"
        self._counters.counter("edge_upstream_checks_total", upstream.name, endpoint.url, result).add()

    def event(self, name: str, **fields: object) -> None:
        """Something happened to the gateway itself."""
        self._log.event(name, level=_LEVELS.get(name, "info"), **fields)


def _describe(record: AccessRecord, exchange: Exchange, route: str, upstream: str) -> None:
    """What about a request is not its time, its id or its fault: often the same for the next one."""
    head = exchange.head
    record.kept = None
    record.route = route
    record.upstream = upstream
    record.status = exchange.status
    record.bytes_in = exchange.body_in
    record.bytes_out = exchange.body_out
    record.tries = exchange.tries
    if record.head is head:
        return
    record.head = head
    record.method = head.method
    record.host = head.authority
    record.path = head.target
    record.protocol = _VERSIONS[head.version]
    prepared = exchange.conn.prepared
    record.client_ip = prepared.client_ip(head) if type(prepared) is Prepared else ""
    record.user_agent = record.referer = b""
    for name, value in head.fields:
        if name == b"user-agent":
            record.user_agent = value
        elif name == b"referer":
            record.referer = value


_LEVELS = {
    "accept-failed": "error",
    "internal-error": "error",
    "connection-refused": "warning",
    "handshakes-refused": "warning",
    "protocol-error": "warning",
    "upstream-name-unresolved": "warning",
    "upstream-pin-mismatch": "error",
    "upstream-unwell": "warning",
}
