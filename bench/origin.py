"""The upstreams behind every target: an nginx of its own for small and large answers, and the sink for uploads."""

from __future__ import annotations

import sys
from pathlib import Path

from .processes import Child, free_ports

__all__ = ["LARGE", "SIZES", "Origin"]

LARGE = 1 << 30
"""Bytes of ``/large``."""

SIZES = {"0": 0, "1k": 1 << 10, "16k": 1 << 14, "64k": 1 << 16, "1m": 1 << 20}
"""Bytes of ``/0``, ``/1k`` and so on."""

_CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    sendfile on;
    tcp_nopush on;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder}/www;
        location = /small {{ default_type text/plain; return 200 "{small}"; }}
        location /service- {{ default_type text/plain; return 200 "{small}"; }}
    }}
}}
"""


class Origin:
    """A context manager; `port` and `sink` are the ports of loopback, `configuration` what nginx was told."""

    def __init__(self, nginx: str, core: int, folder: Path) -> None:
        www = folder / "www"
        www.mkdir()
        for name, size in SIZES.items():
            (www / name).write_bytes(bytes(range(256)) * (size // 256))
        with (www / "large").open("wb") as large:
            large.truncate(LARGE)
        self.port, self.sink = free_ports(2)
        self.configuration = _CONFIG.format(folder=folder, port=self.port, small="x" * 100)
        (folder / "nginx.conf").write_text(self.configuration)
        sink_folder = folder / "sink"
        sink_folder.mkdir()
        command = [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        self._children = [
            Child("the upstream nginx", command, core, folder),
            Child("the sink", [sys.executable, "-m", f"{__package__}.sink", str(self.sink)], core, sink_folder),
        ]
        try:
            for child, port in zip(self._children, (self.port, self.sink), strict=True):
                child.wait_port(port)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Origin:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def cpu(self) -> float:
        """CPU seconds that both have used so far."""
        return sum(child.cpu() for child in self._children)

    def end(self) -> None:
        for child in self._children:
            child.end()
