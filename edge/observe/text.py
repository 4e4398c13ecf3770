"""Lines for people: one readable line a request, a failed handshake or an event; colour only where a terminal asks for it.

Everything that came from outside has passed `readable`, so a line holds no control character but the colours put here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from edge.errors import Alert
from edge.observe.access import AccessRecord, HandshakeFailure, readable
from edge.observe.lines import Redaction, access_fields, event_fields, failure_fields

__all__ = ["access_text", "event_text", "failure_text"]

_RESET, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "\x1b[0m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"
_BY_CLASS = {1: _CYAN, 2: _GREEN, 3: _CYAN, 4: _YELLOW, 5: _RED}
_BY_LEVEL = {"debug": _DIM, "info": _CYAN, "warning": _YELLOW, "error": _RED}
_HEAD_KEYS = frozenset({"time", "log", "level", "event", "cut"})


def _clock(posix: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(posix))}.{int(posix % 1 * 1000):03d}"


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    if count < 1024 * 1024:
        return f"{count / 1024:.1f} KiB"
    if count < 1024 * 1024 * 1024:
        return f"{count / 1024 / 1024:.1f} MiB"
    return f"{count / 1024 / 1024 / 1024:.2f} GiB"


def _duration(microseconds: int) -> str:
    if microseconds < 1000:
        return f"{microseconds} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1_000_000:.2f} s"


def _finished(text: str, limit: int) -> bytes:
    line = text.encode() + b"\n"
    if limit and len(line) > limit:
        cut = line[: limit - len("…\n".encode()) - len(_RESET)].decode("utf-8", "ignore")
        line = f"{cut}{_RESET if _RESET[0] in text else ''}…\n".encode()
    return line


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(readable(str(part)) for part in value)
    return readable(str(value))


def access_text(record: AccessRecord, redact: Redaction | None = None, limit: int = 0, *, colour: bool = False) -> bytes:
    """``12:00:01.123 200 GET localhost/path 1.3 ms 512 B 127.0.0.1 HTTP/2 → http://127.0.0.1:8000``, the blame at its end."""
    fields = access_fields(record, redact)
    status = f"{record.status or '---'}"
    colouring = _GREEN if not record.status and not record.fault else _BY_CLASS.get(record.status // 100, _RED)
    parts = [
        _clock(record.time),
        f"{colouring}{status}{_RESET}" if colour else status,
        f"{fields['method'] or '-'} {fields['host']}{fields['path']}",
        _duration(record.t_total_us),
        _size(record.bytes_out),
        str(fields.get("client_ip", fields["peer"])),
        str(fields["protocol"]) or "-",
    ]
    if record.upstream:
        parts.append(f"→ {fields['upstream']}" + (f" ({record.tries} tries)" if record.tries > 1 else ""))
    if record.fault:
        blame = f"{fields['blame']}: {fields['fault']}" + (f" ({fields['detail']})" if "detail" in fields else "")
        parts.append(f"{_RED}{blame}{_RESET}" if colour else blame)
    return _finished(" ".join(parts), limit)


def failure_text(record: HandshakeFailure, redact: Redaction | None = None, limit: int = 0, *, colour: bool = False) -> bytes:
    """``12:00:01.123 TLS 127.0.0.1 sni=example.com client: unknown-sni, alert unrecognized_name``."""
    fields = failure_fields(record, redact)
    text = f"{fields['blame'] or '-'}: {fields['fault']}"
    if "detail" in fields:
        text += f" ({fields['detail']})"
    if record.alert is not Alert.NONE:
        text += f", alert {fields['alert']}"
    mark = f"{_RED}TLS{_RESET}" if colour else "TLS"
    return _finished(f"{_clock(record.time)} {mark} {fields['peer']} sni={fields['sni'] or '-'} {text}", limit)


def event_text(
    posix: float, name: str, level: str, extra: Mapping[str, object], limit: int = 0, *, colour: bool = False
) -> bytes:
    """``12:00:01.123 info worker-started worker=1 pid=4711``."""
    fields = event_fields(posix, name, level, extra)
    mark = f"{_BY_LEVEL.get(level, '')}{level}{_RESET}" if colour else level
    details = "".join(f" {key}={_plain(value)}" for key, value in fields.items() if key not in _HEAD_KEYS)
    return _finished(f"{_clock(posix)} {mark} {name}{details}", limit)
