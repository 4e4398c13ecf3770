"""Which route serves a request, compiled at load so that a thousand routes cost what one costs.

The order, and what it leaves open decided:

* Hosts: the routes of the exact name, then those of its wildcard, then those without a host. A host whose routes do not
  have the path falls through to the next of the three.
* Exact paths first, those of all three: `/ping` without a host answers on every host, also on one that has a route for
  `/`, which nearly every host has. A host's own `/ping` still goes first.
* Then, within a host: templates (a literal segment before `{name}`, from the left), then the longest prefix;
  a prefix may hold `{name}` too and is then as long as its segments are many, a literal one first among equals.
* Conditions on one path: the route with more of them is asked first (each header is one, `methods` is one). A route whose
  headers do not match does not exist for the request, and the search goes on to shorter paths and further hosts.
  Methods are not like that: once a path has a route whose headers match, the path is taken, and a method that it lacks is
  a 405. If it fell through, `methods = ["GET"]` on a narrow path would protect nothing.
* `methods = ["GET"]` allows HEAD: who can GET may HEAD (RFC 9110 section 9.3.2), and Allow says so.

Work per request is bounded by the settings, not by the request: prefixes are probed only as deep as the deepest one, and a
walk through the templates visits each of its nodes at most once. Results without header conditions are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge.errors import Fault, MethodNotAllowed, Side
from edge.http.message import Fields
from edge.route.paths import Path, escape_text, normalise
from edge.settings.model import Listener, Route, Settings
from edge.settings.names import NameIndex

__all__ = ["Considered", "Match", "RouteTable"]

_MEMO_SIZE = 1024
_MEMO_LENGTH = 256  # bytes of a path that is worth remembering


class Match:
    """The route for a request. May be shared between requests: do not change it."""

    __slots__ = ("index", "params", "route")

    def __init__(self, route: Route, index: int, params: dict[str, str] | None) -> None:
        self.route = route
        self.index = index  # the route's place in `settings.routes`, for what is compiled beside it
        self.params = params  # a template's segments by name, as they stand in `Path.normal`: still percent-encoded

    def __repr__(self) -> str:
        return f"<Match {self.route.host}{self.route.path} {self.params}>"


@dataclass(frozen=True, slots=True)
class Considered:
    """One route that was looked at, for `edge explain`: `verdict` is "chosen" or why it was not."""

    route: Route
    verdict: str


class _Candidate:
    """A route with its conditions in the form in which requests are compared."""

    __slots__ = ("headers", "index", "methods", "params", "route")

    def __init__(self, route: Route, index: int) -> None:
        self.route = route
        self.index = index
        self.headers = route.match_headers
        methods = route.methods
        self.methods: frozenset[bytes] | None = None
        if methods is not None:
            self.methods = frozenset(method.encode() for method in (methods | {"HEAD"} if "GET" in methods else methods))
        # which of the path's parts that are not empty has the value of which name
        parts = [part for part in route.path.split("/") if part]
        self.params = tuple((part[1:-1], at) for at, part in enumerate(parts) if _is_param(part))

    def order(self) -> tuple[object, ...]:
        """Sorts the candidates of one path: more conditions first, then anything that does not depend on the file's order."""
        methods = sorted(self.methods) if self.methods is not None else []
        return (-len(self.headers) - (self.methods is not None), -len(self.headers), sorted(self.headers), methods, self.index)

    def missing_header(self, fields: Fields) -> bytes | None:
        """The name of the first header condition that `fields` do not meet, or None."""
        for name, value in self.headers:
            if value == b"*":
                if not any(field[0] == name for field in fields):
                    return name
            elif (name, value) not in fields:
                return name
        return None

    def values(self, path: Path) -> dict[str, str] | None:
        if not self.params:
            return None
        parts = [part for part in path.normal.split(b"/") if part]
        return {name: parts[at].decode("ascii") for name, at in self.params}


class _Level:
    """The candidates of one path of one host, in their order."""

    __slots__ = ("candidates", "depth", "has_headers", "templated")

    def __init__(self, pattern: str, candidates: list[_Candidate]) -> None:
        self.depth = pattern.count("/")
        self.templated = "{}" in pattern
        self.candidates = tuple(sorted(candidates, key=_Candidate.order))
        self.has_headers = any(candidate.headers for candidate in candidates)


class _Node:
    """One segment of the templates' trie."""

    __slots__ = ("below", "children", "here", "param")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.here: _Level | None = None  # a template that ends with this segment
        self.below: _Level | None = None  # a templated prefix that ends with this segment


class _Paths:
    """The routes of one host, by path."""

    __slots__ = ("_depth", "_prefixes", "_root", "exact")

    def __init__(self, candidates: Iterable[_Candidate]) -> None:
        groups: dict[str, list[_Candidate]] = {}
        for candidate in candidates:
            groups.setdefault(_pattern(candidate.route.path), []).append(candidate)
        self.exact: dict[str, _Level] = {}
        self._prefixes: dict[str, _Level] = {}
        self._depth = 0  # of the deepest literal prefix, in slashes
        self._root: _Node | None = None
        for pattern, group in groups.items():
            level = _Level(pattern, group)
            if level.templated:
                self._add_template(pattern, level)
            elif pattern.endswith("/"):
                self._prefixes[pattern] = level
                self._depth = max(self._depth, level.depth)
            else:
                self.exact[pattern] = level

    def _add_template(self, pattern: str, level: _Level) -> None:
        if self._root is None:
            self._root = _Node()
        node = self._root
        for part in pattern.strip("/").split("/"):
            if part == "{}":
                if node.param is None:
                    node.param = _Node()
                node = node.param
            else:
                node = node.children.setdefault(part, _Node())
        if pattern.endswith("/"):
            node.below = level
        else:
            node.here = level

    def open_levels(self, match: str) -> Iterator[_Level]:
        """The candidates whose paths are templates or prefixes and match, the most specific first."""
        if self._root is None:
            yield from self._literal_prefixes(match)
            return
        whole: list[_Level] = []
        prefixes: list[_Level] = []
        _walk(self._root, match[1:].split("/"), 0, whole, prefixes)
        yield from whole
        if prefixes:
            yield from sorted([*self._literal_prefixes(match), *prefixes], key=lambda level: (-level.depth, level.templated))
        else:
            yield from self._literal_prefixes(match)

    def _literal_prefixes(self, match: str) -> Iterator[_Level]:
        prefixes = self._prefixes
        if not prefixes:
            return
        if self._depth == 1:  # only "/"
            yield prefixes["/"]
            return
        ends = [1]
        for _ in range(self._depth - 1):
            end = match.find("/", ends[-1]) + 1
            if not end:
                whole = prefixes.get(match + "/")  # `/v1/` also matches `/v1`
                if whole is not None:
                    yield whole
                break
            ends.append(end)
        for end in reversed(ends):
            level = prefixes.get(match[:end])
            if level is not None:
                yield level


def _walk(node: _Node, parts: list[str], at: int, whole: list[_Level], prefixes: list[_Level]) -> None:
    """Collects what matches below `node`, literal segments first. The depth of the recursion is that of the templates."""
    rest = len(parts) - at
    if node.below is not None:
        prefixes.append(node.below)
    if not rest:
        if node.here is not None:
            whole.append(node.here)
        return
    child = node.children.get(parts[at])
    if child is not None:
        _walk(child, parts, at + 1, whole, prefixes)
    if node.param is not None and parts[at]:
        _walk(node.param, parts, at + 1, whole, prefixes)


def _is_param(part: str) -> bool:
    return part.startswith("{") and part.endswith("}")


def _pattern(path: str) -> str:
    """A route's path as requests are matched: normalised, `{}` for each `{name}`."""
    if "{" not in path:
        return normalise(escape_text(path)).match
    parts = [
        "{}" if _is_param(part) else normalise(b"/" + escape_text(part)).match[1:] for part in path.strip("/").split("/") if part
    ]
    return "/" + "/".join(parts) + ("/" if path.endswith("/") else "")


class RouteTable:
    """The routes that hold on one listener."""

    __slots__ = ("_hostless", "_hosts", "_memo")

    def __init__(self, settings: Settings, listener: Listener) -> None:
        by_host: dict[str | None, list[_Candidate]] = {}
        for index, route in enumerate(settings.routes):
            if listener.name in route.listeners:
                by_host.setdefault(route.host, []).append(_Candidate(route, index))
        compiled = {host: _Paths(candidates) for host, candidates in by_host.items()}
        self._hostless: tuple[_Paths, ...] = (compiled[None],) if None in compiled else ()
        chains: list[tuple[str, tuple[_Paths, ...]]] = []
        for host, paths in compiled.items():
            if host is None:
                continue
            wildcard = compiled.get("*." + host.partition(".")[2]) if not host.startswith("*.") else None
            chains.append((host, (paths, *((wildcard,) if wildcard is not None else ()), *self._hostless)))
        self._hosts: NameIndex[tuple[_Paths, ...]] = NameIndex(chains)
        self._memo: dict[tuple[str, bytes, bytes], Match] = {}

    def match(self, host: str, path: Path, method: bytes, fields: Fields) -> Match:
        """The route for a request to the canonical name `host`. An extended CONNECT is a GET here, as on HTTP/1.1 (RFC 8441).

        Raises `Fault` ``no-route`` (404), or `MethodNotAllowed` (405) with the methods that the path has.
        """
        key = (host, path.normal, method)
        found = self._memo.get(key)
        if found is not None:
            return found
        memorable = len(path.normal) <= _MEMO_LENGTH
        for level in self._levels(host, path.match):
            if level.has_headers:
                memorable = False
            taken = False
            for candidate in level.candidates:
                if candidate.headers and candidate.missing_header(fields) is not None:
                    continue
                if candidate.methods is None or method in candidate.methods:
                    match = Match(candidate.route, candidate.index, candidate.values(path))
                    if memorable:
                        self._remember(key, match)
                    return match
                taken = True
            if taken:
                raise MethodNotAllowed(_allow(level, fields))
        raise Fault(Side.CLIENT, "no-route", status=404)

    def _levels(self, host: str, match: str) -> Iterator[_Level]:
        """The paths that match on a host, the most specific first."""
        chain = self._hosts.find(host) or self._hostless
        for paths in chain:
            exact = paths.exact.get(match)
            if exact is not None:
                yield exact
        for paths in chain:
            yield from paths.open_levels(match)

    def _remember(self, key: tuple[str, bytes, bytes], match: Match) -> None:
        if len(self._memo) >= _MEMO_SIZE:
            self._memo.clear()
        self._memo[key] = match

    def explain(self, host: str, path: Path, method: bytes, fields: Fields) -> list[Considered]:
        """Every route whose host and path match, in the order in which `match` asks them, with what was decided about each."""
        considered: list[Considered] = []
        decided = ""
        for level in self._levels(host, path.match):
            taken = False
            for candidate in level.candidates:
                verdict, headers_match = _verdict(candidate, method, fields)
                taken = taken or headers_match
                if decided:
                    verdict = decided
                elif verdict == "chosen":
                    decided = "less specific"
                considered.append(Considered(candidate.route, verdict))
            if taken and not decided:
                decided = "less specific than a path that lacks the method"
        return considered


def _verdict(candidate: _Candidate, method: bytes, fields: Fields) -> tuple[str, bool]:
    missing = candidate.missing_header(fields)
    if missing is not None:
        return f"header {missing.decode('ascii')} does not match", False
    if candidate.methods is not None and method not in candidate.methods:
        return f"method {method.decode('ascii', 'replace')} is not among its methods", True
    return "chosen", True


def _allow(level: _Level, fields: Fields) -> bytes:
    allowed: set[bytes] = set()
    for candidate in level.candidates:
        if candidate.methods is not None and candidate.missing_header(fields) is None:
            allowed |= candidate.methods
    return b", ".join(sorted(allowed))
