"""An open-loop load that notes every single operation: new handshakes, requests on HTTP/1.1 and HTTP/2, and open WebSockets.

Open loop: each operation has a moment at which it is due, and its latency counts from there, so that a target that stands still
for a while pays for everything that it kept waiting. Run as ``-m …openloop PORT …``. It says ``ready`` when all connections
stand, begins, goes on until its standard input ends, and then writes a JSON object: for each kind of operation the moments
(monotonic seconds, the same in all processes of a machine) and the latencies (seconds), the failures in words, and how many
WebSockets were still alive. A connection that the target closes between two requests, as HTTP allows, is replaced: no failure;
but how many requests had to be sent again because that crossed them is told.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

__all__ = ["main"]

_PATIENCE = 10.0  # seconds for one operation
_MOST_FAILURES = 20  # told in words
_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZWRnZSBiZW5jaCBrZXkhIQ==\r\n"
)
_FRAME_HEAD, _GOAWAY = 9, 7
_MESSAGE = b"are you there?"


class _Closed(Exception):
    """The connection takes no more requests. Nothing was lost."""


class _Crossed(_Closed):
    """It was closed while a request was on its way: RFC 9112 section 9.3.1 has clients send such a one again."""


class _H1:
    """A connection that stays, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._used = False
        self.closing = False

    async def get(self, path: str) -> None:
        if self.closing or self._reader.at_eof():
            raise _Closed
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if not self._used or (isinstance(error, asyncio.IncompleteReadError) and error.partial):
                raise
            raise _Crossed from None
        self._used = True
        lines = head.split("\r\n")
        if not lines[0].startswith("http/1.1 200"):
            raise RuntimeError(lines[0])
        length = next(line for line in lines if line.startswith("content-length:"))
        await self._reader.readexactly(int(length.partition(":")[2]))
        self.closing = "connection: close" in lines

    def close(self) -> None:
        self._writer.close()


class _H2(asyncio.Protocol):
    """A connection for many requests at once."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration())
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._status: dict[int, bytes] = {}
        self._transport: asyncio.Transport | None = None
        self._partial = bytearray()
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._h2.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(self._frames(data)):
            if isinstance(event, ResponseReceived):
                self._status[event.stream_id] = dict(event.headers or ())[b":status"]
            elif isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                status = self._status.pop(event.stream_id)
                self._settle(event.stream_id, None if status == b"200" else RuntimeError(f"status {status!r}"))
            elif isinstance(event, StreamReset):
                self._settle(event.stream_id, RuntimeError(f"reset with {event.error_code}"))
        self._flush()
        if self.closing and not self._waiting:
            self.close()

    def _frames(self, data: bytes) -> bytes:
        """The whole frames that have come, but GOAWAY: after one the library would read no more, not even answers under way."""
        self._partial += data
        whole, at = bytearray(), 0
        while len(self._partial) - at >= _FRAME_HEAD:
            end = at + _FRAME_HEAD + int.from_bytes(self._partial[at : at + 3], "big")
            if end > len(self._partial):
                break
            if self._partial[at + 3] == _GOAWAY:
                self._leave(int.from_bytes(self._partial[at + _FRAME_HEAD : at + _FRAME_HEAD + 4], "big") & 0x7FFFFFFF)
            else:
                whole += self._partial[at:end]
            at = end
        del self._partial[:at]
        return bytes(whole)

    def _leave(self, last: int) -> None:
        self.closing = True
        for stream in [stream for stream in self._waiting if stream > last]:
            self._settle(stream, _Closed())  # RFC 9113 section 6.8: not processed

    def _settle(self, stream: int, error: Exception | None) -> None:
        future = self._waiting.pop(stream, None)
        if future is not None and not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        for stream in list(self._waiting):
            self._settle(stream, ConnectionResetError("closed with a request under way"))

    async def get(self, path: str) -> None:
        if self.closing:
            raise _Closed
        stream = self._h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self._h2.send_headers(stream, fields, end_stream=True)
        future = self._waiting[stream] = asyncio.get_running_loop().create_future()
        self._flush()
        await future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Tunnel:
    """A WebSocket (RFC 6455) that is sent a message now and then, and has to send it back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.broken = False

    async def open(self, path: str) -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{_UPGRADE}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"no WebSocket: {head.splitlines()[0]!r}")

    async def echo(self) -> None:
        # masked with zeros, as a client has to; an echo of bytes sends the mask back, a WebSocket server does not
        self.broken = True
        self._writer.write(bytes([0x82, 0x80 | len(_MESSAGE), 0, 0, 0, 0]) + _MESSAGE)
        _, length = await self._reader.readexactly(2)
        answer = await self._reader.readexactly((length & 0x7F) + (4 if length & 0x80 else 0))
        if not answer.endswith(_MESSAGE):
            raise RuntimeError("another message came back")
        self.broken = False

    def close(self) -> None:
        self._writer.close()


class _Load:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._h1_context, self._h2_context = self._context("http/1.1"), self._context("h2")
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[_H1] = []
        self._h2: list[_H2] = []
        self._turn = 0
        self.seen: dict[str, list[tuple[float, float]]] = {"handshake": [], "h1": [], "h2": [], "websocket": []}
        self.failed = 0
        self.again = 0
        self.failures: list[str] = []

    def _context(self, protocol: str) -> ssl.SSLContext:
        """Python's clients offer no session unless told to: every handshake is a full one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._arguments.ca:
            context.load_verify_locations(self._arguments.ca)
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([protocol])
        return context

    async def _streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port, context = self._arguments.port, self._h1_context
        return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")

    async def _connect_h2(self) -> _H2:
        loop = asyncio.get_running_loop()
        context = self._h2_context
        _, protocol = await loop.create_connection(
            _H2, "127.0.0.1", self._arguments.port, ssl=context, server_hostname="localhost"
        )
        return protocol

    async def _handshake(self) -> None:
        connection = _H1(*await self._streams())
        try:
            await connection.get(self._arguments.path)
        finally:
            connection.close()

    async def _get_h1(self) -> None:
        while True:
            connection = self._idle.pop() if self._idle else _H1(*await self._streams())
            try:
                await connection.get(self._arguments.path)
            except _Closed as closed:
                self.again += isinstance(closed, _Crossed)
                continue
            self._idle.append(connection)
            return

    async def _get_h2(self) -> None:
        while True:
            self._turn = (self._turn + 1) % len(self._h2)
            at = self._turn
            try:
                return await self._h2[at].get(self._arguments.path)
            except _Closed:
                if self._h2[at].closing:
                    self._h2[at] = await self._connect_h2()

    async def _timed(self, kind: str, due: float, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await work()
        except Exception as error:  # whatever it was, it is what the client met
            self.failed += 1
            if len(self.failures) < _MOST_FAILURES:
                self.failures.append(f"{kind}: {error!r}")
        self.seen[kind].append((due, time.monotonic() - due))

    async def _every(self, kind: str, rate: float, work: Callable[[], Awaitable[None]]) -> None:
        """Begin `work` `rate` times a second, whatever became of the last ones."""
        due = time.monotonic()
        while rate and not self._over.is_set():
            task = asyncio.create_task(self._timed(kind, due, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _keep(self, tunnel: _Tunnel) -> None:
        """One message a second: the next one waits for the last one's echo."""
        while not self._over.is_set():
            await self._timed("websocket", time.monotonic(), tunnel.echo)
            if tunnel.broken:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 1.0)

    def _on_input(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._over.set()

    async def run(self) -> dict[str, object]:
        arguments = self._arguments
        loop = asyncio.get_running_loop()
        self._h2 = [await self._connect_h2() for _ in range(arguments.connections)]
        self._idle = [_H1(*await self._streams()) for _ in range(arguments.connections)]
        tunnels = [_Tunnel(*await self._streams()) for _ in range(arguments.websockets)]
        for tunnel in tunnels:
            await tunnel.open(arguments.tunnel)
        loop.add_reader(sys.stdin.fileno(), self._on_input)
        print("ready", flush=True)
        await asyncio.gather(
            self._every("handshake", arguments.handshakes, self._handshake),
            self._every("h1", arguments.requests, self._get_h1),
            self._every("h2", arguments.requests, self._get_h2),
            *(self._keep(tunnel) for tunnel in tunnels),
        )
        while self._tasks:
            await asyncio.wait(self._tasks)
        for tunnel in tunnels:
            await self._timed("websocket", time.monotonic(), tunnel.echo)
        everything: list[_Tunnel | _H1 | _H2] = [*tunnels, *self._idle, *self._h2]
        for each in everything:
            each.close()
        return {
            "seen": self.seen,
            "failed": self.failed,
            "failures": self.failures,
            "again": self.again,
            "websockets": sum(not tunnel.broken for tunnel in tunnels),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="openloop")
    parser.add_argument("port", type=int)
    parser.add_argument("--ca", default="", help="verify the target's certificate by these")
    parser.add_argument("--path", default="/small")
    parser.add_argument("--tunnel", default="/sink", help="the path of an echo over WebSocket")
    parser.add_argument("--handshakes", type=float, default=40.0, help="new connections a second, each with one request")
    parser.add_argument(
        "--requests", type=float, default=60.0, help="requests a second on open connections, for each of h1 and h2"
    )
    parser.add_argument("--connections", type=int, default=4, help="for each of h1 and h2")
    parser.add_argument("--websockets", type=int, default=10)
    json.dump(uvloop.run(_Load(parser.parse_args()).run()), sys.stdout)


if __name__ == "__main__":
    main()
