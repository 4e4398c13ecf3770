"""The control socket: how the commands of the gateway's user ask the gateway.

A unix socket with mode 0600 in `runtime_dir`; who may open it may stop the gateway, so it belongs to the supervisor's user alone.
One request is one line of JSON, and so is its answer; every answer has ``version`` and ``ok``, and when not ok ``error`` (one
word that keeps its meaning) and ``detail``. Requests of one connection are answered one after another.

The supervisor serves it between its other duties: nothing here waits, and what a client can hold is bounded: 16 connections, one
line of 64 KiB, and a minute without a request or without taking the answer. Of the requests that a client sends at once, a turn
of the loop takes one or two.

Who may take the name of the socket is decided by a lock beside it (`edge.process.control_lock`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from edge.process import control_lock
from edge.process.control_lock import AlreadyRunning, ControlLock
from edge.process.errors import StartError
from edge.process.loop import Loop, Timer

__all__ = ["VERSION", "AlreadyRunning", "Answer", "Claim", "ControlSocket", "Peer", "claim", "failure", "inherit", "path_in"]

VERSION = 1
NAME = "edge.sock"
_CLIENTS = 16
_MOST_LINE = 64 * 1024
_MOST_ANSWER = 16 * 1024 * 1024
_IDLE = 60.0  # seconds
_READ = 64 * 1024

Answer = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as the kernel says; -1 where it does not."""

    pid: int = -1
    uid: int = -1


def failure(error: str, detail: str, **more: object) -> dict[str, Any]:
    """An answer that says no."""
    return {"ok": False, "error": error, "detail": detail, **more}


def path_in(runtime_dir: str) -> str:
    """Where the control socket lies."""
    return os.path.join(runtime_dir, NAME)


@dataclass(frozen=True, slots=True)
class Claim:
    """A control socket that is ours, with its path and the lock that makes it ours."""

    sock: socket.socket
    path: str
    lock: ControlLock

    def give_up(self) -> None:
        """We do not start."""
        self.sock.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.lock.close()


def claim(runtime_dir: str) -> Claim:
    """Make the socket: it takes connections from now on.

    Raises AlreadyRunning; StartError for a place that cannot be used, with what to do about it.
    """
    _make_directory(runtime_dir)
    lock = ControlLock.take(runtime_dir)
    try:
        path = path_in(runtime_dir)
        running = _who_listens(path)
        if running:  # without the lock: a gateway of before there was one, or its file was taken away
            raise AlreadyRunning(f"another gateway ({running}) runs already: it listens on {path}")
        return Claim(_listening_on(path), path, lock)
    except StartError:
        lock.close()
        raise


def inherit(runtime_dir: str, sock: int, lock: int | None) -> Claim:
    """Take over the descriptors of the program before us. `lock` None: it had none.

    Raises StartError when there was none and none can be had.
    """
    held = ControlLock.take(runtime_dir) if lock is None else ControlLock(lock, os.path.join(runtime_dir, control_lock.NAME))
    return Claim(socket.socket(fileno=sock), path_in(runtime_dir), held)


def _listening_on(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(_CLIENTS)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = "the path is longer than 107 bytes" if len(os.fsencode(path)) > 107 else error.strerror or str(error)
        raise StartError(f"no control socket at {path}: {reason}. Set server.runtime_dir") from error
    return sock


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, 0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
        status = os.stat(path)
    except OSError as error:
        raise StartError(f"no control socket in {path}: {error.strerror}. Set server.runtime_dir") from error
    strangers = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or strangers:
        raise StartError(f"no control socket in {path}: others may write there. Set server.runtime_dir")


def _who_listens(path: str) -> str:
    """Whoever does, in words; empty: nobody. One whose queue is full is there as well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return "too busy to answer"
        except OSError:
            return ""
        return f"pid {_peer(probe).pid}"


def _peer(sock: socket.socket) -> Peer:
    if sys.platform != "linux":
        return Peer()
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(pid, uid)


class _Client:
    __slots__ = ("answering", "inbox", "outbox", "peer", "sock", "timer")

    def __init__(self, sock: socket.socket, timer: Timer) -> None:
        self.sock = sock
        self.peer = _peer(sock)
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.answering = False
        self.timer = timer


class ControlSocket:
    """Serves a socket that was claimed. `handle` gets a request, who asks, and what to call, once, with the answer.

    `waits`: not before `open`, because another program still accepts from the same socket.
    """

    def __init__(
        self,
        loop: Loop,
        claimed: Claim,
        handle: Callable[[dict[str, Any], Peer, Answer], None],
        *,
        waits: bool = False,
    ) -> None:
        self._loop = loop
        self._sock = claimed.sock
        self._lock = claimed.lock
        self.path = claimed.path
        self._made = os.stat(self.path)
        self._handle = handle
        self._clients: set[_Client] = set()
        self._ours = True  # the name
        if not waits:
            self.open()

    def open(self) -> None:
        """Take connections. Idempotent."""
        self._lock.sign()
        self._loop.watch(self._sock, self._accept)

    def leave(self) -> None:
        """Take no more connections, and leave the name alone: another program accepts from the same socket."""
        self._loop.forget(self._sock)
        self._sock.close()
        self._lock.leave()
        self._ours = False

    def heirlooms(self) -> dict[str, int]:
        """What the program that takes over gets of it."""
        return {"control": self._sock.fileno(), "control-lock": self._lock.descriptor}

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        if len(self._clients) >= _CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        client = _Client(sock, self._loop.later(_IDLE, lambda: None))
        self._clients.add(client)
        self._wait(client)
        self._loop.watch(sock, lambda: self._read(client))

    def _wait(self, client: _Client) -> None:
        client.timer.cancel()
        client.timer = self._loop.later(_IDLE, lambda: self._drop(client))

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.inbox += data
        if not data or len(client.inbox) > _MOST_LINE:
            self._drop(client)
            return
        self._next(client)

    def _next(self, client: _Client) -> None:
        """Take the next line, if it is there and the last one was answered."""
        if client not in self._clients or client.answering or client.outbox or b"\n" not in client.inbox:
            return
        line, _, rest = bytes(client.inbox).partition(b"\n")
        client.inbox[:] = rest
        client.answering = True
        client.timer.cancel()
        try:
            request = orjson.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._answer(client, failure("bad-request", "a request is a JSON object on one line"))
            return
        try:
            self._handle(request, client.peer, lambda answer: self._answer(client, answer))
        except Exception:
            self._answer(client, failure("internal-error", "the event log says more"))
            raise

    def _answer(self, client: _Client, answer: dict[str, Any]) -> None:
        if client not in self._clients or not client.answering:
            return
        client.answering = False
        line = orjson.dumps({"version": VERSION, **answer}, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
        if len(line) > _MOST_ANSWER:
            line = orjson.dumps({"version": VERSION, **failure("too-large", "the answer is too large")}) + b"\n"
        client.outbox += line
        self._wait(client)
        self._write(client)

    def _write(self, client: _Client) -> None:
        try:
            sent = client.sock.send(client.outbox)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        del client.outbox[:sent]
        self._loop.watch(client.sock, lambda: self._read(client), (lambda: self._write(client)) if client.outbox else None)
        if not client.outbox:
            self._loop.later(0.0, lambda: self._next(client))

    def _drop(self, client: _Client) -> None:
        client.timer.cancel()
        self._clients.discard(client)
        self._loop.forget(client.sock)
        client.sock.close()

    def flush(self) -> None:
        """Before the end: give the answers that wait one more chance."""
        for client in list(self._clients):
            if client.outbox:
                self._write(client)

    def close_copies(self) -> None:
        """In a child: close what belongs to the supervisor."""
        self._sock.close()
        self._lock.leave()
        for client in self._clients:
            client.sock.close()

    def close(self) -> None:
        """No more requests; the socket's name is taken away."""
        self._loop.forget(self._sock)
        with contextlib.suppress(OSError):
            if self._ours and os.path.samestat(os.stat(self.path), self._made):
                os.unlink(self.path)
        self._sock.close()
        self._lock.close()
        for client in list(self._clients):
            self._drop(client)
