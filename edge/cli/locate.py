"""Where things are: the configuration file, the running gateway's socket, and what ships with the program."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import edge
from edge.cli.terminal import Exit, Stop

__all__ = ["SYSTEM_FILE", "configuration", "running_socket", "shipped"]

SYSTEM_FILE = Path("/etc/edge/edge.toml")


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


def running_socket(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The control socket of a gateway on this machine, or None: `--socket`, else the usual runtime directories."""
    named = getattr(args, "socket", None)
    candidates = [Path(named)] if named else [Path("/run/edge/edge.sock")]
    if not named and environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(environ["XDG_RUNTIME_DIR"]) / "edge" / "edge.sock")
    for candidate in candidates:
        try:
            if stat.S_ISSOCK(candidate.stat().st_mode):
                return candidate
        except OSError:
            continue
    return None


def shipped(package: str, name: str) -> Traversable:
    """A file that ships with the gateway: `package` is ``config`` or ``manual``.

    Installed, both lie inside the package; in a checkout `config` lies beside it.
    """
    for root in (resources.files(edge) / package, Path(str(edge.__file__)).parent.parent / package):
        found = root / name
        if found.is_file():
            return found
    raise Stop(Exit.NOT_FINE, f"{package}/{name} is missing from this installation")
