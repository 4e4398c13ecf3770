"""`edge routes`: which host and path goes where, in the order in which requests are matched."""

from __future__ import annotations

import argparse
from typing import Any

from edge.cli.loading import settings_for
from edge.cli.terminal import Exit, note, plural, print_json, table
from edge.settings.model import ClientAuthMode, Host, Route, RoutePaths, Scheme, Settings, Stream, Target
from edge.settings.names import NameIndex

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """The table, or its JSON."""
    settings = settings_for(args)
    listed = _rows(settings)
    if getattr(args, "json", False):
        print_json({"routes": listed})
        return Exit.FINE
    head = ("host", "path", "mode", "policies", "upstream")
    table(head, [[row["host"] or "*", row["path"], row["mode"], ", ".join(row["policies"]) or "-", row["to"]] for row in listed])
    listeners = ", ".join(
        f"{one.name} ({'TLS' if one.tls else 'redirect' if one.redirect_port else 'plain'})" for one in settings.listeners
    )
    note(f"{plural(len(settings.routes), 'route')}, {plural(len(settings.hosts), 'host')}; listeners: {listeners}")
    return Exit.FINE


def _rows(settings: Settings) -> list[dict[str, Any]]:
    """One object for each route, the most exact hosts and paths first."""
    hosts: NameIndex[Host] = NameIndex((name, host) for host in settings.hosts for name in host.names)
    secure = {listener.name for listener in settings.listeners if listener.tls}
    found = [_row(route, hosts, secure) for route in sorted(settings.routes, key=_order)]
    for host in settings.hosts:
        if host.stream is not None:
            found += [_stream_row(name, host.stream, host.listeners, host) for name in host.names]
    return found + [_stream_row(None, one.stream, (one.name,), None) for one in settings.listeners if one.stream is not None]


def _stream_row(name: str | None, stream: Stream, listeners: tuple[str, ...], host: Host | None) -> dict[str, Any]:
    """A host, or a listener, whose bytes are relayed without HTTP."""
    return {
        "host": name,
        "path": "",
        "mode": "passthrough" if stream.passthrough else "tcp",
        "policies": _client_auth(host) if host is not None else [],
        "to": _targets(stream.targets),
        "upstream": [{"name": target.upstream.name, "weight": target.weight} for target in stream.targets],
        "listeners": list(listeners),
        "place": f"{host.place.file}:{host.place.line}" if host is not None and host.place.line else None,
    }


def _order(route: Route) -> tuple[Any, ...]:
    host = route.host or ""
    conditions = len(route.match_headers) + (route.methods is not None)
    kind = 2 if route.path.endswith("/") else 1 if "{" in route.path else 0
    return (not host, host.startswith("*."), host, kind, -route.path.count("/"), route.path, -conditions)


def _row(route: Route, hosts: NameIndex[Host], secure: set[str]) -> dict[str, Any]:
    host = hosts.find(route.host) if route.host else None
    return {
        "host": route.host,
        "path": route.path,
        "mode": _mode(route, encrypted=any(name in secure for name in route.listeners)),
        "policies": _policies(route, host),
        "to": _to(route),
        "upstream": [{"name": target.upstream.name, "weight": target.weight} for target in route.targets],
        "listeners": list(route.listeners),
        "place": f"{route.place.file}:{route.place.line}" if route.place.line else None,
    }


def _mode(route: Route, *, encrypted: bool) -> str:
    if route.redirect is not None:
        return "redirect"
    if route.respond is not None:
        return "respond"
    if route.health:
        return "health"
    onward = any(one.scheme is Scheme.HTTPS for target in route.targets for one in target.upstream.endpoints)
    if encrypted:
        return "re-encrypt" if onward else "terminate"
    return "encrypt" if onward else "plain"


def _policies(route: Route, host: Host | None) -> list[str]:
    """What protects or changes this route beyond the defaults, most important first."""
    found: list[str] = []
    if any(target.upstream.tls is not None and not target.upstream.tls.verify for target in route.targets):
        found.append("UPSTREAM NOT VERIFIED")
    if host is not None:
        found += _client_auth(host)
    if route.client_auth is not None:
        demand = route.client_auth
        rules = f" ({plural(len(demand.allow), 'rule')})" if demand.allow else ""
        found.append(f"{'certificate required' if demand.required else 'certificate asked'} here{rules}")
    if route.methods is not None:
        found.append(" ".join(sorted(route.methods)))
    found += [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in route.match_headers]
    if route.limits.request_body is None:
        found.append("body without limit")
    if route.timeout is not None:
        found.append(f"timeout {route.timeout:g} s")
    if route.paths is RoutePaths.RAW:
        found.append("raw paths")
    if route.strip_prefix:
        found.append(f"strips {route.strip_prefix}")
    if route.rewrite:
        found.append(f"rewrites to {route.rewrite}")
    return found


def _client_auth(host: Host) -> list[str]:
    if host.client_auth.mode is ClientAuthMode.OFF:
        return []
    rules = f" ({plural(len(host.client_auth.allow), 'rule')})" if host.client_auth.allow else ""
    return [f"client certificate {'required' if host.client_auth.mode is ClientAuthMode.REQUIRE else 'requested'}{rules}"]


def _to(route: Route) -> str:
    if route.redirect is not None:
        return f"{route.redirect.status} {route.redirect.to}"
    if route.respond is not None:
        return f"{route.respond.status}"
    if route.health:
        return route.health
    return _targets(route.targets)


def _targets(targets: tuple[Target, ...]) -> str:
    weights = sum(target.weight for target in targets)
    if len(targets) == 1:
        return targets[0].upstream.name
    return ", ".join(f"{target.upstream.name} {100 * target.weight / weights:g}%" for target in targets)
