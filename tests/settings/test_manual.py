"""What is made from the keys is current, complete and true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import edge
from edge.settings import keys, model
from edge.settings.load import load
from edge.settings.manual import example_toml, keys_markdown
from edge.settings.problems import Severity
from edge.settings.schema import defaults, schema_json, whole_schema

ROOT = Path(str(edge.__file__)).parent.parent
CONFIG = ROOT / "config" / "edge.toml"
FOUND_BY_FIELD = {"CertificateSource": "NamedCertificate"}  # shown by the table that has all its keys
INLINE = frozenset({"TargetTable", "EndpointTable", "ClientRule"})  # small tables in a list, which stand on one line


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("config/edge.toml", example_toml),
        ("config/edge.schema.json", schema_json),
        ("edge/manual/keys.md", keys_markdown),
    ],
)
def test_what_is_written_is_current(path: str, text: Any) -> None:
    assert (ROOT / path).read_text() == text(), f"{path} is out of date: write it anew from its function"


def test_the_example_names_the_schema_first() -> None:
    assert CONFIG.read_text().startswith("#:schema ./edge.schema.json\n")


def test_the_example_is_valid_and_says_only_defaults() -> None:
    loaded = load(CONFIG, environ={})
    assert [problem.message for problem in loaded.problems if problem.severity is Severity.ERROR] == []
    assert loaded.settings is not None
    bare = load(CONFIG, text="", environ={})
    assert bare.settings is not None
    for name in ("server", "log", "limits", "listeners", "hosts", "routes", "trusted_proxies"):
        assert getattr(loaded.settings, name) == getattr(bare.settings, name)


def everything() -> dict[str, Any]:
    """The example with all that is switched off switched on."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[\[a-z])", "", CONFIG.read_text()))


def collect(value: Any, node: dict[str, Any], seen: dict[str, dict[str, Any]]) -> None:
    """Gather the keys that stand in each kind of table."""
    if "$ref" in node:
        node = whole_schema()["$defs"][node["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, dict) and "properties" in node:
        seen.setdefault(node["title"], {}).update(value)
        for key, item in value.items():
            collect(item, node["properties"][key], seen)
        return
    for branch in node.get("anyOf", []):
        collect(value, branch, seen)
    if isinstance(value, list) and isinstance(node.get("items"), dict):
        for item in value:
            collect(item, node["items"], seen)
    if isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        for item in value.values():
            collect(item, node["additionalProperties"], seen)


def test_every_key_stands_in_the_example_with_its_true_default() -> None:
    seen: dict[str, dict[str, Any]] = {}
    collect(everything(), whole_schema(), seen)
    for title, definition in whole_schema()["$defs"].items():
        if title in INLINE:
            continue
        written = seen[FOUND_BY_FIELD.get(title, title)]
        for name, node in definition["properties"].items():
            assert name in written, f"{title}.{name} is missing in config/edge.toml"
            if "default" in node and not isinstance(written[name], dict):
                assert name in ("certificate", "listener", "host", "route") or written[name] == node["default"], f"{title}.{name}"


def test_the_example_with_everything_on_fits_the_schema() -> None:
    schema = jsonschema_rs.Draft202012Validator(whole_schema())
    assert [error.message for error in schema.iter_errors(everything())] == []


def test_every_key_is_described_and_says_its_default_or_an_example() -> None:
    for title, definition in whole_schema()["$defs"].items():
        assert definition["description"], title
        for name, node in definition["properties"].items():
            assert node.get("description"), f"{title}.{name}"
            is_table = "$ref" in str(node)
            assert is_table or "default" in node or "examples" in node, f"{title}.{name}"


def test_every_timeout_says_whether_it_is_a_gap_or_a_total() -> None:
    for title, definition in whole_schema()["$defs"].items():
        for name, node in definition["properties"].items():
            if name.endswith("timeout") and name != "keepalive_timeout":
                assert re.search(r"\b(gap|total)\b", node["description"]), f"{title}.{name}"


def test_the_defaults_of_the_keys_are_those_of_the_model() -> None:
    loaded = load("edge.toml", text='[[route]]\nlisteners = "p"\nupstream = "a"\n[upstream.a]\nendpoints = "http://a"\n'
                  '[[listener]]\nname = "p"\naddress = ":80"\ntls = "off"\n', environ={})  # fmt: skip
    assert loaded.settings is not None
    assert loaded.settings.limits == model.Limits()
    assert loaded.settings.log == model.Log()
    upstream = loaded.settings.upstreams["a"]
    assert upstream == model.Upstream(name="a", endpoints=upstream.endpoints, place=upstream.place)
    (route,) = loaded.settings.routes
    plain = model.Route(
        host=None, path="/", listeners=("p",), targets=route.targets, place=route.place, hsts=route.hsts,
        first_byte_timeout=60.0, between_bytes_timeout=60.0,
    )  # fmt: skip
    assert route == plain


def test_defaults_leave_out_what_has_none() -> None:
    assert "workers" not in defaults(keys.Server)
    assert defaults(keys.Server)["via"] == "edge"
    assert defaults(keys.TrustedProxies) == {"from": []}


def test_the_page_of_keys_has_every_key() -> None:
    page = keys_markdown()
    for definition in whole_schema()["$defs"].values():
        for name in definition["properties"]:
            assert f"| `{name}` |" in page
