"""The JSON Schema of the settings file, for editors (`edge schema`) and for the check of shapes."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import msgspec

from edge.settings import keys

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = ["defaults", "fits", "schema_json", "validator", "whole_schema"]


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


def fits(tree: dict[str, Any]) -> bool:
    """Whether `tree` is right by the types that the schema is made from. Says no reason: that is the validator's business,
    which takes far longer to make than a start of the gateway should."""
    try:
        msgspec.convert(tree, keys.File)
    except msgspec.ValidationError:
        return False
    return True


@functools.cache
def validator() -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(whole_schema())


def schema_json() -> str:
    """The schema as `edge schema` prints it."""
    return json.dumps(whole_schema(), indent=2, ensure_ascii=False) + "\n"
