"""What a change means: the sentences an operator reads, what counts as weaker, and that no field of the model is forgotten."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.settings import model
from edge.settings.difference import Change, compare
from edge.settings.outline import LEFT_OUT, TOLD_AS, outline
from edge.settings.rules import INSIDE, RULES
from tests.settings.certs import Authority
from tests.settings.conftest import CERTIFICATES, HOST, Load, told

TWO = f'[[host]]\nnames = ["api.example.com", "www.example.com"]\n{CERTIFICATES}\n'
UP = 'upstream = "http://127.0.0.1:8000"\n'
MESH = '[trust.mesh]\nca = "ca.pem"\n'
LISTEN = '[[listener]]\nname = "https"\naddress = ":8443"\n'


def shown(loads: Load, text: str) -> dict[str, Any]:
    loaded = loads(text)
    assert loaded.settings is not None, told(loaded)
    found = outline(loaded.settings)
    assert json.loads(json.dumps(found)) == found
    return found


def changes(loads: Load, old: str, new: str) -> list[Change]:
    return compare(shown(loads, old), shown(loads, new))


def texts(found: list[Change]) -> list[str]:
    """The sentences, those of weaker changes marked."""
    return [f"{'! ' if change.weaker else ''}{change.text}" for change in found]


# --- completeness ---


def _classes(kind: Any) -> Iterator[type]:
    """Every dataclass of the model that the settings hold."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from _classes(hint)
    for inside in typing.get_args(kind):
        if not isinstance(inside, types.EllipsisType):
            yield from _classes(inside)


def test_every_field_of_the_model_is_classified() -> None:
    """A new setting says in edge/settings/rules.py what changing it means (or in outline.py why it is in no outline)."""
    fields = {f"{kind.__name__}.{field.name}" for kind in set(_classes(model.Settings)) for field in dataclasses.fields(kind)}
    known = set(RULES) | set(INSIDE) | LEFT_OUT | set(TOLD_AS)
    assert sorted(fields - known) == []
    only_outlined = {"Trust.ca", "Certificate.chain", "Upstream.security", "Route.action", "Route.upstream_security"}
    assert sorted(known - fields - only_outlined) == []
    assert not set(RULES) & set(INSIDE)


def test_secrets_are_hidden_by_their_declaration() -> None:
    """What sounds like a secret is declared with repr=False, so that neither an outline nor a log can hold it."""
    for kind in set(_classes(model.Settings)):
        for field in dataclasses.fields(kind):
            if any(word in field.name for word in ("secret", "token", "passphrase", "password", "key_pem")):
                hints = typing.get_type_hints(kind)
                assert not field.repr or hints[field.name] in (bool, int, float), f"{kind.__name__}.{field.name}"


def test_an_outline_holds_no_secret(loads: Load, conf: Path) -> None:
    text = HOST + UP + 'request_headers = { set = { Authorization = "Bearer ${env:TOKEN}" } }\n'
    loaded = loads(text + MESH + '[host.client_auth]\nmode = "require"\ntrust = "mesh"\n', TOKEN="hunter2")
    assert loaded.settings is not None, told(loaded)
    found = json.dumps(outline(loaded.settings))
    assert "hunter2" not in found
    assert "BEGIN" not in found
    assert "authorization: sha256/" in found
    for line in (conf / "api.key").read_text().splitlines():
        assert line not in found


# --- what is no change ---


def test_order_and_places_do_not_matter(loads: Load, conf: Path) -> None:
    a = f'[[host]]\nnames = ["api.example.com"]\n{CERTIFICATES}\n{UP}'
    b = f'[[host]]\nnames = ["www.example.com"]\n{CERTIFICATES}\n{UP}'
    routes = '[[route]]\npath = "/a"\nrespond = { status = 200 }\n', '[[route]]\npath = "/b"\nrespond = { status = 204 }\n'
    (conf / "other.pem").write_bytes((conf / "api.pem").read_bytes())
    renamed = (b + "\n\n" + a).replace("api.pem", "other.pem")
    assert changes(loads, a + b + "".join(routes), "# moved\n" + "".join(reversed(routes)) + renamed) == []


def test_one_block_or_two_is_the_same(loads: Load) -> None:
    a = f'[[host]]\nnames = ["api.example.com"]\n{CERTIFICATES}\n{UP}'
    b = f'[[host]]\nnames = ["www.example.com"]\n{CERTIFICATES}\n{UP}'
    assert changes(loads, TWO + UP + LISTEN + '[tls]\nno_sni = "refuse"\n', a + b + LISTEN + '[tls]\nno_sni = "refuse"\n') == []


# --- what is weaker ---

FORGET = "browsers forget sooner that this name is https only"
AUTH = 'client_auth = { mode = "require", trust = "mesh" }\n'
ROUTES = "".join(f'[[route]]\nhost = "api.example.com"\npath = "/{word}"\nrespond = {{ status = 200 }}\n' for word in "ab")


def test_client_auth_is_counted(loads: Load) -> None:
    found = changes(loads, TWO + AUTH + UP + MESH + ROUTES, TWO + UP + ROUTES)
    assert texts(found)[0] == "! 2 hosts with 4 routes lose client_auth (require → off): api.example.com, www.example.com"
    found = changes(loads, HOST + AUTH + UP + MESH, HOST + AUTH.replace("require", "request") + UP + MESH)
    assert texts(found) == ["! 1 host with 1 route no longer requires a client certificate (require → request): api.example.com"]
    back = changes(loads, HOST + AUTH.replace("require", "request") + UP + MESH, HOST + AUTH + UP + MESH)
    assert texts(back) == ["host api.example.com: client_auth request → require"]


def test_a_host_that_goes_may_be_served_by_a_wildcard(loads: Load) -> None:
    wild = f'[[host]]\nnames = ["*.mesh.internal"]\n{CERTIFICATES}\n{UP}'
    admin = f'[[host]]\nnames = ["admin.mesh.internal"]\n{CERTIFICATES}\n{AUTH}{UP}'
    found = texts(changes(loads, wild + admin + MESH, wild))
    assert found[0] == "! 1 host loses client_auth (require → off): admin.mesh.internal"
    assert "host admin.mesh.internal removed" in found
    guarded = wild.replace(UP, AUTH + UP)
    opened = admin.replace(AUTH, "")
    found = texts(changes(loads, guarded + MESH, guarded + opened + MESH))
    assert found[0] == "! 1 host with 1 route loses client_auth (require → off): admin.mesh.internal"


def test_a_profile_is_one_change(loads: Load) -> None:
    old = HOST + UP + '[tls]\nprofile = "modern"\n'
    assert texts(changes(loads, old, HOST + UP)) == [
        "! host api.example.com: tls.profile modern → intermediate (TLS 1.2 is spoken again)"
    ]
    assert texts(changes(loads, HOST + UP, old)) == ["host api.example.com: tls.profile intermediate → modern"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("", 'min_version = "1.3"', "host api.example.com: tls.min_version 1.2 → 1.3"),
        ('min_version = "1.3"', "", "! host api.example.com: tls.min_version 1.3 → 1.2"),
        ("", 'max_version = "1.2"', "! host api.example.com: tls.max_version 1.3 → 1.2"),
        ("", 'groups = ["X25519"]', "! host api.example.com: tls.groups: drops X25519MLKEM768, prime256v1, secp384r1"),
        ('groups = "X25519MLKEM768"', 'groups = ["X25519MLKEM768", "X448"]', "! host api.example.com: tls.groups: adds X448"),
        (
            'ciphers = ["ECDHE-ECDSA-AES128-GCM-SHA256"]',
            'ciphers = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"]',
            "! host api.example.com: tls.ciphers: adds ECDHE-ECDSA-AES128-SHA",
        ),
        (
            'ciphersuites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]',
            'ciphersuites = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"]',
            "host api.example.com: tls.ciphersuites: another order",
        ),
        (
            'tickets = "off"',
            "",
            "! host api.example.com: tls.tickets off → on (whoever steals a ticket key reads what was resumed with it)",
        ),
        (
            "",
            'early_data = "on"',
            "! host api.example.com: tls.early_data off → on (requests can be replayed, and early data has no forward secrecy)",
        ),
        ('early_data = "on"', "", "host api.example.com: tls.early_data on → off"),
    ],
)  # fmt: skip
def test_tls(loads: Load, old: str, new: str, text: str) -> None:
    assert texts(changes(loads, HOST + UP + f"[tls]\n{old}\n", HOST + UP + f"[tls]\n{new}\n")) == [text]


def test_hsts(loads: Load) -> None:
    old = HOST + UP
    assert texts(changes(loads, old, 'hsts = "none"\n' + old)) == [
        "! 1 host and 1 route lose hsts: api.example.com, api.example.com/"
    ]
    found = texts(changes(loads, old, old + '[hsts]\nmax_age = "1d"\n'))
    assert found == [f"! host api.example.com and route api.example.com/: hsts.max_age 365d → 1d ({FORGET})"]
    assert texts(changes(loads, old, old + "[hsts]\ninclude_subdomains = true\n")) == [
        "host api.example.com and route api.example.com/: hsts.include_subdomains off → on"
    ]  # fmt: skip


def test_limits_say_where_they_hold(loads: Load) -> None:
    old = HOST + UP
    assert texts(changes(loads, old, old + '[limits]\nrequest_body = "100MiB"\n')) == [
        "! everywhere (listeners http, https and route api.example.com/): limits.request_body 10MiB → 100MiB"
    ]
    assert texts(changes(loads, old, old + '[limits]\nrequest_body = "off"\n'))[0].endswith("limits.request_body 10MiB → off")
    assert texts(changes(loads, old, old + '[limits]\nbody_min_rate = "off"\n'))[0].endswith("body_min_rate 500B/s → off")
    lower = changes(loads, old, old + '[limits]\nidle_timeout = "30s"\n')
    assert [change.weaker for change in lower] == [False]
    many = "".join(f'[[route]]\npath = "/{word}"\nrespond = {{ status = 200 }}\n' for word in "abcdef")
    raised = "".join(
        f'[[route]]\npath = "/{word}"\nrespond = {{ status = 200 }}\nlimits = {{ request_body = "1GiB" }}\n' for word in "abcdef"
    )
    assert texts(changes(loads, old + many, old + raised)) == [
        "! 6 routes (*/a, */b, */c and 3 more): limits.request_body 10MiB → 1GiB"
    ]  # fmt: skip


def test_listeners(loads: Load) -> None:
    plain = LISTEN.replace("https", "plain").replace("8443", "8080") + 'tls = "off"\n'
    base = LISTEN + HOST + UP
    assert texts(changes(loads, base, base + plain)) == [
        "! listener plain added: 0.0.0.0:8080, [::]:8080, without TLS, 1 route (what clients send can be read on the way)"
    ]
    assert texts(changes(loads, base, base + plain.replace(":8080", "127.0.0.1:8080"))) == [
        "listener plain added: 127.0.0.1:8080, without TLS, 1 route"
    ]
    redirecting = plain + 'redirect = "https:8443"\n'
    assert texts(changes(loads, base, base + redirecting)) == [
        "listener plain added: 0.0.0.0:8080, [::]:8080, redirects to https, 0 routes"
    ]
    found = texts(changes(loads, base + redirecting, base + plain))
    assert "! listener plain: redirect 8443 → off (requests without TLS are served instead of redirected to https)" in found
    assert texts(changes(loads, base + plain, base)) == ["listener plain removed"]
    off = texts(
        changes(loads, base, LISTEN + 'tls = "off"\n' + HOST.replace("[[host]]\n", "[[host]]\nlisteners = ['https']\n") + UP)
    )
    assert any(text.startswith("! listener https: tls on → off") for text in off)
    assert texts(changes(loads, base.replace(":8443", "127.0.0.1:8443"), base)) == [
        "! listener https: address: adds 0.0.0.0:8443, [::]:8443; drops 127.0.0.1:8443 (reachable from other machines)"
    ]
    named = '[tls]\nno_sni = "api.example.com"\n'
    assert texts(changes(loads, base + '[tls]\nno_sni = "refuse"\n', base + named)) == [
        "! listener https: no_sni refuse → api.example.com (clients without a name are served instead of refused)"
    ]  # fmt: skip


def test_a_host_that_is_also_served_without_tls(loads: Load) -> None:
    plain = LISTEN.replace("https", "plain").replace("8443", "8080") + 'tls = "off"\n'
    only = HOST.replace("[[host]]\n", '[[host]]\nlisteners = ["https"]\n') + UP + plain + LISTEN
    both = HOST.replace("[[host]]\n", '[[host]]\nlisteners = ["https", "plain"]\n') + UP + plain + LISTEN
    assert "! host api.example.com and route api.example.com/: listeners: adds plain (without TLS on plain)" in texts(
        changes(loads, only, both)
    )


def test_trust(loads: Load, conf: Path) -> None:
    text = HOST + AUTH + UP + MESH
    old = shown(loads, text)
    (conf / "ca.pem").write_bytes((conf / "ca.pem").read_bytes() + Authority("Other Root").pem)
    assert texts(compare(old, shown(loads, text))) == [
        "! host api.example.com: client_auth.trust.ca: adds Other Root (certificates of more authorities are accepted)"
    ]
    assert texts(compare(shown(loads, text), old)) == ["host api.example.com: client_auth.trust.ca: drops Other Root"]
    assert compare(old, {**old, "digest": "x"}) == []


SECURE = '[upstream.app]\nendpoints = ["https://10.0.0.1:443"]\n'
PLAIN = SECURE.replace("https", "http").replace("443", "80")
TLS = "[upstream.app.tls]\n"
PIN = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
PINS = f'pins = "{PIN}"\nallow_single_pin = true\n'


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (SECURE, SECURE + TLS + 'verify = "off"\n', "! upstream app: tls.verify on → off (anybody can pose as the upstream)"),
        (SECURE + TLS + 'min_version = "1.3"\n', SECURE, "! upstream app: tls.min_version 1.3 → 1.2"),
        (SECURE + TLS + PINS, SECURE, f"! upstream app: tls.pins: drops {PIN} (keys that no pin named are believed)"),
        (SECURE, SECURE + TLS + PINS, f"upstream app: tls.pins: adds {PIN}"),
        (
            SECURE + TLS + PINS,
            SECURE + TLS + PINS + 'pin_mode = "report"\n',
            "! upstream app: tls.pin_mode enforce → report (a chain without a pinned key is let through)",
        ),
        (SECURE, PLAIN, "! upstream app: connections verified TLS, or local → without TLS"),
        (SECURE, SECURE + 'balance = "random"\n', "upstream app: balance least_conn → random"),
        (SECURE, SECURE + 'health = { path = "/up" }\n', "upstream app: health added"),
    ],
)  # fmt: skip
def test_upstreams(loads: Load, old: str, new: str, text: str) -> None:
    assert text in texts(changes(loads, HOST + 'upstream = "app"\n' + old, HOST + 'upstream = "app"\n' + new))


def test_a_route_to_an_upstream_that_is_less_well_proven(loads: Load) -> None:
    old, new = HOST + 'upstream = "https://10.0.0.1"\n', HOST + 'upstream = "http://10.0.0.1"\n'
    assert texts(changes(loads, old, new))[0] == (
        "! route api.example.com/: goes to http://10.0.0.1 instead of: goes to https://10.0.0.1 "
        "(the way to the upstream has no TLS)"
    )
    assert not any(change.weaker for change in changes(loads, new, old))
    assert not any(change.weaker for change in changes(loads, old, HOST + UP))


def test_routes(loads: Load) -> None:
    def route(more: str = "", path: str = "/v1/") -> str:
        return f'[[route]]\nhost = "api.example.com"\npath = "{path}"\n{UP}{more}'

    def found(old: str, new: str) -> list[str]:
        return texts(changes(loads, HOST + old, HOST + new))

    assert found(route('methods = ["GET"]\n'), route()) == ["! route api.example.com/v1/: methods GET → all"]
    assert found(route(), route('methods = ["GET"]\n')) == ["route GET api.example.com/v1/: methods all → GET"]
    assert found(route('headers = { "X-Key" = "s3cret" }\n'), route()) == ["! route api.example.com/v1/: headers: drops x-key"]
    assert found(route(), route('paths = "raw"\n')) == [
        "! route api.example.com/v1/: paths normalised → raw (the upstream receives paths as the client wrote them)"
    ]
    assert found(route(), route('timeout = "90s"\n')) == ["route api.example.com/v1/: timeout off → 90s"]
    assert found(route(), route() + route(path="/v2/")) == ["route api.example.com/v2/ added"]
    many = "".join(route(path=f"/{number}/") for number in range(20))
    assert found(route(), route() + many)[0].startswith("20 routes (api.example.com/0/, api.example.com/1/, ")
    assert "and 12 more) added" in found(route(), route() + many)[0]
    headers = 'response_headers = { set = { "X-Frame-Options" = "DENY", "X-A" = "1" }, remove = ["Server"] }\n'
    changed = 'response_headers = { set = { "X-A" = "2" } }\n'
    assert found(route(headers), route(changed)) == [
        "! route api.example.com/v1/: response_headers.remove: drops server",
        "! route api.example.com/v1/: response_headers.set: drops x-frame-options; changes x-a",
    ]
    assert found(route('request_headers = { set = { "X-User" = "none" } }\n'), route()) == [
        "! route api.example.com/v1/: request_headers.set: drops x-user"
    ]


def test_a_redirect_to_https_that_goes(loads: Load) -> None:
    plain = LISTEN.replace("https", "plain").replace("8443", "8080") + 'tls = "off"\n'
    redirect = '[[route]]\nlisteners = ["plain"]\npath = "/x"\nredirect = "https://api.example.com{path_and_query}"\n'
    serve = '[[route]]\nlisteners = ["plain"]\npath = "/x"\nrespond = { status = 200, body = "b" }\n'
    (found,) = changes(loads, LISTEN + plain + HOST + UP + redirect, LISTEN + plain + HOST + UP + serve)
    assert found.weaker
    assert "requests without TLS are served instead of redirected to https" in found.text


def test_certificates(loads: Load, conf: Path, authority: Authority) -> None:
    old = shown(loads, HOST + UP)
    authority.issue(["api.example.com"], end=170).write(conf, "api")
    (change,) = compare(old, shown(loads, HOST + UP))
    assert (change.weaker, change.kind, change.where) == (False, "certificate-renewed", "host api.example.com")
    assert change.text.startswith(
        "host api.example.com: ecdsa certificate renewed, until 2026-08-20 → 2026-11-18, new key sha256/"
    )
    back = compare(shown(loads, HOST + UP), old)
    assert "which is earlier" in back[0].text


def test_the_rest(loads: Load) -> None:
    base = HOST + UP
    assert texts(changes(loads, base, base + '[trusted_proxies]\nfrom = ["10.0.0.0/8"]\n')) == [
        "! trusted_proxies: adds 10.0.0.0/8 (their X-Forwarded-For is believed)"
    ]
    narrowed = '[trusted_proxies]\nfrom = ["10.1.0.0/16"]\n'
    assert not changes(loads, base + '[trusted_proxies]\nfrom = ["10.0.0.0/8"]\n', base + narrowed)[0].weaker
    assert texts(changes(loads, base, base + '[log]\naccess = "off"\n')) == ["! log.access.to stdout → off (nothing is recorded)"]
    assert texts(changes(loads, base, base + '[log]\nlevel = "error"\n')) == [
        "! log.level info → error (fewer events are recorded)"
    ]
    redacted = '[log]\naccess = { redact = ["query"] }\n'
    assert texts(changes(loads, base + redacted, base)) == ["! log.access.redact: drops query (more personal data is recorded)"]
    assert texts(changes(loads, base, base + '[server]\ndrain = "1m"\n')) == ["server.drain 30s → 1m"]
    user = '[server]\nuser = "nobody"\n'
    assert texts(changes(loads, base + user, base)) == [
        "! server.user nobody → none (workers keep the rights of who started edge)"
    ]


def test_weaker_comes_first(loads: Load) -> None:
    new = TWO.replace("api.example.com", "localhost") + UP + '[limits]\nstreams = 200\n[log]\naccess = "off"\n'
    found = changes(loads, HOST + UP, new)
    assert [change.weaker for change in found] == sorted((change.weaker for change in found), reverse=True)
    assert all(change.text and change.kind for change in found)


def test_the_admin_listener(loads: Load) -> None:
    base = HOST + UP
    secret = "0123456789abcdef" * 2
    guarded = base + f'[admin]\naddress = "127.0.0.1:9901"\ntoken = "{secret}"\n'
    opened = base + '[admin]\naddress = "0.0.0.0:9901"\nopen = ["health", "status"]\nnames = "edge.ops.internal"\n'
    assert changes(loads, base, base + '[admin]\naddress = "127.0.0.1:9901"\n') == []
    assert texts(changes(loads, guarded, opened)) == [
        "! admin.address: adds 0.0.0.0:9901; drops 127.0.0.1:9901 (reachable from other machines)",
        "! admin.names: adds edge.ops.internal (it may be asked by more names)",
        "! admin.open: adds status (more is answered without the token)",
        "! admin.token (hidden) → none (nobody has to show one)",
    ]
    assert not any(change.weaker for change in changes(loads, opened, guarded))
    assert secret not in json.dumps(shown(loads, guarded))


def test_a_route_that_answers_with_health(loads: Load) -> None:
    route = '[[route]]\npath = "/up"\n'
    found = changes(loads, HOST + route + 'health = "live"\n', HOST + route + 'health = "ready"\n')
    assert texts(found) == [
        "route */up: answers with the gateway's own health (ready) instead of: answers with the gateway's own health (live)"
    ]
