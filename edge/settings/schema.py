"""The JSON Schema of the settings file, for editors (`edge schema`) and for the check of shapes."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema_rs
import msgspec

from edge.settings import keys

__all__ = ["defaults", "schema_json", "validator", "whole_schema"]


def defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The keys of a table with their defaults, in TOML's spelling. Keys without one, and tables, are left out."""
    found: dict[str, Any] = {}
    for info in msgspec.structs.fields(kind):
        value = info.default_factory() if callable(info.default_factory) else info.default
        if value is not msgspec.NODEFAULT and value is not msgspec.UNSET and not isinstance(value, msgspec.Struct):
            found[info.encode_name] = value
    return found


@functools.cache
def whole_schema() -> dict[str, Any]:
    """The schema with all definitions. Callers leave it unchanged."""
    schema = msgspec.json.schema(keys.File)
    for title, definition in schema["$defs"].items():
        for name, value in defaults(getattr(keys, title)).items():
            definition["properties"][name].setdefault("default", value)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edge.toml", **schema}


@functools.cache
def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(whole_schema())


def schema_json() -> str:
    """The schema as `edge schema` prints it."""
    return json.dumps(whole_schema(), indent=2, ensure_ascii=False) + "\n"
