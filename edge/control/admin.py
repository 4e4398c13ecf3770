"""The admin listener: an HTTP server for operators, probes and Prometheus, in the controller.

It stands where a stranger may reach it, so everything has a bound: connections (the one that has waited longest makes room), the
head, the body, and the time for each. Every request is judged before its body is read (`edge.control.access`). The body of an
answer never holds a key or a token; answers are never cached, framed or read by other origins.

aiohttp's parser and connection do HTTP; its application layer is not needed for six paths.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from edge.control.access import Allowed, Asked, Refused, judge
from edge.control.answers import PATHS, Answer, Endpoint, refusal
from edge.control.plane import Plane
from edge.settings.model import Address

__all__ = ["AdminServer"]

_MOST_CONNECTIONS = 64
_MOST_BODY = 16 * 1024  # bytes
_MOST_LINE = 4096  # bytes of the request line, and of one field
_MOST_FIELDS = 64
_BODY_TIMEOUT = 5.0  # seconds
_KEEPALIVE = 30.0  # seconds for a head to come, from the connection's start or the last answer's end
_STALLED = 90.0  # seconds after which a client that does not take its answer is given up
_LOOK = 5.0  # seconds
_REFUSAL_INTERVAL = 10.0  # seconds between two events about refused requests
_HEADERS = {
    "Server": "edge",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class _Connection(RequestHandler):
    """One client, and since when nothing has come from it."""

    __slots__ = ("_places", "busy", "since")

    def __init__(self, places: _Places, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._places = places
        self.since = time.monotonic()
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._places.take(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._places.give_back(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """End at once."""
        self._places.give_back(self)
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """The answer to what is no HTTP request."""
        del request, exc, message
        return _response(refusal(Refused(status, "bad-request", "this is no HTTP request that is understood here")))


class _Places:
    """The connections, at most `_MOST_CONNECTIONS`."""

    def __init__(self) -> None:
        self._taken: dict[_Connection, None] = {}

    def take(self, connection: _Connection) -> None:
        """When all places are taken, the connection that has been quiet for longest makes room."""
        if len(self._taken) >= _MOST_CONNECTIONS:
            min(self._taken, key=lambda one: (one.busy, one.since)).abort()
        self._taken[connection] = None

    def give_back(self, connection: _Connection) -> None:
        """Idempotent."""
        self._taken.pop(connection, None)

    def look(self) -> None:
        """End what has stood still for too long."""
        late = time.monotonic() - _STALLED
        for connection in list(self._taken):
            if not connection.busy and connection.since < late:
                connection.abort()


class _Connections(web.Server):
    """Makes a `_Connection` for each client."""

    def __init__(self, places: _Places, handler: Any, **options: Any) -> None:
        super().__init__(handler, **options)
        self._places = places

    def __call__(self) -> _Connection:
        return _Connection(self._places, self, loop=self._loop, **self._kwargs)


class AdminServer:
    """Serves on sockets that the supervisor has bound. All methods are called on the loop."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._servers: list[asyncio.Server] = []
        self._refused = 0
        self._refused_at = float("-inf")
        self._places = _Places()
        self._connections = _Connections(
            self._places,
            self._handle,
            access_log=None,
            keepalive_timeout=_KEEPALIVE,
            max_line_size=_MOST_LINE,
            max_field_size=_MOST_LINE,
            max_headers=_MOST_FIELDS,
            lingering_time=0.0,
            auto_decompress=False,
            read_bufsize=_MOST_BODY,
        )
        self._look()

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on `sockets`, and no longer on those that were served before; open connections go on."""
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        self._servers = [await loop.create_server(self._connections, sock=sock) for sock in sockets]

    async def close(self) -> None:
        """Take no more connections, finish what is being answered, and end."""
        for server in self._servers:
            server.close()
        self._connections.pre_shutdown()
        await self._connections.shutdown(1.0)

    def _look(self) -> None:
        self._places.look()
        asyncio.get_running_loop().call_later(_LOOK, self._look)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.busy = True
        try:
            answer = await self._answer(request)
        except Exception as error:
            self._plane.log.event(
                "internal-error", level="error", where="admin listener", detail=f"{type(error).__name__}: {error}"
            )
            answer = refusal(Refused(500, "internal-error", "see the event log"))
        finally:
            connection.busy = False
            connection.since = time.monotonic()
        self._plane.log.flush()
        return _response(answer)

    async def _answer(self, request: BaseRequest) -> Answer:
        if not request.raw_path.startswith("/"):  # RFC 9112 section 3.2.2: its authority would count, and `Host` not
            return refusal(Refused(400, "bad-request", "the target of a request is a path here"))
        path = request.rel_url.raw_path
        endpoint = PATHS.get(path)
        settings = self._plane.settings.admin
        verdict = judge(_asked(request, endpoint, settings.addresses), settings)
        if isinstance(verdict, Refused):
            self._note(request, path, verdict)
            return refusal(verdict)
        if endpoint is None:
            return refusal(Refused(404, "not-found", f"there is: {', '.join(PATHS)}"))
        if request.method not in endpoint.methods:
            allow = {"Allow": ", ".join(endpoint.methods)}
            return refusal(Refused(405, "method-not-allowed", f"use {endpoint.methods[0]}"), allow)
        body = await _body(request) if request.method == "POST" else b""
        if isinstance(body, Refused):
            return refusal(body)
        return await endpoint.answer(self._plane, request.headers.get("Accept", ""), body, fully=verdict is Allowed.FULLY)

    def _note(self, request: BaseRequest, path: str, verdict: Refused) -> None:
        """Tell of refusals that an operator should know of, seldom enough that nobody can fill the log with them."""
        self._refused += 1
        now = time.monotonic()
        if now - self._refused_at < _REFUSAL_INTERVAL:
            return
        self._plane.log.event(
            "admin-refused",
            level="warning",
            peer=request.remote or "",
            path=path[:100],
            reason=verdict.error,
            count=self._refused,
        )
        self._refused, self._refused_at = 0, now


def _asked(request: BaseRequest, endpoint: Endpoint | None, addresses: Sequence[Address]) -> Asked:
    fields: dict[str, str] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        fields[lower] = f"{fields[lower]}, {value}" if lower in fields else value
    host = fields.get("host")
    if host is None and request.version >= (1, 1):
        host = ""
    own, peer = request.get_extra_info("sockname"), request.get_extra_info("peername")
    # a socket on all addresses tells the address that was reached: only one that is bound to loopback alone counts
    bound = isinstance(own, tuple) and any(address.host == own[0] for address in addresses)
    loopback = bound and _is_loopback(own) and _is_loopback(peer)
    return Asked(endpoint.what if endpoint is not None else "status", host, fields, loopback)


def _is_loopback(name: Any) -> bool:
    if not isinstance(name, tuple) or not name:
        return False
    try:
        return ip_address(str(name[0]).partition("%")[0]).is_loopback
    except ValueError:
        return False


async def _body(request: BaseRequest) -> bytes | Refused:
    """The body of a POST, if it is short and comes soon. Only JSON, which no form of a web page can send."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            while not request.content.at_eof():
                body += await request.content.readany()
                if len(body) > _MOST_BODY:
                    return Refused(413, "body-too-large", f"at most {_MOST_BODY} bytes")
    except TimeoutError:
        return Refused(408, "body-timeout", f"the body did not come within {_BODY_TIMEOUT:g} s")
    if body and request.content_type != "application/json":
        return Refused(415, "not-json", "Content-Type: application/json")
    return bytes(body)


def _response(answer: Answer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers={**_HEADERS, **answer.headers})
    if answer.status in (400, 408, 413, 500):
        response.force_close()
    return response
