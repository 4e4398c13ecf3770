"""Sockets that others have bound: whose listener they are, how workers share them, and what is wrong with some of them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.process import sockets
from edge.process.errors import StartError
from edge.process.inherited import Inherited, Passed, spread
from edge.process.listening import Sockets
from edge.settings.model import Address, Listener


@pytest.fixture
def keep() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def listening(keep: contextlib.ExitStack, host: str = "127.0.0.1", *, both: bool = False) -> socket.socket:
    sock = keep.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    sock.bind((host, 0))
    sock.listen()
    return sock


def environ(first: socket.socket, keep: contextlib.ExitStack, *rest: socket.socket, names: str | None = None) -> dict[str, str]:
    """As systemd leaves it, but with the descriptors wherever there is room."""
    start = 200
    for number, sock in enumerate((first, *rest), start):
        os.dup2(sock.fileno(), number)
        keep.callback(close, number)
    found = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(1 + len(rest)), "PATH": "/bin"}
    return found if names is None else {**found, "LISTEN_FDNAMES": names}


def close(number: int) -> None:
    with contextlib.suppress(OSError):
        os.close(number)


def passed(first: socket.socket, keep: contextlib.ExitStack, *rest: socket.socket, names: str | None = None) -> Inherited:
    variables = environ(first, keep, *rest, names=names)
    found = Inherited.from_systemd(variables, 200)
    assert variables == {"PATH": "/bin"}
    for one in found.passed:
        keep.callback(one.sock.close)
    return found


def tcp(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host=host, port=port)


def bound(keep: contextlib.ExitStack, inherited: Inherited, workers: int, *listeners: Listener) -> list[sockets.Bound]:
    made = Sockets.bind(listeners, range(1, workers + 1), inherited)
    keep.callback(made.close)
    return [made.of(number) for number in range(1, workers + 1)]


def test_a_socket_is_its_addresss_whatever_it_is_called(keep: contextlib.ExitStack) -> None:
    sock = listening(keep)
    inherited = passed(sock, keep, names="edge.socket")
    first, second = bound(keep, inherited, 2, Listener(name="https", addresses=(tcp(sock),), tls=True))
    for ((name, one),) in (first, second):
        assert (name, one.getsockname()) == ("https", sock.getsockname())
        assert not one.get_inheritable()


def test_several_sockets_of_one_name_belong_to_the_listener_of_that_name(keep: contextlib.ExitStack) -> None:
    one, other, plain = listening(keep), listening(keep), listening(keep)
    inherited = passed(one, keep, plain, other, names="https:web:https")
    listeners = [
        Listener(name="https", addresses=(Address(passed="https"),), tls=True),
        Listener(name="http", addresses=(Address(passed="web"),), tls=False),
    ]
    (own,) = bound(keep, inherited, 1, *listeners)
    assert [(name, sock.getsockname()) for name, sock in own] == [
        ("https", one.getsockname()), ("https", other.getsockname()), ("http", plain.getsockname())]  # fmt: skip


def test_workers_share_a_socket_and_any_of_them_accepts(keep: contextlib.ExitStack) -> None:
    sock = listening(keep)
    inherited = passed(sock, keep, names="https")
    found = bound(keep, inherited, 3, Listener(name="https", addresses=(Address(passed="https"),), tls=True))
    for ((_, own),) in found:
        with socket.create_connection(sock.getsockname()):
            own.setblocking(True)
            own.accept()[0].close()


def test_a_socket_of_both_families_serves_a_listener_on_all_addresses(keep: contextlib.ExitStack) -> None:
    sock = listening(keep, "::", both=True)
    port = sock.getsockname()[1]
    inherited = passed(sock, keep)
    everywhere = (Address(host="0.0.0.0", port=port), Address(host="::", port=port))
    (own,) = bound(keep, inherited, 1, Listener(name="https", addresses=everywhere, tls=True))
    assert len(own) == 1


def test_a_unix_socket_is_known_by_its_path(keep: contextlib.ExitStack, short_tmp: Path) -> None:
    sock = keep.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(f"{short_tmp}/s")
    sock.listen()
    (own,) = bound(keep, passed(sock, keep), 1, Listener(name="local", addresses=(Address(path=f"{short_tmp}/s"),), tls=False))
    assert own[0][0] == "local"


def test_a_socket_that_fits_no_listener_is_an_error(keep: contextlib.ExitStack) -> None:
    wanted, surplus = listening(keep), listening(keep)
    inherited = passed(wanted, keep, surplus, names="https:https-2")
    with pytest.raises(StartError, match=r"a socket called 'https-2' for 127\.0\.0\.1:.*, which no listener has: name it after"):
        bound(keep, inherited, 1, Listener(name="https", addresses=(Address(passed="https"),), tls=True))
    assert not any(one.sock.fileno() >= 0 for one in inherited.passed)


def test_the_error_says_what_the_listener_of_that_name_has(keep: contextlib.ExitStack) -> None:
    sock = listening(keep)
    inherited = passed(sock, keep, names="https")
    with pytest.raises(StartError, match=r'listener "https" has 127\.0\.0\.1:8443\. Give both the same address'):
        inherited.settle([Listener(name="https", addresses=(Address(host="127.0.0.1", port=8443),), tls=True)])


def test_a_listener_that_waits_for_systemd_is_an_error_without_it() -> None:
    with pytest.raises(StartError, match="FileDescriptorName=https"):
        Sockets.bind([Listener(name="https", addresses=(Address(passed="https"),), tls=True)], [1])


def test_what_is_no_listening_stream_socket_is_an_error(keep: contextlib.ExitStack) -> None:
    datagram = keep.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with pytest.raises(StartError, match=r"\(udp\).* write ListenStream="):
        passed(datagram, keep, names="udp")
    one, other = socket.socketpair()
    keep.callback(one.close)
    keep.callback(other.close)
    with pytest.raises(StartError, match="write Accept=no"):
        passed(one, keep)
    null = os.open(os.devnull, os.O_RDONLY)
    keep.callback(os.close, null)
    os.dup2(null, 200)
    with pytest.raises(StartError, match="is no socket"):
        Inherited.from_systemd({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, 200)


@pytest.mark.parametrize(
    "variables", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}]
)
def test_variables_for_somebody_else_mean_nothing(variables: dict[str, str]) -> None:
    assert Inherited.from_systemd(variables, 200).passed == []
    assert variables == {}


def test_what_the_program_before_us_passes_is_closed_where_nobody_wants_it(keep: contextlib.ExitStack) -> None:
    kept, gone = listening(keep), listening(keep)
    inherited = Inherited([Passed("a", kept, activated=False), Passed("b", gone, activated=False)])
    (own,) = bound(keep, inherited, 1, Listener(name="new-name", addresses=(tcp(kept),), tls=True))
    assert own == [("new-name", kept)]
    assert gone.fileno() == -1


@pytest.mark.parametrize(("there", "workers"), [(1, 3), (2, 3), (3, 3), (5, 3)])
def test_sockets_are_spread_so_that_each_is_served_and_every_worker_serves(
    keep: contextlib.ExitStack, there: int, workers: int
) -> None:
    made = [listening(keep) for _ in range(there)]
    found = spread(made, workers)
    for part in found:
        for sock in part:
            keep.callback(sock.close)
    assert len(found) == workers
    assert all(found)
    assert {sock.getsockname() for part in found for sock in part} == {sock.getsockname() for sock in made}
    assert len({sock.fileno() for part in found for sock in part}) == max(there, workers)
