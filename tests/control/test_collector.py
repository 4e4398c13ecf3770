"""What the table counted, as Prometheus reads it."""

from __future__ import annotations

import math

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import CollectorRegistry

from edge.control.collector import Counted
from edge.observe.counters import Table
from edge.observe.metrics import METRICS, Kind


def filled() -> Table:
    """Every metric of the catalogue, in two processes; labels with what has to be escaped."""
    table = Table.create(2)
    for index in (1, 2):
        counters = table.part(index)
        for metric in METRICS.values():
            labels = ['a"b\\c\nd' for _ in metric.labels]
            if metric.kind is Kind.COUNTER:
                counters.counter(metric.name, *labels).add(3)
            elif metric.kind is Kind.GAUGE:
                counters.gauge(metric.name, *labels).set(1.5)
            else:
                histogram = counters.histogram(metric.name, *labels)
                for seconds in (0.0001, 0.003, 1e6):
                    histogram.observe(seconds)
    return table


def families(table: Table, *, openmetrics: bool = False) -> dict[str, Metric]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Counted(table))
    if openmetrics:
        return {family.name: family for family in parse_openmetrics(generate_openmetrics(registry).decode())}
    return {family.name: family for family in parse(generate_latest(registry).decode())}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_every_metric_of_the_catalogue_is_exposed_as_it_is_described(openmetrics: bool) -> None:
    found = families(filled(), openmetrics=openmetrics)
    assert set(found) == {name.removesuffix("_total") for name in METRICS}
    for metric in METRICS.values():
        family = found[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            assert labels == dict.fromkeys(metric.labels, 'a"b\\c\nd')
        values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
        if metric.kind is Kind.COUNTER:
            assert values == {(metric.name, None): 6}
        elif metric.kind is Kind.GAUGE:
            assert values == {(metric.name, None): 3}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_a_histogram_is_cumulative_and_agrees_with_its_count(openmetrics: bool) -> None:
    family = families(filled(), openmetrics=openmetrics)["edge_loop_lag_seconds"]
    buckets = [(float(sample.labels["le"]), sample.value) for sample in family.samples if sample.name.endswith("_bucket")]
    assert [bound for bound, _ in buckets] == [*METRICS["edge_loop_lag_seconds"].buckets, math.inf]
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert counts[-2:] == [4, 6]
    values = {sample.name: sample.value for sample in family.samples}
    assert values["edge_loop_lag_seconds_count"] == 6
    assert values["edge_loop_lag_seconds_sum"] == pytest.approx(2 * (0.0001 + 0.003 + 1e6))


def test_what_nobody_registered_is_left_out() -> None:
    assert families(Table.create(1)) == {}
