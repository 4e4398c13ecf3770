"""The manual's page of metrics is what the catalogue says."""

from __future__ import annotations

import re
from pathlib import Path

import edge
from edge.observe.manual import metrics_markdown
from edge.observe.metrics import METRICS, STATED

PAGE = Path(str(edge.__file__)).parent / "manual" / "metrics.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == metrics_markdown(), "edge/manual/metrics.md is out of date: write it anew from metrics_markdown()"


def test_the_page_asks_only_for_what_there_is() -> None:
    (asked,) = re.findall(r"```promql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    known = {metric.name for metric in STATED} | set(METRICS) | {f"{name}_bucket" for name in METRICS}
    assert set(re.findall(r"\bedge_\w+", asked)) <= known
