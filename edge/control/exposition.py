"""Metrics for Prometheus: what the settings and the supervisor's status say, and what all processes have counted. In its text
format or OpenMetrics, by Accept.

Values are made when they are asked for, so nothing is kept here that could be wrong after a restart of this process.
"""

from __future__ import annotations

import contextlib
import mmap
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from edge.control.collector import Counted, stated
from edge.control.plane import Plane
from edge.observe.expiry import certificates, revocation_lists
from edge.settings.model import Settings

__all__ = ["exposition"]


def exposition(plane: Plane, accept: str) -> tuple[str, bytes]:
    """The content type and the text of all metrics, in the form that `accept` prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gateway(plane))
    registry.register(Counted(plane.counters))
    encoder, content_type = choose_encoder(accept)
    return content_type, encoder(registry)


class _Gateway(Collector):
    """What the settings and the status say."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        plane = self._plane
        settings, status = plane.settings, plane.last_status
        yield stated("edge_build_info", {(_version(), platform.python_version()): 1.0})
        yield from _certificates(settings)
        verified: dict[tuple[str, ...], float] = {
            (name,): float(upstream.tls.verify) for name, upstream in settings.upstreams.items() if upstream.tls is not None
        }
        yield stated("edge_upstream_verified", verified)
        yield _lists(settings)
        yield stated("edge_config_info", {(settings.digest,): 1.0})
        yield stated("edge_config_generation", {(): plane.generation})
        yield stated("edge_controller_start_time_seconds", {(): plane.started})
        if not status:
            return
        yield stated("edge_start_time_seconds", {(): _number(status.get("started"))})
        yield stated("edge_ready", {(): float(bool(status.get("ready")))})
        yield stated("edge_degraded", {(): len(status.get("degraded", []))})
        yield from _workers(status.get("workers", []))
        yield from _reloads(status.get("reloads", {}))
        yield _memory(status)


def _certificates(settings: Settings) -> Iterator[Metric]:
    after: dict[tuple[str, ...], float] = {}
    before: dict[tuple[str, ...], float] = {}
    for certificate, used_by in sorted(certificates(settings), key=lambda pair: pair[0].fingerprint):
        labels = certificate.name, certificate.key_type, " ".join(sorted(used_by)), certificate.fingerprint
        after[labels] = certificate.not_after
        before[labels] = certificate.not_before
    yield stated("edge_certificate_not_after_seconds", after)
    yield stated("edge_certificate_not_before_seconds", before)


def _lists(settings: Settings) -> Metric:
    found: dict[tuple[str, ...], float] = {}
    for store, crl in revocation_lists(settings):
        if crl.next_update is not None:
            key = store.name, crl.name
            found[key] = min(crl.next_update, found.get(key, crl.next_update))
    return stated("edge_crl_next_update_seconds", found)


def _workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    numbered = {(str(worker.get("number")),): worker for worker in workers}
    yield stated("edge_worker_up", {number: float(worker.get("state") == "serving") for number, worker in numbered.items()})
    yield stated("edge_worker_restarts_total", {number: _number(worker.get("restarts")) for number, worker in numbered.items()})


def _reloads(reloads: dict[str, Any]) -> Iterator[Metric]:
    yield stated("edge_reloads_total", {(result,): _number(reloads.get(result)) for result in ("accepted", "refused")})
    last = reloads.get("last")
    if isinstance(last, dict):
        yield stated("edge_last_reload_success", {(): float(bool(last.get("ok")))})
        yield stated("edge_last_reload_time_seconds", {(): _number(last.get("at"))})


def _memory(status: dict[str, Any]) -> Metric:
    """Of every process that can be looked at."""
    pids = {"supervisor": status.get("pid"), "controller": status.get("controller", {}).get("pid")}
    pids |= {f"worker {worker.get('number')}": worker.get("pid") for worker in status.get("workers", [])}
    found: dict[tuple[str, ...], float] = {}
    for name, pid in pids.items():
        with contextlib.suppress(OSError):  # no such process, no /proc, or a /proc that shows ours alone
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
            found[name,] = int(pages) * mmap.PAGESIZE
    return stated("edge_resident_bytes", found)


def _version() -> str:
    try:
        return version("edge-gateway")
    except PackageNotFoundError:
        return "unknown"


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
