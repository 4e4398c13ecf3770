"""An HTTP/2 client that writes the frames that the test tells it to, right or wrong (hyperframe and hpack, no state machine).

It answers SETTINGS and PING, gives windows back unless `credit` is off, and collects what arrives for each stream.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpack
from hyperframe import frame as frames

from .clients import Wire
from .pki import Leaf

__all__ = ["H2Client", "H2Stream"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = list[tuple[str, str]]


@dataclass(slots=True)
class H2Stream:
    """What came on one stream. `reset` is the error code of RST_STREAM; `ended`: END_STREAM came."""

    fields: Fields = field(default_factory=list)
    informational: list[Fields] = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    @property
    def status(self) -> int:
        return int(self.get(":status") or 0)

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(bytes(self.body))
        return found


class H2Client:
    """One connection. `goaway` is the error code of the GOAWAY that came, `settings` what the gateway announced."""

    def __init__(
        self,
        port: int,
        ca: Path,
        *,
        sni: str | None = "localhost",
        client: Leaf | None = None,
        settings: dict[int, int] | None = None,
        receive_buffer: int = 0,
    ) -> None:
        self.wire = Wire(port, ca, sni=sni, alpn=["h2"], client=client, receive_buffer=receive_buffer)
        assert self.wire.tls.selected_alpn_protocol() == "h2"
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._block = b""
        self._block_ends = False
        self._next = -1
        self.streams: dict[int, H2Stream] = {}
        self.settings: dict[int, int] = {}
        self.goaway: int | None = None
        self.goaway_last = 0  # what is above it was not served and may be asked again (RFC 9113 section 6.8)
        self.pongs = 0
        self.credit = True
        self.window = 65_535  # what we may still send on the connection
        self.stream_windows: dict[int, int] = {}
        self.wire.send(PREFACE + frames.SettingsFrame(0, settings or {}).serialize())

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    # sending

    def new_stream(self) -> int:
        self._next += 2
        self.streams[self._next] = H2Stream()
        return self._next

    def send_frame(self, item: frames.Frame) -> None:
        self.wire.send(item.serialize())

    def headers(self, sid: int, fields: Iterable[tuple[str | bytes, str | bytes]], *, end: bool = True) -> None:
        """One HEADERS frame. Nothing about `fields` is checked or changed."""
        block = self._encoder.encode([(_octets(name), _octets(value)) for name, value in fields], huffman=False)
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        self.send_frame(frames.HeadersFrame(sid, block, flags=flags))

    def data(self, sid: int, data: bytes, *, end: bool = False) -> None:
        """One DATA frame, without a look at the windows."""
        self.send_frame(frames.DataFrame(sid, data, flags=["END_STREAM"] if end else []))

    def upload(self, sid: int, data: bytes, *, end: bool = True) -> None:
        """Send `data` in frames of at most 16 KiB as the windows allow it."""
        view = memoryview(data)
        while view:
            allowed = min(self.window, self.stream_windows.get(sid, self.settings.get(4, 65_535)), 16_384)
            if allowed <= 0:
                self.pump()
                if self.streams[sid].over:
                    return
                continue
            part, view = view[:allowed], view[allowed:]
            self.data(sid, bytes(part), end=end and not view)
            self.window -= len(part)
            self.stream_windows[sid] = self.stream_windows.get(sid, self.settings.get(4, 65_535)) - len(part)

    def request(
        self,
        path: str = "/",
        *extra: tuple[str, str],
        method: str = "GET",
        authority: str = "localhost",
        end: bool = True,
    ) -> int:
        sid = self.new_stream()
        head = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        self.headers(sid, head + list(extra), end=end)
        return sid

    def get(self, path: str = "/", *extra: tuple[str, str], authority: str = "localhost") -> H2Stream:
        """A request without body, and its whole answer."""
        return self.response(self.request(path, *extra, authority=authority))

    def ask(self, fields: Sequence[tuple[str | bytes, str | bytes]], body: bytes | None = None) -> H2Stream:
        """A request exactly as given, and what comes of it."""
        sid = self.new_stream()
        self.headers(sid, fields, end=body is None)
        if body is not None:
            self.data(sid, body, end=True)
        return self.response(sid)

    # receiving

    def response(self, sid: int) -> H2Stream:
        """Read until stream `sid` is over."""
        stream = self.streams[sid]
        self.until(lambda: stream.over)
        return stream

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.pump()

    def ping(self) -> None:
        """A PING and its answer: afterwards everything that we sent before has been read by the gateway."""
        wanted = self.pongs + 1
        self.send_frame(frames.PingFrame(0, b"question"))
        self.until(lambda: self.pongs >= wanted)

    def closed(self) -> bool:
        """Read until the gateway ends the connection; False if it stays quiet instead."""
        with contextlib.suppress(EOFError, ConnectionError):
            try:
                while True:
                    self.pump()
            except TimeoutError:
                return False
        return True

    def pump(self) -> None:
        """Read one frame and act on it."""
        item, length = frames.Frame.parse_frame_header(memoryview(self.wire.exactly(9)))
        item.parse_body(memoryview(self.wire.exactly(length)))
        if isinstance(item, frames.SettingsFrame):
            if "ACK" not in item.flags:
                self.settings.update(item.settings)
                self.send_frame(frames.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(item, frames.PingFrame):
            if "ACK" in item.flags:
                self.pongs += 1
            else:
                self.send_frame(frames.PingFrame(0, item.opaque_data, flags=["ACK"]))
        elif isinstance(item, frames.GoAwayFrame):
            self.goaway, self.goaway_last = item.error_code, item.last_stream_id
        elif isinstance(item, frames.WindowUpdateFrame):
            if item.stream_id:
                before = self.stream_windows.get(item.stream_id, self.settings.get(4, 65_535))
                self.stream_windows[item.stream_id] = before + item.window_increment
            else:
                self.window += item.window_increment
        elif item.stream_id in self.streams:
            self._on_stream(item, self.streams[item.stream_id])

    def give(self, sid: int, octets: int) -> None:
        """Credit `octets` to stream `sid` and to the connection."""
        for stream_id in (0, sid):
            self.send_frame(frames.WindowUpdateFrame(stream_id, octets))

    def _on_stream(self, item: frames.Frame, stream: H2Stream) -> None:
        if isinstance(item, frames.RstStreamFrame):
            stream.reset = item.error_code
        elif isinstance(item, frames.DataFrame):
            stream.body += item.data
            stream.ended = "END_STREAM" in item.flags
            if self.credit and item.flow_controlled_length:
                self.send_frame(frames.WindowUpdateFrame(0, item.flow_controlled_length))
                if not stream.ended:
                    self.send_frame(frames.WindowUpdateFrame(item.stream_id, item.flow_controlled_length))
        elif isinstance(item, (frames.HeadersFrame, frames.ContinuationFrame)):
            self._block += item.data
            self._block_ends = self._block_ends or "END_STREAM" in item.flags
            if "END_HEADERS" in item.flags:
                self._head(stream)

    def _head(self, stream: H2Stream) -> None:
        fields = [(_text(name), _text(value)) for name, value in self._decoder.decode(self._block, raw=True)]
        ends, self._block, self._block_ends = self._block_ends, b"", False
        if stream.fields:
            stream.trailers = fields
        elif fields[0][0] == ":status" and fields[0][1].startswith("1"):
            stream.informational.append(fields)
        else:
            stream.fields = fields
        stream.ended = ends


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _text(octets: str | bytes) -> str:
    return octets if isinstance(octets, str) else octets.decode("latin-1")
