"""Values from elsewhere inside strings: ``${env:X}``, ``${env:X:-default}``, ``${file:/path}``, ``${credential:x}``.

Whatever comes out counts as a secret: it is used and never shown. A default that is written in the file is treated alike,
because whoever reads the output cannot tell the two apart. ``$${`` stands for a plain ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from edge.settings.files import Unreadable, read_file
from edge.settings.problems import Reason

__all__ = ["Missing", "interpolate"]

_FORM = re.compile(r"\$?\$\{([^{}]*)\}")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)
_CREDENTIAL = re.compile(r"credential:([A-Za-z0-9_.-]+)")
_MOST_BYTES = 1024 * 1024


class Missing(Exception):
    """A form that cannot be replaced. Holds the message, the mend and what kind of thing is wrong."""

    def __init__(self, message: str, mend: str = "", reason: Reason = Reason.MISTAKE) -> None:
        super().__init__(message)
        self.mend = mend
        self.reason = reason


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8; what the environment holds beyond that comes as surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _file(path: Path, what: str) -> str:
    try:
        return read_file(path, _MOST_BYTES).decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise Missing(f"{what} is not UTF-8 text") from None
    except Unreadable as unreadable:
        raise Missing(f"{what} {unreadable}", reason=unreadable.reason) from None


def _replace(form: str, directory: Path, environ: Mapping[str, str]) -> str:
    env = _ENV.fullmatch(form)
    if env is not None:
        value = environ.get(env[1], "")
        if value == "" and env[2] is not None:
            return env[3]
        if not _is_text(value):
            raise Missing(f"the environment variable {env[1]} is not UTF-8 text")
        if env[1] not in environ:
            raise Missing(f"the environment variable {env[1]} is not set", f"set it, or give a default: ${{env:{env[1]}:-…}}")
        return value
    if form.startswith("file:"):
        return _file(directory / form[5:], f"the file {form[5:]}")
    credential = _CREDENTIAL.fullmatch(form)
    if credential is not None and credential[1] not in (".", ".."):
        base = environ.get("CREDENTIALS_DIRECTORY", "")
        if not base:
            raise Missing(
                "there are no credentials: CREDENTIALS_DIRECTORY is not set", "LoadCredential= in the systemd unit sets it"
            )
        return _file(Path(base) / credential[1], f"the credential {credential[1]}")
    raise Missing(
        f"'${{{form}}}' is none of the forms that are replaced",
        "write ${env:NAME}, ${env:NAME:-default}, ${file:/path} or ${credential:NAME}, or $${ for a plain ${",
    )


def interpolate(text: str, directory: Path, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with every form replaced, and what they were replaced with. Raises `Missing`."""
    parts: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        parts.append(_replace(match[1], directory, environ))
        return parts[-1]

    return _FORM.sub(replace, text), parts
