"""Pages that list what the code has: errors, log fields, paths, limits. What is missing on a page fails here."""

from __future__ import annotations

import ast
import codecs
import contextlib
import re
from pathlib import Path

import pytest

from edge.errors import Fault
from edge.observe.access import AccessRecord, HandshakeFailure
from edge.observe.lines import access_fields, event_fields, failure_fields
from edge.route.paths import normalise
from edge.settings.keys import Limits
from tests.docs.examples import ROOT

MANUAL = ROOT / "edge" / "manual"
_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_NOT_KINDS = {"obs-fold", "pseudo-field"}  # words of details


def _page(name: str) -> str:
    return (MANUAL / f"{name}.md").read_text(encoding="utf-8")


def _words(text: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", text))


def _kinds() -> dict[str, str]:
    """Every kebab-case string of the rooms that raise Faults (protocol text is bytes there), and where it stands."""
    found = {}
    for room in ("wire", "tls", "http", "policy", "route", "upstream", "relay", "net"):
        for file in sorted((ROOT / "edge" / room).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and _KIND.fullmatch(node.value):
                    found[node.value] = f"{file.relative_to(ROOT)}:{node.lineno}"
    return {kind: where for kind, where in found.items() if kind not in _NOT_KINDS and not _is_encoding(kind)}


def _is_encoding(word: str) -> bool:
    with contextlib.suppress(LookupError):
        return codecs.lookup(word) is not None
    return False


def test_every_kind_of_fault_is_explained() -> None:
    known = _words(_page("errors"))
    forms = ("{}", "upstream-{}", "client-{}", "client-certificate-{}", "upstream-certificate-{}")
    assert {kind: where for kind, where in _kinds().items() if not any(form.format(kind) in known for form in forms)} == {}


def test_every_event_is_explained() -> None:
    named = {
        name
        for file in (ROOT / "edge").rglob("*.py")
        for name in re.findall(r"""\bevent\(\s*"([a-z-]+)\"""", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert named - _words(_page("errors")) == set()


def test_every_field_of_a_request_is_explained() -> None:
    record = AccessRecord()
    record.tls_version = record.client_subject = record.client_san = record.client_serial = record.referer = record.fault = (
        record.detail
    ) = "x"
    assert set(access_fields(record)) - _words(_page("logs")) == set()


def test_every_field_of_a_failed_handshake_is_explained() -> None:
    record = HandshakeFailure()
    record.alert, record.detail = record.alert.PROTOCOL_VERSION, "x"
    assert set(failure_fields(record)) - _words(_page("logs")) == set()


def test_every_field_of_an_event_is_explained() -> None:
    assert set(event_fields(0.0, "x", "info", {})) - _words(_page("logs")) == set()


def _table_of_paths() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| `(/[^`]*)` \| (`[^`]*`|400) \|", _page("routing"), re.MULTILINE)
    return [(sent, got.strip("`")) for sent, got in rows if sent.startswith(("/a", "/..", "/%7"))]


@pytest.mark.parametrize(("sent", "got"), _table_of_paths())
def test_paths_become_what_the_page_says(sent: str, got: str) -> None:
    if got == "400":
        with pytest.raises(Fault, match="bad-path"):
            normalise(sent.encode())
    else:
        assert normalise(sent.encode()).normal.decode() == got


def test_the_table_of_paths_is_there() -> None:
    assert len(_table_of_paths()) >= 12


@pytest.mark.parametrize("key", Limits.__struct_fields__)
def test_every_limit_is_explained(key: str) -> None:
    assert key in _words(_page("limits"))


def test_defaults_of_limits_are_those_of_the_code() -> None:
    defaults = dict(zip(Limits.__struct_fields__, Limits.__struct_defaults__, strict=True))
    for keys, shown in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", _page("limits"), re.MULTILINE):
        for key, value in zip(re.findall(r"`(\w+)`", keys), shown.split(", ") if "`, `" in keys else [shown], strict=True):
            if key in defaults:
                wanted = str(defaults[key])
                assert re.sub(r"[ ,]|a second", "", value) == wanted, key


def test_every_module_named_in_a_page_exists() -> None:
    for page in MANUAL.glob("*.md"):
        for name in re.findall(r"`((?:edge|config|bench|tests)/[\w./-]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists() or Path(name).name == "edge.toml", name
