"""What the commands for developing share: the development certificate, and settings made from a text that nobody wrote down.

The certificate lies in the state directory that the settings have by default, so that `proxy`, `demo` and `init` use the same
authority and it has to be trusted once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge.cli.terminal import Exit, Stop, note
from edge.settings.load import load
from edge.settings.model import Settings

if TYPE_CHECKING:
    from edge.control.devca import DevCertificate

__all__ = ["certificate_for", "host_name", "settings_from"]


_NAME = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


def host_name(text: str) -> str:
    """A host name as people type it, in its canonical form. Raises Stop(USAGE)."""
    name = text.lower().removesuffix(".")
    if "://" in name:
        raise Stop(Exit.USAGE, f"{text!r} is a URL; the host name alone is asked for", f"Write: {_host_of(name)}")
    if not _NAME.fullmatch(name) or len(name) > 253 or max(map(len, name.split("."))) > 63:
        raise Stop(Exit.USAGE, f"{text!r} is not a host name", "For example: api.example.com")
    return name


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or "api.example.com"
    except ValueError:
        return "api.example.com"


def certificate_for(names: Iterable[str]) -> DevCertificate:
    """The development certificate for localhost and `names`. Raises OSError when the state directory cannot be written."""
    from edge.control.devca import ensure

    defaults = load(Path("defaults"), text="", environ=os.environ).settings
    if defaults is None:
        raise Stop(Exit.NOT_FINE, "the defaults of the settings cannot be used here")
    made = ensure(defaults.server.state_dir, names)
    if made.created_ca:
        note(f"Made a development CA: {made.ca}")
    return made


def settings_from(text: str) -> Settings:
    """Settings for this run alone. Raises Stop(USAGE) with what is wrong with the arguments that went into `text`."""
    loaded = load(Path("arguments"), text=text, environ={})
    if loaded.settings is None:
        wrong = loaded.errors[0]
        raise Stop(Exit.USAGE, wrong.message, wrong.mend)
    return loaded.settings
