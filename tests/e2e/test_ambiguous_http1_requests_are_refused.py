"""Request smuggling over HTTP/1.1: what two parsers could read differently is refused, and nothing of it reaches the upstream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .clients import Wire
from .conftest import StartGateway, StartUpstream
from .gateway import Gateway
from .pki import Pki
from .upstreams import ScriptedUpstream, echo

OK_HOST = "Host: localhost\r\n"
POST = f"POST / HTTP/1.1\r\n{OK_HOST}"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

# what it is → bytes, statuses that may answer it
REFUSED: dict[str, tuple[str, tuple[int, ...]]] = {
    "length beside coding": (f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}", (400,)),
    "coding beside length": (f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n{SMUGGLED}", (400,)),
    "two different content-lengths": (f"{POST}Content-Length: 0\r\nContent-Length: 44\r\n\r\n{SMUGGLED}", (400,)),
    "two equal content-lengths": (f"{POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", (400,)),
    "a list of content-lengths": (f"{POST}Content-Length: 3, 3\r\n\r\nabc", (400,)),
    "content-length with a sign": (f"{POST}Content-Length: +3\r\n\r\nabc", (400,)),
    "negative content-length": (f"{POST}Content-Length: -1\r\n\r\n", (400,)),
    "hexadecimal content-length": (f"{POST}Content-Length: 0x3\r\n\r\nabc", (400,)),
    "content-length with an underscore": (f"{POST}Content-Length: 1_0\r\n\r\n0123456789", (400,)),
    "content-length with a space inside": (f"{POST}Content-Length: 1 0\r\n\r\n0123456789", (400,)),
    "empty content-length": (f"{POST}Content-Length: \r\n\r\n", (400,)),
    "content-length beyond 64 bits": (f"{POST}Content-Length: 18446744073709551619\r\n\r\nabc", (400, 413)),
    "transfer-encoding identity": (f"{POST}Transfer-Encoding: identity\r\n\r\n{SMUGGLED}", (400, 501)),
    "transfer-encoding xchunked": (f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "transfer-encoding gzip, chunked": (f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "transfer-encoding chunked, chunked": (f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "transfer-encoding twice": (f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "transfer-encoding with a vertical tab": (f"{POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "transfer-encoding on HTTP/1.0": (f"POST / HTTP/1.0\r\n{OK_HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    "space before the colon": (f"{POST}Content-Length : 3\r\n\r\nabc", (400,)),
    "tab before the colon": (f"{POST}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", (400,)),
    "obs-fold": (f"GET / HTTP/1.1\r\n{OK_HOST}X-A: 1\r\n folded\r\n\r\n", (400,)),
    "obs-fold at the first field": ("GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", (400,)),
    "bare LF after the request line": ("GET / HTTP/1.1\nHost: localhost\r\n\r\n", (400,)),
    "bare LF after a field": ("GET / HTTP/1.1\r\nHost: localhost\n\r\n\r\n", (400,)),
    "bare LF at the end of the head": ("GET / HTTP/1.1\r\nHost: localhost\r\n\n\r\n", (400,)),
    "bare CR in a value": (f"GET / HTTP/1.1\r\n{OK_HOST}X-A: a\rb\r\n\r\n", (400,)),
    "bare CR in the request line": (f"GET /\r HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "NUL in a value": (f"GET / HTTP/1.1\r\n{OK_HOST}X-A: a\0b\r\n\r\n", (400,)),
    "NUL in a name": (f"GET / HTTP/1.1\r\n{OK_HOST}X\0A: a\r\n\r\n", (400,)),
    "NUL in the target": (f"GET /\0 HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "control character in a value": (f"GET / HTTP/1.1\r\n{OK_HOST}X-A: a\x01b\r\n\r\n", (400,)),
    "a field without colon": (f"GET / HTTP/1.1\r\n{OK_HOST}NoColon\r\n\r\n", (400,)),
    "an empty field name": (f"GET / HTTP/1.1\r\n{OK_HOST}: value\r\n\r\n", (400,)),
    "no host": ("GET / HTTP/1.1\r\nX-A: 1\r\n\r\n", (400,)),
    "two hosts": (f"GET / HTTP/1.1\r\n{OK_HOST}{OK_HOST}\r\n", (400,)),
    "two different hosts": (f"GET / HTTP/1.1\r\n{OK_HOST}Host: other.test\r\n\r\n", (400,)),
    "host with userinfo": ("GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n", (400,)),
    "host with a path": ("GET / HTTP/1.1\r\nHost: localhost/admin\r\n\r\n", (400,)),
    "host with a bad port": ("GET / HTTP/1.1\r\nHost: localhost:http\r\n\r\n", (400,)),
    "host with a port beyond 65535": ("GET / HTTP/1.1\r\nHost: localhost:70000\r\n\r\n", (400,)),
    "host with a space": ("GET / HTTP/1.1\r\nHost: local host\r\n\r\n", (400,)),
    "host with a comma": ("GET / HTTP/1.1\r\nHost: localhost,other.test\r\n\r\n", (400,)),
    "fragment in the target": (f"GET /a#b HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "absolute form against host": (f"GET https://other.test/ HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "absolute form with userinfo": (f"GET https://user@localhost/ HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "CONNECT": ("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", (400, 405, 501)),
    "HTTP/0.9": ("GET /\r\n\r\n", (400, 505)),
    "HTTP/2.0 without preface": (f"GET / HTTP/2.0\r\n{OK_HOST}\r\n", (400, 505)),
    "HTTP/1.2": (f"GET / HTTP/1.2\r\n{OK_HOST}\r\n", (400, 505)),
    "lower-case version": (f"GET / http/1.1\r\n{OK_HOST}\r\n", (400, 505)),
    "three spaces in the request line": (f"GET /  HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "space in the target": (f"GET /a b HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "bad method": (f"GE(T / HTTP/1.1\r\n{OK_HOST}\r\n", (400, 501)),
    "target without slash": (f"GET admin HTTP/1.1\r\n{OK_HOST}\r\n", (400,)),
    "chunk size with a sign": (f"{CHUNKED}+3\r\nabc\r\n0\r\n\r\n", (400,)),
    "chunk size with 0x": (f"{CHUNKED}0x3\r\nabc\r\n0\r\n\r\n", (400,)),
    "chunk size with an underscore": (f"{CHUNKED}1_0\r\n0123456789abcdef\r\n0\r\n\r\n", (400,)),
    "chunk size beyond 64 bits": (f"{CHUNKED}10000000000000003\r\nabc\r\n0\r\n\r\n", (400, 413)),
    "empty chunk size": (f"{CHUNKED}\r\nabc\r\n0\r\n\r\n", (400,)),
    "chunk longer than its size": (f"{CHUNKED}3\r\nabcd\r\n0\r\n\r\n", (400,)),
    "chunk size line with bare LF": (f"{CHUNKED}3\nabc\r\n0\r\n\r\n", (400,)),
    "chunk data with bare LF": (f"{CHUNKED}3\r\nabc\n0\r\n\r\n", (400,)),
    "bare LF in a chunk extension": (f"{CHUNKED}3;a\nx\r\nabc\r\n0\r\n\r\n", (400,)),
    "endless chunk extension": (f"{CHUNKED}3;{'a' * 40_000}", (400,)),
    "content-length in trailers": (f"{CHUNKED}3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", (400,)),
}  # fmt: skip


@pytest.fixture(scope="module")
def upstream(start_shared_upstream: StartUpstream) -> ScriptedUpstream:
    return start_shared_upstream(echo)


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, upstream: ScriptedUpstream) -> Gateway:
    return start_shared(pki.host(upstream.url), plain=True)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_the_connection_closed(
    edge: Gateway, upstream: ScriptedUpstream, h1: Callable[..., Wire], name: str
) -> None:
    text, statuses = REFUSED[name]
    before = len(upstream.requests)
    wire = h1(edge)
    wire.send(text.encode("latin-1"))
    answer = wire.read_response()
    assert answer.status in statuses
    assert wire.ended(), "nothing may follow on a connection whose framing is lost"
    completed = [seen for seen in upstream.requests[before:] if not seen.values("transfer-encoding")]
    assert completed == [], "refused, and yet it reached the upstream"


@pytest.mark.parametrize("plain", [False, True], ids=["tls", "plain"])
def test_one_refused_request_does_not_hide_the_next_connection(edge: Gateway, h1: Callable[..., Wire], plain: bool) -> None:
    wire = h1(edge, plain=plain)
    wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n")
    assert wire.read_response().status == 400
    assert h1(edge, plain=plain).get("/").status == 200


ACCEPTED = {
    "empty lines before the request": f"\r\n\r\nGET / HTTP/1.1\r\n{OK_HOST}\r\n",
    "content-length zero": f"{POST}Content-Length: 0\r\n\r\n",
    "chunked in capitals": f"{POST}Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "a short chunk extension": f"{CHUNKED}3;a=b\r\nabc\r\n0\r\n\r\n",
    "chunk size with leading zeros": f"{CHUNKED}0003\r\nabc\r\n000\r\n\r\n",
    "absolute form that agrees": f"GET https://localhost/ HTTP/1.1\r\n{OK_HOST}\r\n",
    "host in capitals with a port": "GET / HTTP/1.1\r\nHost: LOCALHOST:8443\r\n\r\n",
    "host with a trailing dot": "GET / HTTP/1.1\r\nHost: localhost.\r\n\r\n",
    "obs-text in a value": f"GET / HTTP/1.1\r\n{OK_HOST}X-A: \xe9\r\n\r\n",
    "unknown method": f"BREW / HTTP/1.1\r\n{OK_HOST}\r\n",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_merely_unusual_is_served(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    wire = h1(edge)
    wire.send(ACCEPTED[name].encode("latin-1"))
    assert wire.read_response().status == 200
    assert wire.get("/again").status == 200


def test_options_asterisk_is_answered_or_refused_but_never_misread(edge: Gateway, h1: Callable[..., Wire]) -> None:
    wire = h1(edge)
    wire.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert wire.read_response().status in (200, 204, 400, 404, 405, 501)


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "endless chunk extension"])
def test_byte_by_byte_makes_no_difference(edge: Gateway, h1: Callable[..., Wire], name: str) -> None:
    text, statuses = REFUSED[name]
    wire = h1(edge, plain=True)
    try:
        for octet in text.encode("latin-1"):
            wire.send(bytes([octet]))
    except ConnectionError:
        pass  # it was refused before we were done
    try:
        assert wire.read_response().status in statuses
    except ConnectionError:
        pass  # the refusal was overtaken by the reset that our late bytes caused
