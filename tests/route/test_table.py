"""The route table: the order of its routes, and that it agrees with a matcher that tries every route."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Fault, MethodNotAllowed
from edge.http.message import Fields
from edge.route.paths import normalise
from edge.route.table import Match, RouteTable
from edge.settings.model import Listener, Route
from tests.builders import fault_of, listener, route, settings

TLS = listener("tls")


def table(*routes: Route, on: Listener = TLS) -> RouteTable:
    return RouteTable(settings(*routes), on)


def find(made: RouteTable, path: bytes, host: str = "example.com", method: bytes = b"GET", fields: Fields | None = None) -> Match:
    return made.match(host, normalise(path), method, fields or [])


def found(made: RouteTable, path: bytes, host: str = "example.com", method: bytes = b"GET", fields: Fields | None = None) -> str:
    """The path of the route that is found, or the kind of the fault."""
    try:
        return find(made, path, host, method, fields).route.path
    except Fault as fault:
        return fault.kind


# -- paths ---------------------------------------------------------------------------------------------------------------


def test_exact_then_template_then_longest_prefix() -> None:
    made = table(route("/"), route("/v1/"), route("/v1/orders/{id}"), route("/v1/orders/new"), route("/v1/orders/"))
    assert found(made, b"/v1/orders/new") == "/v1/orders/new"
    assert found(made, b"/v1/orders/7") == "/v1/orders/{id}"
    assert found(made, b"/v1/orders/7/lines") == "/v1/orders/"
    assert found(made, b"/v1/x") == "/v1/"
    assert found(made, b"/x") == "/"


def test_a_prefix_also_matches_itself_without_its_slash_and_only_whole_segments() -> None:
    made = table(route("/v1/"))
    assert found(made, b"/v1") == "/v1/"
    assert found(made, b"/v1/") == "/v1/"
    assert found(made, b"/v1x") == "no-route"
    assert found(made, b"/") == "no-route"


def test_a_path_without_a_slash_at_its_end_means_exactly_this() -> None:
    made = table(route("/ping"))
    assert found(made, b"/ping") == "/ping"
    assert found(made, b"/ping/") == "no-route"
    assert found(made, b"/ping/x") == "no-route"


def test_an_exact_path_goes_before_the_prefix_of_the_same_name() -> None:
    made = table(route("/v1"), route("/v1/"))
    assert found(made, b"/v1") == "/v1"
    assert found(made, b"/v1/") == "/v1/"


def test_templates_prefer_literal_segments_and_try_again() -> None:
    made = table(route("/a/{x}/c"), route("/a/b/{y}"), route("/a/{x}/{z}"), route("/a/b/d/e"))
    assert found(made, b"/a/b/c") == "/a/b/{y}"
    assert found(made, b"/a/q/c") == "/a/{x}/c"
    assert found(made, b"/a/q/r") == "/a/{x}/{z}"
    assert found(table(route("/a/b/{y}/d"), route("/a/{x}/c")), b"/a/b/c") == "/a/{x}/c"


def test_a_template_segment_is_one_segment_and_not_empty() -> None:
    made = table(route("/u/{id}"))
    assert found(made, b"/u/") == "no-route"
    assert found(made, b"/u/1/2") == "no-route"
    assert found(made, b"/u/1/") == "no-route"


def test_values_are_those_of_the_normal_form() -> None:
    made = table(route("/u/{id}/x/{name}"))
    assert find(made, b"//u///a%2cb%41/x/c%20d").params == {"id": "a%2CbA", "name": "c%20d"}
    assert find(made, b"/u/1/x/2").params == {"id": "1", "name": "2"}
    assert find(table(route("/u/1")), b"/u/1").params is None


def test_prefixes_with_names_compete_by_their_segments() -> None:
    made = table(route("/t/{id}/"), route("/t/me/"), route("/t/"), route("/t/{id}/files/"), route("/t/{id}/files/{f}"))
    assert found(made, b"/t/7/x") == "/t/{id}/"
    assert found(made, b"/t/7") == "/t/{id}/"
    assert found(made, b"/t/me/x") == "/t/me/"
    assert found(made, b"/t/me/files/a/b") == "/t/{id}/files/"
    assert found(made, b"/t/me/files/a") == "/t/{id}/files/{f}"
    assert found(made, b"/t/") == "/t/"
    assert find(made, b"/t/7/x/y").params == {"id": "7"}


def test_routes_are_written_as_requests_are_read() -> None:
    made = table(route("/café/a b"), route("/x;y/"), route("/%7euser"), route("/c/{n}/ü"))
    assert found(made, b"/caf%c3%a9/a%20b") == "/café/a b"
    assert found(made, b"/x%3By/z") == "/x;y/"
    assert found(made, b"/~user") == "/%7euser"
    assert found(made, b"/c/1/%C3%BC") == "/c/{n}/ü"


def test_doubled_slashes_match_as_one() -> None:
    assert found(table(route("/a/b")), b"//a//b") == "/a/b"


def test_the_whole_server_is_matched_as_its_root() -> None:
    assert found(table(route("/")), b"*", method=b"OPTIONS") == "/"


# -- hosts ---------------------------------------------------------------------------------------------------------------


def test_exact_host_then_wildcard_then_none() -> None:
    made = table(
        route("/x", "a.example.com"),
        route("/w", "*.example.com"),
        route("/x", "*.example.com", name="w"),
        route("/ping"),
        route("/x", name="n"),
    )
    assert find(made, b"/x", "a.example.com").route.host == "a.example.com"
    assert find(made, b"/x", "b.example.com").route.host == "*.example.com"
    assert find(made, b"/x", "other.org").route.host is None
    assert find(made, b"/w", "a.example.com").route.host == "*.example.com"
    assert found(made, b"/ping", "a.example.com") == "/ping"
    assert found(made, b"/ping", "b.example.com") == "/ping"
    assert found(made, b"/w", "c.b.example.com") == "no-route"
    assert found(made, b"/w", "example.com") == "no-route"


def test_an_exact_path_without_a_host_answers_on_hosts_that_have_a_route_for_everything() -> None:
    made = table(route("/", "a.example.com"), route("/own", "a.example.com"), route("/ping"), route("/own"), route("/v1/"))
    assert found(made, b"/ping", "a.example.com") == "/ping"
    assert find(made, b"/own", "a.example.com").route.host == "a.example.com"
    assert find(made, b"/v1/x", "a.example.com").route.host == "a.example.com"


def test_a_wider_host_does_not_answer_for_a_path_that_lacks_the_method() -> None:
    made = table(route("/x", "a.example.com", methods="GET"), route("/x"))
    assert found(made, b"/x", "a.example.com", b"POST") == "method-not-allowed"
    assert found(made, b"/x", "b.example.com", b"POST") == "/x"


def test_only_the_listeners_routes() -> None:
    made = table(route("/a", listeners=("tls",)), route("/b", listeners=("egress",)))
    assert found(made, b"/a") == "/a"
    assert found(made, b"/b") == "no-route"
    assert find(made, b"/a").index == 0
    assert find(table(route("/b", listeners=("x",)), route("/a")), b"/a").index == 1


def test_a_table_without_routes() -> None:
    fault = fault_of(find, table(), b"/")
    assert (fault.kind, fault.status) == ("no-route", 404)


# -- conditions ------------------------------------------------------------------------------------------------------------


def test_methods() -> None:
    made = table(route("/o", methods="GET PUT"), route("/o", methods="DELETE"))
    assert found(made, b"/o", method=b"PUT") == "/o"
    assert found(made, b"/o", method=b"HEAD") == "/o"
    fault = fault_of(find, made, b"/o", method=b"POST")
    assert isinstance(fault, MethodNotAllowed)
    assert (fault.status, fault.allow) == (405, b"DELETE, GET, HEAD, PUT")


def test_a_path_that_lacks_the_method_is_taken() -> None:
    made = table(route("/admin/", methods="GET"), route("/"))
    assert found(made, b"/admin/x", method=b"DELETE") == "method-not-allowed"


def test_the_route_with_more_conditions_is_asked_first() -> None:
    beta = route("/", name="beta", match_headers=((b"x-beta", b"1"),))
    any_beta = route("/", name="any", match_headers=((b"x-beta", b"*"), (b"x-team", b"a")))
    made = table(route("/", name="main"), beta, any_beta, route("/", name="gets", methods="GET"))

    def name(fields: Fields, method: bytes = b"GET") -> str:
        return find(made, b"/q", method=method, fields=fields).route.targets[0].upstream.name

    assert name([]) == "gets"
    assert name([], b"POST") == "main"
    assert name([(b"x-beta", b"1")]) == "beta"
    assert name([(b"x-beta", b"2")], b"PUT") == "main"
    assert name([(b"x-beta", b"2"), (b"x-team", b"a")]) == "any"
    assert name([(b"x-beta", b"0"), (b"x-beta", b"1")]) == "beta"


def test_a_route_whose_headers_do_not_match_does_not_exist() -> None:
    made = table(route("/x", match_headers=((b"x-beta", b"1"),), methods="GET"), route("/"))
    assert found(made, b"/x", fields=[(b"x-beta", b"1")]) == "/x"
    assert found(made, b"/x") == "/"
    assert found(made, b"/x", method=b"POST") == "/"
    assert found(made, b"/x", method=b"POST", fields=[(b"x-beta", b"1")]) == "method-not-allowed"
    assert found(made, b"/x", fields=[(b"x-beta", b"1")]) == "/x", "and nothing of this was remembered"


def test_the_order_in_the_file_does_not_matter() -> None:
    routes = [
        route("/", match_headers=((b"a", b"1"),)), route("/", match_headers=((b"b", b"1"),)), route("/", methods="GET"),
        route("/", methods="GET POST"),
    ]  # fmt: skip
    fields = [(b"a", b"1"), (b"b", b"1")]
    for wanted, given_fields in ((routes[0], fields), (routes[2], [])):
        assert find(table(*routes), b"/", fields=given_fields).route == wanted
        assert find(table(*reversed(routes)), b"/", fields=given_fields).route == wanted


# -- the memo --------------------------------------------------------------------------------------------------------------


def test_results_are_shared_and_bounded() -> None:
    made = table(route("/{id}"))
    assert find(made, b"/1") is find(made, b"/1")
    assert find(made, b"/1") is not find(made, b"/1", method=b"PUT")
    for number in range(3000):
        find(made, b"/%d" % number)
    assert len(made._memo) <= 1024
    long = b"/" + b"l" * 1000
    assert find(made, long) is not find(made, long)


def test_escapes_that_match_alike_keep_their_own_values() -> None:
    made = table(route("/{id}"))
    assert find(made, b"/a%2cb").params == {"id": "a%2Cb"}
    assert find(made, b"/a,b").params == {"id": "a,b"}


# -- explain ---------------------------------------------------------------------------------------------------------------


def test_explain_says_what_was_decided_about_each() -> None:
    made = table(
        route("/a/{x}", match_headers=((b"x-beta", b"1"),)),
        route("/a/{x}", methods="GET"),
        route("/a/"),
        route("/z"),
        route("/a/", "other.org"),
    )
    assert [(one.route.path, one.verdict) for one in made.explain("example.com", normalise(b"/a/b"), b"GET", [])] == [
        ("/a/{x}", "header x-beta does not match"),
        ("/a/{x}", "chosen"),
        ("/a/", "less specific"),
    ]
    assert [one.verdict for one in made.explain("example.com", normalise(b"/a/b"), b"PUT", [])] == [
        "header x-beta does not match",
        "method PUT is not among its methods",
        "less specific than a path that lacks the method",
    ]


# -- against a matcher that tries every route ----------------------------------------------------------------------------------

_PARTS = ["a", "b", "{x}"]
_paths = st.tuples(st.lists(st.sampled_from(_PARTS), max_size=4), st.booleans()).map(
    lambda parts: (
        "/"
        + "/".join(f"{{x{at}}}" if part == "{x}" else part for at, part in enumerate(parts[0]))
        + ("/" if parts[1] and parts[0] else "")
    )
)
_routes = st.builds(
    lambda path, host, methods, headers: route(path, host, methods=methods, match_headers=headers),
    _paths,
    st.sampled_from([None, "h.example.com", "*.example.com"]),
    st.sampled_from(["", "GET", "PUT", "GET PUT"]),
    st.sampled_from([(), ((b"k", b"1"),), ((b"k", b"*"), (b"l", b"1"))]),
)
_requests = st.tuples(
    st.sampled_from(["h.example.com", "o.example.com", "else.org"]),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=5),
    st.booleans(),
    st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST"]),
    st.sampled_from([[], [(b"k", b"1")], [(b"k", b"2"), (b"l", b"1")]]),
)


def _path_rank(pattern: str, path: str) -> tuple[object, ...] | None:
    """None when `path` does not match; else what sorts the most specific pattern first."""
    prefix = pattern.endswith("/")
    wanted = [part for part in pattern.split("/") if part]
    parts = path[1:].split("/")
    if prefix:
        if len(parts) < len(wanted):
            return None
        parts = parts[: len(wanted)]
    elif len(parts) != len(wanted) and pattern != path:
        return None
    shape = []
    for want, part in zip(wanted, parts, strict=False):
        if want.startswith("{"):
            if not part:
                return None
            shape.append(1)
        elif want == part:
            shape.append(0)
        else:
            return None
    templated = 1 in shape
    return (2, -len(wanted), templated, shape) if prefix else (1 if templated else 0, shape)


def _naive(routes: list[Route], host: str, path: str, method: bytes, fields: Fields) -> object:
    wildcard = "*." + host.partition(".")[2]
    ranked = []
    for one in routes:
        if one.host not in (host, wildcard, None):
            continue
        rank = _path_rank(one.path, path)
        if rank is None:
            continue
        names = {name: [value for other, value in fields if other == name] for name, _ in one.match_headers}
        if any(value not in names[name] if value != b"*" else not names[name] for name, value in one.match_headers):
            continue
        host_rank = [host, wildcard, None].index(one.host)
        conditions = len(one.match_headers) + (one.methods is not None)
        ranked.append(((rank[0] != 0, host_rank, *rank), -conditions, -len(one.match_headers), one))
    if not ranked:
        return 404
    best_path = min(entry[0] for entry in ranked)
    taking = []
    for where, conditions, headers, one in ranked:
        if where == best_path:
            methods = one.methods
            if methods is None or method.decode() in methods or (method == b"HEAD" and "GET" in methods):
                taking.append((conditions, headers, one))
    if not taking:
        return 405
    best = min(entry[:2] for entry in taking)
    return [one for *conditions, one in taking if tuple(conditions) == best]


@given(st.lists(_routes, max_size=12), st.lists(_requests, min_size=1, max_size=8))
def test_the_table_agrees_with_trying_every_route(
    routes: list[Route], requests: list[tuple[str, list[str], bool, bytes, Fields]]
) -> None:
    made = table(*routes)
    for host, parts, slash, method, fields in requests * 2:  # the second time from the memo
        path = "/" + "/".join(parts) + ("/" if slash and parts else "")
        expected = _naive(routes, host, path, method, fields)
        actual: object
        try:
            actual = made.match(host, normalise(path.encode()), method, fields).route
        except Fault as fault:
            actual = fault.status
        if isinstance(actual, int):
            assert actual == expected
            assert not any(one.verdict == "chosen" for one in made.explain(host, normalise(path.encode()), method, fields))
        else:
            assert isinstance(expected, list)
            assert actual in expected
            chosen = [
                one.route for one in made.explain(host, normalise(path.encode()), method, fields) if one.verdict == "chosen"
            ]
            assert chosen == [actual]
