"""Trust stores and upstreams: named tables, and URLs that stand where a name may.

An upstream that is written as a URL is made once, whatever the number of places that name it, and is called by its URL. What
an endpoint is called in logs never holds what came from elsewhere: then it is called as it is written.
Names that nothing uses are warnings; names that nothing defines are errors with the nearest one that exists.
"""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from typing import Any

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.certificates import read_authorities
from edge.settings.layers import listed, merge, typed
from edge.settings.pins import pins
from edge.settings.pool import NamedCertificates
from edge.settings.problems import Path, nearest, quoted
from edge.settings.revocation import read_crls
from edge.settings.source import Source
from edge.settings.syntax import Bad, endpoint, is_url
from edge.settings.syntax import host_name as read_host_name
from edge.settings.units import seconds, share

__all__ = ["SYSTEM", "TrustStores", "Upstreams", "read_alpn"]

_STREAMS = frozenset({model.Scheme.TCP, model.Scheme.TLS})
SYSTEM = model.Trust(name="system", system=True)


class TrustStores:
    """The named trust stores, read when first asked for."""

    def __init__(self, source: Source, now: float) -> None:
        self._source = source
        self._stores: dict[str, model.Trust | None] = {}
        self._used: set[str] = set()
        tables = source.tree.get("trust", {})
        for name in tables:
            self._stores[name] = self._read(name, tables[name], now)

    def _read(self, name: str, table: Any, now: float) -> model.Trust | None:
        source, path = self._source, ("trust", name)
        if name in ("system", "none", "off"):
            source.error(path, f"[trust.{name}] takes a word that has a meaning", "call it by another name", at_key=True)
            return None
        raw = typed(source, path, table, keys.Trust)
        if raw is None:
            return None
        files = listed(raw.ca)
        if not files and not raw.system and "ca" not in table:
            source.error(path, f"[trust.{name}] trusts nobody", 'write ca = ["/path/to/ca.pem"]', at_key=True)
        parts: list[bytes] = []
        for index, pattern in enumerate(files):
            at: Path = (*path, "ca", index) if isinstance(table.get("ca"), list) else (*path, "ca")
            for file in self._expand(at, pattern):
                pem = read_authorities(source, at, file, now)
                if pem is not None:
                    parts.append(pem)
        lists: list[tuple[Path, str]] = [
            ((*path, "crl", index) if isinstance(table.get("crl"), list) else (*path, "crl"), pattern)
            for index, pattern in enumerate(listed(raw.crl))
        ]
        named = [(at, file) for at, pattern in lists for file in self._expand(at, pattern, grows=True)]
        grace = seconds(raw.crl_grace)
        if not lists and "crl_check" in table and raw.crl_check != "off":
            source.warning((*path, "crl_check"), "there is no list to look into", "write crl")
        return model.Trust(
            name=name,
            ca_pem=b"".join(parts),
            system=raw.system,
            crls=read_crls(source, named, b"".join(parts), now) if named else (),
            crl_check=raw.crl_check if lists else "off",
            crl_grace=grace if grace is not None else 86_400.0,
        )

    def _expand(self, at: Path, pattern: str, *, grows: bool = False) -> list[str]:
        """The files of a pattern. `grows`: files that come later count as soon as they come."""
        if not glob.has_magic(pattern) or "\0" in pattern:
            return [pattern]
        folder = os.path.dirname(os.path.join(self._source.directory(at), pattern))
        if grows and not glob.has_magic(folder):
            self._source.watch(os.path.abspath(folder))
        found = sorted(glob.glob(os.path.join(self._source.directory(at), pattern)))
        if not found:
            self._source.error(at, f"{self._source.shown(at, pattern)} matches no file")
        return found

    def find(self, name: str, at: Path) -> model.Trust | None:
        """The store of that name; the problem is told when there is none."""
        if name == "system":
            return SYSTEM
        if name not in self._stores:
            hint = nearest(name, [*self._stores, "system"])
            known = quoted([*self._stores, "system"])
            self._source.error(
                at, f"there is no [trust.{self._source.shown(at, name)}]", f'write "{hint}"' if hint else f"there is {known}"
            )
            return None
        self._used.add(name)
        return self._stores[name]

    def warn_unused(self) -> None:
        for name in self._stores:
            if name not in self._used:
                self._source.warning(("trust", name), f"[trust.{name}] is not used", "use it, or take it out", at_key=True)


class Upstreams:
    """The upstreams by name, those written as URLs included."""

    def __init__(self, source: Source, trust: TrustStores, certificates: NamedCertificates) -> None:
        self._source = source
        self._trust = trust
        self._certificates = certificates
        self._tls_top = self._tls_of_all()
        self._used: set[str] = set()
        self._named: dict[str, model.Upstream | None] = {}
        self._inline: dict[str, model.Upstream | None] = {}
        tables = source.tree.get("upstream", {})
        for name in tables:
            self._named[name] = self._read(name, tables[name])

    def all(self) -> dict[str, model.Upstream]:
        """Every upstream that could be read."""
        both = {**self._named, **self._inline}
        return {upstream.name: upstream for upstream in both.values() if upstream is not None}

    def warn_unused(self) -> None:
        for name in self._named:
            if name not in self._used:
                self._source.warning(("upstream", name), f"[upstream.{name}] is not used", "use it, or take it out", at_key=True)

    def targets(self, value: Any, at: Path, *, stream: bool = False) -> tuple[model.Target, ...]:
        """What an `upstream` key says: a name, a URL, or several with weights. `stream`: bytes go there, and no requests."""
        chosen: list[model.Target] = []
        seen: set[str] = set()
        for index, item in enumerate(listed(value)):
            here: Path = (*at, index) if isinstance(value, list) else at
            name = item if isinstance(item, str) else item.get("name")
            weight = 1 if isinstance(item, str) else item.get("weight", 1)
            if not isinstance(name, str) or not isinstance(weight, int):
                continue
            if not isinstance(item, str):
                here = (*here, "name")
            if name in seen:
                self._source.error(here, f"upstream '{self._source.shown(here, name)}' stands here twice", "add their weights up")
            seen.add(name)
            upstream = self.find(name, here)
            if upstream is not None and not stream and upstream.endpoints[:1] and upstream.endpoints[0].scheme in _STREAMS:
                self._source.error(
                    here,
                    f"{upstream.endpoints[0].url} takes bytes, and requests are to go there",
                    'write "http://…" or "https://…"',
                )
            if upstream is not None:
                chosen.append(model.Target(upstream=upstream, weight=weight))
        if value == []:
            self._source.error(at, "a list without an upstream", "write a name or a URL")
        return tuple(chosen)

    def find(self, name: str, at: Path) -> model.Upstream | None:
        """The upstream of a name or URL; the problem is told when there is none."""
        if is_url(name):
            if name not in self._inline:
                self._inline[name] = self._from_url(name, at)
            return self._inline[name]
        if name not in self._named:
            hint = nearest(name, self._named)
            shown = self._source.shown(at, name)
            if hint:
                mend = f'write "{hint}"'
            elif ":" in name or "." in name:
                mend = f'write "{"tcp" if at[-1] == "passthrough" else "http"}://{shown}"'
            else:
                mend = f'write [upstream.{shown}] with endpoints = ["http://127.0.0.1:8000"]'
            self._source.error(at, f"there is no [upstream.{shown}]", mend)
            return None
        self._used.add(name)
        return self._named[name]

    def _place(self, at: Path) -> model.Place:
        span = self._source.key(at)
        return model.Place(file=span.file, line=span.line, column=span.column)

    def _endpoint(self, text: str, weight: int, at: Path) -> model.Endpoint | None:
        try:
            made = endpoint(text, weight)
            return replace(made, url=self._source.shown(at, text)) if self._source.secret(at) else made
        except Bad as bad:
            if self._source.secret(at):
                self._source.error(
                    at,
                    f"{self._source.shown(at, text)} is not the URL of an endpoint",
                    "http://, https://, h2c://, tcp://, tls:// or unix:/path",
                )
            else:
                self._source.error(at, str(bad), bad.mend)
            return None

    def _from_url(self, url: str, at: Path) -> model.Upstream | None:
        made = self._endpoint(url, 1, at)
        raw = typed(self._source, at, {"endpoints": [url]}, keys.Upstream)
        return self._model(made.url, raw, {}, (made,), at) if made is not None and raw is not None else None

    def _read(self, name: str, table: Any) -> model.Upstream | None:
        source, path = self._source, ("upstream", name)
        if is_url(name) or name in ("none", "off"):
            source.error(path, f"[upstream.{name}] takes a word that has a meaning", "call it by another name", at_key=True)
        raw = typed(source, path, table, keys.Upstream)
        if raw is None:
            return None
        endpoints: list[model.Endpoint] = []
        written = listed(raw.endpoints)
        for index, item in enumerate(written):
            at: Path = (*path, "endpoints", index) if isinstance(table["endpoints"], list) else (*path, "endpoints")
            text, weight = (item, 1) if isinstance(item, str) else (item.url, item.weight)
            made = self._endpoint(text, weight, at if isinstance(item, str) else (*at, "url"))
            if made is not None:
                if any((other.scheme, other.address) == (made.scheme, made.address) for other in endpoints):
                    source.error(
                        at,
                        f"endpoint {source.shown(at, made.url)} stands here twice",
                        "take one out; weight gives it a larger share",
                    )
                endpoints.append(made)
        if not written:
            source.error((*path, "endpoints"), "an upstream without an endpoint", 'write endpoints = ["http://127.0.0.1:8000"]')
        if not isinstance(raw.tls, UnsetType) and endpoints and not any(made.scheme.over_tls for made in endpoints):
            source.warning(
                (*path, "tls"), "tls means nothing here: no endpoint is https://", 'write "https://…" endpoints', at_key=True
            )
        if len({made.scheme in _STREAMS for made in endpoints if not made.address.path}) > 1:
            source.error((*path, "endpoints"), "some endpoints take requests and others bytes", "make two upstreams of them")
        if raw.send_proxy_protocol != "off" and any(made.scheme is model.Scheme.H2C for made in endpoints):
            source.error(
                (*path, "send_proxy_protocol"),
                "an h2c:// connection carries many clients",
                "write http:// endpoints",
                at_key=True,
            )
        if not isinstance(raw.health, UnsetType) and _takes_bytes(tuple(endpoints)):
            source.error(
                (*path, "health"), "health checks ask by HTTP, and these endpoints take bytes", "take it out", at_key=True
            )
        return self._model(name, raw, table.get("tls", {}), tuple(endpoints), path)

    def _model(
        self, name: str, raw: keys.Upstream, written_tls: dict[str, Any], endpoints: tuple[model.Endpoint, ...], at: Path
    ) -> model.Upstream:
        secure = any(made.scheme.over_tls for made in endpoints)
        bytes_only = _takes_bytes(endpoints)
        alone = raw.send_proxy_protocol != "off" or bytes_only
        tls = self._tls(written_tls, (*at, "tls")) if secure or written_tls else None
        if alone and tls is not None:  # one client a connection
            tls = replace(tls, alpn=() if bytes_only else ("http/1.1",))
        connect, keepalive_timeout = seconds(raw.connect_timeout), seconds(raw.keepalive_timeout)
        return model.Upstream(
            name=name,
            endpoints=endpoints,
            tls=tls,
            balance=raw.balance,
            connect_timeout=connect if connect is not None else 5.0,
            first_byte_timeout=seconds(raw.first_byte_timeout),
            between_bytes_timeout=seconds(raw.between_bytes_timeout),
            keepalive=0 if alone or raw.keepalive == "off" else raw.keepalive,
            keepalive_timeout=keepalive_timeout if keepalive_timeout is not None else 55.0,
            max_connections=None if raw.max_connections == "off" else raw.max_connections,
            retry=self._retry(raw.retry),
            health=None if isinstance(raw.health, UnsetType) else self._health(raw.health, (*at, "health")),
            send_proxy="" if raw.send_proxy_protocol == "off" else raw.send_proxy_protocol,
            place=self._place(at),
        )

    def _retry(self, raw: keys.Retry) -> model.Retry:
        budget = share(raw.budget)
        return model.Retry(attempts=raw.attempts, budget=float("inf") if budget is None else budget)

    def _tls_of_all(self) -> dict[str, Any]:
        """What holds for all upstreams. Told once, here, when it is wrong by itself."""
        table: dict[str, Any] = self._source.tree.get("upstream_tls", {})
        if table.get("server_name"):
            self._source.error(
                ("upstream_tls", "server_name"), "one name cannot be that of all upstreams", "write it in [upstream.NAME.tls]"
            )
        return table

    def _tls(self, table: dict[str, Any], at: Path) -> model.UpstreamTls:
        """`table` is the upstream's own; what it leaves open is said at the top."""
        source = self._source
        merged = merge(((("upstream_tls",), self._tls_top), (at, table)))
        raw = typed(source, at, merged.values, keys.UpstreamTls)
        if raw is None:
            return model.UpstreamTls(trust=SYSTEM)
        store = self._trust.find(raw.trust, merged.origin("trust", at))
        if raw.verify == "off":
            message = "certificates are not verified here: anybody in between can read and change everything"
            source.warning(merged.origin("verify", at), message, "write trust with the authority's certificate instead")
        name = raw.server_name
        if name:
            try:
                name = read_host_name(name)
            except Bad as bad:
                source.error((*at, "server_name"), str(bad), bad.mend)
            if name.startswith("*."):
                source.error((*at, "server_name"), "the name of a server is no wildcard")
        shown = None
        if not isinstance(raw.client_certificate, UnsetType):
            shown = self._certificates.client(raw.client_certificate, merged.origin("client_certificate", at))
        return model.UpstreamTls(
            trust=store if store is not None else SYSTEM,
            server_name=name,
            verify=raw.verify == "on",
            min_version=raw.min_version,
            alpn=read_alpn(source, raw.alpn, merged.origin("alpn", at)),
            pins=pins(source, raw, merged.values.get("pins"), merged.origin("pins", at)),
            pin_report=raw.pin_mode == "report",
            client_certificate=shown,
        )

    def showing(self, targets: tuple[model.Target, ...], name: str, at: Path) -> tuple[model.Target, ...]:
        """`targets` with the certificate `name` shown to them instead of their own: each an upstream by itself."""
        certificate = self._certificates.client(name, at)
        if certificate is None:
            return targets
        if targets and all(target.upstream.tls is None for target in targets):
            self._source.warning(at, "no endpoint is https://, so nobody asks for a certificate", "take it out", at_key=True)
            return targets
        return tuple(
            target
            if target.upstream.tls is None
            else replace(
                target,
                upstream=replace(
                    target.upstream,
                    name=f"{target.upstream.name} as {certificate.name}",
                    tls=replace(target.upstream.tls, client_certificate=certificate),
                ),
            )
            for target in targets
        )

    def _health(self, raw: keys.Health, at: Path) -> model.Health:
        if not raw.path.startswith("/") or any(character <= " " or character > "~" for character in raw.path):
            self._source.error(
                (*at, "path"), f"'{self._source.shown((*at, 'path'), raw.path)}' is not a path", 'write for example "/healthz"'
            )
        interval, timeout = seconds(raw.interval), seconds(raw.timeout)
        return model.Health(
            path=raw.path,
            interval=interval if interval is not None else 5.0,
            timeout=timeout if timeout is not None else 2.0,
            rise=raw.rise,
            fall=raw.fall,
        )


def _takes_bytes(endpoints: tuple[model.Endpoint, ...]) -> bool:
    return any(made.scheme in _STREAMS for made in endpoints)


def read_alpn(source: Source, value: object, at: Path) -> tuple[str, ...]:
    """Protocols to negotiate: `h2`, `http/1.1`, at least one."""
    names = [str(name) for name in listed(value)]
    for name in names:
        if name not in ("h2", "http/1.1"):
            source.error(at, f'"{source.shown(at, name)}" is not a protocol that edge speaks', 'write "h2", "http/1.1" or both')
    if not names:
        source.error(at, "at least one protocol is needed", 'write "h2", "http/1.1" or both')
    return tuple(dict.fromkeys(names))
