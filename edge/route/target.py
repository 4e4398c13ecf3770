"""Where a matched request goes: the target that the upstream receives, a redirect's Location, one of the weighted upstreams.

Everything that comes from the client was normalised before it gets here: paths and a template's values are visible ASCII in
which nothing is unescaped that a URI gives a meaning (no ``/ ? #`` inside a segment), so they can be put together as they are.
Whatever is written into a Location is checked once more all the same, and a path never begins with two slashes where a
reader could take what follows for a host (RFC 3986 section 4.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edge.errors import Fault, Side
from edge.http.fields import split_authority
from edge.route.paths import Path, escape_text, normalise
from edge.route.table import Match
from edge.settings.model import Redirect, RoutePaths, Target, Upstream

__all__ = ["pick_target", "redirect_https", "redirect_location", "upstream_target"]

_MEMO_SIZE = 1024
_RAW = RoutePaths.RAW
_NOT_IN_URI = re.compile(rb'[^\x21-\x7e]|["<>\\^`{|}]')
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

# Text cut at its placeholders: literal, name, literal, name, …, literal.
_cuts: dict[str, tuple[bytes | str, ...]] = {}


def upstream_target(match: Match, path: Path) -> bytes:
    """The request target for the upstream: the normalised path, stripped or rewritten, and the query as it came.

    A route with `paths = "raw"` forwards the target untouched. `rewrite` replaces the whole path; on a route for everything
    below a path (both end in ``/``) it replaces that path and keeps what is below it.
    """
    route = match.route
    if route.paths is _RAW:
        target = path.raw
    elif path.normal == b"*":
        return b"*"
    elif route.rewrite:
        target = _fill(route.rewrite, match.params or {})
        if route.rewrite.endswith("/") and route.path.endswith("/"):
            target += _below(path.normal, route.path).lstrip(b"/")
    elif route.strip_prefix:
        target = _strip(path, route.strip_prefix)
    else:
        target = path.normal
    return target + b"?" + path.query if path.has_query else target


def _strip(path: Path, prefix: str) -> bytes:
    """`path` without `prefix`, beginning with one slash; unchanged where `prefix` is not a prefix of whole segments."""
    wanted = normalise(escape_text(prefix)).match.rstrip("/")
    if path.match != wanted and not path.match.startswith(wanted + "/"):
        return path.normal
    return b"/" + _below(path.normal, prefix).lstrip(b"/")


def _below(normal: bytes, prefix: str) -> bytes:
    """What follows the segments of `prefix`. Segments are counted, so that doubled slashes and escapes do not matter."""
    at = 0
    for _ in range(sum(1 for part in prefix.split("/") if part)):
        while normal[at : at + 1] == b"/":
            at += 1
        end = normal.find(b"/", at)
        at = len(normal) if end < 0 else end
    return normal[at:]


def _cut(text: str) -> tuple[bytes | str, ...]:
    parts = _cuts.get(text)
    if parts is None:
        parts = tuple(part if at % 2 else escape_text(part) for at, part in enumerate(_PLACEHOLDER.split(text)))
        if len(_cuts) >= _MEMO_SIZE:
            _cuts.clear()
        _cuts[text] = parts
    return parts


def _fill(text: str, values: Mapping[str, str]) -> bytes:
    """`text` with each `{name}` replaced; the settings name only what there is."""
    return b"".join([part if isinstance(part, bytes) else values[part].encode("ascii") for part in _cut(text)])


def redirect_location(redirect: Redirect, secure: bool, authority: bytes, path: Path, params: Mapping[str, str] | None) -> bytes:
    """The value of Location for a route's redirect (RFC 9110 section 10.2.2).

    `redirect.to` may hold ``{scheme} {host} {path} {query} {path_and_query}`` and the names of the route's template.
    `{host}` is the request's, without its port; `{path}` begins with one slash.
    """
    plain = "/" if path.normal == b"*" else "/" + path.normal.decode("ascii").lstrip("/")
    query = path.query.decode("latin-1")
    host = split_authority(authority)[0]
    values = {
        **(params or {}),
        "scheme": "https" if secure else "http",
        "host": f"[{host}]" if ":" in host else host,
        "path": plain,
        "query": query,
        "path_and_query": f"{plain}?{query}" if path.has_query else plain,
    }
    location = b"".join([part if isinstance(part, bytes) else values[part].encode("latin-1") for part in _cut(redirect.to)])
    return _escaped(location)


def redirect_https(authority: bytes, port: int, target: bytes) -> bytes:
    """The same resource over https on `port`: the Location of a plain listener that redirects.

    Raises `Fault` ``missing-host`` (400) when the request named no host (HTTP/1.0).
    """
    host = split_authority(authority)[0].encode("ascii")
    if not host:
        raise Fault(Side.CLIENT, "missing-host", status=400)
    if b":" in host:
        host = b"[" + host + b"]"
    if port != 443:
        host += b":%d" % port
    return _escaped(b"https://" + host + (target if target[:1] == b"/" else b"/"))


def _escaped(location: bytes) -> bytes:
    """`location` with whatever no URI may hold escaped: nothing in it can end the field, or the attribute that quotes it."""
    return _NOT_IN_URI.sub(lambda found: b"%%%02X" % ord(found[0]), location)


def pick_target(targets: Sequence[Target], r: float) -> Upstream:
    """One of a route's upstreams by weight; `r` is a random number, 0 ≤ r < 1. A weight of 0 is never chosen.

    Raises `Fault` ``no-upstream`` (503) when every weight is 0.
    """
    if len(targets) == 1 and targets[0].weight:
        return targets[0].upstream
    chosen: Target | None = None
    at = r * sum(target.weight for target in targets)
    for target in targets:
        if target.weight:
            chosen = target
            at -= target.weight
            if at < 0:
                break
    if chosen is None:
        raise Fault(Side.EDGE, "no-upstream", status=503)
    return chosen.upstream
