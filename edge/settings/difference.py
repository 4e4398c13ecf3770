"""What changes between two settings, in an operator's words, and which of it takes protection away.

`compare` takes two outlines. Equal changes at many places are one change with a count, so that the sentence an operator must
not miss is among a few and not among hundreds. What each key's change means stands in `edge.settings.rules`; what needs two
things to be judged stands here:

* a host's protection belongs to a name, not to a block: when ``admin.example.com`` goes and ``*.example.com`` stays, clients
  of that name meet the wildcard's policy from now on, and both are compared;
* a profile that changes is one change, not one for every cipher suite;
* a listener without TLS is judged by what it serves and from where it is reachable;
* a route that goes to another upstream is judged by how well that one is verified.

Keys that only one of the outlines has (they are of different versions of the program) are not compared.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.settings.outline import Outline, is_local
from edge.settings.policies import PROFILES
from edge.settings.rules import INSIDE, RULES, Rule, listing

__all__ = ["Change", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `where` is what it is about (empty: the gateway as a whole); `text` is a whole sentence that names it too."""

    weaker: bool
    kind: str  # the key, or for things "host-added", "route-removed", "certificate-renewed", …
    where: str
    text: str


_Subject = tuple[str, str]  # ("host", "api.example.com"); ("", "") is the top of the file

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
_SECRET = re.compile(r": (sha256/[0-9a-f]{16}|\*|)$")
_MOST_LINES = 8  # of one kind of thing that was added or removed, before they are counted


def compare(old: Outline, new: Outline) -> list[Change]:
    """What `new` changes, what is weaker first. An empty list: they do the same."""
    return _Comparison(old, new).changes()


class _Comparison:
    def __init__(self, old: Outline, new: Outline) -> None:
        self._old = old
        self._new = new
        self._found: dict[tuple[bool, str, str, str], list[_Subject]] = {}
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
        found = [self._change(*key, subjects) for key, subjects in self._found.items()]
        return sorted(found, key=lambda change: (not change.weaker, _rank(change), change.text))

    # --- what was found, and how it is said ---

    def _tell(self, kind: str, statement: str, subject: _Subject, *, weaker: bool = False, why: str = "") -> None:
        subjects = self._found.setdefault((weaker, kind, statement, why if weaker else ""), [])
        if subject not in subjects:
            subjects.append(subject)

    def _change(self, weaker: bool, kind: str, statement: str, why: str, subjects: list[_Subject]) -> Change:
        after = f" ({why})" if why else ""
        where = _where(subjects)
        if statement.startswith(("lose ", "no longer ")):
            return Change(weaker, kind, where, self._loss(statement, subjects) + after)
        if kind.endswith(("-added", "-removed")):
            return Change(weaker, kind, where, f"{_counted(subjects)} {statement}{after}")
        return Change(weaker, kind, where, f"{where}: {statement}{after}" if where else statement + after)

    def _loss(self, statement: str, subjects: list[_Subject]) -> str:
        """``2 hosts with 7 routes lose client_auth (require → off): a, b``."""
        names = {name for kind, name in subjects if kind == "host"}
        routes = sum(1 for route in self._new["routes"] if route["host"] is None or route["host"] in names)
        count = Counter(kind for kind, _ in subjects)
        parts = [_plural(number, kind) for kind, number in count.items()]
        if names and "route" not in count and routes:
            parts[0] += f" with {_plural(routes, 'route')}"
        one = len(subjects) == 1
        verb = statement.replace("lose ", "loses ", 1) if one else statement
        if verb.startswith("no longer "):
            verb = f"no longer {statement.split(' ', 2)[2].replace('require ', 'requires ' if one else 'require ', 1)}"
        return f"{' and '.join(parts)} {verb}: {listing([name for _, name in subjects])}"

    # --- tables, by the rules ---

    def _table(
        self, kind: str, old: Outline, new: Outline, subject: _Subject, prefix: str = "", *, only_weaker: bool = False,
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
                    self._tell(
                        prefix + rule.words, _said(path, rule, prefix, before, after), subject, weaker=weaker, why=rule.why
                    )

    def _inside(self, path: str, old: Any, new: Any, subject: _Subject, *, only_weaker: bool) -> None:
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

    def _profile(self, old: Outline, new: Outline, subject: _Subject, *, only_weaker: bool) -> bool:
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
                    opened = _opened(old["addresses"], new["addresses"])
                    statement = _items("address", old["addresses"], new["addresses"])
                    self._tell("listener.address", statement, subject, weaker=opened, why="reachable from other machines")

    def _listener_added(self, name: str, new: Outline) -> None:
        addresses = ", ".join(new["addresses"])
        plain = _is_plain(new)
        way = "TLS" if new["tls"] else "redirects to https" if new["redirect_port"] is not None else "without TLS"
        served = sum(1 for route in self._new["routes"] if name in route["listeners"])
        statement = f"added: {addresses}, {way}, {_plural(served, 'route')}"
        if plain and served:
            self._tell(
                "listener-added", statement, ("listener", name), weaker=True, why="what clients send can be read on the way"
            )
        else:
            self._tell("listener-added", statement, ("listener", name))

    def _served(self, old: Outline, new: Outline, subject: _Subject) -> None:
        """The listeners of a host or of a route."""
        before, after = set(old["listeners"]) - self._renewed, set(new["listeners"]) - self._renewed
        if before != after:
            plain = sorted((after - before) & self._plain)
            statement = _items("listeners", sorted(before), sorted(after))
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

    def _certificates(self, before: Mapping[str, Outline], after: Mapping[str, Outline], subject: _Subject) -> None:
        for key_type in sorted(set(before) | set(after)):
            old, new = before.get(key_type), after.get(key_type)
            if new is None:
                self._tell("certificate", f"has no {key_type} certificate any more", subject)
            elif old is None:
                self._tell("certificate", f"has an {key_type} certificate too, until {_day(new['not_after'])}", subject)
            elif old["fingerprint"] != new["fingerprint"]:
                key = "same key" if old["pin"] == new["pin"] else f"new key {new['pin']}"
                issuer = f", issuer {old['issuer']} → {new['issuer']}" if old["issuer"] != new["issuer"] else ""
                ends = f"until {_day(old['not_after'])} → {_day(new['not_after'])}"
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
            self._tell("route-removed", "removed", ("route", _route_name(route)))
        for route in came:
            self._tell("route-added", "added", ("route", _route_name(route)))

    def _route(self, old: Outline, new: Outline) -> None:
        subject = ("route", _route_name(new))
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
    return serves and any(_is_far(address) for address in listener["addresses"])


def _is_far(address: str) -> bool:
    return not address.startswith("unix:") and not is_local(address.rpartition(":")[0].strip("[]"))


def _opened(old: list[str], new: list[str]) -> bool:
    """Whether other machines can connect that could not."""
    return any(_is_far(address) for address in new) and not any(_is_far(address) for address in old)


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
    pairs.sort(key=lambda pair: _route_name(pair[1]))
    return pairs, sorted(left, key=_route_name), sorted(right, key=_route_name)


def _by(routes: list[Outline], keys: tuple[str, ...]) -> dict[str, list[Outline]]:
    found: dict[str, list[Outline]] = {}
    for route in routes:
        found.setdefault(repr([route[key] for key in keys]), []).append(route)
    return found


# --- saying ---


def _said(path: str, rule: Rule, prefix: str, old: Any, new: Any) -> str:
    words = prefix + rule.words
    if path == "ClientAuth.mode" and rule.weaker(old, new):
        return f"lose client_auth ({old} → {new})" if new == "off" else f"no longer require a client certificate ({old} → {new})"
    if path == "Trust.ca":
        named = {**old, **new}
        return _items(words, [named[one] for one in old], [named[one] for one in new])
    if isinstance(old, dict) and isinstance(new, dict):
        return _items(words, list(old), list(new), [key for key in old if key in new and old[key] != new[key]])
    if isinstance(old, list) and isinstance(new, list):
        return _items(words, old, new)
    return f"{words} {rule.show(old)} → {rule.show(new)}".strip()


def _items(words: str, old: list[str], new: list[str], changed: list[str] | None = None) -> str:
    """``tls.ciphers: adds A; drops B``. Of headers only the names are said."""
    plus = [one for one in new if one not in old]
    minus = [one for one in old if one not in new]
    if any(_SECRET.search(str(one)) for one in [*plus, *minus]):
        names = [_SECRET.sub("", one) for one in plus], [_SECRET.sub("", one) for one in minus]
        changed = [name for name in names[0] if name in names[1]]
        plus, minus = ([name for name in some if name not in changed] for some in names)
    parts = [f"{verb} {listing([str(one) for one in some])}"
             for verb, some in (("adds", plus), ("drops", minus), ("changes", changed or [])) if some]  # fmt: skip
    return f"{words}: {'; '.join(parts)}" if parts else f"{words}: another order"


def _route_name(route: Outline) -> str:
    methods = f"{' '.join(route['methods'])} " if route["methods"] is not None else ""
    fields = [_SECRET.sub("", pair) for pair in route["match_headers"]]
    return f"{methods}{route['host'] or '*'}{route['path']}" + (f" with {', '.join(fields)}" if fields else "")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _where(subjects: list[_Subject]) -> str:
    """``host a``; ``hosts a, b``; ``12 routes (a, b, c and 9 more)``; the top of the file comes first."""
    parts = []
    for kind in dict.fromkeys(kind for kind, _ in subjects if kind):
        names = [name for one, name in subjects if one == kind]
        if len(names) <= 3:
            parts.append(f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}")
        else:
            parts.append(f"{_plural(len(names), kind)} ({listing(names)})")
    found = " and ".join(parts)
    if ("", "") in subjects:
        return f"everywhere ({found})" if found else ""
    return found


def _counted(subjects: list[_Subject]) -> str:
    """As `_where`, for things that came or went: more of their names."""
    kind, names = subjects[0][0], [name for _, name in subjects]
    if len(names) == 1:
        return f"{kind} {names[0]}"
    return f"{_plural(len(names), kind)} ({listing(names, _MOST_LINES)})"


def _day(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d")


def _rank(change: Change) -> int:
    head = re.split(r"[.-]", change.kind)[0]
    return _RANK.index(head) if head in _RANK else len(_RANK)
