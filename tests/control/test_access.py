"""Who may ask what of the admin listener."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.control.access import Allowed, Asked, Refused, judge
from edge.settings.model import Admin

TOKEN = "0123456789abcdef0123456789abcdef"
LOCAL = Admin()
GUARDED = Admin(token=TOKEN, open=frozenset({"health", "metrics"}), names=frozenset({"edge.ops.internal"}))


def ask(admin: Admin, what: str = "status", *, host: str | None = "127.0.0.1:9901", loopback: bool = True, **fields: str) -> str:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    if host is not None:
        named["host"] = host
    verdict = judge(Asked(what, host, named, loopback), admin)
    return verdict.error if isinstance(verdict, Refused) else verdict.value


@pytest.mark.parametrize("what", ["health", "metrics", "status", "reload"])
def test_loopback_may_ask_everything_while_there_is_no_token(what: str) -> None:
    assert ask(LOCAL, what) == "plainly"


def test_from_elsewhere_only_what_is_open() -> None:
    assert ask(LOCAL, "health", loopback=False) == "plainly"
    assert [ask(LOCAL, what, loopback=False) for what in ("metrics", "status", "reload")] == ["not-open"] * 3


def test_a_token_in_the_file_is_needed_on_loopback_too() -> None:
    assert [ask(GUARDED, what) for what in ("health", "metrics", "status", "reload")] == [
        "plainly", "plainly", "token-needed", "token-needed",
    ]  # fmt: skip


@pytest.mark.parametrize("loopback", [True, False])
def test_the_token_opens_everything(loopback: bool) -> None:
    for what in ("health", "metrics", "status", "reload"):
        assert ask(GUARDED, what, loopback=loopback, authorization=f"Bearer {TOKEN}") == "fully"
        assert ask(GUARDED, what, loopback=loopback, authorization=f"bearer  {TOKEN} ") == "fully"


@pytest.mark.parametrize(
    "shown",
    [
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \udcff",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
    ],
)
def test_a_wrong_token_is_refused_even_where_none_is_needed(shown: str) -> None:
    assert ask(GUARDED, "health", authorization=shown) == "wrong-token"


def test_a_token_where_there_is_none_is_refused() -> None:
    assert ask(LOCAL, authorization="Bearer ") == "no-token"
    assert ask(LOCAL, authorization=f"Bearer {TOKEN}") == "no-token"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9901", "localhost.", "127.0.0.1", "[::1]:9901", "10.1.2.3:80", None])
def test_names_that_nobody_can_rebind(host: str | None) -> None:
    assert ask(LOCAL, host=host) == "plainly"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9901", "127.0.0.1.evil.example", "localhost.evil.example", "", ":9901", "[evil]", "1.2.3"],
)
def test_a_rebound_name_is_refused(host: str) -> None:
    assert ask(LOCAL, host=host) == "unknown-host"
    assert ask(LOCAL, "health", host=host) == "unknown-host"


def test_names_of_the_file_are_known() -> None:
    assert ask(GUARDED, "metrics", host="edge.ops.internal:9901") == "plainly"
    assert ask(GUARDED, "metrics", host="other.ops.internal:9901") == "unknown-host"
    assert ask(GUARDED, "metrics", host="other.ops.internal:9901", authorization=f"Bearer {TOKEN}") == "fully"


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "http://evil.example"},
        {"origin": "https://127.0.0.1:9901"},
        {"origin": "http://127.0.0.1:9902"},
        {"origin": "null"},
        {"origin": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ],
)
def test_pages_of_other_places_are_refused_with_the_token_too(fields: dict[str, str]) -> None:
    assert ask(LOCAL, "reload", **fields) == "foreign-origin"
    assert ask(GUARDED, "reload", authorization=f"Bearer {TOKEN}", **fields) == "foreign-origin"


def test_a_browsers_own_page_may_ask() -> None:
    assert ask(LOCAL, "reload", origin="http://127.0.0.1:9901", sec_fetch_site="same-origin") == "plainly"
    assert ask(LOCAL, "health", sec_fetch_site="none", sec_fetch_mode="navigate") == "plainly"


@pytest.mark.parametrize("field", ["forwarded", "x_forwarded_for", "x_real_ip", "via"])
def test_what_a_proxy_relays_is_not_local(field: str) -> None:
    assert ask(LOCAL, "status", **{field: "x"}) == "not-open"
    assert ask(LOCAL, "health", **{field: "x"}) == "plainly"


def test_the_verdict_says_whether_the_token_was_shown() -> None:
    asked = Asked("reload", "localhost", {"host": "localhost"}, loopback=True)
    assert judge(asked, LOCAL) is Allowed.PLAINLY
    assert judge(replace(asked, fields={"authorization": f"Bearer {TOKEN}"}), GUARDED) is Allowed.FULLY
