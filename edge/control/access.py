"""Who may ask what of the admin listener: decided from a request's head alone, before anything is read or done.

Three strangers are kept out. A machine on the network: beyond loopback only what `open` names goes without the token. A web
page in an operator's browser: it can make that browser send requests here, but not without `Origin` or `Sec-Fetch-Site` (the
Fetch standard, and Fetch Metadata), and if it binds its own name to this address (DNS rebinding) that name stands in `Host`;
addresses and localhost cannot be rebound. A proxy on this machine that was pointed here by mistake: what it relays comes from
loopback but says so in a field, and then nothing is taken for local.

Without a token, loopback may read everything and ask for a reload that weakens nothing. To allow weaker security takes one.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from edge.settings.model import Admin

__all__ = ["Allowed", "Asked", "Refused", "judge"]

_LOCAL_NAMES = frozenset({"localhost"})
_RELAYED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_OWN_SITES = frozenset({"same-origin", "none"})


class Allowed(Enum):
    """What a request may do besides what it asked for."""

    PLAINLY = "plainly"
    FULLY = "fully"  # it showed the token


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not: an HTTP status, a kebab-case word and a sentence."""

    status: int
    error: str
    detail: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request. `fields` has lower-case names; of a name that came twice the values are joined by commas."""

    what: str  # "health", "metrics", "status" or "reload"
    host: str | None
    fields: Mapping[str, str]
    loopback: bool  # bound to loopback, and asked from there


def judge(asked: Asked, admin: Admin) -> Allowed | Refused:
    """Whether `asked` is answered."""
    foreign = _foreign(asked)
    if foreign is not None:
        return foreign
    shown = asked.fields.get("authorization", "")
    if shown:
        if not admin.token:
            return Refused(401, "no-token", "a token was shown, but [admin] has none")
        scheme, _, token = shown.partition(" ")
        fits = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), admin.token.encode())
        if scheme.lower() == "bearer" and fits:
            return Allowed.FULLY
        return Refused(401, "wrong-token", "the token is another one")
    if not _is_known(asked.host, admin):
        return Refused(421, "unknown-host", "asked by a name that is not in [admin] names")
    if asked.what in admin.open:
        return Allowed.PLAINLY
    local = asked.loopback and not any(name in asked.fields for name in _RELAYED)
    if local and not admin.token:
        return Allowed.PLAINLY
    if not admin.token:
        return Refused(403, "not-open", "beyond loopback this needs [admin] token, or its name in open")
    return Refused(401, "token-needed", "show the token: Authorization: Bearer")


def _foreign(asked: Asked) -> Refused | None:
    """Whether a web page of another place made a browser send this."""
    site = asked.fields.get("sec-fetch-site")
    origin = asked.fields.get("origin")
    if site is not None and site not in _OWN_SITES and asked.fields.get("sec-fetch-mode") != "navigate":
        return Refused(403, "foreign-origin", "sent by a page of another site")
    if origin is not None and (asked.host is None or origin.lower() != f"http://{asked.host.lower()}"):
        return Refused(403, "foreign-origin", "sent by a page of another origin")
    return None


def _is_known(host: str | None, admin: Admin) -> bool:
    """Whether nobody can have pointed this name here but the operator. None: HTTP/1.0 without Host, which no browser sends."""
    if host is None:
        return True
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    else:
        name = name.partition(":")[0].removesuffix(".")
    if name in _LOCAL_NAMES or name in admin.names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
