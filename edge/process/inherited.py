"""Listening sockets that somebody else has bound: systemd (socket activation, sd_listen_fds(3)) or the program before us.

A socket belongs to the listener address that it is bound to. An address ``systemd`` or ``systemd:NAME`` takes whatever was
passed under the name (``FileDescriptorName=``), wherever it is bound. What systemd passes and no listener wants is an error,
for clients would wait on it for ever; what the program before us passes and the new settings do not want is closed, and that
program empties it.

A passed socket may be the only one of its address, and nobody can add one beside it without ``SO_REUSEPORT``. Workers then
share it: each has a descriptor of the same socket, and the kernel gives a connection to the first that accepts it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from edge.process.errors import StartError
from edge.settings.model import Address, Listener

__all__ = ["Inherited", "Passed", "spread"]

_FIRST = 3  # sd_listen_fds(3)
_MOST = 1024  # sockets
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@dataclass(slots=True)
class Passed:
    """A listening socket and what it is called. `activated`: systemd has bound it, not we."""

    name: str
    sock: socket.socket
    activated: bool
    claimed: bool = False


@dataclass(slots=True)
class Inherited:
    passed: list[Passed] = field(default_factory=list)

    @classmethod
    def from_systemd(cls, environ: MutableMapping[str, str], first: int = _FIRST) -> Inherited:
        """The sockets that the service manager passed to this process; its variables are taken out of `environ`.

        `first`: the number of the first descriptor. Raises StartError for what is no listening stream socket.
        """
        pid, count, names, _ = (environ.pop(name, "") for name in _VARIABLES)
        if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
            return cls()
        called = names.split(":") if names else []
        found = cls()
        for index in range(min(int(count), _MOST)):
            name = called[index] if index < len(called) else "unknown"
            found.passed.append(Passed(name, _listening(first + index, name), activated=True))
        return found

    def claim(self, address: Address) -> list[socket.socket] | None:
        """The sockets of one address; None: nobody has bound it. Raises StartError when only systemd could have."""
        if address.passed:
            own = [one for one in self.passed if one.activated and one.name == address.passed]
            if not own:
                raise StartError(
                    f"the service manager passed no socket called {address.passed!r}: start edge through a socket unit that has "
                    f"FileDescriptorName={address.passed}, or write an address"
                )
        else:
            own = [one for one in self.passed if _covers(one.sock, address)]
            if not own:
                return None
        fresh = [one.sock for one in own if not one.claimed]
        for one in own:
            one.claimed = True
        return fresh  # empty for the second family of a socket that serves both

    def is_activated(self, sockets: Sequence[socket.socket]) -> bool:
        """Whether systemd has bound them."""
        return any(one.activated for one in self.passed if one.sock in sockets)

    def settle(self, listeners: Iterable[Listener]) -> None:
        """After all claims: nothing may be left of what systemd passed (StartError); the rest is closed."""
        for one in [one for one in self.passed if not one.claimed]:
            if one.activated:
                raise StartError(_unwanted(one, listeners))
            one.sock.close()
        self.passed = [one for one in self.passed if one.claimed]

    def close(self) -> None:
        """Close what nobody has claimed."""
        for one in self.passed:
            if not one.claimed:
                one.sock.close()


def spread(sockets: Sequence[socket.socket], workers: int) -> list[list[socket.socket]]:
    """The sockets of one address over the workers: each has at least one; where there are too few, they are shared."""
    if not sockets:
        return [[] for _ in range(workers)]
    if len(sockets) >= workers:
        return [list(sockets[number::workers]) for number in range(workers)]
    return [[sockets[number] if number < len(sockets) else sockets[number % len(sockets)].dup()] for number in range(workers)]


def _listening(descriptor: int, name: str) -> socket.socket:
    what = f"descriptor {descriptor} ({name}), which the service manager passed,"
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartError(f"{what} is no socket: {error.strerror}") from error
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        detail = "is no TCP or unix stream socket: write ListenStream= in the socket unit"
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        detail = "is one connection, not a listening socket: write Accept=no in the socket unit"
    else:
        sock.setblocking(False)
        return sock
    sock.close()
    raise StartError(f"{what} {detail}")


def _covers(sock: socket.socket, address: Address) -> bool:
    if sock.family == socket.AF_UNIX:
        return bool(address.path) and os.fsdecode(sock.getsockname()) == address.path
    if address.path or not address.host:
        return False
    bound = sock.getsockname()
    if bound[1] != address.port:
        return False
    if str(bound[0]).partition("%")[0] == address.host:
        return True
    both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return both and ip_address(bound[0]).is_unspecified and address.host == "0.0.0.0"


def _unwanted(one: Passed, listeners: Iterable[Listener]) -> str:
    where = _text(one.sock)
    head = f"the service manager passed a socket called {one.name!r} for {where}, which no listener has"
    same = next((listener for listener in listeners if listener.name == one.name), None)
    if same is not None:
        written = ", ".join(address.text for address in same.addresses)
        return f'{head}: listener "{same.name}" has {written}. Give both the same address, or write address = "systemd"'
    return f'{head}: name it after a listener (FileDescriptorName=) that has address = "systemd", or give a listener that address'


def _text(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Address(path=os.fsdecode(name)).text
    return Address(host=str(name[0]), port=int(name[1])).text
