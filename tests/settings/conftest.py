"""What the tests of the settings share: a directory with certificates, and a loader that shows problems in short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.settings.load import Loaded, load
from tests.settings.certs import NOW, Authority

Load = Callable[..., Loaded]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("Test Root")


@pytest.fixture
def conf(tmp_path: Path, authority: Authority) -> Path:
    """A directory with api.pem and api.key for several names, and ca.pem."""
    names = ["api.example.com", "www.example.com", "*.mesh.internal", "localhost", "127.0.0.1"]
    authority.issue(names).write(tmp_path, "api")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return tmp_path


@pytest.fixture
def loads(conf: Path) -> Load:
    """Loads a text as if it stood in edge.toml beside the certificates."""

    def run(text: str, **environ: str) -> Loaded:
        return load(conf / "edge.toml", text=text, environ=environ, now=NOW.timestamp())

    return run


CERTIFICATES = 'certificates = [{ chain = "api.pem", key = "api.key" }]'
HOST = f'[[host]]\nnames = ["api.example.com"]\n{CERTIFICATES}\n'


def told(loaded: Loaded) -> list[str]:
    """The problems, one line each: ``4:1:7 error: message | mend``."""
    return [
        f"{problem.line}:{problem.column}:{problem.length} {problem.severity}: {problem.message}"
        + (f" | {problem.mend}" if problem.mend else "")
        for problem in loaded.problems
    ]
