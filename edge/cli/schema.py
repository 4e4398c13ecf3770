"""`edge schema`: the JSON Schema of edge.toml. Editors complete and check the file with it."""

from __future__ import annotations
