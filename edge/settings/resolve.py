"""From a tree that fits the schema to the model: names are looked up, defaults filled in, and the rules between keys held.

The order is: what others name (trust stores, upstreams, listeners), then hosts, then routes. Every step tells its
problems and goes on with what it could read, so that one run finds them all.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from msgspec import UnsetType

from edge.settings import keys, model
from edge.settings.admin import admin
from edge.settings.certificates import CertificateReader
from edge.settings.hosts import Hosts, Listeners
from edge.settings.layers import listed, typed
from edge.settings.ocsp import ocsp
from edge.settings.policies import hsts, limits
from edge.settings.pool import NamedCertificates
from edge.settings.problems import Path
from edge.settings.routing import Routes
from edge.settings.source import Source
from edge.settings.streams import networks
from edge.settings.syntax import Bad, field_name
from edge.settings.tickets import tickets
from edge.settings.units import rate, seconds, share
from edge.settings.upstreams import TrustStores, Upstreams

__all__ = ["Resolved", "resolve"]

_LOG_WORDS = ("stdout", "stderr", "syslog", "off")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings, and the steps that made them, for those who ask where a value came from."""

    settings: model.Settings
    listeners: Listeners
    hosts: Hosts
    routes: Routes
    upstreams: Upstreams


def resolve(source: Source, now: float, environ: Mapping[str, str]) -> Resolved:
    """The settings of a source; they may be used only when it has no errors. `now` is POSIX time in seconds."""
    trust = TrustStores(source, now)
    stapling = ocsp(source)
    reader = CertificateReader(source, now, stapling)
    pool = NamedCertificates(source, reader)
    upstreams = Upstreams(source, trust, pool)
    listeners = Listeners(source, upstreams)
    hosts = Hosts(source, listeners, trust, reader, pool, upstreams)
    routes = Routes(source, listeners, hosts, upstreams)
    found = routes.models()
    no_sni = hosts.choose_no_sni()
    if isinstance(source.tree.get("hsts"), dict):
        hsts(source, [(("hsts",), source.tree["hsts"])])
    settings = model.Settings(
        server=_server(source, environ),
        log=_log(source),
        limits=limits(source, [(("limits",), source.tree.get("limits", {}))]),
        listeners=tuple(replace(listener, no_sni=no_sni.get(name)) for name, listener in listeners.by_name.items()),
        hosts=tuple(hosts.models),
        routes=found,
        upstreams=upstreams.all(),
        trusted_proxies=_networks(source),
        admin=admin(source),
        tickets=tickets(source, hosts.models),
        handshakes=_handshakes(source),
        ocsp=stapling,
        files=tuple(source.files),
        documents=tuple(document.file for document in source.documents),
        digest=source.digest(),
    )
    if not source.failed:
        routes.warn_idle_hosts()
        upstreams.warn_unused()
        trust.warn_unused()
        pool.warn_unused()
        _warn_idle_listeners(source, listeners, hosts)
    return Resolved(settings, listeners, hosts, routes, upstreams)


def _warn_idle_listeners(source: Source, listeners: Listeners, hosts: Hosts) -> None:
    """Warn of TLS listeners on which no host is served: nobody can complete a handshake there."""
    for name, listener in listeners.by_name.items():
        if listener.tls and listener.stream is None and not any(name in host.listeners for host in hosts.models):
            path = listeners.tables[name][0] if not listeners.implied else ()
            message = f"no host is served on listener '{name}'"
            source.warning(path, message, "write a [[host]] with names and certificates", at_key=True)


def _server(source: Source, environ: Mapping[str, str]) -> model.Server:
    raw = typed(source, ("server",), source.tree.get("server", {}), keys.Server)
    if raw is None:
        return model.Server(workers=1)
    root = os.geteuid() == 0
    resolvers: list[str] = []
    for text in [] if isinstance(raw.resolver, UnsetType) else listed(raw.resolver):
        at: Path = ("server", "resolver")
        try:
            resolvers.append(str(ipaddress.ip_address(text)))
        except ValueError:
            source.error(at, f"'{source.shown(at, text)}' is not an address", 'write for example "127.0.0.53"')
    try:
        field_name(raw.via, setting=False)
    except Bad:
        source.error(
            ("server", "via"),
            f"'{source.shown(('server', 'via'), raw.via)}' is not a name for Via",
            "letters, digits and - without spaces",
        )
    drain = seconds(raw.drain)
    return model.Server(
        workers=_cpus() if isinstance(raw.workers, UnsetType) else raw.workers,
        user=raw.user,
        group=raw.group,
        state_dir=_state_dir(environ, root=root)
        if isinstance(raw.state_dir, UnsetType)
        else _absolute(source, "state_dir", raw.state_dir),
        runtime_dir=_runtime_dir(environ, root=root)
        if isinstance(raw.runtime_dir, UnsetType)
        else _absolute(source, "runtime_dir", raw.runtime_dir),
        pid_file=_absolute(source, "pid_file", raw.pid_file) if raw.pid_file else "",
        pin=raw.pin == "on",
        upgrade=raw.upgrade,
        upgrade_command=tuple(listed(raw.upgrade_command)),
        drain=drain if drain is not None else 30.0,
        drain_delay=seconds(raw.drain_delay),
        watch=raw.watch,
        reload_weaker=raw.reload_weaker,
        region=raw.region,
        resolver=tuple(resolvers),
        via=raw.via,
    )


def _cpus() -> int:
    """The CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _absolute(source: Source, key: str, text: str) -> str:
    return os.path.abspath(source.directory(("server", key)) / text) if "\0" not in text else text.replace("\0", "")


def _state_dir(environ: Mapping[str, str], *, root: bool) -> str:
    if root:
        return "/var/lib/edge"
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or "/", ".local", "state")
    return os.path.join(home, "edge")


def _runtime_dir(environ: Mapping[str, str], *, root: bool) -> str:
    if root:
        return "/run/edge"
    base = environ.get("XDG_RUNTIME_DIR")
    return os.path.join(base, "edge") if base else f"/tmp/edge-{os.geteuid()}"


def _handshakes(source: Source) -> model.Handshakes:
    raw = typed(source, ("handshakes",), source.tree.get("handshakes", {}), keys.Handshakes)
    if raw is None:
        return model.Handshakes()
    return model.Handshakes(
        full=rate(raw.full),
        resumed=rate(raw.resumed),
        abandoned=rate(raw.abandoned),
        burst=seconds(raw.burst) or 5.0,
        exempt=networks(source, raw.exempt, ("handshakes", "exempt")),
        at_once=None if raw.at_once == "off" else raw.at_once,
        waiting=raw.waiting,
        wait=seconds(raw.wait) or 5.0,
    )


def _networks(source: Source) -> tuple[model.Network, ...]:
    raw = typed(source, ("trusted_proxies",), source.tree.get("trusted_proxies", {}), keys.TrustedProxies)
    return networks(source, [] if raw is None else raw.from_, ("trusted_proxies", "from"))


def _log(source: Source) -> model.Log:
    raw = typed(source, ("log",), source.tree.get("log", {}), keys.Log)
    if raw is None:
        return model.Log()
    return model.Log(
        access=_output(source, raw.access, "access", "stdout"),
        events=_output(source, raw.events, "events", "stderr"),
        level=raw.level,
    )


def _output(source: Source, written: str | keys.Access, key: str, otherwise: str) -> model.AccessLog:
    at: Path = ("log", key)
    raw = keys.Access(to=written) if isinstance(written, str) else written
    to: str | None = otherwise if isinstance(raw.to, UnsetType) else raw.to
    assert to is not None
    where = at if isinstance(written, str) else (*at, "to")
    if to == "off":
        to = None
    elif to.startswith("syslog:"):
        if not to[7:].startswith("/"):
            source.error(where, f'"{source.shown(where, to)}": the path of a socket is absolute', 'write "syslog:/dev/log"')
    elif to not in _LOG_WORDS:
        if "/" not in to:
            source.error(
                where,
                f'"{source.shown(where, to)}" is no place for a log',
                'write "stdout", "stderr", "syslog", "off" or a path: "./access.log"',
            )
        elif "\0" not in to:
            to = os.path.abspath(source.directory(where) / to)
    rate = share(raw.sample)
    redact = frozenset(str(name).lower() for name in listed(raw.redact))
    return model.AccessLog(to=to, format=raw.format, redact=redact, sample=1.0 if rate is None else rate)
