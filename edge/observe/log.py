"""The log as the rest of the gateway sees it: three calls that never fail and never wait.

`access` is for requests, `failure` for handshakes, `event` for what happens to the gateway itself; the last two share an output.
Which form (JSON or text), what is hidden, and which share of the fine requests is written follows from the settings.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from edge.observe.access import AccessRecord, HandshakeFailure
from edge.observe.lines import Redaction, access_line, event_line, failure_line, plain_access_line
from edge.observe.output import Output
from edge.observe.text import access_text, event_text, failure_text
from edge.settings.model import AccessLog
from edge.settings.model import Log as LogSettings

__all__ = ["LEVELS", "Channel", "Log"]

LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # with syslog's severities


class Channel:
    """One output with its form: what `AccessLog` says, resolved. `terminal` decides ``auto``; `colour` only ever with text."""

    __slots__ = ("colour", "json", "output", "redact", "sample")

    def __init__(self, settings: AccessLog, output: Output, *, terminal: bool = False, colour: bool = False) -> None:
        self.output = output
        self.json = settings.format == "json" or (settings.format == "auto" and not terminal)
        self.colour = colour and not self.json
        self.redact = Redaction(settings.redact) if settings.redact else None
        self.sample = settings.sample


class Log:
    """Writes records and events. `access_channel` or `event_channel` None: that log is off."""

    __slots__ = ("_access", "_clock", "_direct", "_events", "_level", "_random")

    def __init__(
        self,
        settings: LogSettings,
        access_channel: Channel | None,
        event_channel: Channel | None,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._access = access_channel
        # the access log's output where every request is one line of JSON as it is
        plain = (
            access_channel is not None and access_channel.json and access_channel.redact is None and access_channel.sample >= 1.0
        )
        self._direct = access_channel.output if access_channel is not None and plain else None
        self._events = event_channel
        self._level = LEVELS[settings.level]
        self._clock = clock
        self._random = chance
        for channel in self.channels():
            channel.output.on_recovery(partial(self._lost, channel))

    def channels(self) -> list[Channel]:
        """The channels in use, the access log's first; both may share one output."""
        return [channel for channel in (self._access, self._events) if channel is not None]

    @property
    def dropped(self) -> int:
        """Lines that could not be written, ever."""
        return sum(output.dropped for output in self._outputs())

    def access(self, record: AccessRecord) -> None:
        """Write one request. Fine ones (below 400 and without a fault) are subject to sampling."""
        output = self._direct
        if output is not None:
            line = plain_access_line(record)
            if len(line) <= output.limit:
                output.write(line)
                return
        channel = self._access
        if channel is None:
            return
        if channel.sample < 1.0 and 0 < record.status < 400 and not record.fault and self._random() >= channel.sample:
            return
        output = channel.output
        if channel.json:
            output.write(access_line(record, channel.redact, output.limit))
        else:
            output.write(access_text(record, channel.redact, output.limit, colour=channel.colour))

    def failure(self, record: HandshakeFailure) -> None:
        """Write one failed handshake."""
        channel = self._events
        if channel is None:
            return
        output = channel.output
        if channel.json:
            output.write(failure_line(record, channel.redact, output.limit), 5)
        else:
            output.write(failure_text(record, channel.redact, output.limit, colour=channel.colour), 5)

    def event(self, name: str, *, level: str = "info", **fields: object) -> None:
        """Write that something happened. `name` is kebab-case, `level` one of `LEVELS`; below the settings' level: nothing."""
        channel = self._events
        if channel is not None and LEVELS[level] <= self._level:
            channel.output.write(self._event_line(channel, name, level, fields), LEVELS[level])

    def flush(self) -> None:
        """Write what waits. Cheap when nothing does."""
        for output in self._outputs():
            output.flush()

    def close(self, seconds: float = 0.5) -> None:
        """Write what is left, waiting `seconds` at most for each output."""
        for output in self._outputs():
            output.close(seconds)

    def _outputs(self) -> list[Output]:
        outputs = [channel.output for channel in self.channels()]
        return outputs[:1] if len(outputs) == 2 and outputs[0] is outputs[1] else outputs

    def _event_line(self, channel: Channel, name: str, level: str, fields: dict[str, object]) -> bytes:
        if channel.json:
            return event_line(self._clock(), name, level, fields, channel.output.limit)
        return event_text(self._clock(), name, level, fields, channel.output.limit, colour=channel.colour)

    def _lost(self, channel: Channel, count: int) -> bytes:
        return self._event_line(channel, "log-lines-dropped", "warning", {"count": count})
