"""Seeing files change: inotify(7) says when to look, stat(2) says what has changed.

A path is more than one place. ``/run/tls/tls.crt`` as Kubernetes mounts it is a link to ``..data/tls.crt``, and ``..data`` a
link to a directory with a date in its name; a renewal makes a new directory and renames a new ``..data`` over the old one,
and nothing ever happens to the file. So what is watched is every *directory* in which a link of the path, or its end, has its
name; the files themselves never: an atomic replacement would leave the watch on what was replaced. Where a directory does not
exist yet, the deepest one that does is watched for its name.

An event only wakes. What is told is always the outcome of a comparison of what stat says of each path with what it said before,
so an event too many costs a look, and one too few (an overflow, a network file system, a renamed directory far above) only
time: all paths are looked at every few seconds anyway, and that alone is left where there is no inotify or no watch to be had.

Changes come in bunches (chain, then key). They are told when it has been quiet for a moment, or after a bound when it never is.
All times are the caller's monotonic seconds; nothing here blocks.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Mapping

from edge.settings.files import State, state_of

__all__ = ["Watch"]

_MOST_DIRECTORIES = 512  # watched; what is beyond is only polled
_MOST_LINKS = 40  # followed for one path, as the kernel does
_QUIET = 0.2  # seconds without an event before a change is told
_LATEST = 2.0  # seconds after the first event at which it is told anyway
_POLL = 5.0  # seconds between looks without an event
_POLL_ALONE = 1.0  # the same where there is no inotify

_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLYDIR = 0x0100_0000
_MASK = _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_ABOUT_ITSELF = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _OVERFLOW | _IGNORED
_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_READ = 64 * 1024  # bytes
_MOST_READS = 16  # in one turn: others may fill the queue as fast as we read it

_EVERY_NAME = ""


class Watch:
    """Watches paths (files, or directories for any change of their entries). Registered in a selector by its `fileno`."""

    def __init__(self, paths: Iterable[str], now: float, known: Mapping[str, State] | None = None) -> None:
        """Never raises: without inotify it polls. `now`: monotonic seconds, as everywhere here.

        `known`: what was so when paths were read (`edge.settings.files.state_of`). What is otherwise by now has changed.
        """
        self._inotify = _Inotify.open()
        self._idle = os.pipe() if self._inotify is None else (-1, -1)
        self._states: dict[str, State] = {}
        self._names: dict[str, set[str]] = {}  # what matters in each directory
        self._watched: dict[str, int] = {}
        self._by_watch: dict[int, str] = {}
        self._first = self._last = float("inf")  # events that were not acted on yet
        self._poll_at = 0.0
        self.partial = False  # some paths are only polled, for want of watches
        self.set(paths, now, known)

    def fileno(self) -> int:
        """Readable when something may have changed."""
        return self._inotify.fd if self._inotify is not None else self._idle[0]

    def set(self, paths: Iterable[str], now: float, known: Mapping[str, State] | None = None) -> None:
        """Watch `paths` from now on, and nothing else. Those that are watched already keep what is known of them.

        `known`: as in `__init__`, for those that are new.
        """
        wanted = list(dict.fromkeys(os.path.join(os.getcwd(), path) for path in paths))
        self._follow(wanted)  # before the looks: what changes between the two wakes us
        before, was = self._states, known or {}
        looks = {path: state_of(path) for path in wanted if path not in before}
        self._states = {path: before[path] if path in before else was.get(path, looks[path]) for path in wanted}
        self._poll_at = now + self._interval
        if any(self._states[path] != look for path, look in looks.items()):
            self._first, self._last = min(self._first, now), now

    @property
    def _interval(self) -> float:
        return _POLL if self._inotify is not None else _POLL_ALONE

    def due(self) -> float:
        """When `changed` is to be asked at the latest, whether or not `fileno` was readable."""
        return min(self._poll_at, self._last + _QUIET, self._first + _LATEST)

    def changed(self, now: float) -> list[str]:
        """The paths that have changed since they were last told, in the order in which they were given. Often none."""
        if self._inotify is not None and self._is_woken(self._inotify):
            self._last = now
            self._first = min(self._first, now)
        if now < self.due():
            return []
        self._first = self._last = float("inf")
        self._poll_at = now + self._interval
        self._follow(self._states)
        found = []
        for path, before in self._states.items():
            state = state_of(path)
            if state != before:
                self._states[path] = state
                found.append(path)
        return found

    def close(self) -> None:
        """Stop. Also in a forked child, which must not take the events of its parent. Idempotent."""
        for descriptor in (self._inotify.fd if self._inotify is not None else -1, *self._idle):
            if descriptor >= 0:
                os.close(descriptor)
        self._inotify, self._idle = None, (-1, -1)
        self._states.clear()

    def _is_woken(self, inotify: _Inotify) -> bool:
        """Whether an event matters. Reads all that have come, within a bound."""
        woken = False
        for watch, mask, name in inotify.events():
            directory = self._by_watch.get(watch)
            if directory is not None and mask & _IGNORED:  # the kernel has taken it away: the directory is gone
                del self._by_watch[watch]
                if self._watched.get(directory) == watch:
                    del self._watched[directory]
            if mask & _ABOUT_ITSELF:
                woken = True
            elif directory is not None:
                names = self._names.get(directory, ())
                woken = woken or name in names or _EVERY_NAME in names
        return woken

    def _follow(self, paths: Iterable[str]) -> None:
        """Watch the directories that decide what `paths` are now, and no others."""
        names: dict[str, set[str]] = {}
        for path in paths:
            for directory, name in _places(path):
                names.setdefault(directory, set()).add(name)
        self._names = names
        if self._inotify is None:
            return
        for directory in self._watched.keys() - names.keys():
            watch = self._watched.pop(directory)
            self._by_watch.pop(watch, None)
            self._inotify.remove(watch)
        self.partial = False
        for directory in names:
            # again each time: the name may be another directory's by now, and adding one that is there changes nothing
            if directory not in self._watched and len(self._watched) >= _MOST_DIRECTORIES:
                self.partial = True
                continue
            watch = self._inotify.add(directory)
            old = self._watched.get(directory)
            if watch == old:
                continue
            if old is not None:
                self._by_watch.pop(old, None)
                self._inotify.remove(old)
                del self._watched[directory]
            if watch < 0:
                self.partial = self.partial or os.path.isdir(directory)
                continue
            self._watched[directory] = watch
            self._by_watch[watch] = directory


class _Inotify:
    """The system's calls."""

    def __init__(self, fd: int, libc: ctypes.CDLL) -> None:
        self.fd = fd
        self._libc = libc

    @classmethod
    def open(cls) -> _Inotify | None:
        """None: this system has none, or no more of them (``fs.inotify.max_user_instances``)."""
        if not sys.platform.startswith("linux"):
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(fd, libc) if fd >= 0 else None

    def add(self, directory: str) -> int:
        """The number of its watch, the same for the same directory; below 0: not possible."""
        return int(self._libc.inotify_add_watch(self.fd, os.fsencode(directory), ctypes.c_uint32(_MASK)))

    def remove(self, watch: int) -> None:
        self._libc.inotify_rm_watch(self.fd, watch)

    def events(self) -> list[tuple[int, int, str]]:
        """What has come: watch, mask, name of the entry ("" for the directory itself)."""
        found: list[tuple[int, int, str]] = []
        for _ in range(_MOST_READS):
            try:
                data = os.read(self.fd, _READ)
            except OSError:  # nothing more
                break
            at = 0
            while at + _HEAD.size <= len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                found.append((watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
                at += length
        return found


def _places(path: str) -> list[tuple[str, str]]:
    """The directories and names that decide what `path` is: of each link on its way, and of its end or of what is missing."""
    found: list[tuple[str, str]] = []
    here, rest, links = "/", [part for part in reversed(path.split("/")) if part not in ("", ".")], 0
    while rest:
        name = rest.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        at = os.path.join(here, name)
        try:
            mode = os.lstat(at).st_mode
        except (OSError, ValueError):
            return [*found, (here, name)]
        if stat.S_ISLNK(mode):
            found.append((here, name))
            links += 1
            try:
                target = os.readlink(at)
            except OSError:  # it has just been replaced: that will be an event
                return found
            if links > _MOST_LINKS:
                return found
            if target.startswith("/"):
                here = "/"
            rest += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        elif rest:
            here = at
        else:
            found.append((here, name))
            if stat.S_ISDIR(mode):
                found.append((at, _EVERY_NAME))
    return found
