"""The manual's page of metrics, made from the catalogue, so that every metric that is counted stands on it.

What is written here by hand is what the catalogue cannot say: how the counting behaves, and which questions to ask of it.
"""

from __future__ import annotations

from edge.observe.metrics import SECTIONS, STATED

__all__ = ["metrics_markdown"]


_HEAD = """\
# Metrics

What the gateway counts. This page is made from the catalogue that the program itself uses.

The admin listener serves these as `/metrics`, in Prometheus's format. All processes count into one piece of shared memory, so
that an answer is the sum over all workers, counters go on when a worker is replaced, and asking costs the workers nothing.
A restart or an upgrade of the whole gateway begins at 0 again, which `rate()` and `increase()` understand.

A worker counts a request within a tenth of a second after its end, together with its log line; a worker that is killed
loses what it had not counted yet, and its connections. Gauges are sums over the workers that run.

Labels hold names from the settings and words of ours, never anything that a client sent. A metric has a bounded number of
series; what is beyond goes to a series whose labels all say `other`. The words of `kind`, `blame` and `stage` are those of
the log: see `edge help errors`.

## What to look at

```promql
# The share of requests that fails by us or our upstreams.
sum(rate(edge_requests_total{status=~"5xx|none"}[5m])) / sum(rate(edge_requests_total[5m]))

# How long the slowest of a hundred take, by route. The same of edge_upstream_first_byte_seconds_bucket by upstream
# says whether it is the upstream; edge_loop_lag_seconds_bucket above 10 ms, whether it is a busy worker.
histogram_quantile(0.99, sum by (route, le) (rate(edge_request_seconds_bucket[5m])))

# How busy each worker is; 1 is a whole processor.
rate(edge_worker_cpu_seconds_total[1m])

# Handshakes that fail, why, and whose fault it is. `edge failures` says it in sentences.
sum by (kind, blame) (rate(edge_handshake_failures_total[5m]))

# The share of clients that resume.
sum(rate(edge_handshakes_total{resumed="yes"}[5m])) / sum(rate(edge_handshakes_total[5m]))

# Endpoints that are out. Less than the number of workers, but not 0: the workers do not agree.
edge_upstream_endpoint_up == 0

# The share of requests that found an open connection to their upstream.
sum by (upstream) (rate(edge_upstream_pool_total{result="hit"}[5m])) / sum by (upstream) (rate(edge_upstream_pool_total[5m]))

# Attacks on HTTP/2. Single streams that clients reset are of the kind stream-reset.
rate(edge_faults_total{kind=~"h2-.*flood"}[5m]) > 0

# Certificates that expire within a week.
edge_certificate_not_after_seconds - time() < 7 * 86400

# Revocation lists that should have been replaced.
edge_crl_next_update_seconds < time()

# Whether the whole fleet has the same settings: then this has one line.
count by (digest) (edge_config_info)

# Log lines that were lost.
increase(edge_log_lines_dropped_total[5m]) > 0
```

"""


def metrics_markdown() -> str:
    """The manual's page of metrics."""
    parts = [_HEAD]
    for title, section in (*SECTIONS, ("Settings and processes", STATED)):
        parts.append(f"## {title}\n\n| metric | kind | labels | what it says |\n|---|---|---|---|\n")
        for metric in section:
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
            parts.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n")
        for metric in section:
            if metric.buckets:
                bounds = " ".join(f"{bound:g}" for bound in metric.buckets)
                parts.append(f"\nBuckets of `{metric.name}`, in seconds: {bounds}.\n")
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"
