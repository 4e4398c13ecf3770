"""A parcel: bytes that are too large or too secret for a message, as a descriptor that goes with it.

It is memory without a name in any file system (``memfd_create``), sealed, so that nobody who holds it can change it under
a reader. Several readers may hold the same parcel, so each reads from its beginning without moving a shared offset.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile

__all__ = ["pack", "unpack"]

_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_F_ADD_SEALS = 1033


def pack(data: bytes) -> int:
    """A descriptor that holds `data`, close-on-exec, the caller's to close. Raises OSError."""
    if sys.platform == "linux":
        fd = os.memfd_create("edge-parcel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:  # no such memory there: a file that has lost its name
        fd, path = tempfile.mkstemp()
        os.unlink(path)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if sys.platform == "linux":
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unpack(fd: int) -> bytes:
    """The bytes of a parcel, which is closed. Raises OSError."""
    try:
        size = os.fstat(fd).st_size
        parts: list[bytes] = []
        at = 0
        while at < size and (part := os.pread(fd, size - at, at)):
            parts.append(part)
            at += len(part)
        return b"".join(parts)
    finally:
        os.close(fd)
