"""The catalogue keeps Prometheus's conventions."""

from __future__ import annotations

import re

import pytest

from edge.observe.metrics import METRICS, SECTIONS, STATED, Kind, Metric


def test_no_name_stands_twice() -> None:
    names = [metric.name for _, section in SECTIONS for metric in section] + [metric.name for metric in STATED]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", [*METRICS.values(), *STATED], ids=lambda metric: metric.name)
def test_names_and_labels_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"edge_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) and label not in ("le", "quantile") for label in metric.labels)
    assert len(set(metric.labels)) == len(metric.labels)
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.series >= 1
    if metric.buckets:
        assert metric.name.endswith("_seconds")
