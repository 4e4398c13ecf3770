"""The rooms and their arrows: who may import whom, and which room may know which library.

An arrow is an import, wherever it stands: at the top, in a function, or for the type checker alone. A cycle between rooms is
impossible while this passes, and a room that must stay pure cannot reach a clock, a file, a socket or an environment variable.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_BASE = {"errors", "settings"}
_DATA = _BASE | {"wire", "tls", "http", "policy", "route", "upstream", "relay", "observe"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "settings": {"errors"},
    "wire": _BASE,
    "tls": _BASE | {"wire"},
    "http": _BASE,
    "policy": _BASE | {"http"},
    "route": _BASE | {"http"},
    "upstream": _BASE | {"http"},
    "relay": _BASE | {"http", "policy", "route", "upstream"},
    "observe": _BASE,
    "net": _DATA,
    "process": _DATA | {"net", "control"},
    "control": _BASE | {"tls", "observe"},
    "cli": _DATA | {"net", "process", "control", "bench"},
    "__main__": {"cli"},
    "manual": set(),
    "__init__": set(),
}

# Which rooms may import what does not come from us. Standard library modules that are not named here are free for all.
OUTSIDE: dict[str, set[str]] = {
    "asyncio": {"net", "process", "control"},
    "uvloop": {"net", "process", "control"},
    "socket": {"net", "process", "control"},
    "ssl": {"control"},
    "select": {"net", "process", "control", "observe"},  # observe: poll before a write that must not block
    "selectors": {"net", "process"},
    "signal": {"process"},
    "multiprocessing": set(),
    "threading": set(),
    "concurrent": set(),
    "logging": set(),
    "pickle": set(),
    "subprocess": {"cli"},  # the pager
    "OpenSSL": {"tls"},
    "cryptography": {"tls", "settings", "control", "cli"},
    "h2": {"http"},
    "hpack": {"http"},
    "hyperframe": {"http"},
    "aiohttp": {"control"},
    "yarl": {"control"},  # aiohttp's URLs
    "prometheus_client": {"control"},
    "aiodns": {"net", "control"},
    "pycares": {"net", "control"},
    "msgspec": {"settings"},
    "jsonschema_rs": {"settings"},
    "tree_sitter": {"settings"},
    "tree_sitter_toml": {"settings"},
    "orjson": {"settings", "policy", "observe", "process", "control", "cli"},
    "rich": {"cli"},
    "shtab": {"cli"},
}
PURE = {"wire", "http", "policy", "route", "upstream", "relay"}
IMPURE = {
    "os",
    "io",
    "time",
    "random",
    "secrets",
    "pathlib",
    "tempfile",
    "shutil",
    "glob",
    "importlib",
    "mmap",
    "fcntl",
    "locale",
}
PURE_CALLS = {"open", "input", "print", "exec", "eval"}
ONLY_PROCESS = {"os.fork", "os.forkpty", "os.kill", "os.killpg", "os.waitpid", "os._exit"}


def modules() -> list[Path]:
    return sorted(path for path in (ROOT / "edge").rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT / "edge").parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Every imported module's dotted name, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            yield node.lineno, name
            for alias in node.names:
                if name == "edge":
                    yield node.lineno, f"edge.{alias.name}"


def violations(path: Path) -> Iterator[str]:
    room = room_of(path)
    relative = path.relative_to(ROOT)
    package = ".".join(relative.with_suffix("").parts[:-1])
    tree = ast.parse(path.read_text(), str(path))
    for line, name in imports(tree, package):
        where = f"{relative}:{line}: "
        top, _, rest = name.partition(".")
        if top == "edge":
            target = rest.partition(".")[0]
            if target and target != room and target not in ROOMS[room]:
                yield f"{where}{room} must not import {target}"
            if (room, target) == ("process", "control") and path.name != "controller.py":
                yield f"{where}only process/controller.py, which runs it, imports control"
        elif top in OUTSIDE:
            if room not in OUTSIDE[top]:
                yield f"{where}{top} belongs in {', '.join(sorted(OUTSIDE[top])) or 'no room'}, not in {room}"
            if top in ("h2", "hpack", "hyperframe") and not path.name.startswith("h2"):
                yield f"{where}{top} belongs in http/h2*.py"
        elif top not in sys.stdlib_module_names and top != "__future__":
            yield f"{where}{top} is in no room's list"
        elif room in PURE and top in IMPURE:
            yield f"{where}{room} is pure: no {top}"
    for node in ast.walk(tree):
        if room in PURE and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PURE_CALLS:
            yield f"{relative}:{node.lineno}: {room} is pure: no {node.func.id}()"
        if room != "process" and isinstance(node, ast.Attribute) and ast.unparse(node) in ONLY_PROCESS:
            yield f"{relative}:{node.lineno}: {ast.unparse(node)} belongs in process"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    assert list(violations(path)) == []


def test_every_room_is_known() -> None:
    assert {room_of(path) for path in modules()} <= set(ROOMS)


def test_the_rule_finds_what_it_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    bad = tmp_path / "edge" / "http" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text(
        "import socket, h2.config, requests\nfrom edge.tls import engine\nfrom edge import relay\nfrom ..net import hub\n"
        "def f():\n    import os\n    os.fork()\n    open('x')\n"
    )
    found = "\n".join(violations(bad))
    for word in ("socket", "h2*.py", "requests", "import tls", "import relay", "import net", "no os", "os.fork", "no open()"):
        assert word in found
