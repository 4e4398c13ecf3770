from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import NEVER_IN_FIELDS
from edge.route.paths import normalise
from edge.settings.model import Address, Scheme
from edge.settings.syntax import (
    Bad,
    endpoint,
    field_name,
    field_value,
    host_name,
    listen_addresses,
    method,
    rewrite_path,
    route_path,
    target_template,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("API.Example.com.", "api.example.com"),
        ("*.Example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("a_b.internal", "a_b.internal"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_host_names(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("https://a.example/x", 'write "a.example"'),
        ("a.example:443", 'write "a.example"'),
        ("bücher.example", 'write "xn--bcher-kva.example"'),
        ("a.*.example", "*.example.com"),
        ("*", "*.example.com"),
        ("*a.example", "*.example.com"),
        ("", ""),
        ("a..b", ""),
        ("-a.example", ""),
        ("a b", ""),
        ("1.2.3", ""),
        ("a" * 64 + ".example", ""),
        ("a." * 130 + "b", ""),
        (".", ""),
    ],
)
def test_bad_host_names(text: str, mend: str) -> None:
    with pytest.raises(Bad) as caught:
        host_name(text)
    assert mend in caught.value.mend


def test_listen_addresses() -> None:
    assert listen_addresses(":8443") == (Address(host="0.0.0.0", port=8443), Address(host="::", port=8443))
    assert listen_addresses("127.0.0.1:80") == (Address(host="127.0.0.1", port=80),)
    assert listen_addresses("systemd:web") == (Address(passed="web"),)
    assert listen_addresses("[::1]:80") == (Address(host="::1", port=80),)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("443", 'write ":443"'),
        ("127.0.0.1", 'write "127.0.0.1:443"'),
        ("::1:80", "[::1]:80"),
        ("*:443", 'write ":443"'),
        ("localhost:80", 'write "127.0.0.1:80" or "[::1]:80"'),
        ("example.com:80", 'write ":80"'),
        (":0", ""),
        (":65536", ""),
        (":x", ""),
        (":٣", ""),
        ("[1.2.3.4]:80", "[2001:db8::1]:443"),
        ("[::1:80", "brackets"),
        ("", ""),
        (":", ""),
    ],
)
def test_bad_listen_addresses(text: str, mend: str) -> None:
    with pytest.raises(Bad) as caught:
        listen_addresses(text)
    assert mend in caught.value.mend or mend in str(caught.value)


@pytest.mark.parametrize(
    ("text", "scheme", "address"),
    [
        ("http://127.0.0.1:8000", Scheme.HTTP, Address(host="127.0.0.1", port=8000)),
        ("http://App.internal", Scheme.HTTP, Address(host="app.internal", port=80)),
        ("https://app.internal", Scheme.HTTPS, Address(host="app.internal", port=443)),
        ("h2c://[::1]:50051", Scheme.H2C, Address(host="::1", port=50051)),
        ("https://[2001:db8::1]", Scheme.HTTPS, Address(host="2001:db8::1", port=443)),
        ("unix:/run/app.sock", Scheme.HTTP, Address(path="/run/app.sock")),
        ("unix:///run/app.sock", Scheme.HTTP, Address(path="/run/app.sock")),
    ],
)
def test_endpoints(text: str, scheme: Scheme, address: Address) -> None:
    found = endpoint(text, 3)
    assert (found.scheme, found.address, found.weight, found.url) == (scheme, address, 3, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("127.0.0.1:8000", 'write "http://127.0.0.1:8000"'),
        ("tcp://a", 'write for example "tcp://a:5432"'),
        ("HTTP://a", 'write "http://a"'),
        ("h2://a", 'write "https://a"'),
        ("grpc://a", 'write "h2c://a"'),
        ("http://a/b", "strip_prefix"),
        ("http://a/", 'write "http://a"'),
        ("http://a?x", "no path"),
        ("http://user:pw@a", "Authorization"),
        ("http://", "names no host"),
        ("http://a:", "port is missing"),
        ("http://a:0", "1 to 65535"),
        ("http://a:99999999999999999999", "1 to 65535"),
        ("http://::1", "[::1]"),
        ("http://[::1", "brackets"),
        ("http://a b", "not a host name"),
        ("unix:app.sock", "absolute"),
        ("unix:/" + "a" * 107, "107 bytes"),
    ],
)
def test_bad_endpoints(text: str, words: str) -> None:
    with pytest.raises(Bad) as caught:
        endpoint(text)
    assert words in f"{caught.value} {caught.value.mend}"
    assert "pw" not in f"{caught.value} {caught.value.mend}"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/", ()),
        ("/v1/", ()),
        ("/v1", ()),
        ("/o/{id}", ("id",)),
        ("/{a}/x/{b}/", ("a", "b")),
        ("/a%20b", ()),
        ("/u:del;x=1", ()),
        ("/a%2520b", ()),
    ],
)
def test_route_paths(text: str, names: tuple[str, ...]) -> None:
    assert route_path(text) == (text, names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v1", 'write "/v1"'),
        ("", "begins with '/'"),
        ("/v1/*", 'write "/v1/"'),
        ("/a//b", 'write "/a/b"'),
        ("/a/../b", 'write "/b"'),
        ("/a/./", 'write "/a/"'),
        ("/%41", 'write "/A"'),
        ("/%c3%a9", 'write "/%C3%A9"'),
        ("/x%3ay", 'write "/x:y"'),
        ("/é", 'write "/%C3%A9"'),
        ("/a b", 'write "/a%20b"'),
        ("/a?x=1", "queries"),
        ("/a#b", "ends before '#'"),
        ("/%2f", "never accepted"),
        ("/%2541", "escaped twice"),
        ("/a%252e", "escaped twice"),
        ("/..;x", "parameters"),
        ("/a/.;x/", "parameters"),
        ("/%zz", 'write "/%25zz"'),
        ("/x{id}", "whole segment"),
        ("/{id", "whole segment"),
        ("/{1}", "whole segment"),
        ("/{a}/{a}", "two templates"),
        ("/a\\b", "cannot stand"),
    ],
)
def test_bad_route_paths(text: str, words: str) -> None:
    with pytest.raises(Bad) as caught:
        route_path(text)
    assert words in f"{caught.value} {caught.value.mend}"


@given(st.text(alphabet="/ab.%2fFcC31e0~:;!$&'()*+,=@-_ \"<", max_size=24).map(lambda text: "/" + text))
def test_an_accepted_path_is_what_requests_are_matched_by(text: str) -> None:
    try:
        path, _ = route_path(text)
    except Bad:
        return
    assert normalise(path.encode()).match == path


@given(st.text(max_size=30))
def test_readers_raise_nothing_but_bad(text: str) -> None:
    for read in (host_name, listen_addresses, endpoint, route_path, method, field_value):
        with contextlib.suppress(Bad):
            read(text)


def test_templates() -> None:
    assert rewrite_path("/x/{id}", ("id",)) == "/x/{id}"
    assert target_template("https://a{path_and_query}", ("path_and_query",), "redirect").startswith("https")
    for text in ("/{no}", "/{", "/}", "x"):
        with pytest.raises(Bad):
            rewrite_path(text, ("id",))


def test_methods_and_fields() -> None:
    assert method("PURGE") == "PURGE"
    assert field_name("X-Thing", setting=True) == b"x-thing"
    assert field_name("Strict-Transport-Security", setting=False) == b"strict-transport-security"
    assert field_value("a b\tc é") == "a b\tc é".encode()
    assert field_value("") == b""
    for bad in ("get", "", "A B", "CONNECT"):
        with pytest.raises(Bad):
            method(bad)
    for bad in ("", "a b", "a:", "Connection", "content-length", "Host", "Transfer-Encoding", "é", "Strict-Transport-Security"):
        with pytest.raises(Bad):
            field_name(bad, setting=True)
    for bad in (" a", "a ", "a\nb", "a\rb", "a\0b", "\x7f", "\ud800"):
        with pytest.raises(Bad):
            field_value(bad)


def test_no_rule_names_a_field_that_frames_a_message_or_belongs_to_a_connection() -> None:
    for name in NEVER_IN_FIELDS:
        for setting in (True, False):
            with pytest.raises(Bad):
                field_name(name.decode(), setting=setting)
