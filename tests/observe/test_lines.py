"""Lines say what the record says, whatever bytes are in it, and cannot be forged."""

from __future__ import annotations

import json
import timeit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Alert
from edge.observe.access import AccessRecord, HandshakeFailure, readable
from edge.observe.lines import Redaction, access_fields, access_line, event_line, failure_line
from edge.observe.text import access_text, event_text, failure_text


def request(**changes: object) -> AccessRecord:
    record = AccessRecord()
    record.time = 1_795_286_412.25
    record.request_id = b"0123456789abcdef"
    record.peer, record.peer_port, record.listener = "192.0.2.77", 50123, "https"
    record.sni, record.tls_version, record.suite = "api.example.com", "TLSv1.3", "TLS_AES_128_GCM_SHA256"
    record.group, record.alpn, record.ja4 = "X25519MLKEM768", b"h2", "t13d1516h2_8daaf6152771_b186095e22b6"
    record.method, record.host, record.path = b"GET", b"api.example.com", b"/v1/orders?token=secret"
    record.protocol, record.status, record.bytes_out = "HTTP/2", 200, 2048
    record.upstream, record.route, record.tries = "http://127.0.0.1:8000", "/v1/", 1
    record.t_decide_us, record.t_connect_us, record.t_first_byte_us, record.t_total_us = 11, 22, 333, 4444
    record.user_agent = b"curl/8.5"
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def failure(**changes: object) -> HandshakeFailure:
    record = HandshakeFailure()
    record.time, record.peer, record.peer_port, record.listener = 1_795_286_412.0, "2001:db8:1:2::3", 4711, "https"
    record.sni, record.alpn, record.stage = "nowhere.example", (b"h2", b"http/1.1"), "choose"
    record.kind, record.blame, record.alert, record.us = "unknown-sni", "client", Alert.UNRECOGNIZED_NAME, 120
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def test_an_access_line_says_everything() -> None:
    assert json.loads(access_line(request())) == {
        "time": "2026-11-21T18:40:12.250000Z",
        "log": "access",
        "id": "0123456789abcdef",
        "peer": "192.0.2.77",
        "peer_port": 50123,
        "listener": "https",
        "method": "GET",
        "host": "api.example.com",
        "path": "/v1/orders?token=secret",
        "protocol": "HTTP/2",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": 2048,
        "upstream": "http://127.0.0.1:8000",
        "route": "/v1/",
        "tries": 1,
        "decide_us": 11,
        "connect_us": 22,
        "first_byte_us": 333,
        "total_us": 4444,
        "user_agent": "curl/8.5",
        "sni": "api.example.com",
        "tls": "TLSv1.3",
        "suite": "TLS_AES_128_GCM_SHA256",
        "group": "X25519MLKEM768",
        "resumed": False,
        "alpn": "h2",
        "ja4": "t13d1516h2_8daaf6152771_b186095e22b6",
    }


def test_the_client_behind_a_proxy_stands_beside_the_peer() -> None:
    record = request(client_ip="203.0.113.99")
    line = access_line(record)
    assert line == orjson.dumps(access_fields(record), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
    assert json.loads(line)["client_ip"] == "203.0.113.99"
    assert "client_ip" not in json.loads(access_line(request()))
    hidden = json.loads(access_line(record, Redaction(frozenset({"peer"}))))
    assert (hidden["client_ip"], hidden["peer"]) == ("203.0.113.0/24", "192.0.2.0/24")
    assert b" 203.0.113.99 " in access_text(record)


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=20)


@given(st.binary(max_size=40), st.binary(max_size=40), WORDS, WORDS, st.booleans(), st.floats(0, 4e9))
def test_a_line_put_together_is_the_line_of_its_fields(
    path: bytes, agent: bytes, fault: str, route: str, secure: bool, moment: float
) -> None:
    record = request(path=path, user_agent=agent, referer=agent, fault=fault, detail=route, route=route, time=moment)
    if not secure:
        record.tls_version = ""
    expected = orjson.dumps(access_fields(record), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
    assert access_line(record) == expected
    record.status, record.kept = 404, None
    assert access_line(record) == expected.replace(b'"status":200', b'"status":404', 1)
    record.t_total_us = 5555  # the second time from what was kept
    assert access_line(record) == expected.replace(b'"status":200', b'"status":404', 1).replace(b"4444", b"5555")


def test_a_plain_request_has_no_tls_and_a_fine_one_no_blame() -> None:
    line = json.loads(access_line(request(tls_version="", sni=None)))
    assert not {"sni", "tls", "suite", "fault", "blame", "detail"} & set(line)
    line = json.loads(access_line(request(fault="upstream-refused", blame="upstream", detail="ECONNREFUSED", referer=b"/")))
    assert (line["fault"], line["blame"], line["detail"], line["referer"]) == (
        "upstream-refused",
        "upstream",
        "ECONNREFUSED",
        "/",
    )


def test_a_handshake_failure_line() -> None:
    line = json.loads(failure_line(failure(detail="no such host")))
    assert line["sni"] == "nowhere.example"
    assert line["alpn"] == ["h2", "http/1.1"]
    assert line["alert"] == "unrecognized_name"
    assert line["detail"] == "no such host"
    assert "alert" not in json.loads(failure_line(failure(alert=Alert.NONE)))


def test_redaction() -> None:
    redact = Redaction(frozenset({"query", "peer", "user-agent"}))
    line = json.loads(access_line(request(referer=b"https://a.example/?q=1"), redact))
    assert line["path"] == "/v1/orders?***"
    assert line["referer"] == "https://a.example/?***"
    assert line["peer"] == "192.0.2.0/24"
    assert "peer_port" not in line
    assert line["user_agent"] == "***"
    assert json.loads(failure_line(failure(), redact))["peer"] == "2001:db8:1::/48"
    text = access_text(request(fault="x", blame="client"), redact).decode()
    assert "secret" not in text
    assert "192.0.2.77" not in text


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=100))
def test_no_bytes_break_a_line(path: bytes, agent: bytes, detail: str) -> None:
    record = request(path=path, user_agent=agent, method=agent[:10], host=path[:20], fault="bad", detail=detail)
    for line in (access_line(record), access_text(record), access_line(record, None, 512), access_text(record, None, 200)):
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert line.decode()[:-1].isprintable()
    assert json.loads(access_line(record))["path"] == readable(path)
    bad = failure(sni=detail, alpn=(agent[:255],), detail=detail)
    for line in (
        failure_line(bad),
        failure_text(bad),
        event_line(0.0, "x", "info", {"a": detail}),
        event_text(0, "x", "info", {"a": path}),
    ):
        assert line[:-1].decode().isprintable()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        (b"a\r\nb", "a\\r\\nb"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"\x7f", "\\x7f"),
        ("grün".encode(), "grün"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202egnp".encode(), "\\u202egnp"),
        ("\udc80", "\\udc80"),
    ],
)
def test_readable(raw: bytes | str, shown: str) -> None:
    assert readable(raw) == shown


@given(st.integers(min_value=400, max_value=4096), st.binary(max_size=9000), st.binary(max_size=9000))
def test_a_long_line_is_cut_and_still_json(limit: int, path: bytes, agent: bytes) -> None:
    line = access_line(request(path=path, user_agent=agent), None, limit)
    assert len(line) <= limit
    fields = json.loads(line)
    if "cut" in fields:
        assert fields["cut"] is True
        assert fields["time"] == "2026-11-21T18:40:12.250000Z"
    else:
        assert fields["path"] == readable(path)


def test_events_write_any_value() -> None:
    line = json.loads(
        event_line(1.5, "started", "info", {"n": 1, "names": ["a"], "error": ValueError("x\ny"), "raw": b"\x00", "none": None})
    )
    assert line == {
        "time": "1970-01-01T00:00:01.500000Z", "log": "event", "level": "info", "event": "started",
        "n": 1, "names": ["a"], "error": "x\\ny", "raw": "\\x00", "none": None,
    }  # fmt: skip
    assert json.loads(event_line(1.5, "odd", "info", {"n": 1 << 80, "l": ["\udc80"]}))["n"] == str(1 << 80)


def test_colour_only_when_asked() -> None:
    assert b"\x1b" not in access_text(request()) + failure_text(failure()) + event_text(0, "x", "error", {})
    assert b"\x1b[32m200\x1b[0m" in access_text(request(), colour=True)
    assert b"\x1b[31m" in access_text(request(status=502, fault="x", blame="upstream"), colour=True)


def test_a_line_costs_microseconds() -> None:
    """The contract is 3 µs on a quiet core; this guards against a slip by an order of magnitude."""
    record = request()
    best = min(timeit.repeat(lambda: access_line(record), number=200, repeat=20)) / 200
    assert best < 30e-6
