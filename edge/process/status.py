"""How the gateway is, in one object: what `edge status`, the admin API and the health routes show."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from edge.observe.expiry import expiring, stale
from edge.process.sockets import url_of

if TYPE_CHECKING:
    from edge.process.children import Child
    from edge.process.supervisor import Supervisor

__all__ = ["status_of"]

_MOST_EXPIRING = 20  # certificates that are named


def status_of(supervisor: Supervisor) -> dict[str, Any]:
    """Times are POSIX seconds. `degraded` holds sentences; empty: all is well. `reasons` say why it is not ready."""
    reasons = supervisor.unready()
    return {
        "pid": os.getpid(),
        "generation": supervisor.generation,
        "digest": supervisor.settings.digest,
        "started": supervisor.started,
        "since": supervisor.since,
        "ready": not reasons,
        "reasons": reasons,
        "state": supervisor.state.name.lower(),
        "config": supervisor.origin.path if supervisor.origin is not None else "",
        "workers": [_worker(supervisor, worker) for worker in [*supervisor.workers, *supervisor.workforce.leaving]],
        "controller": {
            "pid": supervisor.controller.pid,
            "state": _controller_state(supervisor),
            "since": supervisor.controller.since,
            "restarts": supervisor.controller.restarts,
        },
        "listeners": _listeners(supervisor),
        **{name: tell() for name, tell in supervisor.more_status.items()},
        "degraded": [
            *supervisor.degraded.values(),
            *_unwell(supervisor),
            *_expiring(supervisor),
            *(text for tell in supervisor.more_degraded for text in tell()),
        ],
    }


def _worker(supervisor: Supervisor, worker: Child) -> dict[str, Any]:
    serving = "leaving" if worker in supervisor.workforce.leaving else "serving" if supervisor.is_well(worker) else "stalled"
    return {
        "number": worker.number,
        "pid": worker.pid,
        "state": "down" if not worker.pid else serving if worker.ready else "starting",
        "since": worker.since,
        "restarts": worker.restarts,
        "connections": worker.beat.get("connections", 0),
        "accepted": worker.beat.get("accepted", 0),
        "lag_ms": worker.beat.get("lag_ms", 0.0),
    }


def _listeners(supervisor: Supervisor) -> list[dict[str, Any]]:
    found = []
    for listener in supervisor.settings.listeners:
        urls = [
            url_of(listener, group.first)
            for group in supervisor.sockets.by_listener.get(listener.name, ())
            if group.first is not None
        ]
        addresses = [address.path or address.text for address in listener.addresses]
        found.append({"name": listener.name, "address": addresses, "urls": list(dict.fromkeys(urls))})
    return found


def _expiring(supervisor: Supervisor) -> list[str]:
    now = time.time()
    found = [one.text for one in expiring(supervisor.settings, now) if one.is_degraded]
    found += [one.text for one in stale(supervisor.settings, now)]
    return found if len(found) <= _MOST_EXPIRING else [*found[:_MOST_EXPIRING], f"{len(found) - _MOST_EXPIRING} more expire"]


def _controller_state(supervisor: Supervisor) -> str:
    """A first one that has not yet told of itself is on its way."""
    controller = supervisor.controller
    if controller.ready:
        return "serving"
    return "starting" if controller.pid and not controller.restarts else "down"


def _unwell(supervisor: Supervisor) -> list[str]:
    unwell = [worker.name for worker in supervisor.workers if not supervisor.is_well(worker)]
    controller = supervisor.controller
    if supervisor.state > supervisor.state.STARTING and not controller.ready and (controller.restarts or not controller.pid):
        unwell.append(supervisor.controller.name)
    return [f"{name} is not running" for name in unwell]
