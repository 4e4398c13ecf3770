"""Envoy and Caddy as targets; see `bench.peers` for what all of them are asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .peers import Job

__all__ = ["caddy", "envoy", "with_threads"]


def with_threads(command: list[str], job: Job) -> list[str]:
    """A program in Go with as many threads as `job` has workers; one is what all children of the bench are told."""
    return command if job.workers == 1 else ["env", f"GOMAXPROCS={job.workers}", *command]


CADDY = """\
{{
    admin off
    auto_https off
    storage file_system {job.folder}/storage
}}
(kept) {{
    transport http {{
        keepalive_idle_conns 512
        keepalive_idle_conns_per_host 512
    }}
}}
https://localhost:{job.port}, https://127.0.0.1:{job.port} {{
    bind 127.0.0.1
    tls {job.leaf.chain} {job.leaf.key}{more}
    log {{
        output file {job.folder}/access.log
        format json
    }}
    reverse_proxy /sink 127.0.0.1:{job.sink}
{routes}    reverse_proxy 127.0.0.1:{job.origin} {{
        import kept
    }}
}}
{hosts}"""

CADDY_ROUTE = """\
    reverse_proxy {path}/* 127.0.0.1:{job.origin} {{
        import kept
    }}
"""

CADDY_HOST = """\
https://h{number}.bench.example:{job.port} {{
    bind 127.0.0.1
    tls {leaf.chain} {leaf.key}
    reverse_proxy 127.0.0.1:{job.origin} {{
        import kept
    }}
}}
"""


CADDY_CLIENT_AUTH = """ {{
        client_auth {{
            mode require_and_verify
            trust_pool file {job.client_ca}
        }}
    }}"""


def caddy(program: str, job: Job) -> tuple[list[str], str]:
    if job.second is not None:
        raise RuntimeError("caddy's file has no way to name two certificates for a host")
    more = "" if job.client_ca is None else CADDY_CLIENT_AUTH.format(job=job)
    routes = "".join(CADDY_ROUTE.format(job=job, path=path) for path in job.paths)
    hosts = "".join(CADDY_HOST.format(job=job, number=number, leaf=leaf) for number, leaf in enumerate(job.hosts))
    text = CADDY.format(job=job, more=more, routes=routes, hosts=hosts)
    (job.folder / "Caddyfile").write_text(text)
    command = [program, "run", "--adapter", "caddyfile", "--config", str(job.folder / "Caddyfile")]
    return with_threads(command, job), text


ENVOY = """\
static_resources:
  listeners:
  - name: bench
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.port} }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
{demand}          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: {job.leaf.chain} }}
              private_key: {{ filename: {job.leaf.key} }}
{more}      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          use_remote_address: true
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {job.folder}/access.log
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: /sink }}
                route: {{ cluster: sink, timeout: 0s }}
{routes}              - match: {{ prefix: / }}
                route: {{ cluster: origin, timeout: 0s }}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [{{ max_connections: 8192, max_pending_requests: 8192, max_requests: 8192 }}] }}
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.origin} }} }} }}
  - name: sink
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: sink
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.sink} }} }} }}
"""

ENVOY_ROUTE = """\
              - match: {{ prefix: {path}/ }}
                route: {{ cluster: origin, timeout: 0s }}
"""


def envoy(program: str, job: Job) -> tuple[list[str], str]:
    more = demand = ""
    if job.second is not None:
        more += f"            - certificate_chain: {{ filename: {job.second.chain} }}\n"
        more += f"              private_key: {{ filename: {job.second.key} }}\n"
    if job.client_ca is not None:
        demand = "          require_client_certificate: true\n"
        more += f"            validation_context: {{ trusted_ca: {{ filename: {job.client_ca} }} }}\n"
    if job.staple is not None:
        demand += "          ocsp_staple_policy: MUST_STAPLE\n"
        more = f"              ocsp_staple: {{ filename: {job.staple} }}\n" + more
    for leaf in job.hosts:
        more += f"            - {{ certificate_chain: {{ filename: {leaf.chain} }}, private_key: {{ filename: {leaf.key} }} }}\n"
    routes = "".join(ENVOY_ROUTE.format(path=path) for path in job.paths)
    text = ENVOY.format(job=job, more=more, demand=demand, routes=routes)
    (job.folder / "envoy.yaml").write_text(text)
    command = [program, "-c", str(job.folder / "envoy.yaml"), "--concurrency", str(job.workers)]
    return [*command, "--disable-hot-restart", "-l", "error"], text
