"""From the shared table to Prometheus: every series as one sample, with the catalogue's words.

prometheus-client writes the text; it is given values that are read at that moment, so that nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from edge.observe.counters import Sample, Table
from edge.observe.metrics import STATED, Kind, Metric

__all__ = ["Counted", "stated"]


class Counted(Collector):
    """What the processes of the gateway have counted."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def collect(self) -> Iterator[Family]:
        """One family a metric, in the order of the catalogue. A metric that nobody has registered is left out."""
        family: Family | None = None
        for sample in self._table.read():
            if family is None or family.name != sample.metric.name.removesuffix("_total"):
                if family is not None:
                    yield family
                family = _family(sample.metric)
            _add(family, sample)
        if family is not None:
            yield family


def stated(name: str, values: Mapping[tuple[str, ...], float]) -> Family:
    """A metric of the catalogue's `STATED`, with its values by those of its labels."""
    metric = _stated[name]
    family = _family(metric)
    for labels, value in values.items():
        family.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
    return family


_stated = {metric.name: metric for metric in STATED}


def _family(metric: Metric) -> Family:
    return Family(metric.name.removesuffix("_total"), metric.help, metric.kind)


def _add(family: Family, sample: Sample) -> None:
    labels = dict(zip(sample.metric.labels, sample.labels, strict=True))
    if sample.metric.kind is Kind.COUNTER:
        family.add_sample(f"{family.name}_total", labels, sample.value)
    elif sample.metric.kind is Kind.GAUGE:
        family.add_sample(family.name, labels, sample.value)
    else:
        bounds = [*map(repr, sample.metric.buckets), "+Inf"]
        for bound, count in zip(bounds, accumulate(sample.buckets), strict=True):
            family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
        family.add_sample(f"{family.name}_count", labels, sample.value)
        family.add_sample(f"{family.name}_sum", labels, sample.sum)
