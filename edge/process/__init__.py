"""Processes: the supervisor, its workers, signals, privileges, sockets and log files."""

from edge.process.errors import StartError
from edge.process.gateway import run
from edge.process.parts import ExtraChild, Serving
from edge.process.rehearsal import Origin

__all__ = ["ExtraChild", "Origin", "Serving", "StartError", "run"]
