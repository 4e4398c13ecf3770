"""From settings to a running gateway, in the order in which things can go wrong without harm.

Nothing is bound before the log destinations and the TLS contexts are made, and nothing is forked before everything is
bound. Contexts are made before the fork, so that all workers accept each other's tickets.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence

from edge.process import privileges, sockets
from edge.process.admin import bind_admin, claim_admin
from edge.process.controller import ControllerWork
from edge.process.errors import StartError
from edge.process.inherited import Inherited
from edge.process.logs import Destinations, fill_standard_descriptors
from edge.process.supervisor import ExtraChild, Serving, Supervisor
from edge.settings.model import Host, Settings
from edge.tls.choice import HostTable, ServerContext, build_table
from edge.tls.trust import TrustError

__all__ = ["run"]


def run(
    settings: Settings,
    *,
    on_ready: Callable[[Serving], None] | None = None,
    extra_children: Sequence[ExtraChild | tuple[str, Callable[[int], None]]] = (),
) -> int:
    """Run the gateway in the foreground until a signal ends it; returns the exit status (INTERFACE section 6).

    `on_ready` is called once, in the supervisor, when every worker accepts connections; without it, the addresses are
    printed to stderr. `extra_children` are kept alive beside the workers and end after them. A start that fails says why
    in one line on stderr.
    """
    try:
        supervisor = _prepare(settings, on_ready or _print_urls, [_extra(child) for child in extra_children])
    except StartError as error:
        print(f"edge: {error}", file=sys.stderr)
        return error.status
    return supervisor.run()


def _extra(child: ExtraChild | tuple[str, Callable[[int], None]]) -> ExtraChild:
    return child if isinstance(child, ExtraChild) else ExtraChild(*child)


def _prepare(settings: Settings, on_ready: Callable[[Serving], None], extra_children: list[ExtraChild]) -> Supervisor:
    identity = privileges.identity(settings.server.user, settings.server.group)
    descriptors = privileges.raise_descriptor_limit()
    inherited = Inherited.from_systemd(os.environ)
    fill_standard_descriptors()
    destinations = Destinations(settings.log, os.environ)
    tables = _tables(settings)
    claimed = claim_admin(settings.admin, inherited)
    bound = sockets.bind(settings.listeners, settings.server.workers, inherited)
    try:
        admin, lacking = bind_admin(settings.admin, claimed)
    except BaseException:
        sockets.close_all(bound)
        raise
    controller = ControllerWork(settings, destinations, identity, sockets=admin)
    privileges.harden()
    # shared with the workers: a collection there would copy these pages. None is made before, for it takes a tenth of the start
    # and finds some 200 objects
    gc.freeze()
    return Supervisor(settings, bound, tables, destinations, identity, extra_children, on_ready, descriptors, controller, lacking)


def _tables(settings: Settings) -> dict[str, HostTable]:
    cache: dict[Host, ServerContext] = {}
    try:
        return {listener.name: build_table(settings, listener, cache) for listener in settings.listeners if listener.tls}
    except TrustError as error:
        raise StartError(str(error)) from error


def _print_urls(serving: Serving) -> None:
    for url in serving.urls:
        print(f"edge: serving on {url}", file=sys.stderr)
