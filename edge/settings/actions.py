"""What a route does with a request: hand it to an upstream, redirect it, or answer it.

A route has exactly one action: two are an error, and none is one too. What changes a request on its way (`strip_prefix`,
`rewrite`, `upstream_host`, timeouts) means something for upstreams alone. Templates may hold only the names that the route's path
binds, and in a redirect what is known of every request as well.

Each function takes the route's place in the file and the table that was read there, and tells what is wrong with it.
"""

from __future__ import annotations

from typing import Any

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.syntax import Bad, field_value, host_name, rewrite_path, target_template
from edge.settings.upstreams import Upstreams

__all__ = ["action", "rewrite", "strip_prefix", "upstream_host"]

_REDIRECT_NAMES = ("scheme", "host", "path", "query", "path_and_query")
_ACTIONS = ("upstream", "redirect", "respond", "health")
_EMPTY = frozenset({204, 304})


def action(
    source: Source, upstreams: Upstreams, path: Path, raw: keys.Route, table: dict[str, Any], names: tuple[str, ...]
) -> tuple[tuple[model.Target, ...], model.Redirect | None, model.Respond | None]:
    """The one thing that a route does, besides `health`. `names`: those that its path binds."""
    given = [key for key in _ACTIONS if key in table]
    if len(given) != 1:
        if given:
            message = f"a route with {' and '.join(given)}: which one answers?"
            source.error((*path, given[1]), message, "keep one of them", at_key=True)
        elif not source.touched(path):
            source.error(
                path,
                "a route that leads nowhere",
                'write upstream = "…", redirect = { … }, respond = { … } or health = "ready"',
                at_key=True,
            )
    targets = upstreams.targets(table["upstream"], (*path, "upstream")) if "upstream" in table else ()
    redirect = None if isinstance(raw.redirect, UnsetType) else _redirect(source, (*path, "redirect"), raw.redirect, names)
    respond = None if isinstance(raw.respond, UnsetType) else _respond(source, (*path, "respond"), raw.respond)
    if "upstream" not in table and len(given) == 1:
        for key in (
            "strip_prefix",
            "rewrite",
            "upstream_host",
            "timeout",
            "first_byte_timeout",
            "between_bytes_timeout",
            "tunnel_idle_timeout",
            "client_certificate",
        ):
            if key in table:
                source.warning((*path, key), f"'{key}' means nothing in a route without upstream", "take it out", at_key=True)
    return targets, redirect, respond


def _redirect(source: Source, at: Path, raw: str | keys.Redirect, names: tuple[str, ...]) -> model.Redirect:
    to, status, where = (raw, 308, at) if isinstance(raw, str) else (raw.to, raw.status, (*at, "to"))
    try:
        if not to.startswith(("http://", "https://", "{scheme}://", "/")):
            raise Bad(f"'{to}' is not the place of a redirect", f'write "https://{to}"')
        if any(character <= " " or character > "~" for character in to):
            raise Bad(f"'{to}' holds a character that cannot stand in a URL", "write it as %XX")
        target_template(to, (*_REDIRECT_NAMES, *names), "redirect")
    except Bad as bad:
        source.error(where, str(bad), bad.mend)
    return model.Redirect(to=to, status=status)


def _respond(source: Source, at: Path, raw: keys.Respond) -> model.Respond:
    if raw.body and raw.status in _EMPTY:
        source.error((*at, "body"), f"an answer with status {raw.status} has no body", "take the body out")
    try:
        field_value(raw.content_type)
    except Bad:
        source.error((*at, "content_type"), "not a media type", 'write for example "application/json"')
    return model.Respond(status=raw.status, body=raw.body.encode("utf-8", "replace"), content_type=raw.content_type)


def strip_prefix(source: Source, path: Path, raw: keys.Route, pattern: str) -> str:
    """The prefix that is taken off, without a slash at its end; the route's path must begin with it."""
    text = raw.strip_prefix
    if not text:
        return ""
    at = (*path, "strip_prefix")
    if raw.rewrite:
        source.error(at, "strip_prefix and rewrite together: which path is sent?", "keep one of them", at_key=True)
    prefix = text.removesuffix("/")
    if not text.startswith("/"):
        source.error(at, f"'{text}': a path begins with '/'", f'write "/{text}"')
    elif "{" in text:
        source.error(at, f"'{text}': a prefix holds no templates", "write rewrite")
    elif pattern != prefix and not pattern.startswith(prefix + "/"):
        source.error(at, f"'{text}' is not the beginning of the path {pattern}", f'write "{pattern.removesuffix("/")}"')
    return prefix


def rewrite(source: Source, path: Path, raw: keys.Route, names: tuple[str, ...]) -> str:
    """The template of the path that is sent."""
    if not raw.rewrite:
        return ""
    try:
        return rewrite_path(raw.rewrite, names)
    except Bad as bad:
        source.error((*path, "rewrite"), str(bad), bad.mend)
        return ""


def upstream_host(source: Source, path: Path, raw: keys.Route) -> str:
    """The Host that is sent, with its port if there is one; empty: the client's."""
    if not raw.upstream_host:
        return ""
    name, colon, port = raw.upstream_host.rpartition(":")
    try:
        if colon and not port.endswith("]"):
            if not (port.isascii() and port.isdigit() and 1 <= int(port[:7]) <= 65535):
                raise Bad(f"'{raw.upstream_host}': a port is a number from 1 to 65535")
            host_name(name)
        else:
            name = host_name(raw.upstream_host)
    except Bad as bad:
        source.error((*path, "upstream_host"), str(bad), bad.mend)
    return raw.upstream_host.lower()
