"""What changes between two settings, in an operator's words, and which of it takes protection away.

`compare` takes two outlines. Equal changes at many places are one change with a count, so that the sentence an operator must
not miss is among a few and not among hundreds. What each key's change means stands in `edge.settings.rules`, how it is said in
`edge.settings.wording`; what needs two things to be judged stands here:

* a host's protection belongs to a name, not to a block: when ``admin.example.com`` goes and ``*.example.com`` stays, clients
  of that name meet the wildcard's policy from now on, and both are compared;
* a profile that changes is one change, not one for every cipher suite;
* a listener without TLS is judged by what it serves and from where it is reachable;
* a route that goes to another upstream is judged by how well that one is verified.

Keys that only one of the outlines has (they are of different versions of the program) are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from edge.settings.outline import Outline
from edge.settings.policies import PROFILES
from edge.settings.rules import INSIDE, RULES, is_far, reachable
from edge.settings.wording import Change, Subject, change, day, items, plural, route_name, said

__all__ = ["Change", "compare"]

# What a table's presence means: its words, and whether taking it away is weaker.
_PRESENCE: Final[dict[str, tuple[str, bool]]] = {
    "Host.hsts": ("hsts", True),
    "Route.hsts": ("hsts", True),
    "Route.client_auth": ("client_auth", True),
    "ClientAuth.trust": ("client_auth.trust", False),  # its mode is judged
    "Upstream.tls": ("tls", False),  # its endpoints are judged
    "Upstream.health": ("health", False),
    "Listener.proxy": ("proxy_protocol", False),
}
_PREFIX: Final[dict[str, str]] = {
    "Log.access": "log.access.",
    "Log.events": "log.events.",
    "Settings.limits": "limits.",
    "Settings.handshakes": "handshakes.",
    "Settings.admin": "admin.",
    "Listener.limits": "limits.",
    "Listener.proxy": "proxy_protocol.",
    "Route.limits": "limits.",
    "Route.client_auth": "client_auth.",
    "ClientAuth.trust": "client_auth.trust.",
    "UpstreamTls.trust": "tls.trust.",
    "Route.request_headers": "request_headers.",
    "Route.response_headers": "response_headers.",
}
_PROFILE_KEYS = ("min_version", "max_version", "ciphers", "ciphersuites", "groups")
_PROFILES: Final = {
    name: {key: list(value) if isinstance(value, tuple) else value for key, value in profile.items()}
    for name, profile in PROFILES.items()
}
_RANK = ("client_auth", "tls", "listener", "upstream", "connections", "route", "trusted_proxies", "hsts", "server", "response")


def compare(old: Outline, new: Outline) -> list[Change]:
    """What `new` changes, what is weaker first. An empty list: they do the same."""
    return _Comparison(old, new).changes()


class _Comparison:
    def __init__(self, old: Outline, new: Outline) -> None:
        self._old = old
        self._new = new
        self._found: dict[tuple[bool, str, str, str], list[Subject]] = {}
        before, after = old["listeners"], new["listeners"]
        self._renewed = set(before) ^ set(after)  # listeners that came or went: told once, not for all that they serve
        self._plain = {name for name in set(before) & set(after) if _is_plain(before[name]) and _is_plain(after[name])}

    def changes(self) -> list[Change]:
        old, new = self._old, self._new
        self._table("Settings", old, new, ("", ""))
        self._listeners()
        self._hosts()
        self._routes()
        self._upstreams()
        found = [change(*key, subjects, new["routes"]) for key, subjects in self._found.items()]
        return sorted(found, key=lambda one: (not one.weaker, _rank(one), one.text))

    def _tell(self, kind: str, statement: str, subject: Subject, *, weaker: bool = False, why: str = "") -> None:
        subjects = self._found.setdefault((weaker, kind, statement, why if weaker else ""), [])
        if subject not in subjects:
            subjects.append(subject)

    # --- tables, by the rules ---

    def _table(
        self, kind: str, old: Outline, new: Outline, subject: Subject, prefix: str = "", *, only_weaker: bool = False,
        leave: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        for key, before in old.items():
            if key not in new or key in leave or new[key] == before:
                continue
            path, after = f"{kind}.{key}", new[key]
            if path in INSIDE:
                self._inside(path, before, after, subject, only_weaker=only_weaker)
            elif path in RULES and not RULES[path].ignored:
                rule = RULES[path]
                weaker = rule.weaker(before, after)
                if path == "HeaderRules.set" and prefix == "request_headers.":
                    weaker = _sets_less(before, after)
                if weaker or not only_weaker:
                    self._tell(prefix + rule.words, said(path, rule, prefix, before, after), subject, weaker=weaker, why=rule.why)

    def _inside(self, path: str, old: Any, new: Any, subject: Subject, *, only_weaker: bool) -> None:
        kind = INSIDE[path]
        if old is None or new is None:
            words, matters = _PRESENCE[path]
            gone = new is None
            if gone and matters:
                self._tell(words, f"lose {words}", subject, weaker=True)
            elif not only_weaker:
                self._tell(words, f"{words} {'taken away' if gone else 'added'}", subject)
            return
        leave: tuple[str, ...] = ()
        if kind == "TlsPolicy" and self._profile(old, new, subject, only_weaker=only_weaker):
            leave = _PROFILE_KEYS
        self._table(kind, old, new, subject, _PREFIX.get(path, ""), only_weaker=only_weaker, leave=leave)

    def _profile(self, old: Outline, new: Outline, subject: Subject, *, only_weaker: bool) -> bool:
        """Whether a whole profile took another one's place; if so, that is told."""
        before, after = _profile_of(old), _profile_of(new)
        if not before or not after or before == after:
            return False
        weaker = any(RULES[f"TlsPolicy.{key}"].weaker(old[key], new[key]) for key in _PROFILE_KEYS)
        if weaker or not only_weaker:
            why = "TLS 1.2 is spoken again" if old["min_version"] > new["min_version"] else ""
            self._tell("tls.profile", f"tls.profile {before} → {after}", subject, weaker=weaker, why=why)
        return True

    # --- listeners ---

    def _listeners(self) -> None:
        before, after = self._old["listeners"], self._new["listeners"]
        for name in sorted(set(before) | set(after)):
            old, new, subject = before.get(name), after.get(name), ("listener", name)
            if old is None:
                self._listener_added(name, new)
            elif new is None:
                self._tell("listener-removed", "removed", subject)
            else:
                self._table("Listener", old, new, subject, leave=("addresses",))
                if old["addresses"] != new["addresses"]:
                    opened = reachable(old["addresses"], new["addresses"])
                    statement = items("address", old["addresses"], new["addresses"])
                    self._tell("listener.address", statement, subject, weaker=opened, why="reachable from other machines")

    def _listener_added(self, name: str, new: Outline) -> None:
        addresses = ", ".join(new["addresses"])
        plain = _is_plain(new)
        way = "TLS" if new["tls"] else "redirects to https" if new["redirect_port"] is not None else "without TLS"
        served = sum(1 for route in self._new["routes"] if name in route["listeners"])
        statement = f"added: {addresses}, {way}, {plural(served, 'route')}"
        if plain and served:
            self._tell(
                "listener-added", statement, ("listener", name), weaker=True, why="what clients send can be read on the way"
            )
        else:
            self._tell("listener-added", statement, ("listener", name))

    def _served(self, old: Outline, new: Outline, subject: Subject) -> None:
        """The listeners of a host or of a route."""
        before, after = set(old["listeners"]) - self._renewed, set(new["listeners"]) - self._renewed
        if before != after:
            plain = sorted((after - before) & self._plain)
            statement = items("listeners", sorted(before), sorted(after))
            self._tell("listeners", statement, subject, weaker=bool(plain), why=f"without TLS on {', '.join(plain)}")

    # --- hosts ---

    def _hosts(self) -> None:
        before, after = self._old["hosts"], self._new["hosts"]
        for name in sorted(set(before) | set(after)):
            old, new, subject = before.get(name), after.get(name), ("host", name)
            if old is not None and new is not None:
                if old == new:
                    continue
                self._table("Host", old, new, subject, leave=("listeners",))
                self._served(old, new, subject)
                self._certificates(old["certificates"], new["certificates"], subject)
            elif new is not None:
                covering = _wildcard(before, name)
                self._tell("host-added", "added", subject)
                if covering is not None:
                    self._table("Host", covering, new, subject, only_weaker=True, leave=("listeners",))
            elif old is not None:
                covering = _wildcard(after, name)
                self._tell("host-removed", "removed", subject)
                if covering is not None:
                    self._table("Host", old, covering, subject, only_weaker=True, leave=("listeners",))

    def _certificates(self, before: Mapping[str, Outline], after: Mapping[str, Outline], subject: Subject) -> None:
        for key_type in sorted(set(before) | set(after)):
            old, new = before.get(key_type), after.get(key_type)
            if new is None:
                self._tell("certificate", f"has no {key_type} certificate any more", subject)
            elif old is None:
                self._tell("certificate", f"has an {key_type} certificate too, until {day(new['not_after'])}", subject)
            elif old["fingerprint"] != new["fingerprint"]:
                key = "same key" if old["pin"] == new["pin"] else f"new key {new['pin']}"
                issuer = f", issuer {old['issuer']} → {new['issuer']}" if old["issuer"] != new["issuer"] else ""
                ends = f"until {day(old['not_after'])} → {day(new['not_after'])}"
                earlier = ", which is earlier" if new["not_after"] < old["not_after"] else ""
                self._tell("certificate-renewed", f"{key_type} certificate renewed, {ends}{earlier}{issuer}, {key}", subject)
            elif old["chain"] != new["chain"]:
                self._tell("certificate-chain", f"{key_type} certificate has another chain", subject)

    # --- routes ---

    def _routes(self) -> None:
        pairs, gone, came = _matched(self._old["routes"], self._new["routes"])
        for old, new in pairs:
            if old != new:
                self._route(old, new)
        for route in gone:
            self._tell("route-removed", "removed", ("route", route_name(route)))
        for route in came:
            self._tell("route-added", "added", ("route", route_name(route)))

    def _route(self, old: Outline, new: Outline) -> None:
        subject = ("route", route_name(new))
        self._table("Route", old, new, subject, leave=("listeners", "action"))
        self._served(old, new, subject)
        if old["action"] == new["action"]:
            return
        was, now = old["upstream_security"], new["upstream_security"]
        weaker = RULES["Upstream.security"].weaker(was, now)
        why = "the way to the upstream has no TLS" if now == "plain" else "the upstream's certificate is not verified"
        if not weaker and old["action"].startswith("redirects") and "to https://" in old["action"]:
            plain = [name for name in new["listeners"] if _is_plain(self._new["listeners"].get(name, {}))]
            weaker = bool(plain) and not new["action"].startswith("redirects")
            why = "requests without TLS are served instead of redirected to https"
        self._tell("route.action", f"{new['action']} instead of: {old['action']}", subject, weaker=weaker, why=why)

    # --- upstreams ---

    def _upstreams(self) -> None:
        before, after = self._old["upstreams"], self._new["upstreams"]
        for name in sorted(set(before) | set(after)):
            old, new, subject = before.get(name), after.get(name), ("upstream", name)
            if old is None:
                unverified = new["tls"] is not None and not new["tls"]["verify"]
                self._tell("upstream-added", "added", subject, weaker=unverified, why="its certificate is not verified")
            elif new is None:
                self._tell("upstream-removed", "removed", subject)
            else:
                self._table("Upstream", old, new, subject)


# --- judging ---


def _is_plain(listener: Mapping[str, Any]) -> bool:
    """Serves requests without TLS to other machines."""
    serves = bool(listener) and not listener["tls"] and listener["redirect_port"] is None
    return serves and any(is_far(address) for address in listener["addresses"])


def _sets_less(old: list[str], new: list[str]) -> bool:
    """A request header that the gateway set, whatever the client sent, is the client's own again."""
    return not {pair.partition(":")[0] for pair in old} <= {pair.partition(":")[0] for pair in new}


def _wildcard(hosts: Mapping[str, Outline], name: str) -> Outline | None:
    first, dot, parent = name.partition(".")
    return hosts.get(f"*.{parent}") if dot and first != "*" else None


def _profile_of(policy: Outline) -> str:
    return next((name for name, profile in _PROFILES.items() if all(profile[key] == policy[key] for key in _PROFILE_KEYS)), "")


def _matched(before: list[Outline], after: list[Outline]) -> tuple[list[tuple[Outline, Outline]], list[Outline], list[Outline]]:
    """Routes that are the same one: by all that they match, then by host and path alone where that leaves one on each side."""
    pairs: list[tuple[Outline, Outline]] = []
    left, right = list(before), list(after)
    for keys in (("host", "path", "methods", "match_headers", "listeners"), ("host", "path", "methods", "match_headers"),
                 ("host", "path")):  # fmt: skip
        olds, news = _by(left, keys), _by(right, keys)
        for key in sorted(olds.keys() & news.keys()):
            if len(olds[key]) == len(news[key]) == 1:
                pairs.append((olds[key][0], news[key][0]))
        done = {id(route) for pair in pairs for route in pair}
        left = [route for route in left if id(route) not in done]
        right = [route for route in right if id(route) not in done]
    pairs.sort(key=lambda pair: route_name(pair[1]))
    return pairs, sorted(left, key=route_name), sorted(right, key=route_name)


def _by(routes: list[Outline], keys: tuple[str, ...]) -> dict[str, list[Outline]]:
    found: dict[str, list[Outline]] = {}
    for route in routes:
        found.setdefault(repr([route[key] for key in keys]), []).append(route)
    return found


def _rank(one: Change) -> int:
    head = re.split(r"[.-]", one.kind)[0]
    return _RANK.index(head) if head in _RANK else len(_RANK)
