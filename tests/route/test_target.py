"""Where requests go: upstream targets, redirects, weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Side
from edge.route.paths import normalise
from edge.route.table import Match, RouteTable
from edge.route.target import pick_target, redirect_https, redirect_location, upstream_target
from edge.settings.model import Redirect, Route, RoutePaths, Target
from tests.builders import fault_of, listener, route, settings, upstream


def sent(made: Route, target: bytes) -> bytes:
    """What the upstream receives for a request that matches `made`."""
    path = normalise(target)
    match = RouteTable(settings(made), listener("tls")).match("example.com", path, b"GET", [])
    return upstream_target(match, path)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", b"/"),
        (b"/a/../b?x=%2f..", b"/b?x=%2f.."),
        (b"/a?", b"/a?"),
        (b"//a//%7e", b"//a//~"),
        (b"*", b"*"),
    ],
)
def test_the_normalised_path_and_the_query_as_it_came(target: bytes, expected: bytes) -> None:
    assert sent(route("/"), target) == expected


def test_raw_paths_are_matched_in_the_normal_form_and_sent_untouched() -> None:
    made = route("/a/", paths=RoutePaths.RAW, strip_prefix="/a")
    assert sent(made, b"/x/../a/%7e//b?q") == b"/x/../a/%7e//b?q"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v2/x/y", b"/x/y"),
        (b"/v2", b"/"),
        (b"/v2/", b"/"),
        (b"/v2?a", b"/?a"),
        (b"//v2//x//y", b"/x//y"),
        (b"/v2//evil.example", b"/evil.example"),
        (b"/%76%32/x%2c", b"/x%2C"),
    ],
)
def test_strip_prefix(target: bytes, expected: bytes) -> None:
    assert sent(route("/v2/", strip_prefix="/v2"), target) == expected
    assert sent(route("/v2/", strip_prefix="/v2/"), target) == expected


def test_strip_prefix_removes_whole_segments_only() -> None:
    made = route("/", strip_prefix="/v2")
    assert sent(made, b"/v2x/y") == b"/v2x/y"
    assert sent(made, b"/a/v2") == b"/a/v2"


def test_strip_prefix_reads_escapes_as_routes_do() -> None:
    assert sent(route("/a:b/", strip_prefix="/a:b"), b"/a%3ab/c") == b"/c"


def test_rewrite_puts_the_values_in_as_they_stand() -> None:
    made = route("/v1/orders/{id}/{part}", rewrite="/o/{part}/é/{id}.json")
    assert sent(made, b"/v1/orders/a%20b%3fc/x?q=1") == b"/o/x/%C3%A9/a%20b%3Fc.json?q=1"


def test_rewrite_of_a_prefix_keeps_what_is_below_it() -> None:
    made = route("/old/", rewrite="/new/")
    assert sent(made, b"/old/a//b") == b"/new/a//b"
    assert sent(made, b"/old") == b"/new/"
    assert sent(made, b"//old//a") == b"/new/a"
    assert sent(route("/t/{id}/", rewrite="/tenant-{id}/"), b"/t/5/a/b") == b"/tenant-5/a/b"
    assert sent(route("/old/", rewrite="/gone"), b"/old/a") == b"/gone"


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_a_value_never_leaves_its_segment(value: bytes, query: bytes) -> None:
    target = b"/u/" + b"".join(b"%%%02x" % byte for byte in value if byte not in b"/\\\x00%") + b"z"
    result = sent(route("/u/{id}", rewrite="/x/{id}/y"), target)
    assert result.count(b"/") == 3
    assert b"?" not in result and b"#" not in result


# -- redirects -------------------------------------------------------------------------------------------------------------


def location(
    to: str, target: bytes = b"/a/b?c=d", authority: bytes = b"example.com:8443", params: dict[str, str] | None = None
) -> bytes:
    return redirect_location(Redirect(to=to), True, authority, normalise(target), params)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("https://api.example.com{path_and_query}", b"https://api.example.com/a/b?c=d"),
        ("https://new.{host}{path}", b"https://new.example.com/a/b"),
        ("{scheme}://{host}/s?{query}", b"https://example.com/s?c=d"),
        ("/fixed", b"/fixed"),
        ("/é x#part", b"/%C3%A9%20x#part"),
    ],
)
def test_redirects(to: str, expected: bytes) -> None:
    assert location(to) == expected


def test_a_redirect_uses_the_templates_names() -> None:
    assert location("/users/{id}", params={"id": "7%20"}) == b"/users/7%20"


def test_a_path_that_begins_with_two_slashes_does_not_become_a_host() -> None:
    assert location("{path_and_query}", b"//evil.example/x?y") == b"/evil.example/x?y"


def test_a_redirect_without_a_query_has_no_question_mark() -> None:
    assert location("https://x{path_and_query}", b"/a") == b"https://x/a"
    assert location("https://x{path_and_query}", b"/a?") == b"https://x/a?"
    assert location("https://x{path_and_query}", b"*") == b"https://x/"


def test_texts_are_cut_once_and_the_memo_is_bounded() -> None:
    for number in range(1100):
        assert location(f"/{number}{{path}}") == b"/%d/a/b" % number


def test_an_address_keeps_its_brackets() -> None:
    assert location("https://{host}{path}", b"/", b"[::1]:80") == b"https://[::1]/"


@given(st.binary(max_size=20))
def test_nothing_in_a_location_ends_the_field(query: bytes) -> None:
    path = normalise(b"/a")
    path = type(path)(path.raw, path.normal, path.match, query, has_query=True)
    made = redirect_location(Redirect(to="/x{path_and_query}"), False, b"h", path, None)
    assert all(0x21 <= byte <= 0x7E for byte in made)
    assert all(0x21 <= byte <= 0x7E for byte in redirect_https(b"h", 443, b"/" + query))


def test_what_no_uri_may_hold_is_escaped_in_a_location() -> None:
    escaped = b"%22%3C%3E%5C%5E%60%7B%7C%7D"
    assert redirect_https(b"h", 443, b'/?"<>\\^`{|}') == b"https://h/?" + escaped
    assert location("https://x{path_and_query}", b'/a?"<>\\^`{|}') == b"https://x/a?" + escaped


def test_redirect_to_https() -> None:
    assert redirect_https(b"example.com:80", 443, b"/a?b") == b"https://example.com/a?b"
    assert redirect_https(b"example.com", 8443, b"//evil/") == b"https://example.com:8443//evil/"
    assert redirect_https(b"[::1]:8080", 8443, b"*") == b"https://[::1]:8443/"


def test_redirect_to_https_needs_a_host() -> None:
    fault = fault_of(redirect_https, b"", 443, b"/")
    assert (fault.kind, fault.status) == ("missing-host", 400)


# -- weights ---------------------------------------------------------------------------------------------------------------

MAIN, CANARY, OFF = (
    Target(upstream=upstream("a"), weight=95),
    Target(upstream=upstream("b"), weight=5),
    Target(upstream=upstream("c"), weight=0),
)


def test_weights_are_shares() -> None:
    chosen = [pick_target((OFF, MAIN, OFF, CANARY), step / 1000).name for step in range(1000)]
    assert (chosen.count("a"), chosen.count("b"), chosen.count("c")) == (950, 50, 0)
    assert pick_target((MAIN,), 0.5).name == "a"


@pytest.mark.parametrize("targets", [(OFF,), (OFF, OFF)])
def test_no_weight_is_no_upstream(targets: tuple[Target, ...]) -> None:
    fault = fault_of(pick_target, targets, 0.5)
    assert (fault.side, fault.kind, fault.status) == (Side.EDGE, "no-upstream", 503)


def test_a_match_shows_itself() -> None:
    assert repr(Match(route("/{id}", "h"), 0, {"id": "1"})) == "<Match h/{id} {'id': '1'}>"
