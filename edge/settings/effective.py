"""The settings as they are in force: every key with its value and where that came from (`edge check --effective`).

Values stand in the file's spelling, after inheritance: each is ``{"value": …, "from": "edge.toml:3"}``, or from ``"default"``.
Whatever came from the environment, a file or a credential is ``***``, and so are passphrases; keys never appear at all.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from edge.settings import keys, model
from edge.settings.layers import Merged, Place, inherited
from edge.settings.load import Loaded
from edge.settings.policies import PROFILES, merged_tls
from edge.settings.problems import Path
from edge.settings.routing import Found
from edge.settings.schema import defaults
from edge.settings.source import Source

__all__ = ["effective"]

HIDDEN = "***"
Entry = dict[str, Any]


class _Effective:
    def __init__(self, loaded: Loaded, settings: model.Settings) -> None:
        assert loaded.resolved is not None
        self.source: Source = loaded.source
        self.settings = settings
        self.resolved = loaded.resolved

    def shown(self, path: Path, value: Any) -> Any:
        if self.source.secret(path) or (path and path[-1] in ("passphrase", "token")):
            return HIDDEN
        if isinstance(value, Mapping):
            return {key: self.shown((*path, key), item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.shown((*path, index), item) for index, item in enumerate(value)]
        return value

    def entry(self, path: Path, value: Any) -> Entry:
        return {"value": self.shown(path, value), "from": str(self.source.value(path))}

    def table(
        self, kind: type[msgspec.Struct], merged: Merged, computed: Mapping[str, Any] | None = None, leave: Iterable[str] = ()
    ) -> Entry:
        """A table's keys. `computed`: what stands for keys without a default of their own. `leave`: told elsewhere."""
        known = {**defaults(kind), **(computed or {})}
        left = frozenset(leave)
        found: Entry = {}
        for info in msgspec.structs.fields(kind):
            name = info.encode_name
            if name in left:
                continue
            if name in merged.values:
                found[name] = self.entry(merged.origins[name], merged.values[name])
            elif name in known:
                found[name] = {"value": known[name], "from": "default"}
        return found

    def policy(self, kind: type[msgspec.Struct], key: str, *holders: Place) -> Entry:
        """An inheriting table, or the word that takes it away."""
        merged, off = Merged(), None
        for path, value in inherited(self.source, key, *holders):
            if value == "none":
                merged, off = Merged(), path
                continue
            off = None
            for name, item in value.items():
                if isinstance(item, Mapping) and isinstance(merged.values.get(name), dict):
                    item = {**merged.values[name], **item}
                merged.values[name] = item
                merged.origins[name] = (*path, name)
        return self.entry(off, "none") if off is not None else self.table(kind, merged)

    def at(self, path: Path, table: Mapping[str, Any]) -> Merged:
        return Merged(dict(table), {key: (*path, key) for key in table})

    def top(self, key: str) -> Merged:
        return self.at((key,), self.source.tree.get(key, {}))

    def log(self) -> Entry:
        written = self.source.tree.get("log", {})
        found: Entry = {"level": self.table(keys.Log, self.top("log"), leave=("access", "events"))["level"]}
        for key, otherwise in (("access", "stdout"), ("events", "stderr")):
            value, path = written.get(key, {}), ("log", key)
            merged = Merged({"to": value}, {"to": path}) if isinstance(value, str) else self.at(path, value)
            found[key] = self.table(keys.Access, merged, {"to": otherwise})
        return found

    def admin(self) -> Entry:
        return self.table(keys.Admin, self.top("admin"), {"token": "none"})

    def listener(self, listener: model.Listener) -> Entry:
        path, table = self.resolved.listeners.tables[listener.name]
        if self.resolved.listeners.implied:
            found = {key: {"value": value, "from": "default"} for key, value in {"tls": "on", **table}.items()}
            merged = Merged()
        else:
            merged = self.at(path, table)
            found = self.table(keys.Listener, merged, {"name": listener.name, "redirect": "off"}, leave=("limits", "no_sni"))
        holder: Place = (path, {} if self.resolved.listeners.implied else table)
        if listener.tls:
            where = merged.origins.get("no_sni", ("tls", "no_sni") if "no_sni" in self.source.tree.get("tls", {}) else None)
            found["no_sni"] = {
                "value": (listener.no_sni or "refuse") if where is None or not self.source.secret(where) else HIDDEN,
                "from": "default" if where is None else str(self.source.value(where)),
            }
        found["limits"] = self.policy(keys.Limits, "limits", holder)
        return found

    def host(self, path: Path, table: dict[str, Any], host: model.Host) -> Entry:
        leave = ("tls", "client_auth", "hsts", "limits", "request_headers", "response_headers", "certificates", "upstream")
        found = self.table(keys.Host, self.at(path, table), {"listeners": list(host.listeners)}, leave)
        found["certificates"] = [self.certificate(certificate) for certificate in host.certificates]
        merged = merged_tls([(("tls",), self.source.tree.get("tls", {})), ((*path, "tls"), table.get("tls", {}))])
        profile = PROFILES[merged.values.get("profile", "intermediate")]
        decided = {key: list(value) if isinstance(value, tuple) else value for key, value in profile.items()}
        found["tls"] = self.table(keys.Tls, merged, decided, leave=("no_sni", "unknown_sni"))
        asked = inherited(self.source, "client_auth", (path, table))
        found["client_auth"] = (
            self.policy(keys.ClientAuth, "client_auth", (path, table)) if asked else {"value": "off", "from": "default"}
        )
        if host.hsts is None and not inherited(self.source, "hsts", (path, table)):
            found["hsts"] = {"value": "none", "from": "default"}  # localhost and addresses
        else:
            found["hsts"] = self.policy(keys.Hsts, "hsts", (path, table))
        return found

    def certificate(self, certificate: model.Certificate) -> Entry:
        place = certificate.place
        return {
            "name": certificate.name,
            "key_type": certificate.key_type,
            "names": list(certificate.names),
            "not_before": _moment(certificate.not_before),
            "not_after": _moment(certificate.not_after),
            "sha256": certificate.fingerprint,
            "from": f"{place.file}:{place.line}",
        }

    def route(self, found: Found) -> Entry:
        path, table = found.holders[-1]
        merged = self.at(path, table) if found.path == path else Merged({"upstream": table["upstream"]}, {"upstream": found.path})
        computed = {
            "listeners": list(found.route.listeners),
            "host": found.route.host if found.path != path else "every host",
            "methods": "all",
            "first_byte_timeout": "the upstream's",
            "between_bytes_timeout": "the upstream's",
        }
        leave = (
            "limits",
            "hsts",
            "request_headers",
            "response_headers",
            *(key for key in ("redirect", "respond", "health", "client_auth") if key not in merged.values),
        )
        shown = self.table(keys.Route, merged, computed, leave)
        shown["limits"] = self.policy(keys.Limits, "limits", *found.holders)
        for key in ("request_headers", "response_headers"):
            shown[key] = self.policy(keys.HeaderRules, key, *found.holders)
        return shown

    def upstream(self, upstream: model.Upstream) -> Entry | None:
        table = self.source.tree.get("upstream", {}).get(upstream.name)
        if table is None:
            return None
        path: Path = ("upstream", upstream.name)
        shown = self.table(keys.Upstream, self.at(path, table), leave=("tls", "retry", "health"))
        for key, kind in (("tls", keys.UpstreamTls), ("retry", keys.Retry), ("health", keys.Health)):
            if key in table or key == "retry" or (key == "tls" and upstream.tls is not None):
                shown[key] = self.table(kind, self.at((*path, key), table.get(key, {})))
        return shown

    def everything(self) -> Entry:
        source, server = self.source, self.settings.server
        computed = {
            "workers": server.workers,
            "state_dir": server.state_dir,
            "runtime_dir": server.runtime_dir,
            "resolver": "the system's",
        }
        upstreams = {name: self.upstream(upstream) for name, upstream in self.settings.upstreams.items()}
        return {
            "server": self.table(keys.Server, self.top("server"), computed),
            "log": self.log(),
            "admin": self.admin(),
            "trusted_proxies": self.table(keys.TrustedProxies, self.top("trusted_proxies")),
            "ocsp": self.table(keys.Ocsp, self.top("ocsp"), {"responder": "the certificates' own", "proxy": "none"}),
            "limits": self.table(keys.Limits, self.top("limits")),
            "listeners": [self.listener(listener) for listener in self.settings.listeners],
            "hosts": [self.host(path, table, host) for path, table, host, _ in self.resolved.hosts.tables],
            "routes": [self.route(found) for found in self.resolved.routes.found],
            "upstreams": {name: shown for name, shown in upstreams.items() if shown is not None},
            "trust": {
                name: self.table(keys.Trust, self.at(("trust", name), table))
                for name, table in source.tree.get("trust", {}).items()
            },
            "files": source.files,
            "digest": self.settings.digest,
        }


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _redacted(value: Any, source: Source) -> Any:
    """The value without what came from elsewhere, also where it was put together from such parts."""
    if isinstance(value, dict):
        return {key: _redacted(item, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, source) for item in value]
    return source.redact(value) if isinstance(value, str) else value


def effective(loaded: Loaded) -> dict[str, Any]:
    """The settings in force, as one JSON object. Raises ValueError when there are none because of errors."""
    if loaded.settings is None:
        raise ValueError("settings with errors are not in force")
    return {"version": 1, "settings": _redacted(_Effective(loaded, loaded.settings).everything(), loaded.source)}
