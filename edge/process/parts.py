"""What a gateway is made of when it starts, and the words for where it stands."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.observe.counters import Table
from edge.process import privileges
from edge.process.control_socket import Claim
from edge.process.controller import ControllerWork
from edge.process.handover import Predecessor
from edge.process.listening import Sockets
from edge.process.logs import Destinations
from edge.process.notify import Notifier
from edge.process.rehearsal import Origin
from edge.settings.model import Settings

if TYPE_CHECKING:
    from edge.tls.choice import HostTable
    from edge.tls.replay import ReplayFilter

__all__ = ["ExtraChild", "Parts", "Serving", "State"]


class State(enum.IntEnum):
    STARTING = 0
    SERVING = 1
    LEAVING = 2
    DRAINING = 3
    ENDING = 4


@dataclass(frozen=True, slots=True)
class Serving:
    """What there is to say once every worker accepts connections."""

    urls: tuple[str, ...]
    workers: int
    descriptors: int  # the limit on open descriptors


@dataclass(frozen=True, slots=True)
class ExtraChild:
    """Another process to keep alive: `run` gets a descriptor that becomes readable when it has to end."""

    name: str
    run: Callable[[int], None]


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a gateway is made of when it starts."""

    settings: Settings
    sockets: Sockets
    tables: Mapping[str, HostTable]
    counters: Table
    replays: ReplayFilter  # shared by the workers
    destinations: Destinations
    identity: privileges.Identity | None
    descriptors: int
    origin: Origin | None
    control: Claim | None
    controller: ControllerWork
    lacking: str  # a sentence about the admin listener when it could not be had
    extra_children: Sequence[ExtraChild]
    on_ready: Callable[[Serving], None]
    degraded: Mapping[str, str]  # what could not be had
    notifier: Notifier
    predecessor: Predecessor | None  # the program that we take over from
