"""What `edge --version` prints: the versions that a bug report needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["number", "report"]

_LIBRARIES = ("pyOpenSSL", "cryptography", "h2", "uvloop", "orjson")


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def number() -> str:
    """The gateway's own version."""
    try:
        return version("edge-gateway")
    except PackageNotFoundError:
        return "(from a checkout)"


def report() -> str:
    """One line for the gateway, then one for each thing that it stands on."""
    from cryptography.hazmat.backends.openssl import backend

    rows = [
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"),
        ("OpenSSL", backend.openssl_version_text().removeprefix("OpenSSL ")),
        *((name, _installed(name)) for name in _LIBRARIES),
    ]
    return "\n".join([f"edge {number()}", *(f"  {name:<13}{value}" for name, value in rows)])
