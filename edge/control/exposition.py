"""Metrics for Prometheus: what the settings and the supervisor's status say, and what all processes have counted. In its text
format or OpenMetrics, by Accept.

Values are made when they are asked for, so nothing is kept here that could be wrong after a restart of this process.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from edge.control.collector import Counted
from edge.control.plane import Plane
from edge.observe.expiry import certificates
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
        settings, status = self._plane.settings, self._plane.last_status
        yield from _certificates(settings)
        info = InfoMetricFamily("edge_config", "The settings in force: their SHA-256, to compare a fleet.")
        info.add_metric([], {"digest": settings.digest})
        yield info
        yield _gauge("edge_config_generation", "How often settings were taken, the start included.", self._plane.generation)
        yield _gauge("edge_controller_start_time_seconds", "When the controller started, in POSIX seconds.", self._plane.started)
        if not status:
            return
        yield _gauge("edge_ready", "1 while clients may be sent here, as /readyz says.", float(bool(status.get("ready"))))
        yield _gauge("edge_degraded", "How many things are not as they should be.", len(status.get("degraded", [])))
        yield from _workers(status.get("workers", []))
        yield from _reloads(status.get("reloads", {}))


def _certificates(settings: Settings) -> Iterator[Metric]:
    labels = ["name", "key_type", "hosts", "fingerprint"]
    after = GaugeMetricFamily(
        "edge_certificate_not_after_seconds", "When a certificate expires, in POSIX seconds.", labels=labels
    )
    before = GaugeMetricFamily("edge_certificate_not_before_seconds", "When a certificate begins to be valid.", labels=labels)
    for certificate, used_by in sorted(certificates(settings), key=lambda pair: pair[0].fingerprint):
        values = [certificate.name, certificate.key_type, " ".join(sorted(used_by)), certificate.fingerprint]
        after.add_metric(values, certificate.not_after)
        before.add_metric(values, certificate.not_before)
    yield after
    yield before


def _workers(workers: list[dict[str, object]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("edge_worker_up", "1 while a worker serves.", labels=["worker"])
    restarts = CounterMetricFamily("edge_worker_restarts", "How often a worker was replaced.", labels=["worker"])
    for worker in workers:
        number = [str(worker.get("number"))]
        up.add_metric(number, float(worker.get("state") == "serving"))
        restarts.add_metric(number, _number(worker.get("restarts")))
    yield up
    yield restarts


def _reloads(reloads: dict[str, object]) -> Iterator[Metric]:
    count = CounterMetricFamily("edge_reloads", "Reloads that were asked for, by what became of them.", labels=["result"])
    for result in ("accepted", "refused"):
        count.add_metric([result], _number(reloads.get(result)))
    yield count
    last = reloads.get("last")
    if isinstance(last, dict):
        yield _gauge("edge_last_reload_success", "1 when the last reload was accepted.", float(bool(last.get("ok"))))
        yield _gauge("edge_last_reload_time_seconds", "When the last reload ended, in POSIX seconds.", _number(last.get("at")))


def _gauge(name: str, text: str, value: float) -> Metric:
    metric = GaugeMetricFamily(name, text)
    metric.add_metric([], value)
    return metric


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
