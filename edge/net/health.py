"""Active health checks: a GET to each endpoint, over a connection from its pool, on a timer.

A check is a request like any other to the upstream's connection, but nobody's exchange. Its verdict goes to the endpoint's state,
which the balancer reads; a change is one line in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import Fault
from edge.http.message import Fields, RequestHead, ResponseHead
from edge.net.timers import Timed
from edge.relay.context import Ticket
from edge.relay.ports import UpstreamConnection, UpstreamPort
from edge.settings.model import Health, Scheme
from edge.upstream.health import HealthCheck

if TYPE_CHECKING:
    from edge.net.endpoint import Place
    from edge.net.hub import Hub
    from edge.net.listener import Journal

__all__ = ["Checker"]


class Checker(Timed):
    """The checks of one endpoint. It waits for connections and receives responses as an exchange does."""

    conn = None  # no client's

    __slots__ = ("_check", "_health", "_hub", "_journal", "_place", "_port", "_running", "_status", "_ticket")

    def __init__(self, hub: Hub, place: Place, health: Health, journal: Journal) -> None:
        super().__init__(hub.wheel)
        self._hub = hub
        self._place = place
        self._health = health
        self._journal = journal
        self._check = HealthCheck(health, healthy=place.state.healthy)
        self._ticket: Ticket | None = None
        self._port: UpstreamPort | None = None
        self._running = False
        self._status = 0
        self.arm(hub.now)

    def on_deadline(self, now: float) -> None:
        if self._running:
            self._over(ok=False, detail="no answer in time")
        else:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._running = True
        self._status = 0
        self.arm(now + self._health.timeout)
        connection = self._place.take(fresh=False)
        if connection is None:
            self._ticket = self._place.queue(self)
        else:
            self.connection_ready(connection)

    def stop(self) -> None:
        """Check no more."""
        self._running = False
        self._leave()
        self.disarm()

    def _leave(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
        if self._port is not None:
            port, self._port = self._port, None
            port.cancel()

    def connection_ready(self, connection: UpstreamConnection) -> None:
        self._ticket = None
        endpoint = self._place.state.endpoint
        address = endpoint.address
        host = "localhost" if address.path else f"[{address.host}]" if ":" in address.host else address.host
        authority = host.encode() if not address.port else f"{host}:{address.port}".encode()
        scheme = b"https" if endpoint.scheme is Scheme.HTTPS else b"http"
        fields: Fields = [(b"user-agent", b"edge-health"), (b"accept", b"*/*")]
        request = RequestHead(b"GET", scheme, authority, self._health.path.encode(), fields)
        try:
            self._port = connection.open(self, request)
        except Fault as fault:
            self._over(ok=False, detail=str(fault))

    def connection_failed(self, fault: Fault) -> None:
        self._ticket = None
        self._over(ok=False, detail=str(fault))

    def response_informational(self, status: int, fields: Fields) -> None:
        pass

    def response_head(self, head: ResponseHead) -> None:
        self._status = head.status

    def response_data(self, data: bytes) -> None:
        if self._port is not None:
            self._port.credit(len(data))

    def response_end(self, trailers: Fields) -> None:
        self._port = None
        self._over(ok=HealthCheck.is_well(self._status), detail=f"status {self._status}")

    def upstream_writable(self) -> None:
        pass

    def upstream_failed(self, fault: Fault) -> None:
        self._port = None
        self._over(ok=False, detail=str(fault))

    def _over(self, *, ok: bool, detail: str) -> None:
        if not self._running:
            return
        self._running = False
        self._leave()
        if not ok:
            self._place.trouble = f"check: {detail}"
        state = self._place.state
        self._journal.checked(self._place.upstream, state.endpoint, ok)
        if self._check.record(ok):
            state.healthy = self._check.healthy
            name = "upstream-well" if ok else "upstream-unwell"
            self._journal.event(name, upstream=self._place.upstream.name, endpoint=state.endpoint.url, detail=detail)
        self.arm(self._hub.now + self._check.delay(self._hub.random.random()))
