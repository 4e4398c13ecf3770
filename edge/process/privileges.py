"""What a process gives up before it talks to strangers, and what it asks for.

Order matters: groups, then the group id, then the user id, each with its saved id (setresgid(2), setresuid(2)), so that
nothing can be taken back; then no-new-privileges, so that no program it might run gains any; and it is made non-dumpable,
because its memory holds private keys: no core files, no ptrace by processes of the same user.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
import sys
from dataclasses import dataclass

from edge.process.errors import NOT_PERMITTED, StartError

__all__ = ["Identity", "drop", "harden", "identity", "name_process", "raise_descriptor_limit"]

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom workers run as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def identity(user: str, group: str) -> Identity | None:
    """The identity that settings name; None: stay who we are. Raises StartError."""
    if not user and not group:
        return None
    try:
        account = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise StartError(f'server.user: there is no user "{user}"') from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else account.pw_gid
    except KeyError:
        raise StartError(f'server.group: there is no group "{group}"') from None
    if os.geteuid() != 0:
        if account.pw_uid == os.geteuid() and gid == os.getegid():
            return None
        wanted = f'server.user = "{user}"' if user else f'server.group = "{group}"'
        raise StartError(f"{wanted} needs a start as root", NOT_PERMITTED)
    return Identity(account.pw_uid, gid, tuple(os.getgrouplist(account.pw_name, gid)))


def drop(to: Identity | None) -> None:
    """Become `to`, for good, and harden. Raises OSError; the caller must then end."""
    if to is not None:
        os.setgroups(to.groups)
        if sys.platform == "linux":
            os.setresgid(to.gid, to.gid, to.gid)
            os.setresuid(to.uid, to.uid, to.uid)
        else:
            os.setgid(to.gid)
            os.setuid(to.uid)
        if to.uid != 0 and (os.getuid() == 0 or os.geteuid() == 0):
            raise PermissionError("still root after dropping privileges")
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    harden()


def harden() -> None:
    """Make this process non-dumpable (Linux)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def name_process(name: str) -> None:
    """What `ps` and `top` call this process, 15 bytes at most (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def raise_descriptor_limit() -> int:
    """Raise the limit on open descriptors to the hard one; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # macOS caps it below the hard limit that it tells
            return soft
        return most
    return soft if soft != resource.RLIM_INFINITY else most
