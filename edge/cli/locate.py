"""Where things are: the configuration file, the running gateway's socket, and what ships with the program."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import edge
from edge.cli.terminal import Exit, Stop

__all__ = ["SYSTEM_FILE", "configuration", "shipped", "sockets"]

SYSTEM_FILE = Path("/etc/edge/edge.toml")
_SOCKET = "edge.sock"
_WRITTEN = re.compile(r"""^\s*runtime_dir\s*=\s*(["'])([^"'\\\n]+)\1""", re.MULTILINE)


def configuration(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Path:
    """The file to read: `--config`, else `$EDGE_CONFIG`, else /etc/edge/edge.toml, else (never as root) ./edge.toml.

    A file that was named is returned whether or not it exists, so that the message names it. Raises Stop(USAGE) when
    nothing was named and nothing is there.
    """
    named = getattr(args, "config", None) or environ.get("EDGE_CONFIG")
    if named:
        return Path(named)
    local = Path("edge.toml")
    looked = ["$EDGE_CONFIG (not set)", str(SYSTEM_FILE)]
    if SYSTEM_FILE.exists():
        return SYSTEM_FILE
    if os.geteuid() == 0:
        if local.exists():
            raise Stop(Exit.USAGE, "as root, ./edge.toml is read only when it is named", "edge --config ./edge.toml …")
    elif local.exists():
        return local
    else:
        looked.append("./edge.toml")
    raise Stop(Exit.USAGE, f"there is no configuration; looked at {', '.join(looked)}", "Write one: edge init NAME --to URL")


def sockets(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where the control socket of a running gateway may be, the most probable place first.

    A file that was named decides alone where it says so (`server.runtime_dir`). Raises OSError when it cannot be read.
    """
    named = getattr(args, "socket", None)
    if named:
        return [Path(named)]
    written = getattr(args, "config", None) or environ.get("EDGE_CONFIG")
    found: list[Path] = []
    if written:
        told = _runtime_dir(Path(written), environ)
        if told is not None:
            return [told / _SOCKET]
    else:
        try:
            told = _runtime_dir(configuration(args, environ), environ)
        except (Stop, OSError):
            told = None
        found += [told / _SOCKET] if told is not None else []
    base = environ.get("XDG_RUNTIME_DIR")
    own = Path(base) / "edge" if base else Path(f"/tmp/edge-{os.geteuid()}")
    usual = [Path("/run/edge"), own] if os.geteuid() == 0 else [own, Path("/run/edge")]
    return list(dict.fromkeys([*found, *(directory / _SOCKET for directory in usual)]))


def _runtime_dir(path: Path, environ: Mapping[str, str]) -> Path | None:
    """What a file says of `server.runtime_dir`, however wrong the rest of it is; None: nothing."""
    text = path.read_bytes()
    if b"runtime_dir" not in text and b"include" not in text:
        return None
    from edge.settings.source import Source

    source = Source(environ)
    source.read(str(path), None)
    server = source.tree.get("server")
    told = server.get("runtime_dir") if isinstance(server, dict) else None
    if source.failed_to_parse and told is None:  # a slip of the pen must not hide the gateway that is to be told of it
        line = _WRITTEN.search(text.decode("utf-8", "replace"))
        told = line[2] if line is not None and "${" not in line[2] else None
    if not isinstance(told, str) or not told:
        return None
    return Path(os.path.abspath(source.directory(("server", "runtime_dir")) / told))


def shipped(package: str, name: str) -> Traversable:
    """A file that ships with the gateway: `package` is ``config`` or ``manual``.

    Installed, both lie inside the package; in a checkout `config` lies beside it.
    """
    for root in (resources.files(edge) / package, Path(str(edge.__file__)).parent.parent / package):
        found = root / name
        if found.is_file():
            return found
    raise Stop(Exit.NOT_FINE, f"{package}/{name} is missing from this installation")
