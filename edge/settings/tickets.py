"""What holds for the tickets of all hosts together: how often their keys change, and where secrets come from.

A generation of keys lives as long as it is the newest and then for the longest lifetime of a ticket. How many live at the
same time is bounded here, because each costs every host some memory and every process a derivation.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path as FilePath

from edge.settings import model
from edge.settings.files import Unreadable, read_file
from edge.settings.keys import Tls
from edge.settings.layers import Merged, typed
from edge.settings.problems import Path
from edge.settings.source import Source
from edge.settings.units import seconds, spoken_seconds

__all__ = ["ONLY_AT_THE_TOP", "SecretError", "early_data", "lifetime", "read_secret", "tickets"]

ONLY_AT_THE_TOP = ("ticket_rotation", "ticket_secret")
_LONGEST = 7 * 86_400.0  # RFC 8446 section 4.6.1
_MOST_GENERATIONS = 24  # that are over and still accepted
_LEAST_SECRET = 32  # bytes
_MOST_SECRET = 1 << 20


class SecretError(ValueError):
    """Why a file cannot be the tickets' secret: the text follows the file's name."""


def read_secret(path: FilePath) -> bytes:
    """The shared secret: all bytes of the file. Raises SecretError, Unreadable."""
    data = read_file(path, _MOST_SECRET)
    if len(data) < _LEAST_SECRET:
        raise SecretError(f"holds {len(data)} bytes; a secret has at least {_LEAST_SECRET}")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise Unreadable(f"cannot be read: {(error.strerror or '').lower()}") from None
    if mode & 0o077:
        raise SecretError(f"can be read by others than its owner (mode {mode:04o})")
    return data


def lifetime(source: Source, raw: Tls, merged: Merged, at: Path) -> float:
    """How long a host's tickets are good, in whole seconds."""
    where = merged.origin("ticket_lifetime", at)
    value = seconds(raw.ticket_lifetime) or 0.0
    if value < 1.0:
        source.error(where, "a ticket lives at least a second", 'to do without tickets: tickets = "off"')
    elif value > _LONGEST:
        source.error(where, "a ticket lives at most seven days (RFC 8446 section 4.6.1)", 'write "7d"')
    return float(math.floor(value))


def early_data(
    source: Source, policy: model.TlsPolicy, merged: Merged, at: Path, auth: model.ClientAuth, *, stream: bool
) -> model.TlsPolicy:
    """The policy without early data where it cannot be; an error if the host itself asks for it there.

    A client that shows a certificate proves who it is only at the end of the handshake.
    """
    if not policy.early_data:
        return policy
    why = mend = ""
    if auth.mode is not model.ClientAuthMode.OFF:
        why, mend = "the host asks for client certificates, and who the client is must be known first", "take it out"
    elif stream:
        why, mend = "the host relays bytes, and nobody can tell which of them may be replayed", "take it out"
    elif not policy.tickets:
        why, mend = "it comes with a ticket, and tickets are off", 'write tickets = "on"'
    elif policy.max_version < "1.3":
        why, mend = "it needs TLS 1.3", "take max_version out"
    if not why:
        return policy
    where = merged.origin("early_data", at)
    if where[0] == "host":
        source.error(where, f"no early data here: {why}", mend)
    return replace(policy, early_data=False)


def tickets(source: Source, hosts: Iterable[model.Host]) -> model.Tickets:
    """The top's share of the tickets' settings."""
    table = source.tree.get("tls", {})
    raw = typed(source, ("tls",), {key: table[key] for key in ONLY_AT_THE_TOP if key in table}, Tls)
    if raw is None:
        return model.Tickets()
    hosts = list(hosts)
    if "ticket_secret" in table and any(host.tls.early_data for host in hosts):
        message = "early data and ticket_secret together: another machine with the secret would take the same request again"
        source.error(("tls", "ticket_secret"), message, "keep one of them", at_key=True)
    longest = max((host.tls.ticket_lifetime for host in hosts if host.tls.tickets), default=model.TlsPolicy().ticket_lifetime)
    rotation = seconds(raw.ticket_rotation) or 0.0
    at: Path = ("tls", "ticket_rotation")
    where: Path = at if "ticket_rotation" in table else ("tls", "ticket_lifetime") if "ticket_lifetime" in table else ("tls",)
    if rotation < 1.0:
        source.error(at, "ticket keys change at most once in a second", 'write "1h"')
    elif longest > _MOST_GENERATIONS * rotation:
        least = spoken_seconds(math.ceil(longest / _MOST_GENERATIONS))
        lives, changes = spoken_seconds(longest), spoken_seconds(rotation)
        source.error(
            where,
            f"tickets of {lives} under keys that change every {changes}: more than {_MOST_GENERATIONS} keys to keep",
            f'write ticket_rotation = "{least}" or more',
        )
    return model.Tickets(rotation=rotation, lifetime=longest, file=_file(source, table.get("ticket_secret")))


def _file(source: Source, name: str | None) -> str:
    if name is None:
        return ""
    at: Path = ("tls", "ticket_secret")
    path = source.directory(at) / name
    source.look(os.path.abspath(path))
    try:
        source.remember(os.path.abspath(path), read_secret(path))
    except Unreadable as error:
        source.error(at, f"{source.shown(at, name)} {error}", reason=error.reason)
    except SecretError as error:
        shown = source.shown(at, name)
        source.error(at, f"{shown} {error}", f"head -c 48 /dev/urandom | base64 > {shown}; chmod 600 {shown}")
    return os.path.abspath(path)
