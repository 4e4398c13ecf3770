"""What a change of each setting means: whether it takes protection away, and how to say it.

One table with every field of the model (a test walks the model and fails for a field that is not in it), so that whoever adds
a setting says what changing it means. A rule's `weaker` is asked only about values that differ. What is not weaker is not
therefore stronger: such a change is only told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

__all__ = ["INSIDE", "RULES", "Rule", "is_far", "listing", "reachable"]

Judge = Callable[[Any, Any], bool]


# -- values as people write them --------------------------------------------------------------------------------------------


def word(value: Any) -> str:
    """A value as the settings file spells it."""
    if value is None or value is False:
        return "off"
    if value is True:
        return "on"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(word, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={word(item)}" for key, item in value.items()) or "none"
    return str(value) or "none"


def duration(value: float | None) -> str:
    """Seconds as ``30s``, ``5m``, ``365d``: the largest unit that is exact."""
    if value is None:
        return "off"
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if value >= length and value % length == 0:
            return f"{value / length:g}{unit}"
    return f"{value:g}s" if value >= 1 else f"{value * 1000:g}ms"


def size(value: float | None) -> str:
    """Bytes as ``8KiB``: the largest unit that is exact."""
    if value is None:
        return "off"
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= length and value % length == 0:
            return f"{value / length:g}{unit}"
    return f"{value:g}B"


def per_second(value: float | None) -> str:
    """Events a second as ``10/s``."""
    return "off" if value is None else f"{value:g}/s"


def listing(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


# -- when a change takes protection away --------------------------------------------------------------------------------------


def never(old: Any, new: Any) -> bool:
    return False


def raised(old: float | None, new: float | None) -> bool:
    """A bound is larger, or off."""
    return old is not None and (new is None or new > old)


def lowered(old: float | None, new: float | None) -> bool:
    """A least value is smaller, or off."""
    return old is not None and (new is None or new < old)


def off(old: Any, new: Any) -> bool:
    return bool(old) and not new


def on(old: Any, new: Any) -> bool:
    return not old and bool(new)


def gained(old: Any, new: Any) -> bool:
    return not set(new) <= set(old)


def lost(old: Any, new: Any) -> bool:
    return not set(old) <= set(new)


def _lost_keys(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Something that was there by its name is not there any more."""
    return not set(old) <= set(new)


def down(*ladder: str) -> Judge:
    """A lower step of `ladder`, which begins with the weakest."""
    return lambda old, new: old in ladder and new in ladder and ladder.index(new) < ladder.index(old)


_POST_QUANTUM = frozenset({"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"})


def _groups(old: list[str], new: list[str]) -> bool:
    """A classic group comes in, or post-quantum key exchange goes altogether."""
    return bool(set(new) - set(old) - _POST_QUANTUM) or (_POST_QUANTUM.isdisjoint(new) and not _POST_QUANTUM.isdisjoint(old))


def _networks(old: list[str], new: list[str]) -> bool:
    """An address is trusted that was not."""
    before = [ip_network(text) for text in old]
    return any(not any(_within(network, known) for known in before) for network in map(ip_network, new))


def _within(network: Any, known: Any) -> bool:
    return bool(network.version == known.version and network.subnet_of(known))


_PROTECTING = frozenset(
    {
        "content-security-policy", "cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy",
        "permissions-policy", "referrer-policy", "strict-transport-security", "x-content-type-options", "x-frame-options",
    }
)  # fmt: skip


def _protecting_set(old: list[str], new: list[str]) -> bool:
    """A header that protects browsers is set no more, or to something else."""
    return any(pair not in new for pair in old if pair.partition(":")[0] in _PROTECTING)


def reachable(old: list[str], new: list[str]) -> bool:
    """Other machines can connect that could not."""
    return any(map(is_far, new)) and not any(map(is_far, old))


def is_far(address: str) -> bool:
    """Whether other machines can connect to an address that a listener is bound to."""
    try:
        return not ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError:
        return True  # a name: whoever passes the socket has bound it


def _no_sni(old: str | None, new: str | None) -> bool:
    return old is None and new is not None


def _only_some(old: list[str], new: list[str]) -> bool:
    """Of pins, or rules for clients: some are taken that were not. Fewer of them are stricter, but none at all takes everyone."""
    return bool(old) and (not new or gained(old, new))


def _pin_mode(report: bool) -> str:
    return "report" if report else "enforce"


def _security(value: str) -> str:
    return {"plain": "without TLS", "unverified": "TLS, not verified"}.get(value, "verified TLS, or local")


def _wider_match(old: list[str] | None, new: list[str] | None) -> bool:
    return old is not None and (new is None or not set(new) <= set(old))


# -- the table ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """How a change of one field is judged and said. `words`: the key as the file spells it. `why`: what it means if weaker."""

    words: str
    weaker: Judge = never
    show: Callable[[Any], str] = word
    why: str = ""
    ignored: bool = False  # a name by which people call a thing: another one changes nothing


_IGNORED = Rule("", ignored=True)

# Fields that hold a table, and the class whose rules hold there.
INSIDE: Final[dict[str, str]] = {
    "Settings.server": "Server",
    "Settings.log": "Log",
    "Settings.limits": "Limits",
    "Settings.handshakes": "Handshakes",
    "Settings.admin": "Admin",
    "Settings.tickets": "Tickets",
    "Settings.ocsp": "Ocsp",
    "Log.access": "AccessLog",
    "Log.events": "AccessLog",
    "Listener.limits": "Limits",
    "Listener.proxy": "ProxyProtocol",
    "Host.tls": "TlsPolicy",
    "Host.client_auth": "ClientAuth",
    "Host.hsts": "Hsts",
    "ClientAuth.trust": "Trust",
    "Route.request_headers": "HeaderRules",
    "Route.response_headers": "HeaderRules",
    "Route.limits": "Limits",
    "Route.hsts": "Hsts",
    "Route.client_auth": "RouteClientAuth",
    "Upstream.tls": "UpstreamTls",
    "Upstream.retry": "Retry",
    "Upstream.health": "Health",
    "UpstreamTls.trust": "Trust",
}

RULES: Final[dict[str, Rule]] = {
    # the large parts are compared thing by thing
    "Settings.listeners": _IGNORED,
    "Settings.hosts": _IGNORED,
    "Settings.routes": _IGNORED,
    "Settings.upstreams": _IGNORED,
    "Settings.trusted_proxies": Rule("trusted_proxies", _networks, why="their X-Forwarded-For is believed"),
    "Admin.addresses": Rule("address", reachable, why="reachable from other machines"),
    "Admin.written": _IGNORED,
    "Admin.token": Rule("token", off, lambda value: "(hidden)" if value else "none", why="nobody has to show one"),
    "Admin.open": Rule("open", gained, why="more is answered without the token"),
    "Admin.names": Rule("names", gained, why="it may be asked by more names"),
    "Tickets.rotation": Rule("tls.ticket_rotation", raised, duration, why="a stolen ticket key opens more tickets"),
    "Tickets.lifetime": _IGNORED,  # follows from the hosts'
    "Tickets.file": Rule("tls.ticket_secret"),
    "Ocsp.stapling": Rule(
        "ocsp.stapling", off, lambda value: "auto" if value else "off", why="clients are not told of revocation"
    ),
    "Ocsp.responder": Rule("ocsp.responder", show=lambda value: value or "the certificates' own"),
    "Ocsp.proxy": Rule("ocsp.proxy", show=lambda value: "(hidden)" if value else "none"),
    "Ocsp.must_staple": Rule(
        "ocsp.must_staple", down("alert", "refuse"), why="a Must-Staple certificate is shown without a staple"
    ),
    "Ocsp.timeout": Rule("ocsp.timeout", show=duration),
    "Server.workers": Rule("server.workers"),
    "Server.user": Rule("server.user", off, why="workers keep the rights of who started edge"),
    "Server.group": Rule("server.group"),
    "Server.state_dir": Rule("server.state_dir"),
    "Server.runtime_dir": Rule("server.runtime_dir"),
    "Server.pid_file": Rule("server.pid_file"),
    "Server.pin": Rule("server.pin"),
    "Server.upgrade": Rule("server.upgrade"),
    "Server.upgrade_command": Rule("server.upgrade_command"),
    "Server.drain": Rule("server.drain", show=duration),
    "Server.drain_delay": Rule("server.drain_delay", show=duration),
    "Server.watch": Rule("server.watch"),
    "Server.reload_weaker": Rule("server.reload_weaker", down("allow", "ask"), why="reloads may take protection away"),
    "Server.region": Rule("server.region"),
    "Server.resolver": Rule("server.resolver"),
    "Server.via": Rule("server.via"),
    "Log.level": Rule("log.level", down("error", "warning", "info", "debug"), why="fewer events are recorded"),
    "AccessLog.to": Rule("to", off, why="nothing is recorded"),
    "AccessLog.format": Rule("format"),
    "AccessLog.redact": Rule("redact", lost, why="more personal data is recorded"),
    "AccessLog.sample": Rule("sample", show=lambda value: f"{100 * value:g}%"),
    "Limits.request_line": Rule("request_line", raised, size),
    "Limits.header_bytes": Rule("header_bytes", raised, size),
    "Limits.header_count": Rule("header_count", raised),
    "Limits.request_body": Rule("request_body", raised, size),
    "Limits.streams": Rule("streams", raised),
    "Limits.requests_per_connection": Rule("requests_per_connection", raised),
    "Limits.connections": Rule("connections", raised),
    "Limits.pipelined": Rule("pipelined", raised, size),
    "Limits.handshake_timeout": Rule("handshake_timeout", raised, duration),
    "Limits.header_timeout": Rule("header_timeout", raised, duration),
    "Limits.body_timeout": Rule("body_timeout", raised, duration),
    "Limits.body_min_rate": Rule("body_min_rate", lowered, lambda value: size(value) + ("/s" if value else "")),
    "Limits.idle_timeout": Rule("idle_timeout", raised, duration),
    "Limits.write_timeout": Rule("write_timeout", raised, duration),
    "Limits.tls_hello": Rule("tls_hello", raised, size),
    "Limits.h2_resets": Rule("h2_resets", raised),
    "Limits.key_updates": Rule("key_updates", raised),
    "Limits.empty_records": Rule("empty_records", raised),
    "Limits.h2_control": Rule("h2_control", raised),
    "Handshakes.full": Rule("full", raised, show=per_second),
    "Handshakes.resumed": Rule("resumed", raised, show=per_second),
    "Handshakes.abandoned": Rule("abandoned", raised, show=per_second),
    "Handshakes.burst": Rule("burst", raised, show=duration),
    "Handshakes.exempt": Rule("exempt", _networks, why="they have no budget of handshakes"),
    "Handshakes.at_once": Rule("at_once", raised),
    "Handshakes.waiting": Rule("waiting"),
    "Handshakes.wait": Rule("wait", show=duration),
    "Trust.name": _IGNORED,
    "Trust.ca": Rule("ca", gained, why="certificates of more authorities are accepted"),
    "Trust.system": Rule("system", on, why="certificates of every public authority are accepted"),
    "Trust.crls": Rule("crl", _lost_keys, why="certificates that were revoked are accepted again"),
    "Trust.crl_check": Rule("crl_check", down("off", "leaf", "chain")),
    "Trust.crl_grace": Rule("crl_grace", raised, duration, why="lists are believed for longer than they are good"),
    "ClientAuth.mode": Rule("client_auth", down("off", "request", "require")),
    "ClientAuth.depth": Rule("client_auth.depth", raised),
    "ClientAuth.allow": Rule("client_auth.allow", _only_some, why="more clients are let in"),
    "ClientAuth.announce": Rule("client_auth.announce"),
    "ClientAuth.forward": Rule("client_auth.forward"),
    "ClientAuth.chain": _IGNORED,  # follows from forward
    "ClientAuth.max_age": Rule("client_auth.max_age", raised, duration, why="clients prove themselves less often"),
    "RouteClientAuth.required": Rule("mode", off, lambda value: "require" if value else "request"),
    "RouteClientAuth.allow": Rule("allow", _only_some, why="more clients may use it"),
    "RouteClientAuth.forward": Rule("forward", show=lambda value: value or "as the host"),
    "Certificate.name": _IGNORED,
    "Certificate.chain": Rule("chain"),
    "Certificate.key_type": _IGNORED,  # what it stands under
    "Certificate.names": Rule("names"),
    "Certificate.not_before": _IGNORED,  # told with the fingerprint
    "Certificate.not_after": _IGNORED,
    "Certificate.fingerprint": Rule("certificate"),
    "Certificate.purposes": _IGNORED,  # follows from the certificate
    "Certificate.responders": _IGNORED,
    "Certificate.staple": _IGNORED,  # from the certificate and ocsp.must_staple
    "TlsPolicy.min_version": Rule("tls.min_version", down("1.2", "1.3")),
    "TlsPolicy.max_version": Rule("tls.max_version", down("1.2", "1.3")),
    "TlsPolicy.ciphers": Rule("tls.ciphers", gained),
    "TlsPolicy.ciphersuites": Rule("tls.ciphersuites", gained),
    "TlsPolicy.groups": Rule("tls.groups", _groups),
    "TlsPolicy.tickets": Rule("tls.tickets", on, why="whoever steals a ticket key reads what was resumed with it"),
    "TlsPolicy.ticket_lifetime": Rule("tls.ticket_lifetime", raised, duration, why="a stolen ticket is good for longer"),
    "TlsPolicy.early_data": Rule("tls.early_data", on, why="requests can be replayed, and early data has no forward secrecy"),
    "TlsPolicy.alpn": Rule("tls.alpn"),
    "Hsts.max_age": Rule("hsts.max_age", lowered, duration, why="browsers forget sooner that this name is https only"),
    "Hsts.include_subdomains": Rule("hsts.include_subdomains", off),
    "Hsts.preload": Rule("hsts.preload", off),
    "Listener.addresses": Rule("address"),  # judged with where they are reachable from
    "Listener.tls": Rule("tls", off, why="what clients send can be read on the way"),
    "Listener.redirect_port": Rule("redirect", off, why="requests without TLS are served instead of redirected to https"),
    "Listener.no_sni": Rule(
        "no_sni", _no_sni, lambda value: str(value or "refuse"), why="clients without a name are served instead of refused"
    ),
    "HeaderRules.set": Rule("set", _protecting_set),
    "HeaderRules.add": Rule("add"),
    "HeaderRules.remove": Rule("remove", lost),
    "Listener.stream": Rule("passthrough", show=lambda value: value or "refused"),
    "ProxyProtocol.networks": Rule("from", _networks, why="they may say that they are anybody"),
    "ProxyProtocol.required": Rule("mode", off, show=lambda value: "require" if value else "optional"),
    "Host.stream": Rule("bytes", show=lambda value: value or "HTTP"),
    "Host.listeners": Rule("listeners"),  # judged with what the listeners are
    "Host.certificates": _IGNORED,  # compared one by one
    "UpstreamTls.server_name": Rule("tls.server_name", show=lambda value: value or "the endpoint's host"),
    "UpstreamTls.verify": Rule("tls.verify", off, why="anybody can pose as the upstream"),
    "UpstreamTls.min_version": Rule("tls.min_version", down("1.2", "1.3")),
    "UpstreamTls.alpn": Rule("tls.alpn"),
    "UpstreamTls.pins": Rule("tls.pins", _only_some, why="keys that no pin named are believed"),
    "UpstreamTls.pin_report": Rule("tls.pin_mode", on, show=_pin_mode, why="a chain without a pinned key is let through"),
    "UpstreamTls.client_certificate": Rule("tls.client_certificate"),
    "Health.path": Rule("health.path"),
    "Health.interval": Rule("health.interval", show=duration),
    "Health.timeout": Rule("health.timeout", show=duration),
    "Health.rise": Rule("health.rise"),
    "Health.fall": Rule("health.fall"),
    "Retry.attempts": Rule("retry.attempts"),
    "Retry.budget": Rule("retry.budget", show=lambda value: f"{100 * value:g}%"),
    "Upstream.endpoints": Rule("endpoints"),
    "Upstream.security": Rule("connections", down("plain", "unverified", "verified"), _security),
    "Upstream.balance": Rule("balance"),
    "Upstream.connect_timeout": Rule("connect_timeout", show=duration),
    "Upstream.first_byte_timeout": Rule("first_byte_timeout", show=duration),
    "Upstream.between_bytes_timeout": Rule("between_bytes_timeout", show=duration),
    "Upstream.send_proxy": Rule("send_proxy_protocol", show=lambda value: value or "off"),
    "Upstream.keepalive": Rule("keepalive"),
    "Upstream.keepalive_timeout": Rule("keepalive_timeout", show=duration),
    "Upstream.max_connections": Rule("max_connections"),
    "Route.host": _IGNORED,  # what it matches is its name
    "Route.path": _IGNORED,
    "Route.listeners": Rule("listeners"),  # judged with what the listeners are
    "Route.methods": Rule("methods", _wider_match, lambda value: "all" if value is None else word(value)),
    "Route.match_headers": Rule("headers", lost),
    "Route.paths": Rule("paths", down("raw", "normalised"), why="the upstream receives paths as the client wrote them"),
    "Route.action": Rule("", show=str),
    "Route.upstream_security": _IGNORED,  # judged with the action
    "Route.strip_prefix": Rule("strip_prefix"),
    "Route.rewrite": Rule("rewrite"),
    "Route.upstream_host": Rule("upstream_host", show=lambda value: value or "the client's"),
    "Route.timeout": Rule("timeout", show=duration),
    "Route.first_byte_timeout": Rule("first_byte_timeout", show=duration),
    "Route.between_bytes_timeout": Rule("between_bytes_timeout", show=duration),
    "Route.early_data": Rule("early_data", on, why="its requests can be replayed"),
    "Route.tunnel_idle_timeout": Rule("tunnel_idle_timeout", off, duration, why="a silent tunnel stays open for ever"),
}
