"""One exchange: a request from a client, the answer from an upstream or from us, and the end of both.

Theory. An exchange stands between a client port and an upstream port (`edge.relay.ports`) and moves through its states:

    DECIDING → REPLYING ─────────────────────────────→ DONE
    DECIDING → CONNECTING → WAITING → RESPONDING ────→ DONE
                    ↑___________|  (another try)   ↘ TUNNEL → DONE

Two things end independently: the request (`request_done`) and the response (`response_done`). The exchange is over
when the response is done or broken; a request that is still coming then is cut off, by closing (HTTP/1.1) or
RST_STREAM(NO_ERROR) (HTTP/2).

Invariants
* Exactly one of these happens: a complete response, a broken one (`client.abort`), or the client went away. `finish`
  runs once, and with it the log.
* At most one upstream port at a time; a try is repeated only while no byte of the response has reached the client and
  nothing of a body was sent.

How bodies pass stands in `edge.relay.flow`, its deadlines in `edge.relay.timing`.
"""

from __future__ import annotations

from edge.errors import Fault, H2Code, Retry, Side
from edge.http.message import ConnectionInfo, RequestHead, ResponseHead
from edge.policy.phases import Drop, Wait
from edge.policy.reply import Reply, error_reply
from edge.relay.context import Context, Ticket
from edge.relay.flow import Flow
from edge.relay.front import Forward, Front, Plan, is_event_stream
from edge.relay.ports import NOBODY, ClientPort, UpstreamConnection
from edge.relay.timing import CONNECTING, DECIDING, DONE, REPLYING, RESPONDING, TUNNEL, WAITING
from edge.route.paths import Path
from edge.route.table import Match
from edge.upstream.balance import EndpointState

__all__ = ["Exchange"]

_NONE_TRIED: frozenset[EndpointState] = frozenset()


class Exchange(Flow):
    __slots__ = (
        "_client", "_clock", "_context", "_endpoints_tried", "_front", "_holding", "_resume_at", "_sent_head", "_streaming",
        "_ticket", "answer_id", "conn", "connected_at", "decided_at", "ended_at", "endpoint", "fault", "first_byte_at",
        "forward", "head", "host", "match", "path", "plan", "request_id", "started", "state", "status", "tries",
    )  # fmt: skip

    host: str  # known from the phase of authority on
    path: Path  # these two are known when a route was found and was not remembered with the whole verdict
    match: Match
    ended_at: float
    _resume_at: int
    _streaming: bool  # event stream, gRPC or tunnel: quiet times are normal; known with `forward`
    _sent_head: bool  # this try's connection got the request's head

    def __init__(self, context: Context, front: Front, conn: ConnectionInfo, client: ClientPort, head: RequestHead) -> None:
        self._clock = clock = context.clock
        now = clock.now
        self._context = context
        self._front = front
        self._client = client
        self.conn = conn
        self.head = head
        self.state = DECIDING
        self.request_done = head.end or bool(head.protocol)  # a tunnel's bytes are no body
        self.response_done = False
        self.started = now
        self.decided_at = now
        self.connected_at = 0.0
        self.first_byte_at = 0.0
        self.request_id = b""
        self.answer_id = b""  # written as X-Request-Id beside the response's fields
        self.plan: Plan | None = None
        self.status = 0
        self.tries = 0
        self.body_in = 0
        self.body_out = 0
        self.fault: Fault | None = None
        self.forward: Forward | None = None
        self.endpoint: EndpointState | None = None
        self.upstream = None
        self._endpoints_tried: frozenset[EndpointState] = _NONE_TRIED
        self._ticket: Ticket | None = None
        self._held = None
        self._held_end = None
        self._holding = False  # counted among the endpoint's active exchanges
        self._sent_body = False
        self._progress = self._upload_since = now
        self._uncredited_up = 0
        self._uncredited_down = 0
        self._unsent = -1
        self._half = False

    # --- deciding ---

    def start(self, at: int = 0, *, late: bool = False) -> None:
        """Decide, from phase `at` on, and answer or forward. The port may be called before this returns.

        `late`: some of the body may have come already.
        """
        try:
            verdict = self._front.decide(self, at)
            if late and type(verdict) is Forward:
                self._limit_body(verdict.terms.limits.request_body)
        except Fault as fault:
            self.refuse(fault)
            return
        if type(verdict) is Forward:
            self.forward = verdict
            self._streaming = verdict.grpc
            self._try(None)
        elif isinstance(verdict, Wait):
            self._resume_at = verdict.resume_at
        elif isinstance(verdict, Reply):
            self._reply(verdict)
        elif isinstance(verdict, Drop):
            self._abort(verdict.fault)

    def confirmed(self, front: Front, conn: ConnectionInfo) -> None:
        """The handshake that it waited for is over: decide as for a request that has just come. In a turn of its own."""
        self._front = front
        self.conn = conn
        if self.state == DECIDING:
            self.decided_at = self._clock.now
            self.start(late=True)

    def resumed(self) -> None:
        """What a phase waited for is there: decide on. To be called by who promised the answer, in a turn of its own."""
        if self.state == DECIDING:
            self.decided_at = self._clock.now
            self.start(self._resume_at)

    def _limit_body(self, limit: int | None) -> None:
        if limit is not None and self.body_in > limit:
            raise Fault(Side.CLIENT, "body-too-large", detail=f"more than {limit} bytes", status=413)
        if not self.request_done:
            self._client.limit_body(limit)

    def refuse(self, fault: Fault) -> None:
        """Answer a request with an error of ours, if an answer is still possible; else break it."""
        self.fault = fault.kept()
        if not fault.status or (self.state >= RESPONDING and not self._retracted()):
            self._abort(fault)
            return
        self._leave_upstream()
        if not self.request_id:  # a request that could not be read
            self.request_id = self._context.new_request_id()
        self._reply(error_reply(fault, self.head, self.request_id))

    def _retracted(self) -> bool:
        """Whether the response that has begun could be taken back, because nothing of it has been sent."""
        if self.state != RESPONDING or self.response_done or not self._client.retract():
            return False
        self.answer_id = b""
        self.body_out = 0
        return True

    def _reply(self, reply: Reply) -> None:
        self.state = REPLYING
        self.status = reply.status
        client = self._client
        fields = self._front.reply_fields(reply, self)
        body = reply.body
        if self.head.method != b"HEAD":
            self.body_out = len(body)
        client.head(reply.status, fields, len(body), True, not self.request_done, body)
        self.response_done = True
        self.finish()

    # --- to the upstream ---

    def _try(self, failed: Fault | None) -> None:
        """Send the request to an endpoint; `failed` is what the last try came to."""
        forward = self.forward
        assert forward is not None
        source = forward.terms.source
        endpoint = source.pick(self._endpoints_tried, failed is None)
        if endpoint is None:
            self.refuse(failed or Fault(Side.UPSTREAM, "no-endpoint", detail=forward.terms.target.name, status=503))
            return
        self.tries += 1
        self.state = CONNECTING
        self._sent_head = False
        self.endpoint = endpoint
        endpoint.active += 1
        self._holding = True
        connection = source.take(endpoint, failed is not None and failed.retry is Retry.IF_REUSED)
        if connection is None:
            self._ticket = source.queue(endpoint, self)
        else:
            self._send(connection, forward)

    def connection_ready(self, connection: UpstreamConnection) -> None:
        """A connection for this exchange is open."""
        forward = self.forward
        assert forward is not None
        self._ticket = None
        self._send(connection, forward)

    def _send(self, connection: UpstreamConnection, forward: Forward) -> None:
        now = self._clock.now
        self.connected_at = now
        self.state = WAITING
        try:
            self.upstream = connection.open(self, forward.request, self.request_id if forward.own_id else b"")
        except Fault as fault:
            self.upstream_failed(fault)
            return
        self._sent_head = True
        self._progress = self._upload_since = now
        if not self.request_done or self._held_end is not None:
            self._begin_body()
            if self.state == DONE:
                return
        self._client.arm(now + forward.terms.patience)

    def _begin_body(self) -> None:
        if self._held is not None or self._held_end is not None:
            self._send_held()
            return
        if self.head.expect_continue:
            self._client.continue_100()
        self._client.resume()

    def _send_held(self) -> None:
        """Body bytes that came before there was a connection; the windows bound them."""
        held, self._held = self._held, None
        for data in held or ():
            self._pass_on(data)
        if self._held_end is not None:
            trailers, self._held_end = self._held_end, None
            self.request_end(trailers)

    def connection_failed(self, fault: Fault) -> None:
        """No connection could be had; nothing was sent."""
        self._ticket = None
        self.upstream_failed(fault)

    def upstream_failed(self, fault: Fault) -> None:
        self.upstream = None
        if self.state == DONE:
            return
        forward = self.forward
        assert forward is not None
        fault.kept()
        if self.state < RESPONDING and self._context.may_retry(
            self, forward.terms.target, fault, sent=self._sent_head, body_gone=self._sent_body
        ):
            if self.endpoint is not None and not self._sent_head:
                self._endpoints_tried |= {self.endpoint}  # it cannot be reached; a request refused may go there again
            self._leave_endpoint()
            self._try(fault)
            return
        self.refuse(fault)

    def _leave_upstream(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.cancel()

    def _leave_endpoint(self) -> None:
        if self._holding and self.endpoint is not None:
            self._holding = False
            self.endpoint.active -= 1

    # --- from the client ---

    def request_broken(self, fault: Fault) -> None:
        """The rest of the request cannot be had or is not acceptable, but an answer can be given (400, 408, 413)."""
        if self.state != DONE:
            self.refuse(fault)

    def client_lost(self, fault: Fault) -> None:
        """The client is gone or has reset its stream: cancel the work."""
        if self.state == DONE:
            return
        self.fault = fault.kept()
        if not self.status:
            self.status = 499
        self._leave_upstream()
        self.finish()

    # --- from the upstream ---

    def response_head(self, head: ResponseHead) -> None:
        now = self._clock.now
        self.first_byte_at = self._progress = now
        self.status = status = head.status
        fields, own_id = self._front.response_fields(head, self)
        self.answer_id = self.request_id if own_id else b""
        if status == 101:
            self.state = TUNNEL
            self._streaming = True
            self._client.tunnel(fields)
            return
        if self.head.protocol and self.head.version == 20 and status < 300:
            # RFC 8441 section 4: 2xx would tell the client that the tunnel stands
            self.refuse(Fault(Side.UPSTREAM, "upgrade-refused", detail=f"status {status}", status=502))
            return
        end, body = head.end, head.body
        if not end and is_event_stream(head):
            self._streaming = True
        self.state = RESPONDING
        self.body_out = len(body)
        close = end and not self.request_done  # nobody reads the rest of the request
        self._client.head(status, fields, head.content_length, end, close, body)
        self.response_done = end

    # --- the end ---

    def _abort(self, fault: Fault) -> None:
        """Break the response: it cannot be made whole."""
        if self.state == DONE:
            return
        self.fault = fault.kept()
        self._leave_upstream()
        if not self.response_done:
            if fault.side is not Side.CLIENT:
                fault.h2_code = H2Code.INTERNAL_ERROR
            self._client.abort(fault)
        self.finish()

    def finish(self) -> None:
        if self.state == DONE:
            return
        self.state = DONE
        if self._ticket is not None or self.upstream is not None:
            self._leave_upstream()
        if self._holding and self.endpoint is not None:
            self.endpoint.active -= 1
        log = self._context.log
        log(self)
        client, self._client = self._client, NOBODY
        client.finished()
