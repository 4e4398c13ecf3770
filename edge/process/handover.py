"""What a program leaves to the one that takes over from it: descriptors and named sections of bytes, over a socket pair.

The old program writes its estate into the socket pair in one go (`leave`), the new one finds the number of its end in the
environment and reads all of it before it does anything else (`Predecessor`). Listening sockets are shared, not moved: both
programs hold the same queues, so a connection waits there until either accepts it, and nothing is lost however it ends.

Then there are two ways. As a successor in a process of its own, the new program says ``ready`` when all its workers accept
connections, or ``refused`` and why; the old one answers ``yours``, from which moment on what exists once (the control socket, the
service manager's ear, the PID file) is the new one's. In place (the old program has replaced itself), nobody is there to answer:
the estate then also holds the old workers, which are the new program's to end.

A third way is a rehearsal: the new program reads its settings, makes what a worker needs, says ``rehearsed`` and ends.

Sections are for what must survive and belongs to others, such as ticket keys: bytes under a name, as a parcel, never on disk.
A version that does not know a name leaves it alone.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from edge.process import parcel
from edge.process.channel import Channel, Message
from edge.process.errors import StartError
from edge.process.inherited import Inherited, Passed

__all__ = ["VARIABLE", "Estate", "Heir", "Mode", "Predecessor", "leave"]

VARIABLE = "EDGE_HANDOVER"
_VERSION = 1
_BATCH = 100  # descriptors of one message
_PATIENCE = 10.0  # seconds for the estate to arrive; it was written before the program was started


_T = TypeVar("_T")


class Mode(StrEnum):
    SUCCEED = "succeed"  # a process of its own takes over
    REHEARSE = "rehearse"  # see whether it could
    IN_PLACE = "in-place"  # the same process goes on as another program


@dataclass(frozen=True, slots=True)
class Heir:
    """A child that goes on under the new program, by its channel."""

    pid: int
    name: str
    channel: int  # the descriptor


@dataclass(slots=True)
class Estate:
    mode: Mode
    facts: Message = field(default_factory=dict)  # small and no secret: the generation, the program's pid
    sockets: list[Passed] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)  # other descriptors: the control socket, standard error
    sections: dict[str, bytes] = field(default_factory=dict)
    children: list[Heir] = field(default_factory=list)


def leave(channel: Channel, estate: Estate) -> None:
    """Write an estate. All descriptors stay the caller's. Raises OSError when it does not fit into the socket pair."""
    channel.send({"is": "estate", "version": _VERSION, "mode": estate.mode, "facts": estate.facts})
    for batch in _batches(estate.sockets):
        told = [{"name": one.name, "activated": one.activated} for one in batch]
        channel.send({"is": "sockets", "sockets": told}, [one.sock.fileno() for one in batch])
    if estate.named:
        channel.send({"is": "named", "names": list(estate.named)}, list(estate.named.values()))
    for heirs in _batches(estate.children):
        told = [{"pid": one.pid, "name": one.name} for one in heirs]
        channel.send({"is": "children", "children": told}, [one.channel for one in heirs])
    for name, data in estate.sections.items():
        descriptor = parcel.pack(data)
        try:
            channel.send({"is": "section", "name": name}, [descriptor])
        finally:
            os.close(descriptor)
    channel.send({"is": "all"})
    if channel.waiting and estate.mode is Mode.IN_PLACE:
        raise OSError("there are more sockets than can be passed on")


class Predecessor:
    """The program before us, as the new program sees it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.estate = Estate(Mode.SUCCEED)
        self._told = False

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """Whoever left us something; None: this is an ordinary start. The variable is taken out of `environ`.

        Raises StartError: what was left cannot be read.
        """
        number = environ.pop(VARIABLE, "")
        if not number:
            return None
        try:
            os.set_inheritable(int(number), False)
            found = cls(Channel(socket.socket(fileno=int(number))))
        except (OSError, ValueError) as error:
            raise StartError(f"{VARIABLE} is set, but there is nothing to take over: {error}") from error
        try:
            found._read()
        except StartError:
            found.close()
            raise
        return found

    def _read(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            for message, descriptors in self.channel.receive():
                if self._take(message, descriptors):
                    return
            if self.channel.ended or not select.select([self.channel.sock], [], [], max(0.0, end - time.monotonic()))[0]:
                raise StartError("the program before this one has not left everything that it has")

    def _take(self, message: Message, descriptors: list[int]) -> bool:
        estate, what = self.estate, message.get("is")
        if what == "estate":
            if message.get("version") != _VERSION:
                raise StartError("the program before this one hands over in another way: restart instead of upgrading")
            estate.mode, estate.facts = Mode(message["mode"]), message["facts"]
        elif what == "sockets":
            for told, descriptor in zip(message["sockets"], descriptors, strict=True):
                estate.sockets.append(Passed(told["name"], socket.socket(fileno=descriptor), told["activated"]))
        elif what == "named":
            estate.named.update(zip(message["names"], descriptors, strict=True))
        elif what == "children":
            for told, descriptor in zip(message["children"], descriptors, strict=True):
                estate.children.append(Heir(told["pid"], told["name"], descriptor))
        elif what == "section":
            estate.sections[message["name"]] = parcel.unpack(descriptors[0])
        return what == "all"

    @property
    def mode(self) -> Mode:
        return self.estate.mode

    def inherited(self) -> Inherited:
        """The listening sockets."""
        return Inherited(self.estate.sockets)

    def restore_stderr(self) -> None:
        """From here on standard error is where it always was. Until then the old program reads it, to say why we failed."""
        descriptor = self.estate.named.pop("stderr", None)
        if descriptor is not None:
            os.dup2(descriptor, 2)
            os.close(descriptor)

    def rehearsed(self) -> None:
        """All is well with the settings."""
        self._tell({"is": "rehearsed"})

    def refuse(self, why: str) -> None:
        """We cannot; the old program goes on."""
        self._tell({"is": "refused", "why": why[:2000]})

    def ready(self) -> None:
        """Our workers accept connections. The answer is ``yours``, or the end of the channel if the old program just died."""
        self._tell({"is": "ready", "pid": os.getpid()})

    def _tell(self, message: Message) -> None:
        if not self._told:
            self._told = True
            with suppress(OSError):
                self.channel.send(message)

    def close(self) -> None:
        """Idempotent. Descriptors that nobody took are closed too; the sockets are `inherited`'s."""
        self.channel.close()
        for descriptor in self.estate.named.values():
            os.close(descriptor)
        self.estate.named.clear()


def _batches(items: Sequence[_T]) -> Iterator[list[_T]]:
    rest = list(items)
    while rest:
        yield rest[:_BATCH]
        del rest[:_BATCH]
