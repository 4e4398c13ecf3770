"""The replay filter: which ClientHellos with early data were let in, remembered by all processes together (RFC 8446 section 8.2).

Theory. Whoever saw a client's first flight can send it again, early data and all. What makes a first flight unique is the
binder of its first PSK identity: an HMAC over the hello, which cannot be changed without making the hello worthless, and which is
the only part of it that an early-data server checks. A binder is let in once. It need not be remembered for ever, because
OpenSSL takes early data only when the ticket's age, as the client gives it, is within ten seconds of the age that we see
(RFC 8446 section 8.3): a copy is stale soon after the original was fresh. `WINDOW` is that with a wide margin.

The memory is a file in memory that was made before the first fork. A binder goes, by a keyed hash that nobody outside can aim,
into one bucket of a fixed number of places. Its bucket is locked by the kernel while it is looked through and written, so that
two processes with the same hello cannot both let it in; the lock of a process that dies goes with it.

Invariants: whatever is uncertain is refused, and a refusal costs the client one round trip and nothing else.
* A binder is let in at most once within `WINDOW` seconds, by all processes together.
* A bucket without a free place refuses; nothing is forgotten before its time.
* A lock that another process holds refuses: nobody waits, not even for a process that was stopped while it held one.
* The clock is that of the machine, since OpenSSL judges a ticket's age by it. When it has gone back, nothing is let in before it
  has caught up with the latest time that any process saw; when it goes forward, copies become stale as entries do.
* A new filter knows nothing of what another one let in, so it refuses for the first `WINDOW` seconds, and an old one that gets a
  successor is closed before that one is made.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from hashlib import blake2b
from struct import Struct

__all__ = ["REFUSALS", "WINDOW", "ReplayFilter"]

WINDOW = 30.0
"""Seconds for which a binder is remembered: three times what OpenSSL allows the age of a ticket to be wrong."""

REFUSALS = ("starting", "closed", "clock", "busy", "full", "replayed")
"""What `claim` answers when it refuses."""

_DIGEST = 16
_PLACES = 16  # in a bucket
_BUCKETS = 8192
_BACKWARDS = 1.0  # seconds that the clock may go back unnoticed: it is adjusted, and processes read it one after the other
_HEADER = 4096
_CLOSED, _OPENS, _LATEST = range(3)  # doubles of the header
_STAMPS = _PLACES * 8
_BUCKET = _PLACES * _DIGEST + _STAMPS
_TRY = fcntl.LOCK_EX | fcntl.LOCK_NB

_stamps = Struct(f"{_PLACES}d")
_stamp = Struct("d")


class ReplayFilter:
    """Made once, before the processes that share it are forked. Times are POSIX seconds."""

    __slots__ = ("_buckets", "_file", "_header", "_key", "_memory")

    def __init__(self, now: float, *, buckets: int = _BUCKETS, window_passed: bool = False) -> None:
        """Room for 16 times `buckets` binders; pages that were never written take no memory.

        `window_passed`: there was no filter before this one, so that it need not wait.
        """
        self._file = _nameless_file()
        size = _HEADER + buckets * _BUCKET
        os.ftruncate(self._file, size)
        self._memory = mmap.mmap(self._file, size)
        self._buckets = buckets
        self._key = os.urandom(32)
        self._header = memoryview(self._memory)[:_HEADER].cast("d")
        self._header[_OPENS] = now if window_passed else now + WINDOW
        self._header[_LATEST] = now

    def refusal(self, now: float) -> str:
        """Why nothing would be let in at present, in a word of `REFUSALS`; ``""``: it depends on the binder."""
        header = self._header
        if header[_CLOSED]:
            return "closed"
        if now < header[_LATEST] - _BACKWARDS:
            return "clock"
        return "starting" if now < header[_OPENS] else ""

    def claim(self, binder: bytes, now: float) -> str:
        """Let a binder in, once: ``""``. Otherwise a word of `REFUSALS`. Some 15 microseconds."""
        why = self.refusal(now)
        if why:
            return why
        header = self._header
        if now > header[_LATEST]:
            header[_LATEST] = now
        digest = blake2b(binder, digest_size=_DIGEST, key=self._key).digest()
        bucket = int.from_bytes(digest[:8], "big") % self._buckets
        if not self._lock(bucket):
            return "busy"
        try:
            return self._enter(_HEADER + bucket * _BUCKET, digest, now)
        finally:
            self._unlock(bucket)

    def _enter(self, at: int, digest: bytes, now: float) -> str:
        memory, names, forgotten = self._memory, at + _STAMPS, now - WINDOW
        stamps = _stamps.unpack_from(memory, at)  # never written: zero
        known = memory[names : at + _BUCKET]
        found = known.find(digest)
        while found >= 0:
            if stamps[found // _DIGEST] >= forgotten:
                return "replayed"
            found = known.find(digest, found + 1)
        oldest = min(stamps)
        if oldest >= forgotten:
            return "full"
        free = stamps.index(oldest)
        # the name first: a process that is killed in between leaves a place that is free, and has let nothing in
        place = names + free * _DIGEST
        memory[place : place + _DIGEST] = digest
        _stamp.pack_into(memory, at + free * 8, now)
        return ""

    def _lock(self, bucket: int) -> bool:
        """Whether the bucket is ours, until `_unlock`."""
        try:
            fcntl.lockf(self._file, _TRY, 1, bucket)
        except OSError:
            return False
        return True

    def _unlock(self, bucket: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, bucket)

    def close(self) -> None:
        """Let nothing in any more, in no process, until `open`: another program takes over, with a filter of its own."""
        self._header[_CLOSED] = 1.0

    def open(self, now: float) -> None:
        """Go on after all, when `WINDOW` seconds have passed: the other program may have let in something."""
        self._header[_OPENS] = now + WINDOW
        self._header[_CLOSED] = 0.0


def _nameless_file() -> int:
    """A file that only we and those whom we fork have."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edge replay filter", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
