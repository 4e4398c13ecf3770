"""Listeners and hosts: who is served where, with which certificates and on which terms.

A host without `listeners` is served on every listener that does not redirect, and on plain ones only while it asks for no
client certificate. What clients without SNI get is decided for each listener.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.certificates import CertificateReader, covers
from edge.settings.client_auth import RoutesDemands, client_auth
from edge.settings.layers import Merged, listed, typed, written
from edge.settings.names import NameIndex, canonical
from edge.settings.policies import check_limit_places, check_suites, hsts, limits, merged_tls, tls_policy
from edge.settings.pool import NamedCertificates
from edge.settings.problems import Path, nearest
from edge.settings.source import Source
from edge.settings.streams import host_stream, listener_stream, proxy_protocol
from edge.settings.syntax import LISTENERS_OWN, Bad, host_name, is_address, listen_addresses
from edge.settings.tickets import ONLY_AT_THE_TOP, early_data
from edge.settings.upstreams import TrustStores, Upstreams

__all__ = ["Hosts", "Listeners", "read_listener_names"]

_IMPLIED: tuple[dict[str, Any], ...] = (
    {"name": "https", "address": ":443"},
    {"name": "http", "address": ":80", "tls": "off", "redirect": "https"},
)


class Listeners:
    """The listeners by name; two implied ones when the file has none."""

    def __init__(self, source: Source, upstreams: Upstreams) -> None:
        self._source = source
        self._upstreams = upstreams
        self.by_name: dict[str, model.Listener] = {}
        self.no_sni: dict[str, tuple[str, Path]] = {}  # as written in the listener itself
        self.tables: dict[str, tuple[Path, dict[str, Any]]] = {}
        self.broken = False  # some listener could not be read: names may be missing here
        self._bound: dict[str, Path] = {}
        self.implied = not source.tree.get("listener")
        tables = list(_IMPLIED) if self.implied else source.tree["listener"]
        for index, table in enumerate(tables):
            self._read(("listener", index), table)

    def _read(self, path: Path, table: Any) -> None:
        source = self._source
        raw = typed(source, path, table, keys.Listener)
        if raw is None:
            self.broken = True
            return
        name = str(listed(raw.address)[0] if listed(raw.address) else "") if isinstance(raw.name, UnsetType) else raw.name
        addresses: list[model.Address] = []
        for index, text in enumerate(listed(raw.address)):
            at: Path = (*path, "address", index) if isinstance(table["address"], list) else (*path, "address")
            try:
                found = tuple(
                    replace(address, passed=name) if address.passed == LISTENERS_OWN else address
                    for address in listen_addresses(text)
                )
            except Bad as bad:
                source.error(at, str(bad), bad.mend)
                self.broken = True
                continue
            for address in found:
                self._claim(address, at)
            addresses += found
        if not listed(raw.address):
            source.error((*path, "address"), "a listener without an address", 'write address = ":443"')
        if name in self.by_name:
            other = source.key(self.tables[name][0])
            source.error((*path, "name"), f"two listeners are called '{name}', the first at {other}", "give them different names")
            return
        limit_place = ((*path, "limits"), table.get("limits", {}))
        check_limit_places(source, limit_place, where="listener")
        span = source.key(path) if not self.implied else None
        self.tables[name] = (path, table)
        self.by_name[name] = model.Listener(
            name=name,
            addresses=tuple(addresses),
            tls=raw.tls == "on",
            redirect_port=self._redirect(raw, path),
            limits=limits(source, [(("limits",), source.tree.get("limits", {})), limit_place]),
            proxy=proxy_protocol(source, raw.proxy_protocol, (*path, "proxy_protocol")),
            stream=listener_stream(source, self._upstreams, path, raw, table),
            place=model.Place(file=span.file, line=span.line, column=span.column) if span is not None else model.Place(),
        )
        if not isinstance(raw.no_sni, UnsetType):
            if raw.tls == "off":
                source.error((*path, "no_sni"), "no_sni means nothing on a plain listener", "take it out", at_key=True)
            self.no_sni[name] = (raw.no_sni, (*path, "no_sni"))

    def _claim(self, address: model.Address, at: Path) -> None:
        key = address.text
        if key in self._bound:
            self._source.error(at, f"{key} is bound already, at {self._source.value(self._bound[key])}", "take one out")
        self._bound.setdefault(key, at)

    def _redirect(self, raw: keys.Listener, path: Path) -> int | None:
        if isinstance(raw.redirect, UnsetType):
            return None
        at = (*path, "redirect")
        if raw.tls == "on":
            self._source.error(at, "a listener that redirects to https is plain itself", 'write tls = "off"', at_key=True)
        word, _, port = raw.redirect.partition(":")
        if word != "https" or (":" in raw.redirect and not (port.isascii() and port.isdigit() and 1 <= int(port[:7]) <= 65535)):
            self._source.error(
                at, f'"{self._source.shown(at, raw.redirect)}" is not possible here', 'write "https" or "https:8443"'
            )
            return 443
        return int(port) if port else 443

    def usable(self) -> list[str]:
        """The names of those that serve, TLS or plain, instead of redirecting."""
        return [name for name, listener in self.by_name.items() if listener.redirect_port is None]


def read_listener_names(source: Source, listeners: Listeners, value: Any, at: Path) -> tuple[str, ...]:
    """The listeners that a host or route names; problems are told."""
    names: list[str] = []
    for index, name in enumerate(listed(value)):
        here: Path = (*at, index) if isinstance(value, list) else at
        listener = listeners.by_name.get(name)
        if listener is None:
            if not listeners.broken:
                hint = nearest(name, listeners.by_name) or ", ".join(listeners.by_name)
                source.error(here, f"there is no listener '{source.shown(here, name)}'", f"there is: {hint}" if hint else "")
        elif listener.redirect_port is not None:
            source.error(here, f"listener '{name}' only redirects: nothing is served there", "take it out")
        elif name not in names:
            names.append(name)
    if value == []:
        source.error(at, "a list without a listener", "take the key out, for all listeners")
    return tuple(names)


class Hosts:
    """The hosts, and what routes need to know of each."""

    def __init__(
        self, source: Source, listeners: Listeners, trust: TrustStores, reader: CertificateReader, pool: NamedCertificates,
        upstreams: Upstreams,
    ) -> None:  # fmt: skip
        self._source = source
        self._listeners = listeners
        self._trust = trust
        self._upstreams = upstreams
        self._reader = reader
        self.models: list[model.Host] = []
        self.tables: list[tuple[Path, dict[str, Any], model.Host, tuple[str, ...]]] = []  # with the listeners that serve it
        self.by_name: dict[str, int] = {}  # of a host in `tables`
        self.merged_tls: dict[int, Merged] = {}
        self.broken = False
        self._paths: dict[str, Path] = {}
        self._pool = pool
        self._demands = RoutesDemands(source, trust)
        for index, table in enumerate(source.tree.get("host", [])):
            self._read(("host", index), table)
        self.index: NameIndex[int] = NameIndex(self.by_name.items())

    def _read(self, path: Path, table: Any) -> None:
        source = self._source
        raw = typed(source, path, table, keys.Host)
        if raw is None:
            self.broken = True
            return
        names = self._names(path, raw, table)
        merged = merged_tls([(("tls",), source.tree.get("tls", {})), ((*path, "tls"), table.get("tls", {}))])
        for key in ("no_sni", "unknown_sni"):
            if key in table.get("tls", {}):
                source.error(
                    (*path, "tls", key),
                    f"'{key}' is decided before the host is known",
                    "write it in [tls] at the top",
                    at_key=True,
                )
        for key in ONLY_AT_THE_TOP:
            if key in table.get("tls", {}):
                source.error(
                    (*path, "tls", key), f"'{key}' holds for all hosts together", "write it in [tls] at the top", at_key=True
                )
        policy = tls_policy(source, merged, (*path, "tls"))
        layers = written((("client_auth",), source.tree.get("client_auth")), ((*path, "client_auth"), table.get("client_auth")))
        auth, _ = client_auth(source, self._trust, layers)
        if table.get("client_auth") == "none" and "client_auth" in source.tree:
            source.note((*path, "client_auth"), f"{names[0] if names else 'this host'} takes client_auth away")
        top = source.tree.get("client_auth")
        if top is not None and top.get("mode", "require") == "require" and auth.mode is model.ClientAuthMode.REQUEST:
            source.note((*path, "client_auth"), f"{names[0] if names else 'this host'} lets clients in without a certificate")
        check_limit_places(source, ((*path, "limits"), table.get("limits", {})), where="host")
        stream = host_stream(source, self._upstreams, path, raw, table)
        passthrough = stream is not None and stream.passthrough
        if passthrough:
            auth = model.ClientAuth()
        elif stream is None:
            auth = self._demands.added(auth, names)
        if stream is not None and policy is not None:
            policy = replace(policy, alpn=())  # what is spoken inside is not for us to agree on
        if policy is not None:
            policy = _proven_often(policy, auth)
            policy = early_data(source, policy, merged, (*path, "tls"), auth, stream=stream is not None)
        served = self._served(path, raw, table, auth, stream=stream is not None)
        secure = any(self._listeners.by_name[name].tls for name in served)
        span = source.key(path)
        host = model.Host(
            names=tuple(names),
            listeners=served,
            certificates=self._certificates(path, raw, table, names)
            if not passthrough and (secure or not isinstance(raw.certificates, UnsetType))
            else (),
            tls=policy if policy is not None else model.TlsPolicy(),
            client_auth=auth,
            hsts=self._hsts(path, table, names) if stream is None else None,
            stream=stream,
            place=model.Place(file=span.file, line=span.line, column=span.column),
        )
        check_suites(source, host.tls, host.certificates, merged.origin("ciphers", (*path, "tls")))
        for name in names:
            self.by_name[name] = len(self.tables)
        self.merged_tls[len(self.tables)] = merged
        self.tables.append((path, table, host, served))
        self.models.append(host)

    def _names(self, path: Path, raw: keys.Host, table: Any) -> list[str]:
        source, names = self._source, []
        for index, text in enumerate(listed(raw.names)):
            at: Path = (*path, "names", index) if isinstance(table["names"], list) else (*path, "names")
            try:
                name = host_name(text)
            except Bad as bad:
                source.error(
                    at,
                    f"{source.shown(at, text)} is not a host name" if source.secret(at) else str(bad),
                    "" if source.secret(at) else bad.mend,
                )
                self.broken = True
                continue
            if name in self._paths:
                source.error(
                    at,
                    f"'{source.shown(at, name)}' belongs to a host already, at {source.value(self._paths[name])}",
                    "take one out",
                )
            else:
                self._paths[name] = at
                names.append(name)
        if not listed(raw.names):
            source.error((*path, "names"), "a host without a name", 'write names = ["api.example.com"]')
        return names

    def _served(self, path: Path, raw: keys.Host, table: Any, auth: model.ClientAuth, *, stream: bool) -> tuple[str, ...]:
        wants_client = auth.mode is not model.ClientAuthMode.OFF
        by_name = self._listeners.by_name
        if isinstance(raw.listeners, UnsetType):
            return tuple(name for name in self._listeners.usable() if by_name[name].tls or not (wants_client or stream))
        names = read_listener_names(self._source, self._listeners, table["listeners"], (*path, "listeners"))
        for name in names:
            if wants_client and not by_name[name].tls:
                message = f"listener '{name}' is plain: there is no client certificate to ask for"
                self._source.error((*path, "listeners"), message, "take it out, or client_auth")
            elif stream and not by_name[name].tls:
                message = f"listener '{name}' is plain: without HTTP and TLS nobody says which host is meant"
                self._source.error((*path, "listeners"), message, "write passthrough in that listener")
        return names

    def _hsts(self, path: Path, table: dict[str, Any], names: list[str]) -> model.Hsts | None:
        source = self._source
        layers = written((("hsts",), source.tree.get("hsts")), ((*path, "hsts"), table.get("hsts")))
        found, _ = hsts(source, layers)
        if table.get("hsts") == "none" and source.tree.get("hsts") != "none":
            source.note((*path, "hsts"), f"{names[0] if names else 'this host'} takes hsts away")
        if "hsts" not in table and any(is_address(name) or name == "localhost" or name.endswith(".localhost") for name in names):
            return None
        return found

    def _certificates(self, path: Path, raw: keys.Host, table: dict[str, Any], names: list[str]) -> tuple[model.Certificate, ...]:
        source = self._source
        chosen: list[tuple[Path, model.Certificate]] = []
        if isinstance(raw.certificates, UnsetType):
            return () if source.touched((*path, "certificates")) else self._fitting(path, names)
        written = table["certificates"]
        for index, item in enumerate(listed(raw.certificates)):
            at: Path = (*path, "certificates", index) if isinstance(written, list) else (*path, "certificates")
            found = self._pool.find(item, at) if isinstance(item, str) else self._reader.read(at, item)
            if found is not None:
                self._check_covers(found, names, at)
                self._check_purpose(found, at)
                same = next((other for _, other in chosen if other.key_type == found.key_type), None)
                if same is not None:
                    source.error(
                        at,
                        f"two certificates with a key of one type ({found.key_type})",
                        "keep one of each type: ecdsa, rsa, ed25519",
                    )
                chosen.append((at, found))
        if written == []:
            source.error(
                (*path, "certificates"), "a list without a certificate", "take the key out, to choose among [[certificate]]"
            )
        return tuple(certificate for _, certificate in chosen)

    def _check_covers(self, certificate: model.Certificate, names: list[str], at: Path) -> None:
        missing = [name for name in names if not covers(certificate.names, name)]
        if missing:
            has = ", ".join(certificate.names[:6]) + (" …" if len(certificate.names) > 6 else "") or "no names at all"
            self._source.error(at, f"the certificate does not cover {', '.join(missing[:6])}", f"it covers {has}")

    def _fitting(self, path: Path, names: list[str]) -> tuple[model.Certificate, ...]:
        """For each key type the first named certificate that covers all the host's names."""
        pool = self._pool
        chosen = pool.fitting(names)
        if not chosen and not self._source.touched((*path, "passthrough")) and pool.whole:
            who = names[0] if names else "this host"
            message = f"no [[certificate]] covers {', '.join(names[:6])}" if len(pool) else f"{who} has no certificate"
            self._source.error(path, message, 'write certificates = [{ chain = "/path", key = "/path" }]', at_key=True)
        for certificate in chosen.values():
            self._check_purpose(certificate, path)
        return tuple(chosen.values())

    def _check_purpose(self, certificate: model.Certificate, at: Path) -> None:
        if "server" not in certificate.purposes:
            self._source.warning(
                at,
                f"the certificate {certificate.name} is not for servers (its extendedKeyUsage lacks serverAuth)",
                "have one issued for servers",
            )

    def choose_no_sni(self) -> dict[str, str | None]:
        """For each TLS listener the name of the host that clients without SNI get."""
        source, chosen = self._source, dict[str, str | None]()
        top = source.tree.get("tls", {}).get("no_sni")
        if top is not None:
            self._check_no_sni(top, ("tls", "no_sni"), None)
        for name, listener in self._listeners.by_name.items():
            if not listener.tls:
                continue
            word, at = self._listeners.no_sni.get(name, (top, ("tls", "no_sni")))
            here = [host for _, _, host, served in self.tables if name in served]
            if word is None:
                chosen[name] = here[0].names[0] if len(here) == 1 and here[0].names else None
            elif word == "refuse":
                chosen[name] = None
            else:
                if name in self._listeners.no_sni:
                    self._check_no_sni(word, at, name)
                found = self.index.find(self._canonical(word))
                serves = found is not None and name in self.tables[found][3]
                chosen[name] = self._canonical(word) if serves else None
        return chosen

    def _canonical(self, name: str) -> str:
        try:
            return host_name(name)
        except Bad:
            return canonical(name)

    def _check_no_sni(self, word: str, at: Path, listener: str | None) -> None:
        if word == "refuse" or self.broken:
            return
        found = self.index.find(self._canonical(word))
        if found is None:
            hint = nearest(word, [*self.by_name, "refuse"])
            self._source.error(
                at,
                f"no [[host]] is called '{self._source.shown(at, word)}'",
                f'write "{hint}"' if hint else 'write the name of a host, or "refuse"',
            )
        elif listener is not None and listener not in self.tables[found][3]:
            self._source.error(
                at,
                f"'{self._source.shown(at, word)}' is not served on this listener",
                "add the listener to that host's listeners",
            )


def _proven_often(policy: model.TlsPolicy, auth: model.ClientAuth) -> model.TlsPolicy:
    """A ticket stands for a certificate that was shown, so it lives no longer than a connection may. It holds no chain."""
    if auth.mode is model.ClientAuthMode.OFF:
        return policy
    if auth.max_age is not None and auth.max_age < policy.ticket_lifetime:
        policy = replace(policy, ticket_lifetime=float(max(1, int(auth.max_age))))
    return replace(policy, tickets=False) if auth.chain else policy
