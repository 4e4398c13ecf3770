"""Routes: what each matches, and what it inherits from its host and the top. What it does stands in `edge.settings.actions`.

A host's own `upstream` is a route with the path `/` for each of its names. A route without a host inherits from the top
alone, because it may answer for any host. Routes that would match the same requests are an error that names both places; a
route that names its listeners goes before one that does not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.actions import action, rewrite, strip_prefix, upstream_host
from edge.settings.client_auth import route_client_auth
from edge.settings.hosts import Hosts, Listeners, read_listener_names
from edge.settings.layers import Place, inherited, listed, typed
from edge.settings.policies import REQUEST_LIMITS, check_limit_places, header_rules, hsts, limits
from edge.settings.problems import Path, nearest
from edge.settings.source import Source
from edge.settings.syntax import Bad, field_name, field_value, host_name, method, route_path
from edge.settings.units import seconds
from edge.settings.upstreams import Upstreams

__all__ = ["Found", "Routes"]


@dataclass(frozen=True, slots=True)
class Found:
    """One route, where it stands, the tables that it inherits from (its own last), and whether it names its listeners."""

    path: Path
    route: model.Route
    holders: tuple[Place, ...]
    named: bool


class Routes:
    """All routes, resolved."""

    def __init__(self, source: Source, listeners: Listeners, hosts: Hosts, upstreams: Upstreams) -> None:
        self._source = source
        self._listeners = listeners
        self._hosts = hosts
        self._upstreams = upstreams
        self.found: list[Found] = []
        self._routed: set[int] = set()  # hosts that have a route
        self._anywhere = False
        for number, (path, table, host, served) in enumerate(hosts.tables):
            if host.stream is not None:
                self._routed.add(number)
            elif "upstream" in table:
                self._from_host(path, table, host, served)
        for index, table in enumerate(source.tree.get("route", [])):
            self._read(("route", index), table)

    def models(self) -> tuple[model.Route, ...]:
        """The routes, after those that are equal were told, one for each set of limits that its listeners have."""
        self._settle()
        routes: list[model.Route] = []
        for found in self.found:
            routes += self._by_limits(found)
        return tuple(routes)

    def warn_idle_hosts(self) -> None:
        """Warn of hosts for which nothing answers."""
        if self._anywhere:
            return
        for index, (path, _, host, _) in enumerate(self._hosts.tables):
            if index not in self._routed and host.names:
                self._source.warning(
                    path, f"nothing answers for {host.names[0]}: it has no upstream and no route", "write upstream", at_key=True
                )

    def _place(self, at: Path) -> model.Place:
        span = self._source.key(at)
        return model.Place(file=span.file, line=span.line, column=span.column)

    def _layers(self, key: str, *holders: Place) -> list[Place]:
        return inherited(self._source, key, *holders)

    def _from_host(self, path: Path, table: dict[str, Any], host: model.Host, served: tuple[str, ...]) -> None:
        source = self._source
        at = (*path, "upstream")
        targets = self._upstreams.targets(table["upstream"], at)
        holder: Place = (path, table)
        request = header_rules(source, self._layers("request_headers", holder))
        response = header_rules(source, self._layers("response_headers", holder))
        if host.names:
            self._routed.add(self._hosts.by_name[host.names[0]])
        for name in host.names:
            route = model.Route(
                host=name,
                path="/",
                listeners=served,
                targets=targets,
                request_headers=request,
                response_headers=response,
                first_byte_timeout=_longest([target.upstream.first_byte_timeout for target in targets]),
                between_bytes_timeout=_longest([target.upstream.between_bytes_timeout for target in targets]),
                limits=limits(source, self._layers("limits", holder)),
                hsts=host.hsts,
                place=self._place(at),
            )
            self.found.append(Found(at, route, (holder,), named=False))

    def _read(self, path: Path, table: Any) -> None:
        source = self._source
        raw = typed(source, path, table, keys.Route)
        if raw is None:
            self._anywhere = True  # it may have been for any host
            return
        name, owner = self._host(path, raw)
        holders: list[Place] = [(path, table)]
        if owner is not None:
            self._routed.add(owner)
            if self._hosts.tables[owner][2].stream is not None:
                source.error((*path, "host"), f"{name} is a stream of bytes: it has no routes", "take the route out")
            holders.insert(0, (self._hosts.tables[owner][0], self._hosts.tables[owner][1]))
        if name is None or (owner is None and name.startswith("*.")):
            self._anywhere = True
        pattern, names = self._path(path, raw)
        targets, redirect, respond = action(source, self._upstreams, path, raw, table, names)
        if not isinstance(raw.client_certificate, UnsetType) and targets:
            targets = self._upstreams.showing(targets, raw.client_certificate, (*path, "client_certificate"))
        check_limit_places(source, ((*path, "limits"), table.get("limits", {})), where="route")
        for key in ("request_headers", "response_headers"):
            if table.get(key) == "none":
                source.note((*path, key), f"the route {name or ''}{pattern} takes {key} away")
        route = model.Route(
            host=name,
            path=pattern,
            listeners=self._served(path, raw, table, name, owner),
            methods=self._methods(path, raw, table),
            match_headers=self._match_headers(path, raw),
            paths=model.RoutePaths(raw.paths),
            targets=targets,
            redirect=redirect,
            respond=respond,
            health="" if isinstance(raw.health, UnsetType) else raw.health,
            strip_prefix=strip_prefix(source, path, raw, pattern),
            rewrite=rewrite(source, path, raw, names),
            upstream_host=upstream_host(source, path, raw),
            request_headers=header_rules(source, self._layers("request_headers", *holders)),
            response_headers=header_rules(source, self._layers("response_headers", *holders)),
            timeout=seconds(raw.timeout),
            first_byte_timeout=_longest([target.upstream.first_byte_timeout for target in targets])
            if isinstance(raw.first_byte_timeout, UnsetType)
            else seconds(raw.first_byte_timeout),
            between_bytes_timeout=_longest([target.upstream.between_bytes_timeout for target in targets])
            if isinstance(raw.between_bytes_timeout, UnsetType)
            else seconds(raw.between_bytes_timeout),
            tunnel_idle_timeout=seconds(raw.tunnel_idle_timeout),
            early_data=self._early_data(path, raw, owner),
            limits=limits(source, self._layers("limits", *holders)),
            hsts=self._hsts(path, table, name, owner),
            client_auth=route_client_auth(
                source, raw.client_auth, table.get("client_auth"), (*path, "client_auth"), one_host=owner is not None
            ),
            place=self._place(path),
        )
        self.found.append(Found(path, route, tuple(holders), named="listeners" in table))

    def _host(self, path: Path, raw: keys.Route) -> tuple[str | None, int | None]:
        """The canonical name, and which host serves it, if one does."""
        if isinstance(raw.host, UnsetType):
            return None, None
        at = (*path, "host")
        try:
            name = host_name(raw.host)
        except Bad as bad:
            secret = self._source.secret(at)
            self._source.error(
                at, f"{self._source.shown(at, raw.host)} is not a host name" if secret else str(bad), "" if secret else bad.mend
            )
            return raw.host, None
        if name.startswith("*."):
            return name, self._hosts.by_name.get(name)
        return name, self._hosts.index.find(name)

    def _served(self, path: Path, raw: keys.Route, table: dict[str, Any], name: str | None, owner: int | None) -> tuple[str, ...]:
        source, by_name = self._source, self._listeners.by_name
        usable = self._listeners.usable()
        host = self._hosts.tables[owner] if owner is not None else None
        if isinstance(raw.listeners, UnsetType):
            if host is not None:
                return host[3]
            if name is None:
                return tuple(usable)
            covered = self._covered(name)
            plain = [listener for listener in usable if not by_name[listener].tls]
            found = tuple(listener for listener in usable if listener in covered or listener in plain)
            if not covered and not plain and not self._hosts.broken:
                self._no_host(path, name)
            return found
        names = read_listener_names(source, self._listeners, table["listeners"], (*path, "listeners"))
        for listener in names:
            if host is not None and listener not in host[3]:
                if host[2].client_auth.mode is not model.ClientAuthMode.OFF and not by_name[listener].tls:
                    source.error(
                        (*path, "listeners"),
                        f"{name} asks for client certificates, and listener '{listener}' is plain",
                        "take it out",
                    )
                elif by_name[listener].tls:
                    source.error(
                        (*path, "listeners"), f"{name} is not served on listener '{listener}'", "add it to that host's listeners"
                    )
            elif (
                host is None
                and name is not None
                and by_name[listener].tls
                and listener not in self._covered(name)
                and not self._hosts.broken
            ):
                self._no_host(path, name)
        return names

    def _covered(self, name: str) -> set[str]:
        """The listeners on which a wildcard covers some host."""
        if not name.startswith("*."):
            return set()
        parent = name[1:]
        return {
            listener
            for _, _, host, served in self._hosts.tables
            if any(other.endswith(parent) and "." not in other.removesuffix(parent) for other in host.names)
            for listener in served
        }

    def _no_host(self, path: Path, name: str) -> None:
        hint = nearest(name, self._hosts.by_name)
        mend = f'write "{hint}"' if hint else f'write a [[host]] with names = ["{name}"]'
        self._source.error((*path, "host"), f"no [[host]] is called '{self._source.shown((*path, 'host'), name)}'", mend)

    def _path(self, path: Path, raw: keys.Route) -> tuple[str, tuple[str, ...]]:
        try:
            return route_path(raw.path)
        except Bad as bad:
            self._source.error((*path, "path"), str(bad), bad.mend)
            return raw.path, ()

    def _methods(self, path: Path, raw: keys.Route, table: dict[str, Any]) -> frozenset[str] | None:
        if isinstance(raw.methods, UnsetType):
            return None
        names: set[str] = set()
        written = table["methods"]
        for index, text in enumerate(listed(written)):
            at: Path = (*path, "methods", index) if isinstance(written, list) else (*path, "methods")
            try:
                names.add(method(text))
            except Bad as bad:
                self._source.error(at, str(bad), bad.mend)
        if not written:
            self._source.error((*path, "methods"), "a list without a method", "take the key out, for all methods")
        return frozenset(names)

    def _match_headers(self, path: Path, raw: keys.Route) -> tuple[tuple[bytes, bytes], ...]:
        found: list[tuple[bytes, bytes]] = []
        for name, text in raw.headers.items():
            at = (*path, "headers", name)
            try:
                found.append((field_name(name, setting=False), field_value(text)))
            except Bad as bad:
                mend = "write host in the route" if name.lower() == "host" else bad.mend
                self._source.error(at, str(bad), mend)
        return tuple(sorted(found))

    def _early_data(self, path: Path, raw: keys.Route, owner: int | None) -> bool:
        if not raw.early_data:
            return False
        at = (*path, "early_data")
        hosts = [table[2] for table in (self._hosts.tables if owner is None else [self._hosts.tables[owner]])]
        if not any(host.tls.early_data for host in hosts) and not self._source.failed:
            who = hosts[0].names[0] if len(hosts) == 1 and hosts[0].names else "the hosts"
            self._source.warning(at, f"early_data has no effect: it is off for {who}", 'write early_data = "on" in tls')
        elif not isinstance(raw.methods, UnsetType) and not {"GET", "HEAD", "OPTIONS"}.intersection(listed(raw.methods)):
            self._source.warning(at, "early_data has no effect: it is for GET, HEAD and OPTIONS alone", "take it out")
        return True

    def _hsts(self, path: Path, table: dict[str, Any], name: str | None, owner: int | None) -> model.Hsts | None:
        source = self._source
        if "hsts" in table and name is None:
            source.error(
                (*path, "hsts"),
                "hsts belongs to a host, and this route has none",
                "write host, or hsts in the [[host]]",
                at_key=True,
            )
            return None
        host = self._hosts.tables[owner] if owner is not None else None
        if "hsts" not in table:
            return host[2].hsts if host is not None else hsts(source, self._layers("hsts"))[0]
        places: list[Place] = [(path, table)] if host is None else [(host[0], host[1]), (path, table)]
        if table["hsts"] == "none":
            source.note((*path, "hsts"), f"the route {name}{table.get('path', '/')} takes hsts away")
        return hsts(source, self._layers("hsts", *places))[0]

    def _settle(self) -> None:
        """Tell equal routes; where one names its listeners and the other does not, the other gives way there."""
        groups: dict[object, list[int]] = defaultdict(list)
        for index, found in enumerate(self.found):
            route = found.route
            shape = "/".join("{}" if segment.startswith("{") else segment for segment in route.path.split("/"))
            groups[(route.host, shape, route.match_headers)].append(index)
        for group in groups.values():
            for position, second in enumerate(group):
                for first in group[:position]:
                    self._compare(first, second)

    def _compare(self, first: int, second: int) -> None:
        a, b = self.found[first].route, self.found[second].route
        named_a, named_b = self.found[first].named, self.found[second].named
        if (a.methods is None) != (b.methods is None) or (
            a.methods is not None and b.methods is not None and not a.methods & b.methods
        ):
            return
        both = set(a.listeners) & set(b.listeners)
        if not both:
            return
        if named_a == named_b:
            message = f"the same requests match here and at {self._source.key(self.found[first].path)}"
            self._source.error(self.found[second].path, message, "make path, methods, headers or listeners differ", at_key=True)
            return
        wide = second if named_a else first
        route = self.found[wide].route
        kept = tuple(listener for listener in route.listeners if listener not in both)
        self.found[wide] = replace(self.found[wide], route=replace(route, listeners=kept))

    def _by_limits(self, found: Found) -> list[model.Route]:
        """The route as it is, or one for each set of limits when its listeners' own limits differ."""
        route = found.route
        own = {name: self._listeners.tables[name][1].get("limits", {}) for name in route.listeners}
        if not any(key in REQUEST_LIMITS for table in own.values() for key in table):
            return [route]
        groups: dict[str, list[str]] = defaultdict(list)
        for name, table in own.items():
            groups[repr(sorted((key, value) for key, value in table.items() if key in REQUEST_LIMITS))].append(name)
        routes: list[model.Route] = []
        for names in groups.values():
            at, table = self._listeners.tables[names[0]]
            merged = limits(self._source, self._layers("limits", (at, table), *found.holders))
            routes.append(replace(route, listeners=tuple(names), limits=merged))
        return routes


def _longest(values: list[float | None]) -> float | None:
    """The longest of the upstreams' timeouts; None means without end."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
