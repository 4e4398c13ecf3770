"""Routes: what they inherit, what is refused, and which listeners they hold on."""

from __future__ import annotations

import pytest

from edge.settings.load import Loaded
from edge.settings.model import Redirect, Respond, Route, Settings
from tests.settings.conftest import HOST, Load, told

URL = "http://127.0.0.1:8000"
UP = f'upstream = "{URL}"\n'
PLAIN = '[[listener]]\nname = "p"\naddress = ":8080"\ntls = "off"\n'
TLS = '[[listener]]\nname = "t"\naddress = ":8443"\n'


def fine(loaded: Loaded) -> Settings:
    assert loaded.settings is not None, told(loaded)
    return loaded.settings


def route(loads: Load, text: str) -> Route:
    return fine(loads(f'{HOST}[[route]]\nhost = "api.example.com"\n{text}')).routes[0]


def test_defaults(loads: Load) -> None:
    found = route(loads, UP)
    assert (found.path, found.methods, found.timeout, found.tunnel_idle_timeout) == ("/", None, None, 3600.0)
    assert (found.first_byte_timeout, found.between_bytes_timeout) == (60.0, 60.0)
    assert found.place.line == 4


def test_actions(loads: Load) -> None:
    assert route(loads, 'redirect = "https://b.example{path_and_query}"\n').redirect == Redirect(
        to="https://b.example{path_and_query}"
    )
    assert route(loads, 'redirect = { to = "/x", status = 302 }\n').redirect == Redirect(to="/x", status=302)
    template = 'path = "/u/{id}"\nredirect = "{scheme}://b.example/{id}?{query}"\n'
    assert route(loads, template).redirect == Redirect(to="{scheme}://b.example/{id}?{query}")
    assert route(loads, 'respond = { body = "ok\\n" }\n').respond == Respond(body=b"ok\n")


def test_several_upstreams(loads: Load) -> None:
    text = (
        f'upstream = [{{ name = "a", weight = 95 }}, "{URL}"]\n[upstream.a]\nendpoints = "http://a"\nfirst_byte_timeout = "90s"\n'
    )
    text += 'between_bytes_timeout = "off"\n'
    found = route(loads, text)
    assert [(target.upstream.name, target.weight) for target in found.targets] == [("a", 95), (URL, 1)]
    assert (found.first_byte_timeout, found.between_bytes_timeout) == (90.0, None)


def test_a_route_overrides_its_upstream(loads: Load) -> None:
    found = route(loads, UP + 'first_byte_timeout = "off"\nbetween_bytes_timeout = "5s"\ntimeout = "30s"\n')
    assert (found.first_byte_timeout, found.between_bytes_timeout, found.timeout) == (None, 5.0, 30.0)


def test_paths_and_their_change(loads: Load) -> None:
    assert route(loads, UP + 'path = "/v2/"\nstrip_prefix = "/v2/"\n').strip_prefix == "/v2"
    assert route(loads, UP + 'path = "/o/{id}"\nrewrite = "/orders/{id}"\n').rewrite == "/orders/{id}"
    assert route(loads, UP + 'upstream_host = "Inner.example:8080"\n').upstream_host == "inner.example:8080"


def test_header_rules_are_merged_name_by_name(loads: Load) -> None:
    top = '[response_headers]\nset = { A = "1", B = "1" }\nremove = ["Server", "X"]\n'
    text = top + HOST + 'response_headers = { set = { b = "2" }, add = { C = ["x", "y"] } }\n'
    text += f'[[route]]\nhost = "api.example.com"\n{UP}response_headers = {{ set = {{ D = "3" }}, remove = "Y" }}\n'
    text += f'[[route]]\nhost = "api.example.com"\npath = "/n"\n{UP}response_headers = "none"\n'
    first, second = fine(loads(text)).routes
    assert dict(first.response_headers.set) == {b"a": b"1", b"b": b"2", b"d": b"3"}
    assert first.response_headers.add == ((b"c", b"x"), (b"c", b"y"))
    assert first.response_headers.remove == frozenset({b"y"})
    assert second.response_headers.set == ()
    assert second.response_headers.remove == frozenset()


def test_limits_are_merged(loads: Load) -> None:
    text = '[limits]\nbody_timeout = "1s"\nidle_timeout = "7s"\n' + HOST + 'limits = { request_body = "1KiB" }\n'
    text += f'[[route]]\nhost = "api.example.com"\n{UP}limits = {{ body_min_rate = "off" }}\n'
    found = fine(loads(text)).routes[0].limits
    assert (found.body_timeout, found.request_body, found.body_min_rate, found.idle_timeout) == (1.0, 1024, None, 7.0)


def test_listeners_with_limits_of_their_own_split_a_route(loads: Load) -> None:
    text = TLS + '[listener.limits]\nrequest_body = "1KiB"\n' + PLAIN + HOST + UP
    routes = {found.listeners: found.limits.request_body for found in fine(loads(text)).routes}
    assert routes == {("t",): 1024, ("p",): 10 * 1024 * 1024}


def test_hsts_of_routes(loads: Load) -> None:
    assert route(loads, UP).hsts is not None
    assert route(loads, UP + 'hsts = "none"\n').hsts is None
    found = route(loads, UP + 'hsts = { max_age = "1d" }\n').hsts
    assert found is not None
    assert found.max_age == 86_400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a route that leads nowhere"),
        (UP + 'redirect = "/x"\n', "a route with upstream and redirect: which one answers?"),
        ('upstream = "app"\n', "there is no [upstream.app] | write [upstream.app] with endpoints"),
        ('upstream = "127.0.0.1:80"\n', 'write "http://127.0.0.1:80"'),
        ("upstream = []\n", "a list without an upstream"),
        (f'upstream = ["{URL}", "{URL}"]\n', "stands here twice"),
        ('upstream = "tcp://a:1"\n', "tcp://a:1 takes bytes, and requests are to go there"),
        (UP + 'path = "x"\n', "a path begins with '/'"),
        (UP + 'path = "/x/"\nstrip_prefix = "/y"\n', "'/y' is not the beginning of the path /x/"),
        (UP + 'path = "/xy"\nstrip_prefix = "/x"\n', "'/x' is not the beginning of the path /xy"),
        (UP + 'strip_prefix = "/{a}"\npath = "/{a}/"\n', "a prefix holds no templates"),
        (UP + 'path = "/x/"\nstrip_prefix = "/x"\nrewrite = "/y"\n', "strip_prefix and rewrite together"),
        (UP + 'path = "/x/{a}"\nrewrite = "/y/{b}"\n', "rewrite: {b} is not known | there is: {a}"),
        (UP + 'rewrite = "/a/../b"\n', 'write "/b"'),
        (UP + 'methods = ["get"]\n', 'write "GET"'),
        (UP + "methods = []\n", "a list without a method"),
        (UP + 'headers = { "a b" = "x" }\n', "'a b' is not a header field's name"),
        (UP + 'headers = { Host = "x" }\n', "write host in the route"),
        (UP + 'request_headers = { set = { Connection = "x" } }\n', "'Connection' frames the message"),
        (UP + 'response_headers = { add = { Content-Length = "1" } }\n', "'Content-Length' frames the message"),
        (UP + 'response_headers = { remove = "Transfer-Encoding" }\n', "'Transfer-Encoding' frames the message"),
        (UP + 'request_headers = { set = { Proxy = "x" } }\n', "'Proxy' frames the message or belongs to one connection"),
        (UP + 'request_headers = { set = { Host = "x" } }\n', "write upstream_host in the route"),
        (UP + 'response_headers = { set = { Strict-Transport-Security = "x" } }\n', "write hsts"),
        (UP + 'response_headers = { add = { A = "x\\n" } }\n', "control character"),
        (UP + 'response_headers = { remove = "a:" }\n', "not a header field's name"),
        (UP + 'upstream_host = "a b"\n', "not a host name"),
        (UP + 'upstream_host = "a:0"\n', "a port is a number"),
        ('redirect = "example.com"\n', 'write "https://example.com"'),
        ('redirect = "/{no}"\n', "redirect: {no} is not known | there is: {scheme}, {host}, {path}, {query}, {path_and_query}"),
        ('redirect = "/a b"\n', "cannot stand in a URL"),
        ('redirect = { to = "/", status = 200 }\n', "200 is not possible here | write 301 or 302 or 303 or 307 or 308"),
        ('respond = { status = 204, body = "x" }\n', "an answer with status 204 has no body"),
        ("respond = { status = 101 }\n", "101 is too little | write 200 or more"),
        ('respond = { content_type = "a\\n" }\n', "not a media type"),
        (UP + 'limits = { header_bytes = "1KiB" }\n', "'header_bytes' is decided before the route is known"),
        ('respond = {}\ntimeout = "1s"\n', "warning: 'timeout' means nothing in a route without upstream"),
        (UP + 'listeners = "no"\n', "there is no listener 'no'"),
        (UP + 'listeners = "http"\n', "listener 'http' only redirects"),
    ],
)
def test_what_is_refused(loads: Load, text: str, words: str) -> None:
    found = told(loads(f'{HOST}[[route]]\nhost = "api.example.com"\n{text}'))
    assert any(words in line for line in found), found


def test_equal_routes_name_both_places(loads: Load) -> None:
    both = f'[[route]]\nhost = "api.example.com"\npath = "/o/{{a}}"\n{UP}'
    both += f'[[route]]\nhost = "API.example.com"\npath = "/o/{{b}}"\n{UP}'
    (line,) = told(loads(HOST + both))
    assert line.startswith("8:1:9 error: the same requests match here and at ")
    assert "edge.toml:4 |" in line
    host_and_route = told(loads(HOST + UP + f'[[route]]\nhost = "api.example.com"\n{UP}'))
    assert "the same requests match here and at" in host_and_route[0]


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ('methods = ["GET"]\n', "", False),
        ('methods = ["GET"]\n', 'methods = ["POST"]\n', False),
        ('methods = ["GET", "POST"]\n', 'methods = ["POST"]\n', True),
        ('headers = { A = "1" }\n', 'headers = { A = "2" }\n', False),
        ('headers = { A = "1" }\n', 'headers = { a = "1" }\n', True),
        ('path = "/a"\n', 'path = "/a/"\n', False),
    ],
)
def test_which_routes_are_equal(loads: Load, first: str, second: str, equal: bool) -> None:
    loaded = loads(f"{HOST}[[route]]\n{UP}{first}[[route]]\n{UP}{second}")
    assert (loaded.settings is None) is equal


def test_a_route_that_names_its_listeners_goes_first(loads: Load) -> None:
    text = TLS + PLAIN + HOST + f'[[route]]\n{UP}[[route]]\nlisteners = "p"\nrespond = {{}}\n'
    first, second = fine(loads(text)).routes
    assert (first.listeners, second.listeners) == (("t",), ("p",))


def test_a_host_that_no_host_block_names(loads: Load) -> None:
    found = told(loads(f'{HOST}{UP}[[route]]\nhost = "api.example.co"\n{UP}'))
    assert "5:8:16 error: no [[host]] is called 'api.example.co' | write \"api.example.com\"" in found[0].replace("6:8", "5:8")
    plain = fine(loads(f'{TLS}{PLAIN}{HOST}{UP}[[route]]\nhost = "partner.example"\n{UP}')).routes
    assert plain[1].listeners == ("p",)
    found = told(loads(f'{TLS}{PLAIN}{HOST}{UP}[[route]]\nlisteners = "t"\nhost = "partner.example"\n{UP}'))
    assert "no [[host]] is called 'partner.example'" in found[0]


def test_wildcards(loads: Load) -> None:
    host = HOST.replace("api.example.com", "*.mesh.internal")
    text = f'{host}[[route]]\nhost = "a.mesh.internal"\n{UP}[[route]]\nhost = "*.mesh.internal"\n{UP}'
    assert [found.listeners for found in fine(loads(text)).routes] == [("https",), ("https",)]
    narrow = HOST.replace("api.example.com", "a.mesh.internal")
    assert fine(loads(f'{narrow}[[route]]\nhost = "*.mesh.internal"\n{UP}')).routes[0].listeners == ("https",)
    assert "no [[host]] is called '*.example.org'" in told(loads(f'{HOST}{UP}[[route]]\nhost = "*.example.org"\n{UP}'))[0]


def test_a_route_of_an_mtls_host_never_holds_on_a_plain_listener(loads: Load) -> None:
    mtls = HOST + 'client_auth = { trust = "mesh" }\n' + '[trust.mesh]\nca = "ca.pem"\n'
    assert fine(loads(f'{TLS}{PLAIN}{mtls}[[route]]\nhost = "api.example.com"\n{UP}')).routes[0].listeners == ("t",)
    found = told(loads(f'{TLS}{PLAIN}{mtls}[[route]]\nhost = "api.example.com"\nlisteners = ["t", "p"]\n{UP}'))
    assert "api.example.com asks for client certificates, and listener 'p' is plain" in found[0]


def test_hsts_needs_a_host(loads: Load) -> None:
    assert "hsts belongs to a host" in told(loads(f'{HOST}[[route]]\n{UP}hsts = "none"\n'))[0]


def test_a_host_with_several_names_has_a_route_for_each(loads: Load) -> None:
    host = HOST.replace('["api.example.com"]', '["api.example.com", "www.example.com"]')
    assert [found.host for found in fine(loads(host + UP)).routes] == ["api.example.com", "www.example.com"]
