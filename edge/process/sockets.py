"""Binding one address: the sockets of a listener, one for each worker.

With ``SO_REUSEPORT`` the kernel spreads connections over the sockets of one address, so workers share no accept queue. It also
lets a second gateway of the same user join in silence, so before binding, a socket without that option is bound and closed
again: only this finds a port that is taken, and by whom is read from ``/proc`` where that is allowed.

IPv6 sockets are IPv6 only; a listener on all addresses has two addresses. Where the machine has no IPv6, the IPv6 address
of such a listener is left out.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from edge.process.errors import NOT_PERMITTED, StartError
from edge.settings.model import Address, Listener

__all__ = ["BACKLOG", "Bound", "bind_address", "explained", "family_is_missing", "holders", "is_unix", "url_of"]

BACKLOG = 4096  # connections waiting for accept; the kernel caps it at net.core.somaxconn
_NO_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp

Bound = list[tuple[str, socket.socket]]


def url_of(listener: Listener, sock: socket.socket) -> str:
    """Where a listener is reached, for people: ``https://localhost:8443 (all addresses)``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port = str(name[0]), int(name[1])
    scheme = "https" if listener.tls else "http"
    parsed = ip_address(host.partition("%")[0])
    if parsed.is_unspecified:
        return f"{scheme}://localhost:{port} (all addresses)"
    shown = "localhost" if parsed.is_loopback else f"[{host}]" if parsed.version == 6 else host
    return f"{scheme}://{shown}:{port}"


def is_unix(sock: socket.socket) -> bool:
    return sock.family == socket.AF_UNIX


def family_is_missing(address: Address, error: OSError) -> bool:
    """Whether binding failed because the machine has no IPv6."""
    return ":" in address.host and error.errno in _NO_FAMILY


def bind_address(address: Address, count: int, *, port: int = 0, probe: bool = True) -> list[socket.socket]:
    """`count` sockets on one address, which do not listen yet. Raises OSError; then nothing stays open.

    `port` is the real one where the address leaves it open. `probe`: find out first whether somebody else has the port.
    """
    if address.path:
        return _bind_unix(address.path, count)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    port = port or address.port
    if probe:
        with _made(family) as alone:
            alone.bind((address.host, port))
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = _made(family)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((address.host, port))
            port = sock.getsockname()[1]  # with port 0 the first socket chooses for all
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _made(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    return sock


def _bind_unix(path: str, count: int) -> list[socket.socket]:
    """One socket that all workers accept from. What a gateway that was killed left behind is taken away."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            os.unlink(path)
        sock.bind(path)
        sock.setblocking(False)
        return [sock, *(sock.dup() for _ in range(count - 1))]
    except BaseException:
        sock.close()
        raise


def _is_stale(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # whoever listens there may not accept
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def explained(listener: Listener, address: Address, error: OSError) -> StartError:
    """Why a listener cannot have an address, for people."""
    head = f'listener "{listener.name}" cannot listen on {address.path or address.text}'
    if error.errno == errno.EADDRINUSE:
        by = ", ".join(holders(address.port)) if address.port else ""
        return StartError(f"{head}: the port is taken{f' by {by}' if by else ''}", NOT_PERMITTED)
    if error.errno in (errno.EACCES, errno.EPERM):
        if 0 < address.port < 1024:
            return StartError(
                f"{head}: ports below 1024 need a privilege. Let systemd start it with AmbientCapabilities=CAP_NET_BIND_SERVICE, "
                "start it as root with server.user set, or listen on a port above 1023",
                NOT_PERMITTED,
            )
        return StartError(f"{head}: not permitted", NOT_PERMITTED)
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(f"{head}: this machine has no such address")
    return StartError(f"{head}: {error.strerror or error}")


def holders(port: int) -> list[str]:
    """Who listens on a TCP port, as ``nginx (pid 812)``; empty where ``/proc`` does not say."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return []
    found = []
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):  # another user's process, or one that has just ended
            for link in (entry / "fd").iterdir():
                target = os.readlink(link)
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    found.append(f"{(entry / 'comm').read_text().strip()} (pid {entry.name})")
                    break
    return found


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]
