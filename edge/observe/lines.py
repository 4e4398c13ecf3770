"""Records as JSON lines.

A line is one JSON object and one line feed. orjson escapes what JSON must escape and `readable` the rest, so a line cannot
be forged. The keys are a promise to the people who parse them: they are only ever added. A key whose value would say
nothing (no upstream, no fault) is left out. Cost is part of the contract: at most 3 µs a request.

A destination may bound the length of a line (pipes are atomic up to `PIPE_BUF`, syslog servers cut datagrams). What is too
long is cut in its longest values and marked with ``"cut": true``; a line is never split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import orjson

from edge.errors import Alert
from edge.observe.access import AccessRecord, HandshakeFailure, readable

__all__ = [
    "Redaction", "access_fields", "access_line", "event_fields", "event_line", "failure_fields", "failure_line",
    "plain_access_line",
]  # fmt: skip

_HIDDEN = "***"
_CUT = "…"
_LONGEST_NAME = 256
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

fromtimestamp = datetime.fromtimestamp  # bound once: a line is made for each request

Fields = dict[str, Any]


_MEMO_ENTRIES = 512
_memo: dict[bytes | str, str] = {}
_known = _memo.get


_JSON_ENTRIES = 2048
_json: dict[bytes | str, bytes] = {}
_ABOUT_TLS = ("sni", "tls", "suite", "group", "resumed", "early", "alpn", "ja4", "client_subject", "client_san", "client_serial")


def _memoised(value: bytes | str) -> str:
    """`readable` for what comes again and again: methods, authorities, user agents. Bounded."""
    text = _memo.get(value)
    if text is None:
        text = readable(value)
        if len(value) <= 256:
            if len(_memo) >= _MEMO_ENTRIES:
                _memo.clear()
            _memo[value] = text
    return text


class Redaction:
    """What must not be written down. ``query``: queries of paths and referers; ``peer``: all but the network (/24, /48) of
    clients' addresses, and the port; any other word: that field's whole value (``user-agent`` and ``user_agent`` are one)."""

    __slots__ = ("_fields", "_peer", "_query")

    def __init__(self, words: frozenset[str]) -> None:
        names = {word.lower().replace("-", "_") for word in words}
        self._query = "query" in names
        self._peer = "peer" in names
        self._fields = tuple(sorted(names - {"query", "peer"}))

    def __bool__(self) -> bool:
        return bool(self._query or self._peer or self._fields)

    def __call__(self, fields: Fields) -> None:
        if self._query:
            for key in ("path", "referer"):
                text = fields.get(key)
                if isinstance(text, str) and "?" in text:
                    fields[key] = f"{text.partition('?')[0]}?{_HIDDEN}"
        if self._peer and fields.get("peer"):
            fields["peer"] = _network_of(str(fields["peer"]))
            fields.pop("peer_port", None)
            if "client_ip" in fields:
                fields["client_ip"] = _network_of(str(fields["client_ip"]))
        for key in self._fields:
            if key in fields:
                fields[key] = _HIDDEN


def _network_of(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return _HIDDEN
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def access_fields(record: AccessRecord, redact: Redaction | None = None) -> Fields:
    """A request's record as what its line says, in the line's order."""
    fields: Fields = {
        "time": fromtimestamp(record.time, UTC),
        "log": "access",
        "id": readable(record.request_id),
        "peer": record.peer,
        "peer_port": record.peer_port,
        "listener": record.listener,
        **({"client_ip": record.client_ip} if record.client_ip else {}),
        "method": _known(record.method) or _memoised(record.method),
        "host": _known(record.host) or _memoised(record.host),
        "path": readable(record.path),
        "protocol": record.protocol,
        "status": record.status,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "upstream": record.upstream,
        "route": record.route,
        "tries": record.tries,
        "decide_us": record.t_decide_us,
        "connect_us": record.t_connect_us,
        "first_byte_us": record.t_first_byte_us,
        "total_us": record.t_total_us,
        "user_agent": _known(record.user_agent) or _memoised(record.user_agent),
    }
    if record.tls_version:
        fields["sni"] = record.sni
        fields["tls"] = record.tls_version
        fields["suite"] = record.suite
        fields["group"] = record.group
        fields["resumed"] = record.resumed
        if record.early:
            fields["early"] = True
        fields["alpn"] = _known(record.alpn) or _memoised(record.alpn)
        fields["ja4"] = record.ja4
        if record.client_subject:
            fields["client_subject"] = readable(record.client_subject)
        if record.client_san:
            fields["client_san"] = readable(record.client_san[:_LONGEST_NAME])
        if record.client_serial:
            fields["client_serial"] = record.client_serial
    elif record.sni is not None:  # passed through: what the hello said is all that is known
        fields["sni"] = record.sni
        fields["ja4"] = record.ja4
    if record.referer:
        fields["referer"] = readable(record.referer)
    if record.fault:
        fields["fault"] = record.fault
        fields["blame"] = record.blame
        if record.detail:
            fields["detail"] = readable(record.detail)
    if redact is not None:
        redact(fields)
    return fields


def failure_fields(record: HandshakeFailure, redact: Redaction | None = None) -> Fields:
    """A failed handshake's record as what its line says."""
    fields: Fields = {
        "time": fromtimestamp(record.time, UTC),
        "log": "handshake",
        "peer": record.peer,
        "peer_port": record.peer_port,
        "listener": record.listener,
        "sni": None if record.sni is None else readable(record.sni),
        "alpn": [readable(name) for name in record.alpn],
        "ja4": record.ja4,
        "stage": record.stage,
        "fault": record.kind,
        "blame": record.blame,
        "us": record.us,
    }
    if record.alert is not Alert.NONE:
        fields["alert"] = record.alert.name.lower()
    if record.detail:
        fields["detail"] = readable(record.detail)
    if redact is not None:
        redact(fields)
    return fields


def event_fields(posix: float, name: str, level: str, extra: Mapping[str, object]) -> Fields:
    """Something that happened to the gateway itself. Values are written as JSON where it has a form for them, else as text."""
    fields: Fields = {"time": fromtimestamp(posix, UTC), "log": "event", "level": level, "event": name}
    for key, value in extra.items():
        if isinstance(value, (bytes, str)):
            fields[key] = readable(value)
        elif value is None or isinstance(value, (bool, int, float, list, tuple, dict)):
            fields[key] = value
        else:
            fields[key] = readable(str(value))
    return fields


def access_line(record: AccessRecord, redact: Redaction | None = None, limit: int = 0) -> bytes:
    """A request as one JSON line of at most `limit` bytes (0: any length)."""
    if redact is None:
        line = plain_access_line(record)
        if not limit or len(line) <= limit:
            return line
    return _dump(access_fields(record, redact), limit)


_second = -1
_stamp = b""  # that second's, without what ends it


def plain_access_line(record: AccessRecord) -> bytes:
    """The line of `access_fields`, to the byte, in a fifth of the time: what lasts is made once."""
    global _second, _stamp
    kept = record.kept
    if kept is None:
        kept = record.kept = _keep(record)
    posix, ident = record.time, record.request_id
    second = int(posix)
    if second != _second:
        _second, _stamp = second, _time(second)[:-2]
    micros = round((posix - second) * 1e6)
    line = b'{"time":%b.%06dZ","log":"access","id":%b,%b%d,"connect_us":%d,"first_byte_us":%d,"total_us":%d,%b' % (
        _stamp,
        micros,
        b'"%b"' % ident if type(ident) is bytes and ident.isalnum() else _quote(ident),
        kept[0],
        record.t_decide_us,
        record.t_connect_us,
        record.t_first_byte_us,
        record.t_total_us,
        kept[1],
    )
    if not 0 < micros < 1_000_000:
        line = b'{"time":%b%b' % (_time(posix), line[line.index(b',"log"') :])
    if record.fault:
        rest = b',"fault":%b,"blame":%b' % (_quoted(record.fault), _quoted(record.blame))
        if record.detail:
            rest += b',"detail":' + _quoted(record.detail)
        line = b"%b%b}\n" % (line[:-2], rest)
    return line


def _time(posix: float) -> bytes:
    return orjson.dumps(fromtimestamp(posix, UTC), option=orjson.OPT_UTC_Z)


def _keep(record: AccessRecord) -> tuple[bytes, bytes]:
    """The line from the connection to the times, and from there to its end."""
    frame = record.frame
    if frame is None:
        frame = record.frame = _frame(record)
    known = _json.get
    before = b"".join(
        (
            frame[0],
            b',"client_ip":' + _quoted(record.client_ip) if record.client_ip else b"",
            b',"method":',
            known(record.method) or _quoted(record.method),
            b',"host":',
            known(record.host) or _quoted(record.host),
            b',"path":',
            known(record.path) or _quoted(record.path),
            b',"protocol":',
            known(record.protocol) or _quoted(record.protocol),
            b',"status":%d,"bytes_in":%d,"bytes_out":%d,"upstream":' % (record.status, record.bytes_in, record.bytes_out),
            known(record.upstream) or _quoted(record.upstream),
            b',"route":',
            known(record.route) or _quoted(record.route),
            b',"tries":%d,"decide_us":' % record.tries,
        )
    )
    agent = known(record.user_agent) or _quoted(record.user_agent)
    referer = b',"referer":' + _quoted(record.referer) if record.referer else b""
    return before, b'"user_agent":%b%b%b}\n' % (agent, frame[1], referer)


def _frame(record: AccessRecord) -> tuple[bytes, bytes]:
    """The two pieces of the line that are about the connection."""
    fields = access_fields(record)
    first = {key: fields[key] for key in ("peer", "peer_port", "listener")}
    last = {key: fields[key] for key in _ABOUT_TLS if key in fields}
    return orjson.dumps(first)[1:-1], b"," + orjson.dumps(last)[1:-1] if last else b""


def _quote(value: bytes | str) -> bytes:
    return orjson.dumps(readable(value))


def _quoted(value: bytes | str) -> bytes:
    """A JSON string, remembered. Bounded."""
    text = _json.get(value)
    if text is None:
        text = _quote(value)
        if len(value) <= 256:
            if len(_json) >= _JSON_ENTRIES:
                _json.clear()
            _json[value] = text
    return text


def failure_line(record: HandshakeFailure, redact: Redaction | None = None, limit: int = 0) -> bytes:
    """A failed handshake as one JSON line of at most `limit` bytes (0: any length)."""
    return _dump(failure_fields(record, redact), limit)


def event_line(posix: float, name: str, level: str, extra: Mapping[str, object], limit: int = 0) -> bytes:
    """An event as one JSON line of at most `limit` bytes (0: any length)."""
    return _dump(event_fields(posix, name, level, extra), limit)


def _encode(fields: Fields) -> bytes:
    try:
        return orjson.dumps(fields, default=_as_text, option=_OPTIONS)
    except TypeError:  # lone surrogates, huge integers, keys that are no strings: a log line is written all the same
        return orjson.dumps({str(key): _as_text(value) for key, value in fields.items()}, option=_OPTIONS)


def _as_text(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return readable(text.encode("utf-8", "backslashreplace"))


def _dump(fields: Fields, limit: int) -> bytes:
    line = _encode(fields)
    return line if not limit or len(line) <= limit else shortened(fields, limit, _encode)


def shortened(fields: Fields, limit: int, encode: Callable[[Fields], bytes]) -> bytes:
    """The line with its longest values cut until it fits into `limit` bytes. `fields` is changed."""
    fields["cut"] = True
    for key, value in fields.items():
        if not isinstance(value, (str, int, float, datetime, type(None))):
            fields[key] = _as_text(orjson.dumps(value, default=_as_text).decode())
    line = encode(fields)
    while len(line) > limit:
        key = max((k for k, v in fields.items() if isinstance(v, str)), key=lambda k: len(fields[k]))
        kept = len(fields[key]) // 2
        if kept < 8:  # so many fields that cutting values cannot help: keep the head of the object
            fields.pop(next(k for k in reversed(fields) if k not in ("time", "log", "event", "cut")))
        else:
            fields[key] = fields[key][:kept] + _CUT
        line = encode(fields)
    return line
