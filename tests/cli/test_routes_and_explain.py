"""`edge routes` and `edge explain`: every step, every way to be refused, and the lines that decide."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from edge.cli.main import main
from tests.authority import Authority

pytestmark = pytest.mark.usefixtures("mesh")
Capture = pytest.CaptureFixture[str]


def explain(capsys: Capture, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["explain", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def step(found: dict[str, Any], about: str) -> dict[str, Any]:
    return next(one for one in found["steps"] if one["about"] == about)


def line(mesh: Path, text: str) -> str:
    """Where `text` stands in the settings."""
    lines = mesh.read_text(encoding="utf-8").splitlines()
    return f"edge.toml:{next(number for number, one in enumerate(lines, 1) if text in one)}"


def test_routes_are_plain_columns_off_a_terminal(capsys: Capture) -> None:
    assert main(["routes"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["HOST", "PATH", "MODE", "POLICIES", "UPSTREAM"]
    assert len(lines) == 7
    assert "6 routes, 3 hosts; listeners: tls (TLS), plain (plain), redirect (redirect)" in captured.err
    row = next(one for one in lines if "/v1/orders/{id}" in one)
    for part in ("open.example", "re-encrypt", "UPSTREAM NOT VERIFIED", "GET PUT", "timeout 30 s", "app 75%, next 25%"):
        assert part in row
    assert re.search(r"staff\.example +/ +terminate +client certificate required +app", captured.out)
    assert re.search(r"\* +/ping +respond +- +204", captured.out)
    assert "\x1b" not in captured.out


def test_routes_are_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for columns in ("80", "120"):
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["routes"]) == 0
        shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
        assert "─" in shown
        assert max(map(len, shown.splitlines())) <= int(columns)
        for name in ("staff.example", "/v1/orders/{id}", "certificate", "re-encrypt"):  # words are not cut
            assert re.search(rf"(^|\s){re.escape(name)}(\s|$)", shown, re.MULTILINE), shown


def test_routes_as_json(capsys: Capture) -> None:
    assert main(["routes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert {row["mode"] for row in found["routes"]} == {"terminate", "re-encrypt", "redirect", "respond"}
    assert all(re.fullmatch(r"edge\.toml:\d+", row["place"]) for row in found["routes"])


def test_a_request_that_is_relayed(capsys: Capture, mesh: Path) -> None:
    code, found = explain(capsys, "https://open.example:8443/v1/./orders/7%7E?q=1", "-X", "PUT", "--from", "203.0.113.9")
    assert (code, found["action"], found["status"]) == (0, "relay", None)
    about = [one["about"] for one in found["steps"]]
    assert about == [
        "listener",
        "host",
        "context",
        "client",
        "authority",
        "path",
        "route",
        "limits",
        "upstream",
        "upstream",
        "request",
        "answer",
    ]
    assert step(found, "route")["outcome"].startswith("open.example /v1/orders/{id} [GET, PUT]")
    assert "{id} is 7~" in step(found, "route")["more"]
    assert step(found, "path")["outcome"] == "/v1/orders/7~"
    assert step(found, "request")["outcome"] == "PUT /orders/7~?q=1"
    assert step(found, "request")["more"][0] == "host: open.example:8443"
    assert {"x-forwarded-for: 203.0.113.9", "x-stage: live"} <= set(step(found, "request")["more"])
    assert step(found, "upstream")["outcome"] == "app, 75 % of the requests"
    assert step(found, "upstream")["place"] == line(mesh, "[upstream.app]")
    assert step(found, "listener")["place"] == "edge.toml:1"


def test_headers_choose_the_route(capsys: Capture) -> None:
    code, found = explain(capsys, "https://open.example:8443/v1/x", "-H", "X-Beta: 1")
    assert (code, step(found, "upstream")["outcome"]) == (0, "next")
    assert "TLS, NOT verified: anybody can stand in between" in step(found, "upstream")["more"]
    code, found = explain(capsys, "https://open.example:8443/v1/x")
    assert (code, found["status"], found["reason"]) == (1, 404, "no-route")
    assert any("header x-beta does not match" in one for one in step(found, "route")["more"])


@pytest.mark.parametrize(
    ("arguments", "action", "status", "reason"),
    [
        (["https://open.example:9/"], "refuse", None, "no-listener"),
        (["https://open.example:8080/"], "refuse", None, "plain-listener"),
        (["http://open.example:8443/"], "refuse", 400, "not-tls"),
        (["https://nobody.example:8443/"], "alert", None, "unknown-sni"),
        (["https://a.b.apps.example:8443/"], "alert", None, "unknown-sni"),
        (["https://127.0.0.1:8443/"], "alert", None, "no-sni"),
        (["https://open.example:8443/", "--sni", ""], "alert", None, "no-sni"),
        (["https://staff.example:8443/"], "alert", None, "client-certificate-missing"),
        (["https://staff.example:8443/", "--sni", "open.example"], "refuse", 421, "misdirected"),
        (["https://open.example:8443/", "-H", "Host: staff.example"], "refuse", 421, "misdirected"),
        (["http://staff.example:8080/"], "refuse", 421, "misdirected"),
        (["https://open.example:8443/a%2fb"], "refuse", 400, "bad-path"),
        (["https://open.example:8443/v1/orders/7", "-X", "DELETE"], "refuse", 405, "method-not-allowed"),
        (
            ["https://open.example:8443/v1/orders/7", "-X", "PUT", "-H", "Content-Length: 99999999"],
            "refuse",
            413,
            "body-too-large",
        ),
        (["https://open.example:8443/ping", "-H", "Content-Length: x"], "refuse", 400, "bad-content-length"),
        (["https://open.example:8443/nowhere"], "refuse", 404, "no-route"),
        (["http://nobody.example:8081/"], "refuse", 421, "unknown-host"),
    ],
)
def test_every_way_to_be_refused(capsys: Capture, arguments: list[str], action: str, status: int | None, reason: str) -> None:
    code, found = explain(capsys, *arguments)
    assert (code, found["action"], found["status"], found["reason"]) == (1, action, status, reason)


@pytest.mark.parametrize(
    ("url", "action", "status", "location"),
    [
        ("https://open.example:8443/old/a?b=c", "redirect", 308, "https://new.example/old/a?b=c"),
        ("http://open.example:8081/a?b", "redirect", 308, "https://open.example:8443/a?b"),
        ("https://x.apps.example:8443/ping", "respond", 204, None),
        ("http://open.example:8080/ping", "respond", 204, None),
        ("https://maybe.example:8443/", "relay", None, None),
        ("open.example:8443/ping", "respond", 204, None),
    ],
)
def test_every_way_to_be_answered(capsys: Capture, url: str, action: str, status: int | None, location: str | None) -> None:
    code, found = explain(capsys, url)
    assert (code, found["action"], found["status"], found.get("location")) == (0, action, status, location)


def test_a_url_without_a_port_takes_the_listener_that_speaks_its_scheme(capsys: Capture) -> None:
    code, found = explain(capsys, "https://open.example/ping")
    assert (code, found["status"]) == (0, 204)
    assert any("none listens on port 443" in one for one in step(found, "listener")["more"])
    code, found = explain(capsys, "http://open.example/ping")
    assert (code, found["status"]) == (0, 204)
    assert step(found, "listener")["more"][-1] == "also possible: redirect"


def test_a_clients_certificate_is_judged(capsys: Capture, tmp_path: Path) -> None:
    good = tmp_path / "pki" / "1.pem"  # of the CA that the examples trust
    code, found = explain(capsys, "https://staff.example:8443/", "--cert", str(good))
    assert (code, found["action"]) == (0, "relay")
    from tests.docs.examples import Pki

    (tmp_path / "other").mkdir()
    strange, _ = Pki(tmp_path / "other").leaf(["stranger.example"])
    code, found = explain(capsys, "https://staff.example:8443/", "--cert", str(strange))
    assert (code, found["action"], found["reason"]) == (1, "alert", "client-certificate-refused")
    foreign = Authority("somebody else").leaf("stranger.example").certificate
    strange.write_bytes(foreign.public_bytes(Encoding.PEM))
    found = explain(capsys, "https://staff.example:8443/", "--cert", str(strange))[1]
    assert f"{foreign.issuer.rfc4514_string()}, which issued" in step(found, "client")["outcome"]
    assert main(["explain", "https://staff.example:8443/", "--cert", str(tmp_path / "edge.toml")]) == 2
    assert "not a PEM certificate" in capsys.readouterr().err


def test_the_rule_that_decides_about_a_client_is_named(capsys: Capture, tmp_path: Path, mesh: Path) -> None:
    """The certificate is for all names of the examples: a host's rule, a route's, and a revocation list."""
    text = mesh.read_text(encoding="utf-8")
    shown = "--cert", str(tmp_path / "pki" / "1.pem")
    asks = "https://staff.example:8443/admin/x", *shown

    def with_rules(host: str, route: str) -> tuple[int, dict[str, Any]]:
        changed = text.replace('mode = "require", trust = "staff"', f'mode = "require", trust = "staff", allow = [{host}]')
        demand = f'[[route]]\nhost = "staff.example"\npath = "/admin/"\nupstream = "app"\nclient_auth = {{ allow = [{route}] }}\n'
        mesh.write_text(changed.replace("[upstream.app]", demand + "\n[upstream.app]"), encoding="utf-8")
        return explain(capsys, *asks)

    code, found = with_rules(
        '{ dns = "nobody.test" }, { dns = "staff.example" }', '{ dns = "*.apps.example" }, { dns = "open.example" }'
    )
    assert (code, found["action"]) == (0, "relay")
    assert [one["outcome"] for one in found["steps"] if one["about"] == "allow"] == [
        "admitted by: dns staff.example",
        "admitted by: dns open.example",
    ]
    code, found = with_rules('{ dns = "staff.example" }', '{ dns = "nobody.test" }')
    assert (code, found["action"], found["status"], found["reason"]) == (1, "refuse", 403, "client-certificate-not-allowed")
    assert "dns nobody.test" in [one for one in found["steps"] if one["about"] == "allow"][-1]["more"]
    code, found = with_rules('{ dns = "nobody.test" }', '{ dns = "nobody.test" }')
    assert (code, found["action"], found["reason"]) == (1, "alert", "client-certificate-not-allowed")
    assert any("dns staff.example" in one for one in step(found, "allow")["more"])
    assert main(["routes"]) == 0
    assert re.search(
        r"staff\.example +/admin/ .*client certificate required \(1 rule\), certificate required here", capsys.readouterr().out
    )


def test_the_text_names_the_lines(capsys: Capture, mesh: Path) -> None:
    assert main(["explain", "https://open.example:8443/old/"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^listener   tls \(127\.0\.0\.1:8443, TLS\)   edge\.toml:1$", out, re.MULTILINE)
    assert re.search(r"^route      open\.example /old/   edge\.toml:\d+$", out, re.MULTILINE)
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ftp://open.example/"], "is not a URL"),
        (["https://"], "is not a URL"),
        (["https://open.example:99999/"], "is not a host (port)"),
        (["https://user@open.example/"], "is not a host (userinfo)"),
        (["https://[::1/"], "is not a host"),
        (["https://a b/"], "is not a host"),
        (["https://münchen.example/"], "xn--mnchen-3ya.example"),
        (["https://open.example/", "--from", "here"], "is not an address"),
        (["https://open.example/", "-H", "nonsense"], "is not a header"),
        (["https://open.example/", "-H", "a: b\r\nc: d"], "is not a header"),
        (["https://open.example/", "--cert", "/absent.pem"], "No such file"),
    ],
)
def test_wrong_questions(capsys: Capture, arguments: list[str], says: str) -> None:
    assert main(["explain", *arguments]) == 2
    assert says in capsys.readouterr().err


STREAMS = """
[[listener]]
name = "main"
address = ":8443"
passthrough = "tcp://10.0.0.3:443"
[[listener]]
name = "in"
address = "127.0.0.1:3306"
tls = "off"
passthrough = "tls://db.internal:3307"
[[host]]
names = ["vault.example.com"]
listeners = ["main"]
passthrough = "tcp://10.0.0.7:8200"
"""


def test_streams_are_shown(write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    write(STREAMS)
    assert main(["routes"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["vault.example.com", "passthrough", "-", "tcp://10.0.0.7:8200"] in lines
    assert ["*", "passthrough", "-", "tcp://10.0.0.3:443"] in lines
    assert ["*", "tcp", "-", "tls://db.internal:3307"] in lines


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://vault.example.com:8443/", "TLS goes on to the upstream as it is"),
        ("https://other.example.com:8443/", "no host has the name other.example.com: the listener passes it through"),
        ("http://127.0.0.1:3306/", "every byte goes on to the upstream"),
    ],
)
def test_streams_are_explained(write: Callable[[str], Path], capsys: pytest.CaptureFixture[str], url: str, says: str) -> None:
    write(STREAMS)
    assert main(["explain", url]) == 0
    assert says in capsys.readouterr().out
