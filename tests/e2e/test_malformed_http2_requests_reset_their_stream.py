"""Malformed HTTP/2: one bad request resets its own stream and the others live on; broken frames end the connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hyperframe import frame as frames

from .conftest import StartGateway, StartUpstream
from .gateway import Gateway
from .h2raw import H2Client
from .pki import Pki
from .upstreams import ScriptedUpstream, echo

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM = 1, 3, 6, 11
Head = list[tuple[str | bytes, str | bytes]]


def head(**changes: str) -> Head:
    """The four pseudo-fields, with some of them changed."""
    fields = {"method": "GET", "scheme": "https", "authority": "localhost", "path": "/"} | changes
    return [(f":{name}", value) for name, value in fields.items()]


def without(name: str) -> Head:
    return [(key, value) for key, value in head() if key != name]


# what it is → header block
MALFORMED: dict[str, Head] = {
    "connection": [*head(), ("connection", "close")],
    "keep-alive": [*head(), ("keep-alive", "timeout=5")],
    "proxy-connection": [*head(), ("proxy-connection", "close")],
    "transfer-encoding": [*head(), ("transfer-encoding", "chunked")],
    "upgrade": [*head(), ("upgrade", "websocket")],
    "te other than trailers": [*head(), ("te", "gzip")],
    "upper case in a name": [*head(), ("X-Upper", "1")],
    "empty name": [*head(), ("", "1")],
    "space in a name": [*head(), ("x y", "1")],
    "colon in a name": [*head(), ("x:y", "1")],
    "LF in a value": [*head(), ("x-a", "a\nb")],
    "CR in a value": [*head(), ("x-a", "a\rb")],
    "NUL in a value": [*head(), ("x-a", "a\0b")],
    "a smuggled field in a value": [*head(), ("x-a", "a\r\nhost: other.test")],
    "leading space in a value": [*head(), ("x-a", " a")],
    "trailing tab in a value": [*head(), ("x-a", "a\t")],
    "pseudo-field after a field": [*without(":path"), ("x-a", "1"), (":path", "/")],
    "unknown pseudo-field": [*head(), (":unknown", "1")],
    "response pseudo-field": [*head(), (":status", "200")],
    "path twice": [*head(), (":path", "/other")],
    "method twice": [*head(), (":method", "POST")],
    "no path": without(":path"),
    "no method": without(":method"),
    "no scheme": without(":scheme"),
    "neither authority nor host": without(":authority"),
    "empty path": head(path=""),
    "path without slash": head(path="admin"),
    "path with a space": head(path="/a b"),
    "path with a control character": head(path="/a\x01"),
    "path with CRLF": head(path="/ HTTP/1.1\r\nhost: other.test\r\n\r\n"),
    "path with a fragment": head(path="/a#b"),
    "path in absolute form": head(path="https://localhost/"),
    "method with a space": head(method="GET /smuggled HTTP/1.1"),
    "empty method": head(method=""),
    "scheme ftp": head(scheme="ftp"),
    "scheme with CRLF": head(scheme="https\r\n"),
    "userinfo in authority": head(authority="user@localhost"),
    "path in authority": head(authority="localhost/admin"),
    "authority against host": [*head(), ("host", "other.test")],
    "two hosts": [*without(":authority"), ("host", "localhost"), ("host", "localhost")],
    "empty authority": head(authority=""),
    "content-length not a number": [*head(method="POST"), ("content-length", "x")],
    "content-length with a sign": [*head(method="POST"), ("content-length", "+0")],
    "two content-lengths": [*head(method="POST"), ("content-length", "0"), ("content-length", "1")],
    "content-length without body": [*head(method="POST"), ("content-length", "5")],
    "protocol without CONNECT": [*head(), (":protocol", "websocket")],
    "plain CONNECT": [(":method", "CONNECT"), (":authority", "localhost:443")],
}


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    return start_shared_upstream(echo)


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_shared(pki.host(upstream.url))


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_resets_its_stream_and_others_live_on(
    edge: Gateway, upstream: ScriptedUpstream, h2: Callable[..., H2Client], name: str
) -> None:
    client = h2(edge)
    neighbour = client.request("/neighbour", method="POST", end=False)
    client.data(neighbour, b"first ")
    before = len([seen for seen in upstream.requests if seen.path != "/neighbour"])
    answer = client.ask(MALFORMED[name])
    if answer.reset is None:
        assert answer.status in (400, 405, 421, 501)
    assert len([seen for seen in upstream.requests if seen.path != "/neighbour"]) == before
    client.data(neighbour, b"second", end=True)
    assert client.response(neighbour).json()["body"] == "first second"
    assert client.goaway is None


def test_a_body_longer_than_promised_resets_the_stream(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    answer = client.ask([*head(method="POST"), ("content-length", "3")], b"four")
    assert answer.reset is not None or answer.status == 400
    assert client.get("/").status == 200


def test_a_body_shorter_than_promised_never_looks_complete_to_the_upstream(
    edge: Gateway, upstream: ScriptedUpstream, h2: Callable[..., H2Client]
) -> None:
    client = h2(edge)
    answer = client.ask([*head(method="POST", path="/short"), ("content-length", "10")], b"four")
    assert answer.reset is not None or answer.status == 400
    assert [seen.body for seen in upstream.requests if seen.path == "/short"] in ([], [b""])
    assert client.get("/").status == 200


@pytest.mark.parametrize(
    "trailer", [("content-length", "3"), (":path", "/"), ("transfer-encoding", "chunked"), ("X-Upper", "1"), ("x-a", "a\r\nb")]
)
def test_forbidden_trailers_reset_the_stream(edge: Gateway, h2: Callable[..., H2Client], trailer: tuple[str, str]) -> None:
    client = h2(edge)
    sid = client.request("/t", method="POST", end=False)
    client.data(sid, b"abc")
    client.headers(sid, [trailer], end=True)
    answer = client.response(sid)
    assert answer.reset is not None or answer.status == 400
    assert client.get("/").status == 200


def test_fields_after_the_body_need_end_stream(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sid = client.request("/t", method="POST", end=False)
    client.headers(sid, [("x-late", "1")], end=False)
    client.until(lambda: client.streams[sid].over or client.goaway is not None)
    assert client.streams[sid].reset is not None or client.goaway is not None or client.streams[sid].status == 400


def broken(client: H2Client, name: str) -> None:
    """Write what ends a connection."""
    sid = client.request("/", method="POST", end=False)
    match name:
        case "data on stream 0":
            client.wire.send(b"\0\0\1\0\0\0\0\0\0x")
        case "headers on stream 0":
            client.wire.send(b"\0\0\1\1\4\0\0\0\0\x82")
        case "headers on an even stream":
            client.wire.send(b"\0\0\1\1\4\0\0\0\x02\x82")
        case "a frame beyond the announced size":
            size = client.settings.get(5, 16_384) + 1
            client.wire.send(size.to_bytes(3, "big") + b"\0\0" + sid.to_bytes(4, "big") + bytes(size))
        case "ping of seven bytes":
            client.wire.send(b"\0\0\7\6\0\0\0\0\0" + bytes(7))
        case "settings of five bytes":
            client.wire.send(b"\0\0\5\4\0\0\0\0\0" + bytes(5))
        case "settings with a window beyond 2^31":
            client.wire.send(b"\0\0\6\4\0\0\0\0\0\0\4\xff\xff\xff\xff")
        case "enable_push 2":
            client.wire.send(b"\0\0\6\4\0\0\0\0\0\0\2\0\0\0\2")
        case "connection window beyond 2^31":
            for _ in range(2):
                client.send_frame(frames.WindowUpdateFrame(0, 2**31 - 1))
        case "window update of zero on the connection":
            client.wire.send(b"\0\0\4\x08\0\0\0\0\0\0\0\0\0")
        case "continuation without headers":
            client.wire.send(b"\0\0\1\x09\4\0\0\0\1\x82")
        case "a frame between headers and continuation":
            other = client.new_stream()
            client.wire.send(b"\0\0\1\1\0" + other.to_bytes(4, "big") + b"\x82")
            client.send_frame(frames.PingFrame(0, b"12345678"))
        case "garbage in the header block":
            other = client.new_stream()
            client.wire.send(b"\0\0\5\1\5" + other.to_bytes(4, "big") + b"\xff\xff\xff\xff\xff")
        case "push promise from a client":
            client.wire.send(b"\0\0\5\5\4" + sid.to_bytes(4, "big") + b"\0\0\0\2\x82")
        case "padding longer than the frame":
            client.wire.send(b"\0\0\2\0\x08" + sid.to_bytes(4, "big") + b"\xff\0")
        case "a stream number that went back":
            client.new_stream()
            later = client.request("/")
            client.response(later)
            client.headers(later - 2, head())


@pytest.mark.parametrize(
    "name",
    [
        "data on stream 0", "headers on stream 0", "headers on an even stream", "ping of seven bytes",
        "a frame beyond the announced size",
        "settings of five bytes", "settings with a window beyond 2^31", "enable_push 2", "connection window beyond 2^31",
        "window update of zero on the connection", "continuation without headers", "a frame between headers and continuation",
        "garbage in the header block", "push promise from a client", "padding longer than the frame",
        "a stream number that went back",
    ],
)  # fmt: skip
def test_broken_frames_end_the_connection(edge: Gateway, h2: Callable[..., H2Client], name: str) -> None:
    client = h2(edge)
    client.ping()
    try:
        broken(client, name)
        client.until(lambda: client.goaway is not None)
    except (ConnectionError, EOFError):
        return
    assert client.goaway != 0
    assert client.closed()
    assert h2(edge).get("/").status == 200


def flood(client: H2Client, name: str) -> None:
    """Write as much as a hostile client would, until the gateway has had enough."""
    for _ in range(40):
        match name:
            case "rapid reset":
                for _ in range(100):
                    sid = client.request("/")
                    client.send_frame(frames.RstStreamFrame(sid, 8))
            case "pings":
                client.wire.send(frames.PingFrame(0, b"12345678").serialize() * 500)
            case "settings":
                client.wire.send(frames.SettingsFrame(0, {4: 70_000}).serialize() * 500)
            case "empty data":
                sid = client.request("/", method="POST", end=False)
                client.wire.send(frames.DataFrame(sid, b"").serialize() * 1000)
            case "priorities":
                client.wire.send(b"\0\0\5\2\0\0\0\0\1\0\0\0\0\1" * 1000)
            case "continuations":
                sid = client.new_stream()
                client.wire.send(b"\0\0\1\1\0" + sid.to_bytes(4, "big") + b"\x82")
                client.wire.send((b"\0\0\0\x09\0" + sid.to_bytes(4, "big")) * 5000)
            case "header bomb":
                value = "x" * 3000
                sid = client.new_stream()
                client.headers(sid, [*head(), ("x-bomb", value)])
                sid = client.new_stream()
                indexed = b"\xbe" * 16_000  # the newest entry of the dynamic table, again and again
                client.wire.send(len(indexed).to_bytes(3, "big") + b"\1\5" + sid.to_bytes(4, "big") + indexed)


@pytest.mark.parametrize("name", ["rapid reset", "pings", "settings", "empty data", "priorities", "continuations", "header bomb"])
def test_floods_are_ended_and_others_are_served(edge: Gateway, h2: Callable[..., H2Client], name: str) -> None:
    client, other = h2(edge), h2(edge)
    try:
        flood(client, name)
        assert client.closed() or name == "header bomb"
    except (ConnectionError, EOFError):
        pass
    assert other.get("/").status == 200


def test_more_streams_than_allowed_are_refused_one_by_one(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    client.ping()
    allowed = client.settings[3]
    sids = [client.request("/", method="POST", end=False) for _ in range(allowed + 5)]
    client.until(lambda: sum(client.streams[sid].reset is not None for sid in sids) >= 5)
    for sid in sids[:allowed]:
        client.data(sid, b"", end=True)
    assert all(client.response(sid).status == 200 for sid in sids[:allowed])


@pytest.mark.parametrize("size", [1, 5, 9, 33])
def test_frames_in_many_segments_make_no_difference(edge: Gateway, h2: Callable[..., H2Client], size: int) -> None:
    client = h2(edge)
    sid = client.new_stream()
    block = client._encoder.encode([*head(method="POST"), ("x-a", "b" * 50)], huffman=True)
    octets = (
        frames.HeadersFrame(sid, block, flags=["END_HEADERS"]).serialize()
        + frames.DataFrame(sid, b"body", flags=["END_STREAM"]).serialize()
    )
    for start in range(0, len(octets), size):
        client.wire.send(octets[start : start + size])
    assert client.response(sid).json()["body"] == "body"


def test_headers_in_many_continuations_and_with_padding_are_understood(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge)
    sid = client.new_stream()
    block = client._encoder.encode([*head(), ("x-a", "b" * 40)], huffman=False)
    parts = [block[i : i + 20] for i in range(0, len(block), 20)]
    octets = frames.HeadersFrame(sid, parts[0], flags=["END_STREAM", "PADDED"], pad_length=7).serialize()
    for part in parts[1:]:
        octets += frames.ContinuationFrame(sid, part, flags=["END_HEADERS"] if part is parts[-1] else []).serialize()
    client.wire.send(octets)
    assert ["x-a", "b" * 40] in client.response(sid).json()["fields"]


def test_unknown_frames_and_settings_are_ignored(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    client = h2(edge, settings={0x4242: 7})
    client.wire.send(b"\0\0\3\x42\xff\0\0\0\0abc")
    assert client.get("/").status == 200


def test_cookies_in_several_fields_reach_an_http1_upstream_as_one(edge: Gateway, h2: Callable[..., H2Client]) -> None:
    answer = h2(edge).get("/", ("cookie", "a=1"), ("cookie", "b=2"))
    assert [value for name, value in answer.json()["fields"] if name == "cookie"] == ["a=1; b=2"]
