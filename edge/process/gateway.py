"""From settings to a running gateway, in the order in which things can go wrong without harm.

Nothing is bound before the log destinations and the TLS contexts are made, and nothing is forked before everything is
bound. Ticket keys are there before contexts, and contexts before the fork: all workers accept each other's tickets, and where
ticket keys cannot be set, they share at least those of the contexts that were made at the start.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edge.observe.counters import Table
from edge.process import control_socket, pidfile, privileges, stapling, ticketing
from edge.process.admin import bind_admin, claim_admin, close_admin
from edge.process.controller import ControllerWork
from edge.process.errors import StartError
from edge.process.handover import Mode, Predecessor
from edge.process.inherited import Inherited
from edge.process.listening import Sockets
from edge.process.logs import Destinations, fill_standard_descriptors
from edge.process.notify import Notifier
from edge.process.parts import ExtraChild, Parts, Serving
from edge.process.rehearsal import Origin
from edge.process.rotation import Rotation
from edge.process.stapling import Stapling
from edge.process.supervisor import Supervisor
from edge.process.ticketing import Ticketing
from edge.settings.model import Host, Settings
from edge.tls.choice import HostTable, ServerContext, build_table
from edge.tls.replay import ReplayFilter
from edge.tls.trust import TrustError

__all__ = ["run"]


def run(
    settings: Settings,
    *,
    origin: Origin | None = None,
    on_ready: Callable[[Serving], None] | None = None,
    extra_children: Sequence[ExtraChild | tuple[str, Callable[[int], None]]] = (),
) -> int:
    """Run the gateway in the foreground until a signal ends it; returns the exit status.

    `origin`: where the settings can be read again; without it they stay as they are. `on_ready` is called once, in the
    supervisor, when every worker accepts connections; without it, the addresses are printed to stderr. `extra_children` are
    kept alive beside the workers and end after them. A start that fails says why in one line on stderr.
    """
    predecessor: Predecessor | None = None
    try:
        predecessor = Predecessor.taken_from(os.environ)
        supervisor = _prepare(settings, origin, on_ready or _print_urls, [_extra(child) for child in extra_children], predecessor)
    except StartError as error:
        print(f"edge: {error}", file=sys.stderr)
        if predecessor is not None:
            predecessor.refuse(str(error))
        return error.status
    return supervisor.run() if supervisor is not None else 0


def _extra(child: ExtraChild | tuple[str, Callable[[int], None]]) -> ExtraChild:
    return child if isinstance(child, ExtraChild) else ExtraChild(*child)


def _prepare(
    settings: Settings,
    origin: Origin | None,
    on_ready: Callable[[Serving], None],
    extra_children: list[ExtraChild],
    predecessor: Predecessor | None,
) -> Supervisor | None:
    """Everything that a supervisor is made of. None: this was a rehearsal. Raises StartError."""
    notifier = Notifier.taken_from(os.environ)
    if predecessor is not None and predecessor.mode is not Mode.REHEARSE:
        predecessor.restore_stderr()
    identity = privileges.identity(settings.server.user, settings.server.group)
    descriptors = privileges.raise_descriptor_limit()
    inherited = predecessor.inherited() if predecessor is not None else Inherited.from_systemd(os.environ)
    fill_standard_descriptors()
    destinations = Destinations(settings.log, os.environ)
    rotation = Rotation()
    ticketing.begin(settings, rotation, predecessor.estate.sections if predecessor is not None else {})
    shelf = stapling.begin(settings, predecessor.estate.sections if predecessor is not None else {}, identity)
    tables = _tables(settings)
    if predecessor is not None and predecessor.mode is Mode.REHEARSE:
        predecessor.rehearsed()
        return None
    with ExitStack() as undo:
        degraded: dict[str, str] = {}
        control = _inherited_control(settings, predecessor)
        if control is None:
            control = _control(settings, degraded, must_be_alone=origin is not None)
        if control is not None and predecessor is None:
            undo.callback(control.give_up)
        claimed = claim_admin(settings.admin, inherited)
        admin, lacking = bind_admin(settings.admin, claimed) if settings.admin.written else ([], "")
        undo.callback(close_admin, admin)
        bound = Sockets.bind(settings.listeners, range(1, settings.server.workers + 1), inherited)
        undo.callback(bound.close)
        if not settings.admin.written:  # a listener that somebody wrote goes before our default
            admin, lacking = bind_admin(settings.admin, claimed)
            undo.callback(close_admin, admin)
        if predecessor is None:
            pidfile.write(settings.server.pid_file)
        undo.pop_all()
    counters = Table.create(settings.server.workers)
    # without a predecessor there are no ticket keys from before, so nothing from before could be replayed
    replays = ReplayFilter(time.time(), window_passed=predecessor is None)
    controller = ControllerWork(settings, destinations, identity, counters, sockets=admin, bound_for=settings.admin.addresses)
    privileges.harden()
    # shared with the workers: a collection there would copy these pages. None is made before, for it takes a tenth of the start
    # and finds some 200 objects
    gc.freeze()
    supervisor = Supervisor(
        Parts(
            settings=settings,
            sockets=bound,
            tables=tables,
            counters=counters,
            replays=replays,
            destinations=destinations,
            identity=identity,
            descriptors=descriptors,
            origin=origin,
            control=control,
            controller=controller,
            lacking=lacking,
            extra_children=extra_children,
            on_ready=on_ready,
            degraded=degraded,
            notifier=notifier,
            predecessor=predecessor,
        )
    )
    Ticketing(supervisor, rotation)
    Stapling(supervisor, shelf)
    return supervisor


def _inherited_control(settings: Settings, predecessor: Predecessor | None) -> control_socket.Claim | None:
    """The control socket of the program before us, if it lies where ours would."""
    if predecessor is None or predecessor.estate.facts.get("control") != control_socket.path_in(settings.server.runtime_dir):
        return None
    named = predecessor.estate.named
    descriptor = named.pop("control", None)
    if descriptor is None:
        return None
    return control_socket.inherit(settings.server.runtime_dir, descriptor, named.pop("control-lock", None))


def _control(settings: Settings, degraded: dict[str, str], *, must_be_alone: bool) -> control_socket.Claim | None:
    """The control socket. Without one the gateway serves as well, but cannot be asked anything: that is told."""
    try:
        return control_socket.claim(settings.server.runtime_dir)
    except control_socket.AlreadyRunning as error:
        if must_be_alone:
            raise
        degraded["control"] = str(error)
    except StartError as error:
        degraded["control"] = str(error)
    return None


def _tables(settings: Settings) -> dict[str, HostTable]:
    cache: dict[Host, ServerContext] = {}
    try:
        return {listener.name: build_table(settings, listener, cache) for listener in settings.listeners if listener.tls}
    except TrustError as error:
        raise StartError(str(error)) from error


def _print_urls(serving: Serving) -> None:
    for url in serving.urls:
        print(f"edge: serving on {url}", file=sys.stderr)
