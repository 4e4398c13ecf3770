"""The JSON Schema of the settings file, for editors (`edge schema`) and for the check of shapes."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema_rs
import msgspec

from edge.settings.keys import File

__all__ = ["schema_json", "validator", "whole_schema"]


@functools.cache
def whole_schema() -> dict[str, Any]:
    """The schema with all definitions. Callers leave it unchanged."""
    schema = msgspec.json.schema(File)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edge.toml", **schema}


@functools.cache
def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(whole_schema())


def schema_json() -> str:
    """The schema as `edge schema` prints it."""
    return json.dumps(whole_schema(), indent=2, ensure_ascii=False) + "\n"
