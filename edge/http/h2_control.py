"""The connection's own frames of HTTP/2: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM, PRIORITY; errors and budgets.

What the library keeps is the truth: both sides' settings and their acknowledgements, and through them the HPACK tables.
It is handed SETTINGS and PING after the checks whose error codes it has otherwise, and without the settings that nobody
knows, which it would keep for ever. GOAWAY is ours because the library takes it for the end, while streams live on
behind it (RFC 9113 section 6.8); PRIORITY has no effect (section 5.3.2).

Every frame here costs the peer budget, but WINDOW_UPDATEs and PINGs that our DATA calls for.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import PingAckReceived, RemoteSettingsChanged
from h2.settings import SettingCodes, Settings

from edge.errors import Fault, H2Code, Retry, Side
from edge.http.h2_frames import (
    ACK,
    FRAME,
    MAX_ID,
    MAX_WINDOW,
    SETTINGS,
    goaway,
    ping,
    window_update,
)
from edge.http.h2_hpack import FieldDecoder, FieldEncoder
from edge.http.h2_sender import DEFAULT_WINDOW, Sender
from edge.http.h2_stream import REMOTE, Stream
from edge.http.message import End, RequestHead, ResponseHead
from edge.settings.model import Limits

__all__ = ["CONNECTION_WINDOW", "STREAM_WINDOW", "UPSTREAM_WINDOW", "Control", "Event"]

Event = tuple[int, RequestHead | ResponseHead | bytes | End | Fault]

STREAM_WINDOW: Final = 128 * 1024  # bytes of body of one stream that may wait uncredited
CONNECTION_WINDOW: Final = 1024 * 1024  # bytes of all streams of a client
UPSTREAM_WINDOW: Final = 8 * 1024 * 1024  # the same towards an upstream, whose streams belong to many clients
_FRAME: Final = 64 * 1024  # bytes of payload of what we send, even where the peer takes more: streams take turns by frame
_REPLIES: Final = 64 * 1024  # bytes of acknowledgements that may wait for a peer that does not read
_DRAIN_PING: Final = b"edgedrn\n"
_KNOWN_SETTINGS: Final = frozenset(SettingCodes)


@cache
def _announcement(client: bool, header_bytes: int, header_count: int, streams: int) -> tuple[Settings, bytes]:
    """Our settings and the octets that announce them. They never change, so connections of one kind share them (6 KB each)."""
    values = {
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        # the setting counts 32 octets a field (RFC 9113 section 6.5.2), the limit counts 4
        SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes + 28 * header_count,
    }
    if not client:
        values[SettingCodes.MAX_CONCURRENT_STREAMS] = streams
        values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
    library = H2Connection(H2Configuration(client_side=client))
    library.local_settings = Settings(client=client, initial_values=values)
    library.initiate_connection()
    return library.local_settings, library.data_to_send()


class Control(Sender):
    """Everything of a connection but messages; `h2.Connection` adds those."""

    def __init__(self, limits: Limits, *, client: bool, secure: bool, now: float) -> None:
        encoder = FieldEncoder()
        window = UPSTREAM_WINDOW if client else CONNECTION_WINDOW
        super().__init__(limits, client=client, now=now, encoder=encoder, stream_window=STREAM_WINDOW, connection_window=window)
        self.secure = secure
        self.going_away = False  # the peer sent GOAWAY, or our last one is out: no new streams
        self._side = Side.UPSTREAM if client else Side.CLIENT
        self._decoder = FieldDecoder(limits.header_bytes, limits.header_count)
        self._library = self._make_library(encoder)
        self.settled = False  # the peer's first SETTINGS came
        self.acknowledged = False  # and its word that it has ours
        self._events: list[Event] = []
        self._last_peer = 0  # highest stream id that the peer opened
        self._last_ours = -1  # highest stream id that we opened
        self._peer_streams = 100  # SETTINGS_MAX_CONCURRENT_STREAMS of the peer; until it speaks, a usual value
        self._draining = False  # the first GOAWAY is out

    def _make_library(self, encoder: FieldEncoder) -> H2Connection:
        """The library's connection, with our HPACK in the place of its own, so that SETTINGS act on it."""
        library = H2Connection(H2Configuration(client_side=self.client))
        library.local_settings, self._greeting = _announcement(
            self.client, self.limits.header_bytes, self.limits.header_count, self.limits.streams
        )
        library.encoder = encoder
        library.decoder = self._decoder
        return library

    def start(self) -> None:
        """Queue the preface (client role), SETTINGS and the connection's window. To be called once, first."""
        self._out.append(self._greeting)
        self._out.append(window_update(0, self._connection_window - DEFAULT_WINDOW))

    @property
    def can_open(self) -> bool:
        """Whether `send_request` may open one more stream (client role)."""
        return not (self.going_away or self._dead) and len(self._streams) < self._peer_streams and self._last_ours + 2 <= MAX_ID

    @property
    def peer_streams(self) -> int:
        """How many streams the peer allows at a time (SETTINGS_MAX_CONCURRENT_STREAMS)."""
        return self._peer_streams

    @property
    def peer_allows_connect_protocol(self) -> bool:
        """Whether the peer announced extended CONNECT (RFC 8441 section 3)."""
        return self._library.remote_settings.enable_connect_protocol == 1

    @property
    def finished(self) -> bool:
        """Nothing is left to do: the connection broke, or it goes away and its last stream is closed."""
        return self._dead or (self.going_away and not self._streams)

    def goaway(self, *, now_final: bool = False) -> None:
        """Drain (RFC 9113 section 6.8): a first GOAWAY that forbids nothing, and when the peer has seen it, the last one.

        New streams are served until the peer's answer to the PING behind the first GOAWAY; `now_final` does not wait for it.
        """
        if self._dead or (self.going_away and not self.client):
            return
        if self.client or now_final:
            self._draining = self.going_away = True
            self._out.append(goaway(self._last_peer, H2Code.NO_ERROR))
        elif not self._draining:
            self._draining = True
            self._out.append(goaway(MAX_ID, H2Code.NO_ERROR))
            self._out.append(ping(_DRAIN_PING))

    def give_up(self, kind: str, code: H2Code) -> Fault:
        """The peer has let a time pass that its owner watches: GOAWAY, and the Fault to log."""
        fault = self._error(kind, code)
        self._die(fault)
        return fault

    # Frames of the connection

    def _on_rst_stream(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if stop - start != 4:  # section 6.4
            raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
        stream = self._streams.get(sid)
        if stream is None:
            if self._idle(sid):
                raise self._error("h2-idle-stream", H2Code.PROTOCOL_ERROR)
            self._spend()
            return
        number = int.from_bytes(data[start:stop], "big")
        code = H2Code(number) if number <= 13 else H2Code.INTERNAL_ERROR
        whole = self.client and code is H2Code.NO_ERROR and stream.state & REMOTE  # so was the answer: section 8.1
        if whole:
            self._spend()
        else:
            self._spend_reset()
        self._remember_reset(sid, -1)
        self._close(stream)
        if whole:
            return
        retry = Retry.YES if self.client and code is H2Code.REFUSED_STREAM else Retry.NO
        status = 502 if self.client else 0
        self._events.append((sid, Fault(self._side, "stream-reset", detail=code.name, retry=retry, status=status, h2_code=code)))

    def _on_priority(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if not sid:  # section 6.3
            raise self._error("h2-stream-id", H2Code.PROTOCOL_ERROR)
        self._spend()
        code = H2Code.NO_ERROR
        if stop - start != 5:
            code = H2Code.FRAME_SIZE_ERROR
        elif int.from_bytes(data[start : start + 4], "big") & MAX_ID == sid:
            code = H2Code.PROTOCOL_ERROR
        if code is H2Code.NO_ERROR:
            return
        stream = self._streams.get(sid)
        fault = self._error("bad-priority", code)
        if stream is not None:
            self._break(stream, fault)
        elif self._idle(sid):
            raise fault  # an idle stream cannot be reset, section 6.4

    def _on_settings(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if sid:  # section 6.5
            raise self._error("h2-stream-id", H2Code.PROTOCOL_ERROR)
        length = stop - start
        if (flags & ACK and length) or length % 6:
            raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
        self._spend(1 + length // 96)
        self.settled = True
        if flags & ACK:
            self.acknowledged = True
        known = b"".join(
            data[at : at + 6] for at in range(start, stop, 6) if int.from_bytes(data[at : at + 2], "big") in _KNOWN_SETTINGS
        )  # unknown ones are ignored, section 6.5.2; the library would keep them for ever
        frame = FRAME.pack(0, 0, SETTINGS, flags & ACK, 0)
        if known:
            frame = FRAME.pack(len(known) >> 8, len(known) & 0xFF, SETTINGS, 0, 0) + known
        events = self._library.receive_data(frame)
        # the ACK goes first: what a larger window allows may only follow it (section 6.5.3)
        self._reply(self._library.data_to_send())
        if any(isinstance(event, RemoteSettingsChanged) for event in events):
            self._apply_settings()

    def _apply_settings(self) -> None:
        settings = self._library.remote_settings
        self._peer_frame = min(settings.max_frame_size, _FRAME)
        self._peer_streams = settings.max_concurrent_streams
        change = settings.initial_window_size - self._peer_window
        if change:  # section 6.9.2: windows may become negative
            self._peer_window += change
            for stream in self._streams.values():
                stream.send_window += change
                if stream.send_window > MAX_WINDOW:
                    raise self._error("h2-flow-control", H2Code.FLOW_CONTROL_ERROR)
            if change > 0:
                self._flush()

    def _on_ping(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if sid:  # section 6.7
            raise self._error("h2-stream-id", H2Code.PROTOCOL_ERROR)
        if stop - start != 8:
            raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
        self._spend_earned()  # gRPC measures the path with a PING for each flight of our DATA
        for event in self._library.receive_data(data[start - 9 : stop]):
            if isinstance(event, PingAckReceived) and self._draining and event.ping_data == _DRAIN_PING:
                self.goaway(now_final=True)
        self._reply(self._library.data_to_send())

    def _on_goaway(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if sid:  # section 6.8
            raise self._error("h2-stream-id", H2Code.PROTOCOL_ERROR)
        if stop - start < 8:
            raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
        self._spend()
        last = int.from_bytes(data[start : start + 4], "big") & MAX_ID
        number = int.from_bytes(data[start + 4 : start + 8], "big")
        code = H2Code(number) if number <= 13 else H2Code.INTERNAL_ERROR
        if self.client:
            self.going_away = True
            for stream in [stream for stream in self._streams.values() if stream.sid > last]:
                self._close(stream)
                fault = Fault(self._side, "stream-refused", retry=Retry.YES, status=502, h2_code=H2Code.REFUSED_STREAM)
                self._events.append((stream.sid, fault))
        self._events.append((0, Fault(self._side, "goaway", detail=code.name, h2_code=code)))

    def _on_push_promise(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        # a client never pushes, and no server may where we said ENABLE_PUSH = 0: sections 6.6 and 8.4
        raise self._error("h2-push", H2Code.PROTOCOL_ERROR)

    def _on_window_update(self, sid: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if stop - start != 4:  # section 6.9
            raise self._error("h2-frame-size", H2Code.FRAME_SIZE_ERROR)
        self._spend_earned()
        increment = int.from_bytes(data[start:stop], "big") & MAX_WINDOW
        if not sid:
            if not increment:
                raise self._error("h2-window", H2Code.PROTOCOL_ERROR)
            self._send_window += increment
            if self._send_window > MAX_WINDOW:  # section 6.9.1
                raise self._error("h2-flow-control", H2Code.FLOW_CONTROL_ERROR)
            if self._waiting:
                self._flush()
            return
        stream = self._streams.get(sid)
        if stream is None:
            if self._idle(sid):  # section 5.1
                raise self._error("h2-idle-stream", H2Code.PROTOCOL_ERROR)
            return
        stream.send_window += increment
        if not increment:
            self._break(stream, self._error("h2-window", H2Code.PROTOCOL_ERROR))
        elif stream.send_window > MAX_WINDOW:
            self._break(stream, self._error("h2-flow-control", H2Code.FLOW_CONTROL_ERROR))
        elif stream.queued:
            self._flush()

    # Errors and budgets

    def _idle(self, sid: int) -> bool:
        """Whether nobody has opened the stream yet (RFC 9113 section 5.1)."""
        if self.client:
            return not sid & 1 or sid > self._last_ours
        return not sid & 1 or sid > self._last_peer

    def _error(self, kind: str, code: H2Code, detail: str = "") -> Fault:
        return Fault(self._side, kind, detail=detail, h2_code=code, status=502 if self.client else 0)

    def _break(self, stream: Stream, fault: Fault) -> None:
        """A stream error (section 5.4.2) that the peer provoked: the stream is reset, the connection lives on."""
        self._spend_reset()
        self.reset(stream.sid, fault.h2_code)
        if not stream.discard:
            self._events.append((stream.sid, fault.kept()))

    def _spend(self, amount: int = 1) -> None:
        if not self._control.take(self._now, amount):
            raise self._error("h2-control-flood", H2Code.ENHANCE_YOUR_CALM)

    def _spend_earned(self) -> None:
        """As `_spend`, for frames that answer to DATA of ours: free as long as it earned them."""
        if self._earned:
            self._earned -= 1
        else:
            self._spend()

    def _spend_reset(self) -> None:
        if not self._resets.take(self._now):
            raise self._error("h2-reset-flood", H2Code.ENHANCE_YOUR_CALM)

    def _reply(self, data: bytes) -> None:
        """Write what the library answers, unless answers pile up."""
        if data:
            self._replies += len(data)
            if self._replies > _REPLIES:
                raise self._error("h2-unread-replies", H2Code.ENHANCE_YOUR_CALM)
            self._out.append(data)

    def _die(self, fault: Fault) -> None:
        """A connection error (section 5.4.1): GOAWAY is the last thing written."""
        self._dead = self.going_away = True
        self._out.append(goaway(self._last_peer, fault.h2_code))
        self._streams.clear()
        self._waiting.clear()
