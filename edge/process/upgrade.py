"""Upgrade in place: another program takes over the listening sockets, and this one drains; or it cannot, and this one goes on.

Beside: the new program is started as a child on the same sockets (`edge.process.handover`). Both accept until it says that it is
ready, then this one drains and ends. Whatever goes wrong before (it cannot be started, it ends, it refuses, it is late)
ends the new program and changes nothing here; what it wrote to standard error says why.

In place, for PID 1 of a container and for service managers that know only one process: the new program is rehearsed as a child
first (settings, keys and contexts), then this process becomes it. The workers stay, serve until the new ones are ready, and are
drained by it. Only what the rehearsal cannot see (no memory for new processes) would still go wrong then.

The new program is the command that this one was started with, found anew: a package that was installed over the old one, or a
symbolic link that points to another release, is what it runs, with its own interpreter. `server.upgrade_command` names another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.process.channel import Channel, Message, pair
from edge.process.control_socket import Answer, failure
from edge.process.handover import VARIABLE, Estate, Heir, Mode, leave
from edge.process.inherited import Passed

if TYPE_CHECKING:
    from edge.process.loop import Timer
    from edge.process.supervisor import Supervisor

__all__ = ["Upgrade", "own_command"]

_PATIENCE = 60.0  # seconds for the new program to be ready
_END_PATIENCE = 2.0  # seconds for a program that has hung up to end
_MOST_SAID = 4096  # bytes of standard error that are kept: the last ones
_LOOK = 0.02  # seconds


def own_command() -> list[str]:
    """How this program was started: a script by its own name, so that its first line chooses the interpreter."""
    words = list(sys.orig_argv)
    script = words[1] if len(words) > 1 else ""
    if script and not script.startswith("-") and os.access(script, os.X_OK) and _has_interpreter(script):
        return words[1:]
    return [sys.executable or words[0], *words[1:]]


def _has_interpreter(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(2) == b"#!"
    return False


class _Attempt:
    """One start of the new program."""

    def __init__(self, mode: Mode, by: str, answer: Answer) -> None:
        self.mode = mode
        self.by = by
        self.answer = answer
        self.began = time.monotonic()
        self.pid = 0
        self.channel: Channel | None = None
        self.stderr = -1
        self.said = bytearray()
        self.why = ""  # it refused
        self.rehearsed = False
        self.timers: list[Timer] = []

    def fileno(self) -> int:
        """Of its standard error, for the loop."""
        return self.stderr

    def last_words(self) -> str:
        return self.said.decode("utf-8", "replace").strip()


class Upgrade:
    """The supervisor's part. At most one attempt at a time."""

    def __init__(self, supervisor: Supervisor, command: Callable[[], list[str]] = own_command) -> None:
        self._supervisor = supervisor
        self._command = command()  # as it was at the start: nobody changes the directory meanwhile
        self._attempt: _Attempt | None = None

    @property
    def running(self) -> bool:
        return self._attempt is not None

    def start(self, by: str, answer: Answer) -> None:
        """Begin; `answer` is called once it is decided."""
        supervisor = self._supervisor
        if self._attempt is not None:
            answer(failure("busy", "an upgrade is under way already"))
            return
        if supervisor.state is not supervisor.state.SERVING:
            answer(failure("busy", f"the gateway is {supervisor.state.name.lower()}"))
            return
        if supervisor.conductor.busy:  # it waits: what the new program gets is about to change, and a signal hears no answer
            supervisor.loop.later(_LOOK, lambda: self.start(by, answer))
            return
        how = supervisor.settings.server.upgrade
        in_place = how == "in-place" or (how == "auto" and os.getpid() == 1)
        attempt = self._attempt = _Attempt(Mode.REHEARSE if in_place else Mode.SUCCEED, by, answer)
        supervisor.log.event("upgrading", by=by, command=self.command)
        try:
            self._spawn(attempt)
        except OSError as error:
            self._failed(attempt, f"{self.command[0]} cannot be started: {error.strerror or error}")

    def abandon(self, why: str) -> None:
        """Go on without: we are to stop, or something more urgent."""
        if self._attempt is not None:
            self._failed(self._attempt, why)

    @property
    def command(self) -> list[str]:
        return list(self._supervisor.settings.server.upgrade_command) or self._command

    def close_copies(self) -> None:
        """In a child: close what belongs to the supervisor."""
        if self._attempt is not None:
            if self._attempt.channel is not None:
                self._attempt.channel.close()
            if self._attempt.stderr >= 0:
                os.close(self._attempt.stderr)

    # the new program's start

    def _spawn(self, attempt: _Attempt) -> None:
        loop = self._supervisor.loop
        ours, theirs = pair()
        attempt.channel = ours
        attempt.stderr, writer = os.pipe()
        os.set_blocking(attempt.stderr, False)
        try:
            leave(ours, self._estate(attempt.mode))
            os.set_inheritable(theirs.sock.fileno(), True)
            attempt.pid = os.posix_spawnp(
                self.command[0],
                self.command,
                self._environment(theirs.sock.fileno()),
                file_actions=[(os.POSIX_SPAWN_DUP2, writer, 2)],
            )
        finally:
            theirs.close()
            os.close(writer)
        loop.watch(ours.sock, lambda: self._on_channel(attempt), (lambda: self._flush(attempt)) if ours.waiting else None)
        loop.watch(attempt, lambda: self._on_stderr(attempt))
        attempt.timers.append(loop.later(_PATIENCE, lambda: self._failed(attempt, f"it was not ready after {_PATIENCE:g} s")))

    def _environment(self, descriptor: int) -> dict[str, str]:
        return {**os.environ, **self._supervisor.manager.notifier.environment, VARIABLE: str(descriptor)}

    def _estate(self, mode: Mode) -> Estate:
        supervisor = self._supervisor
        estate = Estate(mode, {"pid": os.getpid(), "generation": supervisor.generation, "control": supervisor.control_path})
        if mode is not Mode.IN_PLACE:
            estate.named["stderr"] = 2
        if mode is not Mode.REHEARSE:
            supervisor.replays.close()  # the new program knows nothing of what this one lets in
            estate.sockets = [
                Passed(group.address.passed or name, sock, group.activated)
                for name, groups in supervisor.sockets.by_listener.items()
                for group in groups
                for sock in group.listening
            ]
            estate.sockets += [Passed("admin", sock, activated=False) for sock in supervisor.controller_work.sockets]
            estate.named |= supervisor.heirlooms()
            estate.sections = {name: bytes_of() for name, bytes_of in supervisor.sections.items()}
        return estate

    def _flush(self, attempt: _Attempt) -> None:
        channel = attempt.channel
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.flush()
            self._supervisor.loop.watch(
                channel.sock, lambda: self._on_channel(attempt), (lambda: self._flush(attempt)) if channel.waiting else None
            )

    # what it says

    def _on_stderr(self, attempt: _Attempt) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(attempt.stderr, 65536)
            attempt.said += data
            del attempt.said[:-_MOST_SAID]
            if not data:
                self._supervisor.loop.forget(attempt)

    def _on_channel(self, attempt: _Attempt) -> None:
        if attempt.channel is None:
            return
        for message, _ in attempt.channel.receive():
            self._on_message(attempt, message)
        channel = attempt.channel
        if attempt is self._attempt and channel.ended:
            self._supervisor.loop.forget(channel.sock)
            attempt.timers.append(self._supervisor.loop.later(0.0, lambda: self._await_end(attempt, time.monotonic())))

    def _on_message(self, attempt: _Attempt, message: Message) -> None:
        what = message.get("is")
        if what == "ready" and attempt.mode is Mode.SUCCEED:
            self._succeeded(attempt)
        elif what == "rehearsed" and attempt.mode is Mode.REHEARSE:
            attempt.rehearsed = True
        elif what == "refused":
            attempt.why = str(message.get("why"))

    def _await_end(self, attempt: _Attempt, since: float) -> None:
        """It has hung up, so it is about to end: its status and its last words say why."""
        pid, status = os.waitpid(attempt.pid, os.WNOHANG)
        if not pid:
            if time.monotonic() - since > _END_PATIENCE:
                self._failed(attempt, attempt.why or "it hung up")
            else:
                attempt.timers.append(self._supervisor.loop.later(_LOOK, lambda: self._await_end(attempt, since)))
            return
        attempt.pid = 0
        code = os.waitstatus_to_exitcode(status)
        if attempt.rehearsed and code == 0:
            self._replace(attempt)
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        self._failed(attempt, attempt.why or f"it ended with {how}")

    # how it ends

    def _succeeded(self, attempt: _Attempt) -> None:
        supervisor = self._supervisor
        said = attempt.last_words()
        supervisor.log.event("upgraded", pid=attempt.pid, by=attempt.by, seconds=self._seconds(attempt), said=said)
        attempt.answer({"ok": True, "pid": attempt.pid, "in_place": False})
        pid, self._attempt = attempt.pid, None
        supervisor.retire(pid)
        with contextlib.suppress(OSError):
            assert attempt.channel is not None
            attempt.channel.send({"is": "yours"})
        self._forget(attempt)

    def _failed(self, attempt: _Attempt, why: str) -> None:
        self._supervisor.replays.open(time.time())
        if attempt.stderr >= 0:
            self._on_stderr(attempt)
        if attempt.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(attempt.pid, signal.SIGKILL)
            os.waitpid(attempt.pid, 0)
        self._forget(attempt)
        said = attempt.last_words()
        self._supervisor.log.event("upgrade-failed", level="error", by=attempt.by, detail=why, said=said)
        attempt.answer(failure("upgrade-failed", why, said=said))

    def _forget(self, attempt: _Attempt) -> None:
        self._attempt = None
        for timer in attempt.timers:
            timer.cancel()
        if attempt.channel is not None:
            self._supervisor.loop.forget(attempt.channel.sock)
            attempt.channel.close()
        if attempt.stderr >= 0:
            self._supervisor.loop.forget(attempt)
            os.close(attempt.stderr)
            attempt.stderr = -1

    def _seconds(self, attempt: _Attempt) -> float:
        return round(time.monotonic() - attempt.began, 3)

    # in place

    def _replace(self, attempt: _Attempt) -> None:
        """Become the new program. Returns only when that fails."""
        supervisor = self._supervisor
        if supervisor.conductor.busy:  # its workers are not what they will be
            attempt.timers.append(supervisor.loop.later(_LOOK, lambda: self._replace(attempt)))
            return
        supervisor.log.event("upgrading-in-place", by=attempt.by, seconds=self._seconds(attempt), said=attempt.last_words())
        ours, theirs = pair()
        try:
            self._leave_all(ours)
            attempt.answer({"ok": True, "pid": os.getpid(), "in_place": True})
            attempt.answer = lambda _answer: None
            supervisor.log.flush()
            os.set_inheritable(theirs.sock.fileno(), True)
            os.execvpe(self.command[0], self.command, self._environment(theirs.sock.fileno()))
        except OSError as error:
            self._failed(attempt, f"{self.command[0]} cannot be started: {error.strerror or error}")
        finally:
            ours.close()
            theirs.close()

    def _leave_all(self, channel: Channel) -> None:
        """Everything, children included. Raises OSError when it does not fit."""
        estate = self._estate(Mode.IN_PLACE)
        for child in self._supervisor.children.living():
            if child.channel is not None and child.channel.settle():
                estate.children.append(Heir(child.pid, child.name, child.channel.sock.fileno()))
        leave(channel, estate)
