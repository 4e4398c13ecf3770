"""The catalogue of metrics: the one place that says which there are. Registration, what /metrics says of each, and the manual's
page all come from here.

Names follow Prometheus: base units (seconds, bytes), `_total` for what only grows. A label's values come from the settings, from
our own words, or from a list as long as a protocol's; never from what a stranger may choose. Where their number is not known
beforehand, `series` bounds it, and what is beyond goes to a series whose labels say ``other``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METRICS", "OTHER", "SECTIONS", "STATED", "Kind", "Metric"]

OTHER = "other"  # every label of the series that takes what is beyond `series`

_ROUTES = 512  # series by route
_ENDPOINTS = 256  # series by endpoint


class Kind(enum.StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    help: str  # one sentence, for operators
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # upper bounds, ascending; the one without a bound is not named
    series: int = 64  # most series of one process


def _counter(name: str, help: str, *labels: str, series: int = 64) -> Metric:
    return Metric(name, Kind.COUNTER, help, labels, series=series)


def _gauge(name: str, help: str, *labels: str, series: int = 64) -> Metric:
    return Metric(name, Kind.GAUGE, help, labels, series=series)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str, series: int = 64) -> Metric:
    return Metric(name, Kind.HISTOGRAM, help, labels, buckets, series)


_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REQUEST = (*_QUICK, 30.0, 60.0)
_LAG = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

SECTIONS: tuple[tuple[str, tuple[Metric, ...]], ...] = (
    (
        "Connections of clients",
        (
            _counter("edge_connections_accepted_total", "Connections that were taken.", "listener"),
            _counter(
                "edge_connections_refused_total",
                "Connections that were closed at once (`limit`: there were `limits.connections`), and times that accepting "
                "had to pause (`descriptors`: none were left). `handshakes-full`, `handshakes-resumed`, "
                "`handshakes-abandoned`: an address was beyond its budget; `handshakes-overload`: too many wait.",
                "listener",
                "reason",
            ),
            _gauge("edge_connections", "Connections that are open.", "listener"),
        ),
    ),
    (
        "TLS handshakes",
        (
            _counter(
                "edge_handshakes_total",
                "Handshakes with clients that were completed. `group` is that of the key exchange, empty where there was none.",
                "listener",
                "version",
                "group",
                "resumed",
                series=256,
            ),
            _counter(
                "edge_tickets_total",
                "Session tickets that clients came back with, in handshakes that were completed. `resumed`: taken. Not taken: "
                "`expired`, `foreign` (of another host, or from before its policy changed), `unknown` (its key is over, or "
                "somebody else's), `forged`.",
                "listener",
                "result",
            ),
            _counter(
                "edge_early_data_total",
                "Handshakes in which a client offered early data. `accepted`: it was read before the handshake was over. "
                "Otherwise the client sends it again afterwards: `replayed` (a copy of a hello that was let in), `stale` (the "
                "ticket's age, the protocol or the key exchange does not fit, or nothing came), `older` (under an older "
                "ticket key), `ticket` (not ours), `off`; and while the filter against replays cannot know: `starting`, "
                "`closed`, `clock`, `busy`, `full`.",
                "listener",
                "result",
            ),
            _counter(
                "edge_handshake_failures_total",
                "Connections that ended before their handshake was complete: the log's `kind`, `blame` and `stage`.",
                "listener",
                "kind",
                "blame",
                "stage",
                series=512,
            ),
            _histogram(
                "edge_handshake_seconds",
                "From accepting a connection to the end of its handshake, the client's part included.",
                _QUICK,
                "listener",
                "resumed",
            ),
            _gauge("edge_ticket_keys", "Ticket keys that are accepted, the newest included; 0: they cannot be set."),
            _gauge("edge_ticket_key_timestamp_seconds", "Since when the newest ticket key is in use (POSIX time)."),
            _counter(
                "edge_handshakes_stapled_total",
                "Handshakes that showed a staple, because the client asked for one. Resumed handshakes show none.",
            ),
            _counter(
                "edge_ocsp_fetches_total",
                "Attempts to fetch an OCSP answer, over all responders of a certificate. `result`: `good`, or why there was "
                "none, as in the event `ocsp-failed`.",
                "result",
            ),
            _gauge(
                "edge_staple_expiry_seconds",
                "Until when a certificate's staple is good, in POSIX seconds. A certificate without one is not here.",
                "name",
                "key_type",
                "fingerprint",
                series=1024,
            ),
            _counter(
                "edge_tls_disturbances_total",
                "KeyUpdates of clients and their attempts to renegotiate, counted when the connection ends.",
                "listener",
            ),
            _counter(
                "edge_tls_empty_records_total",
                "TLS records of clients that brought no data, after the handshake and before the goodbye, counted when the "
                "connection ends.",
                "listener",
            ),
        ),
    ),
    (
        "Requests",
        (
            _counter(
                "edge_requests_total",
                "Requests that are over. `status` is its class, `2xx` for instance, or `none` when there was no answer; `route` "
                "is empty where none was found.",
                "route",
                "status",
                "protocol",
                series=4 * _ROUTES,
            ),
            _histogram(
                "edge_request_seconds",
                "From a request's head to the end of its answer; tunnels are left out.",
                _REQUEST,
                "route",
                series=_ROUTES,
            ),
            _counter("edge_request_body_bytes_total", "Bytes of bodies of requests.", "route", series=_ROUTES),
            _counter("edge_response_body_bytes_total", "Bytes of bodies of answers.", "route", series=_ROUTES),
            _counter(
                "edge_faults_total",
                "Requests and HTTP/2 connections that a fault ended: the log's `fault` and `blame`.",
                "kind",
                "blame",
                series=512,
            ),
        ),
    ),
    (
        "Streams",
        (
            _counter(
                "edge_streams_total",
                "Streams that are over: `tcp` or `passthrough`, by the kind of the fault that ended them, empty for none.",
                "listener",
                "mode",
                "fault",
                series=256,
            ),
            _counter(
                "edge_stream_bytes_total",
                "Bytes that streams have carried, `in` from clients and `out` to them.",
                "listener",
                "mode",
                "direction",
            ),
        ),
    ),
    (
        "Upstreams",
        (
            _counter(
                "edge_upstream_requests_total",
                "Requests that went to an endpoint, by the class of the status that the client got.",
                "upstream",
                "endpoint",
                "status",
                series=4 * _ENDPOINTS,
            ),
            _counter("edge_upstream_retries_total", "Tries of a request beyond its first.", "upstream", series=_ENDPOINTS),
            _histogram(
                "edge_upstream_first_byte_seconds",
                "From having a connection to the head of the answer.",
                _REQUEST,
                "upstream",
                series=_ENDPOINTS,
            ),
            _counter(
                "edge_upstream_pool_total",
                "Requests and checks that found an open connection (`hit`), and those that had to wait for one (`miss`).",
                "upstream",
                "endpoint",
                "result",
                series=2 * _ENDPOINTS,
            ),
            _counter(
                "edge_upstream_connects_total",
                "Connections that were opened, with TLS: verified.",
                "upstream",
                "endpoint",
                series=_ENDPOINTS,
            ),
            _counter(
                "edge_upstream_handshakes_total",
                "TLS handshakes with upstreams. Those that are not resumed cost a signature there and its verification here.",
                "upstream",
                "version",
                "resumed",
                series=4 * _ENDPOINTS,
            ),
            _counter(
                "edge_upstream_pin_mismatches_total",
                "Verified chains of upstreams without a pinned key, by `mode` `enforce` (refused) or `report` (let through).",
                "upstream",
                "mode",
                series=_ENDPOINTS,
            ),
            _counter(
                "edge_upstream_connect_failures_total",
                "Connections that could not be opened, by the kind of the fault.",
                "upstream",
                "endpoint",
                "kind",
                series=2 * _ENDPOINTS,
            ),
            _gauge(
                "edge_upstream_connections",
                "Connections that are open or being opened.",
                "upstream",
                "endpoint",
                series=_ENDPOINTS,
            ),
            _gauge(
                "edge_upstream_requests_active", "Requests that are under way.", "upstream", "endpoint", series=_ENDPOINTS
            ),
            _gauge(
                "edge_upstream_requests_waiting",
                "Requests that wait for a connection.",
                "upstream",
                "endpoint",
                series=_ENDPOINTS,
            ),
            _gauge(
                "edge_upstream_endpoint_up",
                "How many workers take the endpoint for well; 0: none does.",
                "upstream",
                "endpoint",
                series=_ENDPOINTS,
            ),
            _counter(
                "edge_upstream_checks_total",
                "Active health checks, by `result` `ok` or `failed`.",
                "upstream",
                "endpoint",
                "result",
                series=2 * _ENDPOINTS,
            ),
        ),
    ),
    (
        "The gateway itself",
        (
            _histogram(
                "edge_loop_lag_seconds",
                "How late a worker's timer was, ten times a second: what a client waits because others are served.",
                _LAG,
            ),
            _counter("edge_worker_cpu_seconds_total", "Processor time of a worker, user and system.", "worker", series=1024),
            _counter("edge_log_lines_dropped_total", "Log lines that could not be written."),
        ),
    ),
)  # fmt: skip


STATED: tuple[Metric, ...] = (
    _gauge("edge_build_info", "Always 1: the version of the gateway and of its Python.", "version", "python"),
    _gauge("edge_config_info", "Always 1: the SHA-256 of the settings in force, to compare a fleet by.", "digest"),
    _gauge("edge_config_generation", "How often settings were put in force, the start included."),
    _gauge("edge_ready", "1 while clients may be sent here, as `/readyz` says."),
    _gauge("edge_degraded", "How many things are not as they should be: `degraded` of `edge status`."),
    _counter("edge_reloads_total", "Reloads, by `result` `accepted` or `refused`.", "result"),
    _gauge("edge_last_reload_success", "1 when the last reload was accepted."),
    _gauge("edge_last_reload_time_seconds", "When the last reload ended, in POSIX seconds."),
    _gauge("edge_worker_up", "1 while a worker serves.", "worker"),
    _counter("edge_worker_restarts_total", "How often a worker was replaced.", "worker"),
    _gauge("edge_resident_bytes", "Memory of a process, with what it shares with others.", "process"),
    _gauge("edge_start_time_seconds", "When the gateway was started, in POSIX seconds."),
    _gauge("edge_controller_start_time_seconds", "When the controller was started, in POSIX seconds."),
    _gauge("edge_upstream_verified", "0 where an upstream's certificate is not verified (`tls.verify`).", "upstream"),
    _gauge(
        "edge_certificate_not_after_seconds",
        "When a certificate expires, in POSIX seconds.",
        "name",
        "key_type",
        "hosts",
        "fingerprint",
    ),
    _gauge(
        "edge_crl_next_update_seconds",
        "When the revocation list of an issuer should be replaced, in POSIX seconds; the earliest of several.",
        "trust",
        "issuer",
    ),
    _gauge(
        "edge_certificate_not_before_seconds",
        "When a certificate begins to be valid, in POSIX seconds.",
        "name",
        "key_type",
        "hosts",
        "fingerprint",
    ),
)
"""What nobody counts, since it follows from the settings and from what the supervisor says of itself when it is asked."""


METRICS: Mapping[str, Metric] = {metric.name: metric for _, section in SECTIONS for metric in section}
