"""`edge schema`: the JSON Schema of edge.toml. Editors complete and check the file with it."""

from __future__ import annotations

import argparse

from edge.cli.terminal import Exit, answer

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """The schema, to stdout."""
    from edge.settings.schema import schema_json

    answer(schema_json().rstrip("\n"))
    return Exit.FINE
