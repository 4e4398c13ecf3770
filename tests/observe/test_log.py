"""The log's switches: forms, sampling, levels, and what is off."""

from __future__ import annotations

import json

from edge.observe import AccessRecord, HandshakeFailure, Log
from edge.observe.log import Channel
from edge.observe.output import MAX_BUFFERED, Kind, Output
from edge.settings.model import AccessLog
from edge.settings.model import Log as LogSettings


class Sink:
    def __init__(self) -> None:
        self.data = b""
        self.open = True
        self.output = Output(0, Kind.FILE, send=self.send)

    def send(self, data: bytes) -> int:
        if not self.open:
            raise BlockingIOError
        self.data += data
        return len(data)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.data.splitlines()]


def record(status: int = 200, fault: str = "") -> AccessRecord:
    access = AccessRecord()
    access.status, access.fault = status, fault
    return access


def test_requests_and_events_go_to_their_outputs() -> None:
    access, events = Sink(), Sink()
    log = Log(LogSettings(), Channel(AccessLog(), access.output), Channel(AccessLog(), events.output), clock=lambda: 1.0)
    log.access(record())
    log.failure(HandshakeFailure())
    log.event("started", workers=2)
    assert access.data == events.data == b""
    log.flush()
    assert [line["log"] for line in access.lines()] == ["access"]
    assert [line["log"] for line in events.lines()] == ["handshake", "event"]
    assert events.lines()[1]["workers"] == 2


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    for terminal, colour, form, first in (
        (False, False, "auto", b"{"),
        (True, True, "json", b"{"),
        (False, True, "text", b""),
        (True, True, "auto", b""),
    ):
        sink = Sink()
        channel = Channel(AccessLog(format=form), sink.output, terminal=terminal, colour=colour)
        log = Log(LogSettings(), channel, channel)
        log.access(record())
        log.event("started")
        log.failure(HandshakeFailure())
        log.flush()
        assert sink.data.startswith(first)
        assert sink.data.startswith(b"{") == bool(first)
        assert (b"\x1b[" in sink.data) == (not first and colour)


def test_sampling_keeps_all_that_is_not_fine() -> None:
    sink = Sink()
    chances = iter([0.05, 0.5, 0.95, 0.09])
    log = Log(LogSettings(), Channel(AccessLog(sample=0.1), sink.output), None, chance=lambda: next(chances))
    for status in (200, 201, 302, 304):
        log.access(record(status))
    for status in (404, 500, 0):
        log.access(record(status))
    log.access(record(200, "body-cut"))
    log.flush()
    assert [line["status"] for line in sink.lines()] == [200, 304, 404, 500, 0, 200]


def test_levels() -> None:
    sink = Sink()
    log = Log(LogSettings(level="warning"), None, Channel(AccessLog(), sink.output))
    log.event("a", level="debug")
    log.event("b")
    log.event("c", level="warning")
    log.event("d", level="error")
    log.access(record())
    log.flush()
    assert [line["event"] for line in sink.lines()] == ["c", "d"]


def test_a_log_that_is_off() -> None:
    log = Log(LogSettings(), None, None)
    log.access(record())
    log.failure(HandshakeFailure())
    log.event("x")
    log.flush()
    log.close()
    assert log.dropped == 0


def test_lost_lines_are_told_of_once_writing_works_again() -> None:
    sink = Sink()
    sink.open = False
    channel = Channel(AccessLog(), sink.output)
    log = Log(LogSettings(), channel, channel)
    while log.dropped < 3:
        log.access(record())
    log.flush()
    assert sink.data == b""
    sink.open = True
    log.flush()
    last = sink.lines()[-1]
    assert (last["event"], last["count"], last["level"]) == ("log-lines-dropped", 3, "warning")
    assert len(sink.data) > MAX_BUFFERED / 2
    log.flush()
    assert sink.lines()[-1] == last
